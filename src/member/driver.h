// member/driver.h: a running member: MemberCore with threads.
//
// The core thread steps MemberCore, or, while it has nothing to do, a thread that brings little does so in its place
// (mailbox.h): "the core thread" is whoever is in that place. While the member has no peers it writes the WAL in line,
// since a hand-over costs more than it wins, and lends its place to nobody; with peers a WAL thread does, so that
// messages and ticks never wait for a disk. The file is written by the commit thread, which also puts a leader's
// snapshot in its place; what has left memory of the log is read by a thread of its own; spare WAL segments, looks at
// the disk and index checkpoints are the housekeeper's; what compactions cover is hashed by a thread of its own.
//
// Threads: propose(), propose_conf_change(), control(), receive(), report(), tell_versions(), transfer(), ask_leases(),
// raise_alarm(), admit_deletes(), next_request_id() and published() may be
//          used by any thread; answers are handed to the sink on the core thread, and refusals for want of room in the
//          queue by propose() itself. Who calls propose(), control() or receive() may be in the core thread's place for
//          a turn, and holds no lock that the sink or the PeerPort takes.
// Failure: what a stage cannot go on with ends the process: see fail_stop.
#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/mutex.h"
#include "env/clock.h"
#include "env/fs.h"
#include "member/commit_stage.h"
#include "member/compaction_hasher.h"
#include "member/housekeeper.h"
#include "member/installer.h"
#include "member/mailbox.h"
#include "member/member_core.h"
#include "member/metrics.h"
#include "member/page_roots.h"
#include "member/peer_port.h"
#include "member/recovery/bootstrap.h"
#include "member/wal_stage.h"
#include "mvcc/kv/range.h"

namespace cairn::member {

struct NodeOptions {
  BootstrapOptions bootstrap;
  ApplyOptions apply;
  std::vector<std::string> client_urls;  // announced to the cluster
  std::vector<std::string> peer_urls;
  uint32_t heartbeat_ms = 100;
  uint32_t election_ms = 1000;
  bool pre_vote = true;
  bool shortens_first_timeout = false;  // of an election; ReplicationCore::Options
  AutoCompaction auto_compaction;
  VersionOptions versions;
  NoSpaceOptions no_space;
  bool lease_checkpoints = false;
  std::string cluster_version = std::string(cluster::kClusterVersion);  // what a new cluster gets
  int64_t slow_apply_ns = 100'000'000;  // a batch of entries that takes longer to apply is logged
  size_t snapshots_kept = WalStage::kSnapshotsKept;
  uint64_t unapplied_bytes_max = MemberOptions{}.unapplied_bytes_max;
  uint64_t waiting_bytes_max = MemberOptions{}.waiting_bytes_max;
  bool concurrent = true;     // a start reads on several threads
  PeerPort* peers = nullptr;  // outlives the node; null: there are no others, the member is alone
  int64_t request_timeout_ns = MemberOptions{}.replication.request_timeout_ns;
  std::optional<uint64_t> snapshot_catchup_entries;  // LogKeeping::entries
  // This member has been removed from its cluster, and the others know: called once, on the core thread. It is to be
  // stopped after a moment.
  std::function<void()> on_removed;
  // Called when the member cannot go on: it must not return.
  std::function<void(const Error&)> fail_stop;
};

class Node {
 public:
  using AnswerSink = std::function<void(unsigned loop, AnswerBatch batch)>;

  // Opens or founds the directory and recovers the state; no thread yet.
  //   errors: those of bootstrap(); kFailedPrecondition for a directory of a cluster with other members
  static Result<std::unique_ptr<Node>> open(NodeOptions options, env::FileSystem& fs, const env::Clock& clock,
                                            Metrics& metrics);
  ~Node();  // stop() must have been called if start() was

  // `sink` gets the answers. `news` is called, on the core thread, when a revision has been published and its answers
  // have not left; it may be empty.
  void start(AnswerSink sink, std::function<void()> news = {});
  // True once this member leads and is announced; false after `timeout_ns`.
  bool wait_ready(int64_t timeout_ns);
  // Applies what is in the log, writes the db, closes the files. Requests still waiting are refused.
  void stop();

  // In place of start(), for tests in one thread: what is to be done is done by run(), and no stop() is due.
  void start_inline(AnswerSink sink, std::function<void()> news = {});
  // Does all that is to be done at this moment. When more will be; nullopt: nothing but requests brings more.
  std::optional<int64_t> run();

