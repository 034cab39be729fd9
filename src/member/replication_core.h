// member/replication_core.h: the stage that decides what is in the log: raft, proposals, read indexes.
//
// Inputs are functions, outputs are what take_output() gives; nothing here waits, and nothing knows of threads. A
// proposal becomes an entry, an entry becomes a WalWrite, a WalWrite reported done becomes an ApplyBatch.
//
// A member with peers may not lead: it forwards its proposals to who does (forwarding.h), recognises them by their id
// when they are committed (own_proposals.h), and proposes again what a change of leader has lost. Whatever waits for
// longer than the request timeout is refused.
//
// Always true: an entry is handed to ApplyCore only when it is committed. It may not be stable here yet: the db's
//              commit waits for the hard state that covers it. A commit index is never asked to be durable before it
//              is reached.
// Threads:     the core thread's.
// Source:      docs/architecture.md.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "member/failover.h"
#include "member/forwarding.h"
#include "member/log_service.h"
#include "member/own_proposals.h"
#include "member/raft_log.h"
#include "member/snapshot_holds.h"
#include "member/stages.h"
#include "raft/core.h"

namespace cairn::member {

struct Refused {
  Tag tag = 0;
  Error error;
  bool is_proposal = true;  // else it asked to read, or to change the members or the leader
};

struct ReplicationOutput {
  std::vector<raft::Message> messages;  // to other members
  std::vector<WalWrite> wal;            // in order
  std::vector<LogRead> log_reads;       // each is answered with log_read()
  ApplyBatch apply;
  std::vector<Refused> refused;  // what will never be done, and that of which nothing is known any more
  std::vector<NodeId> redial;    // see Effects
};

class ReplicationCore {
 public:
  struct Options {
    raft::Config raft;
    uint64_t start_epoch = 0;            // another one at each start of this member
    size_t held_proposals_max = 10'000;  // without a leader; more are refused
    uint64_t held_bytes_max = 64 << 20;  // as well
    size_t held_conf_changes_max = 100;  // that wait for those before them; more are refused
    size_t held_reads_max = 100'000;     // more are refused
    // etcd's: 5 s and two election timeouts. A member that has been alone since its start leaves it to its callers.
    int64_t request_timeout_ns = 7'000'000'000;
    int64_t election_ns = 1'000'000'000;  // as raft.election_ticks
    // A member that starts, and reaches a majority, waits for a leader as if all but two heartbeats of the election
    // timeout had passed.
    bool shortens_first_timeout = false;
    // Whether a member is Cairn's, and so knows raft::ForwardTag. Empty: all are.
    std::function<bool(NodeId)> speaks_cairn;
    LogKeeping log;  // for members that are behind
    // Of what others have forwarded to this leader and is neither stable nor applied. Beyond it nothing is taken from
    // them: who forwards sends it again, and an etcd's client hears that time is up. What this member's own clients put
    // in is bounded elsewhere.
    uint64_t others_bytes_max = 32 << 20;
  };
  // `log` holds what the WAL held, from start.applied's successor on at least.
  ReplicationCore(const Options& options, RaftLog log, const raft::StartState& start);

  // The time of what comes next.
  void set_now(int64_t now_ns) { now_ns_ = now_ns; }
  void propose(std::vector<Proposal> proposals);
  // In this term or never. The index of the last entry; nullopt: none was appended.
  std::optional<Index> propose_as_leader(Term term, std::vector<Proposal> proposals);
  // One at a time, as raft wants it: the next one when the one before is applied or refused. `change` is a
  // raft::ConfChangeV1.
  void propose_conf_change(Proposal change);
  void control(ControlRequest request);
  void step(raft::Message message);
  void report(const PeerReport& report);
  void transfer(const TransferRequest& request);
  // Begins to hand leadership to this voter, or to the one that has most of the log, if this is the leader and there is
  // another one. False: there is nobody to hand it to.
  bool hand_over(NodeId target = raft::kNoNode);
  // This member stood still for so long that another one may lead: sure_to_lead() is false until a quorum says that
  // this one still does.
  void doubt_leadership();
  [[nodiscard]] bool sure_to_lead() const { return doubt_ == 0; }
  void tick();
  // What is due at this moment beside ticks.
  void do_due();
  // A member that decides alone need not wait for the election timeout.
  void campaign();
  void wal_done(WalDone done);
  void log_read(LogReadDone done);
  // The snapshot of a WalWrite is in the log and its state in place; wal_done() for that write comes next.
  void installed(const raft::Snapshot& snapshot);
  void applied(AppliedNotice notice);
  // The requests that wait for a leader are given up with `error`, and those whose outcome is not known yet.
  void refuse_held(const Error& error);

