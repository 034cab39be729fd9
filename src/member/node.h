// member/node.h: a running member: the stages, each on its thread, and the queues between them.
//
// This is one arrangement of the stages, for a member that decides alone: replication, WAL and apply share the core
// thread, since a hand-over costs more than it wins; the file is written by the commit thread; spare WAL segments
// and index checkpoints are made by the housekeeper.
//
// Proposals wait in one queue. While the db cannot keep up and the entries that wait to be applied take
// NodeOptions::unapplied_bytes_max, nothing is taken from it; reads go on. A proposal that would take the queue above
// waiting_bytes_max is refused as one too many.
//
// Threads: propose(), control(), next_request_id() and published() may be used by any thread; answers are handed to
//          the sink on the core thread, and refusals for want of room in the queue by propose() itself.
// Failure: what a stage cannot go on with ends the process: see fail_stop.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/mutex.h"
#include "cluster/versions.h"
#include "env/clock.h"
#include "env/fs.h"
#include "member/apply/apply_core.h"
#include "member/commit_stage.h"
#include "member/disk_guard.h"
#include "member/page_roots.h"
#include "member/recovery/bootstrap.h"
#include "member/recovery/checkpoint.h"
#include "member/replication_core.h"
#include "member/wal_stage.h"
#include "metrics/families.h"
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
  std::string cluster_version = std::string(cluster::kClusterVersion);  // what a new cluster gets
  uint64_t unapplied_bytes_max = 128 << 20;  // of entries in the log: then proposals wait before it
  uint64_t waiting_bytes_max = 256 << 20;    // of proposals that wait for that
  // Called when the member cannot go on: it must not return.
  std::function<void(const Error&)> fail_stop;
};

class Node {
 public:
  using AnswerSink = std::function<void(unsigned loop, AnswerBatch batch)>;

  // Opens or founds the directory and recovers the state; no thread yet.
  //   errors: those of bootstrap(); kFailedPrecondition for a directory of a cluster with other members
  static Result<std::unique_ptr<Node>> open(NodeOptions options, env::FileSystem& fs, const env::Clock& clock,
                                            metrics::ServerMetrics& metrics);
  ~Node();  // stop() must have been called if start() was

  // `sink` gets the answers.
  void start(AnswerSink sink);
  // True once this member leads and is announced; false after `timeout_ns`.
  bool wait_ready(int64_t timeout_ns);
  // Applies what is in the log, writes the db, closes the files. Requests still waiting are refused.
  void stop();

  void propose(std::vector<Proposal> proposals);
  void control(std::vector<ControlRequest> requests);
  // Proposes this member's alarm; repeated calls until it is applied do nothing more.
  void raise_alarm(uint32_t type);
  // Whether a delete of so many keys may be proposed: a tombstone takes room as well, and once a commit finds none
  // there is no way on. False, which is logged, is answered with no_space().
  [[nodiscard]] bool admit_deletes(const mvcc::DeleteCount& count);
  [[nodiscard]] uint64_t next_request_id() { return request_id_.fetch_add(1, std::memory_order_relaxed); }

  [[nodiscard]] PublishedDomain& published() { return apply_->published(); }
  [[nodiscard]] PageRoots& page_roots() const { return *page_roots_; }
  [[nodiscard]] uint64_t member_id() const { return member_id_; }
  [[nodiscard]] uint64_t cluster_id() const { return cluster_id_; }
  [[nodiscard]] const NodeOptions& options() const { return options_; }
  [[nodiscard]] metrics::ServerMetrics& metrics() { return metrics_; }
  // Valid while running, for images of the file.
  [[nodiscard]] storage::Engine& engine() { return commit_stage_->engine(); }
  [[nodiscard]] Index committed() const { return Index(committed_.load(std::memory_order_relaxed)); }
  [[nodiscard]] uint64_t pending_proposals() const { return pending_.load(std::memory_order_relaxed); }
  // Of proposals that have not reached the log.
  [[nodiscard]] uint64_t waiting_bytes() const { return waiting_bytes_.load(std::memory_order_relaxed); }

 private:
  struct Inbox {
    std::vector<Proposal> proposals;
    std::vector<ControlRequest> controls;
    std::optional<CommitDone> commit;
    bool stop = false;
    bool db_is_full = false;  // since the last look
    [[nodiscard]] bool empty() const {
      return proposals.empty() && controls.empty() && !commit && !stop && !db_is_full;
    }
  };