  void propose(std::vector<Proposal> proposals);
  // A raft::ConfChangeV1. What is accepted is answered with nothing: the published state shows it.
  void propose_conf_change(Proposal change);
  void control(std::vector<ControlRequest> requests);
  // What other members have sent, in the order of arrival. While too much of it waits, entries of a leader are dropped,
  // which sends them again.
  void receive(std::vector<raft::Message> messages);
  void report(const PeerReport& report);
  void tell_versions(VersionReport report);
  // How other members are asked for their versions; before start(). `ask` is called on the core thread, must not block,
  // and brings about a tell_versions(). Without it they are not known.
  void set_ask_versions(std::function<void(const VersionQuestion& question)> ask) { ask_versions_ = std::move(ask); }
  // MoveLeader.
  void transfer(const TransferRequest& request);
  void ask_leases(std::vector<LeaseRequest> requests);
  // Proposes this member's alarm; repeated calls until it is applied do nothing more.
  void raise_alarm(uint32_t type);
  // Whether a delete of so many keys may be proposed: a tombstone takes room as well, and once a commit finds none
  // there is no way on. False, which is logged, is answered with no_space().
  [[nodiscard]] bool admit_deletes(const mvcc::DeleteCount& count) {
    return housekeeper_->admit_deletes(count, buffered_bytes_.load(std::memory_order_relaxed), clock_.monotonic_ns());
  }
  [[nodiscard]] uint64_t next_request_id() { return core_->next_request_id(); }

  [[nodiscard]] PublishedDomain& published() { return core_->published(); }
  [[nodiscard]] PageRoots& page_roots() const { return *page_roots_; }
  [[nodiscard]] uint64_t member_id() const { return member_id_; }
  [[nodiscard]] uint64_t cluster_id() const { return cluster_id_; }
  // Of a member that has just joined: the others, until the log says who they are.
  [[nodiscard]] const std::vector<cluster::Member>& remotes() const { return remotes_; }
  [[nodiscard]] const std::string& snap_directory() const { return snap_directory_; }
  [[nodiscard]] const NodeOptions& options() const { return options_; }
  [[nodiscard]] Metrics& metrics() { return metrics_; }
  [[nodiscard]] Index committed() const { return Index(committed_.load(std::memory_order_relaxed)); }
  [[nodiscard]] uint64_t pending_proposals() const { return pending_.load(std::memory_order_relaxed); }
  // Of proposals that have not reached the log.
  [[nodiscard]] uint64_t waiting_bytes() const { return core_->waiting_bytes(); }

 private:
  struct CommitOrders {
    std::optional<CommitJob> job;
    std::optional<InstallOrder> install;  // never beside a job
    bool end = false;
    [[nodiscard]] bool empty() const { return !job && !install && !end; }
    void clear() { *this = {}; }
  };

  struct WalOrders {
    std::vector<WalWrite> writes;
    bool end = false;
    [[nodiscard]] bool empty() const { return writes.empty() && !end; }
    void clear() {
      writes.clear();
      end = false;
    }
  };

  struct ReadOrders {
    std::vector<LogRead> reads;
    bool end = false;
    [[nodiscard]] bool empty() const { return reads.empty() && !end; }
    void clear() {
      reads.clear();
      end = false;
    }
  };

  struct HashOrders {
    std::optional<HashOrder> order;
    bool end = false;
    [[nodiscard]] bool empty() const { return !order && !end; }
    void clear() { *this = {}; }
  };

  Node(NodeOptions options, env::FileSystem& fs, const env::Clock& clock, Metrics& metrics, Bootstrapped state);

  template <class Put>
  void hand_in(Put&& put, bool is_little);