  [[nodiscard]] bool has_output() const;
  [[nodiscard]] ReplicationOutput take_output();

  [[nodiscard]] const raft::Core& raft() const { return core_; }
  [[nodiscard]] size_t held_count() const;
  // Proposals of this member's clients whose outcome is not known.
  [[nodiscard]] size_t own_count() const { return own_.size(); }
  [[nodiscard]] bool has_peers() const { return has_peers_; }
  [[nodiscard]] bool speaks_cairn(NodeId member) const {
    return !options_.speaks_cairn || options_.speaks_cairn(member);
  }
  // How etcd says that a request which came at `since_ns` has waited for too long.
  [[nodiscard]] Error timeout_error(int64_t since_ns) const;
  // Rounds of reads that had to be asked for again, since no answer had come.
  [[nodiscard]] uint64_t slow_reads() const { return slow_reads_; }
  // Of the entries that are in memory: not yet applied, and a few more.
  [[nodiscard]] uint64_t log_bytes() const { return log_.memory_bytes(); }
  // The same while the disk or the db is behind; else 0: what is not committed leaves memory only when a leader has
  // said more. One that was deposed, and has more of it than may wait, is to hear of it.
  [[nodiscard]] uint64_t busy_log_bytes() const {
    const bool is_busy = core_.applied() < core_.committed() || core_.stable_index() < core_.last_index();
    return is_busy ? log_.memory_bytes() : 0;
  }
  [[nodiscard]] const RaftLog& log() const { return log_; }
  // What is proposed goes to a leader elsewhere; and so much of it waits for room on the way there, or for a leader.
  [[nodiscard]] bool proposes_elsewhere() const {
    return has_peers_ && !core_.is_leader() && core_.leader() != raft::kNoNode;
  }
  [[nodiscard]] uint64_t held_bytes() const { return held_bytes_; }
  // As this process has synced it.
  [[nodiscard]] Index durable_commit() const { return durable_commit_; }
  // False: nothing happens here without an input. No election, no heartbeat is due, and nobody waits for something that
  // may never come.
  [[nodiscard]] bool needs_ticks() const { return has_peers_ || !(core_.is_sole_member() && core_.is_leader()); }
  // When do_due() has something to do before the next tick.
  [[nodiscard]] std::optional<int64_t> next_due_ns() const { return failover_.next_ns(); }

 private:
  struct Read {
    ControlRequest request;
    int64_t since_ns = 0;
  };
  // Reads that were asked for together, under a context that no other round of any member ever has.
  struct ReadRound {
    uint64_t number = 0;
    uint64_t asked_tick = 0;  // last
    std::vector<Read> reads;
  };
  struct Transfer {
    TransferRequest request;
    int64_t since_ns = 0;
  };

  // replication_proposals.cc: what becomes of proposals
  void propose_held();
  raft::ProposeOutcome give(std::span<raft::PayloadPtr> payloads);
  raft::ProposeOutcome give_conf_change(const raft::PayloadPtr& change);
  void propose_held_conf_changes();
  void follow();
  void take_forwarded(raft::Message& message);
  bool append_forwarded(raft::Message& message, size_t known);
  [[nodiscard]] bool has_room_for_others();
  void note_of_others(uint64_t bytes);  // of the log's last entries
  void begin_counting_others();
  void answer_forwarded(const raft::ForwardTag& tag, NodeId to, bool is_refused);
  void refuse_what_is_too_much();
  void begin_tracking(Index first);
  void resolve(std::vector<raft::Entry>& committed);
  void propose_again(Term term);
  void refuse_what_waited_too_long();