  Node(NodeOptions options, env::FileSystem& fs, const env::Clock& clock, metrics::ServerMetrics& metrics,
       Bootstrapped state);

  void run_core();
  Inbox wait_for_work(int64_t now_ns);
  void pump(int64_t now_ns);
  bool pump_replication();
  bool pump_apply(int64_t now_ns);
  bool goes_on_when_full();
  void announce();
  void deliver(ApplyOutput& output);
  void deliver_refused(std::vector<Refused> refused);
  bool is_far_behind(int64_t now_ns);
  void take_proposals(std::vector<Proposal> proposals, int64_t now_ns);
  bool feed_log();
  void refuse(const std::vector<Proposal>& proposals, const Error& error);
  void update_metrics();
  void run_commit();
  void run_housekeeper();
  enum class Progress : uint8_t { kMore, kDone, kLater };
  Progress prepare_spare();
  void watch_disk(PublishedDomain::Reader& reader);
  bool step_checkpoint(bool stopping);
  void checkpoint_at_stop();
  void check(const Status& status);

  NodeOptions options_;
  env::FileSystem& fs_;
  const env::Clock& clock_;
  metrics::ServerMetrics& metrics_;
  uint64_t member_id_;
  uint64_t cluster_id_;
  std::atomic<uint64_t> request_id_;
  std::atomic<uint64_t> committed_{0};
  std::atomic<uint64_t> pending_{0};
  std::atomic<uint64_t> waiting_bytes_{0};  // of proposals that replication has not taken yet
  std::atomic<int64_t> alarm_raised_ns_{0};
  std::atomic<bool> stop_wanted_{false};
  std::atomic<bool> db_is_full_{false};  // a commit found no room and is tried again
  AnswerSink sink_;

  // the core thread's
  std::unique_ptr<WalStage> wal_stage_;
  std::unique_ptr<ReplicationCore> replication_;
  std::unique_ptr<ApplyCore> apply_;
  std::unique_ptr<PageRoots> page_roots_;  // holds pins in what apply_ publishes
  std::deque<ApplyBatch> apply_queue_;
  std::deque<Proposal> waiting_;  // for the entries before them to be applied
  int64_t behind_since_ns_ = 0;   // since when too much waits to be applied; 0: it does not
  bool db_is_complete_ = true;
  uint64_t applies_up_to_bytes_ = 0;  // while a db that was found full takes nothing; 0: as far as there are buffers
  int64_t next_raft_tick_ns_ = 0;
  bool announced_ = false;
  bool attributes_proposed_ = false;
  bool version_proposed_ = false;
  bool stopping_ = false;
  uint64_t spared_sequence_ = UINT64_MAX;  // of the segment for which a successor has been asked for
  ApplyCore::Counters counted_;

  std::unique_ptr<PublishedDomain::Reader> commit_reader_;
  std::unique_ptr<CommitStage> commit_stage_;
  std::unique_ptr<DiskGuard> disk_guard_;
  Mutex deletes_mutex_;
  int64_t deletes_since_ns_ CAIRN_GUARDED_BY(deletes_mutex_) = 0;
  uint64_t deletes_bytes_ CAIRN_GUARDED_BY(deletes_mutex_) = 0;  // let through since then

  // the housekeeper's
  std::unique_ptr<PublishedDomain::Reader> checkpoint_reader_;
  std::unique_ptr<CheckpointWriter> checkpoint_;

  Mutex mutex_;
  std::condition_variable wake_core_;
  std::condition_variable wake_commit_;
  std::condition_variable wake_housekeeper_;
  std::condition_variable ready_;
  Inbox inbox_ CAIRN_GUARDED_BY(mutex_);
  std::optional<CommitJob> commit_job_ CAIRN_GUARDED_BY(mutex_);
  bool core_sleeps_ CAIRN_GUARDED_BY(mutex_) = false;
  bool is_ready_ CAIRN_GUARDED_BY(mutex_) = false;
  bool stop_helpers_ CAIRN_GUARDED_BY(mutex_) = false;
  bool spare_wanted_ CAIRN_GUARDED_BY(mutex_) = false;
  bool committed_db_ CAIRN_GUARDED_BY(mutex_) = false;  // since the housekeeper last looked at the checkpoint

  std::thread core_thread_;
  std::thread commit_thread_;
  std::thread housekeeper_thread_;
};

}  // namespace cairn::member