  // The core thread's.
  void run_core();
  // Steps until there is nothing more to write, and carries out what comes of it. When a step is due; nullopt: none.
  std::optional<int64_t> turn(Events& events);
  Ending carry_out(Effects& effects, Events& next);
  void talk_to_peers(Effects& effects);
  void send_to_those_who_go(const cluster::Membership& members, std::vector<raft::Message>& messages);
  void watch_heartbeats(const std::vector<raft::Message>& messages);
  void order_housekeeping(const Effects& effects);
  void update_metrics();
  void note_step(int64_t took_ns);
  void time_requests(int64_t took_ns);
  void count_leases(const Effects& effects);
  void note_pass(const CommitDone& done, int64_t began_ns);
  [[nodiscard]] bool writes_in_line() const;
  [[nodiscard]] bool is_little_unapplied();
  void write_log(std::vector<WalWrite>& writes, Events& next);
  void run_wal();
  void write_apart(std::vector<WalWrite>& writes);
  void run_reader();
  void run_commit();
  void carry_out(const CommitOrders& orders);
  struct ReadAmount {
    uint64_t entries = 0;
    uint64_t bytes = 0;
  };
  ReadAmount read_log_again(const LogRead& read);
  CommitDone commit(const CommitJob& job);
  void run_housekeeper();
  void run_hasher();
  HashDone hash(const HashOrder& order);
  void deliver(Answers& answers);
  void deliver_refused(const std::vector<Refused>& refused);
  void no_longer_pending(uint64_t count);
  void fail(const Error& error);

  NodeOptions options_;
  const env::Clock& clock_;
  Metrics& metrics_;
  uint64_t member_id_;
  uint64_t cluster_id_;
  std::vector<cluster::Member> remotes_;
  std::string snap_directory_;
  std::atomic<uint64_t> committed_{0};
  std::atomic<uint64_t> received_bytes_{0};  // of entries that wait for the core thread
  std::atomic<uint64_t> log_bytes_{0};       // of those in memory that will leave it without more from others
  std::atomic<uint64_t> pending_{0};
  std::atomic<uint64_t> buffered_bytes_{0};
  AnswerSink sink_;
  std::function<void()> news_;
  std::function<void(const VersionQuestion&)> ask_versions_;

  std::unique_ptr<WalStage> wal_stage_;  // the WAL thread's while it has writes, else the core thread's
  uint64_t writes_apart_ = 0;            // that the WAL thread has, or whose end has not been stepped
  std::unique_ptr<MemberCore> core_;
  std::unique_ptr<PageRoots> page_roots_;  // holds pins in what core_ publishes
  ApplyCounters counted_;
  mvcc::OpCounts counted_ops_;
  std::array<metrics::Histogram*, kRequestNames.size()> apply_done_{};  // null: none yet
  uint64_t renewals_counted_ = 0;
  uint64_t expiries_counted_ = 0;
  Index counted_applied_;
  int64_t counted_compact_revision_ = 0;
  NodeId leader_seen_ = raft::kNoNode;
  int64_t pass_began_ns_ = 0;  // the commit thread's; 0: none is under way
  bool is_removal_told_ = false;
  std::shared_ptr<const cluster::Membership> members_told_;
  std::map<NodeId, int64_t> heartbeats_sent_ns_;  // the last ones, while this member leads
  uint64_t slow_reads_counted_ = 0;
  Ending ending_ = Ending::kNone;  // read when the core thread has ended

  std::unique_ptr<PublishedDomain::Reader> commit_reader_;
  std::unique_ptr<CommitStage> commit_stage_;
  std::unique_ptr<Installer> installer_;  // the commit thread's
  std::unique_ptr<PublishedDomain::Reader> housekeeper_reader_;
  std::unique_ptr<Housekeeper> housekeeper_;

  Mailbox<Events> events_;
  Events lent_events_;                  // theirs who are in the core thread's place
  std::atomic<bool> lends_{false};      // its place may be taken
  std::vector<raft::Entry> unapplied_;  // is_little_unapplied()'s
  int64_t core_wakes_ns_ = INT64_MAX;   // the core thread sleeps until then
  std::unique_ptr<PublishedDomain::Reader> hash_reader_;
  std::atomic<bool> ends_{false};  // what only takes time is given up

  Mailbox<WalOrders> wal_orders_;
  Mailbox<ReadOrders> read_orders_;
  Mailbox<CommitOrders> commit_orders_;
  Mailbox<HashOrders> hash_orders_;
  Mailbox<Housekeeper::Orders> housekeeper_orders_;
  Mutex ready_mutex_;
  Condition ready_;
  bool is_ready_ CAIRN_GUARDED_BY(ready_mutex_) = false;

  std::thread core_thread_;
  std::thread wal_thread_;
  std::thread reader_thread_;
  std::thread commit_thread_;
  std::thread housekeeper_thread_;
  std::thread hash_thread_;
};

}  // namespace cairn::member