  [[nodiscard]] bool may_ask_read_index() const;
  void ask_read_index();
  void ask_again(ReadRound& round);
  void note_leadership();
  void answer_read(const raft::ReadState& read, ApplyBatch& out);
  void ask_late_rounds_again();
  void refuse_late_reads();
  void refuse(const OwnProposals::One& one, const Error& error);
  void refuse_other(Tag tag, const Error& error);
  [[nodiscard]] std::string read_context(uint64_t number) const;
  void end_snapshot(NodeId member);
  void consider_snapshots();
  void consider_transfers();
  [[nodiscard]] bool was_connected_since(NodeId peer, int64_t since_ns) const;
  void trim_log();
  void release(Index wanted);
  void consider_being_alone();
  void consider_first_timeout();
  void give_verdict(const ConfVerdict& verdict);
  void succeed_removed_leader();
  void take_ready(ReplicationOutput& out);
  [[nodiscard]] bool wants_state_synced() const;

  Options options_;
  RaftLog log_;
  raft::Core core_;
  int64_t now_ns_ = 0;
  bool has_peers_ = false;              // has some, or requests of a time when it had
  std::vector<raft::PayloadPtr> held_;  // proposals for a leader to come, or for room
  uint64_t held_bytes_ = 0;
  std::deque<raft::PayloadPtr> held_conf_changes_;
  OwnProposals own_;
  Forwarder forwarder_;
  Forwarder conf_forwarder_;
  Ledger ledger_;
  Failover failover_;
  SnapshotHolds snapshot_holds_;
  std::map<NodeId, int64_t> failed_snapshots_;  // of whom raft is not told yet
  struct SentSnapshot {
    Index index;
    std::optional<int64_t> delivered_ns;  // raft is told when the member has it in its log
  };
  std::map<NodeId, SentSnapshot> sent_snapshots_;  // the last one, until raft is told
  Term handed_term_;                               // of the last entry that was handed to ApplyCore
  std::vector<Transfer> transfers_;
  std::map<NodeId, int64_t> cut_ns_;   // when a member was last found not to be connected
  std::set<NodeId> reached_;           // since the start, while `awaits_majority_`
  bool awaits_majority_ = false;       // it was not reached since the start, and nobody has led
  std::optional<int64_t> elected_ns_;  // when this member last began to lead

  std::vector<Read> waiting_reads_;     // for which no read index was asked yet
  std::vector<ReadRound> asked_reads_;  // a few, oldest first
  uint64_t read_number_ = 0;
  uint64_t slow_reads_ = 0;
  uint64_t doubt_ = 0;  // the round of reads that ends it; 0: there is none
  uint64_t ticks_ = 0;
  Term commit_seen_in_;  // the last term of which an entry was known to be committed
  struct Departure {
    uint64_t number = 0;  // of the write
    std::vector<raft::Message> messages;
  };
  std::deque<Departure> departures_;                // what leaves once a write is stable and installed, in order
  uint64_t last_number_ = 0;                        // of a Ready that was to be reported back
  std::optional<raft::HardState> unwritten_state_;  // only its commit is new: goes with the next write
  std::optional<raft::Entry> conf_entry_;           // handed out, verdict outstanding (or never given: a snapshot came)
  Index durable_commit_;  // as this process has synced it: what a start finds may be in the page cache alone
  Index wanted_durable_;
  Index snapshot_point_;  // the newest
  Index syncing_commit_;  // of a hard state that is on its way to the disk by itself; 0: none is
  ReplicationOutput pending_;
  Index shared_up_to_;  // LeaderState::shared_up_to
  LeaderState last_state_;
  bool state_changed_ = true;
  struct OfOthers {
    Index last;  // up to here
    uint64_t bytes = 0;
  };
  std::deque<OfOthers> of_others_;  // what this leader has appended for others in the term of_others_in_, in order
  Term of_others_in_;
  uint64_t of_others_bytes_ = 0;
  NodeId forwards_to_;  // as follow() has decided; 0: to nobody
};

}  // namespace cairn::member
