// member/replication_core.h: the stage that decides what is in the log: raft, proposals, read indexes.
//
// Inputs are functions, outputs are what take_output() gives; nothing here waits, and nothing knows of threads. A
// proposal becomes an entry, an entry becomes a WalWrite, a WalWrite reported done becomes an ApplyBatch.
//
// Always true: an entry is handed to ApplyCore only when it is committed. It may not be stable here yet: the db's
//              commit waits for the hard state that covers it. A commit index is never asked to be durable before it
//              is reached.
// Threads:     the replication thread's.
// Source:      docs/architecture.md.
#pragma once

#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "member/raft_log.h"
#include "member/stages.h"
#include "raft/core.h"

namespace cairn::member {

struct Refused {
  Tag tag = 0;
  Error error;
};

struct ReplicationOutput {
  std::vector<raft::Message> messages;  // to other members
  std::vector<WalWrite> wal;            // in order
  ApplyBatch apply;
  std::vector<Refused> refused;  // proposals that will never be entries
};

class ReplicationCore {
 public:
  struct Options {
    raft::Config raft;
    uint64_t start_epoch = 0;            // another one at each start of this member
    size_t held_proposals_max = 10'000;  // without a leader; more are refused
    uint64_t held_bytes_max = 64 << 20;  // as well
    size_t held_conf_changes_max = 100;  // that wait for those before them; more are refused
    // Whether a member is Cairn's, and so knows raft::ForwardTag. Empty: all are.
    std::function<bool(NodeId)> speaks_cairn;
  };
  // `log` holds what the WAL held, from start.applied's successor on at least.
  ReplicationCore(const Options& options, RaftLog log, const raft::StartState& start);

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
  void tick();
  // A member that decides alone need not wait for the election timeout.
  void campaign();
  void wal_done(WalDone done);
  void applied(AppliedNotice notice);
  // The requests that wait for a leader are given up with `error`.
  void refuse_held(const Error& error);

  [[nodiscard]] bool has_output() const;
  [[nodiscard]] ReplicationOutput take_output();

  [[nodiscard]] const raft::Core& raft() const { return core_; }
  [[nodiscard]] size_t held_count() const;
  // Of the entries that are in memory: not yet applied, and a few more.
  [[nodiscard]] uint64_t log_bytes() const { return log_.memory_bytes(); }
  // Nothing happens here without an input: no election, no heartbeat is due.
  [[nodiscard]] bool needs_ticks() const { return !(core_.is_sole_member() && core_.is_leader()); }

 private:
  // Reads that were asked for together, under a context that no other round of any member ever has.
  struct ReadRound {
    uint64_t number = 0;
    uint64_t asked_tick = 0;  // last
    std::vector<ControlRequest> reads;
  };

  void propose_held();
  void propose_held_conf_changes();
  void refuse_what_is_too_much();
  [[nodiscard]] bool may_ask_read_index() const;
  void ask_read_index();
  void ask_again(ReadRound& round);
  void note_leadership();
  void answer_read(const raft::ReadState& read, ApplyBatch& out);
  [[nodiscard]] std::string read_context(uint64_t number) const;
  void give_verdict(const ConfVerdict& verdict);
  void take_ready(ReplicationOutput& out);
  [[nodiscard]] bool wants_state_synced() const;

  Options options_;
  RaftLog log_;
  raft::Core core_;
  std::vector<raft::PayloadPtr> held_;  // proposals for a leader to come, or for room
  uint64_t held_bytes_ = 0;
  std::deque<raft::PayloadPtr> held_conf_changes_;
  std::vector<ControlRequest> waiting_reads_;  // for which no read index was asked yet
  std::vector<ReadRound> asked_reads_;         // a few, oldest first
  uint64_t read_number_ = 0;
  uint64_t ticks_ = 0;
  Term commit_seen_in_;  // the last term of which an entry was known to be committed
  struct Departure {
    uint64_t number = 0;  // of the write
    std::vector<raft::Message> messages;
  };
  std::deque<Departure> departures_;                // what leaves once a write is stable, in order
  uint64_t last_number_ = 0;                        // of a Ready that was to be reported back
  std::optional<raft::HardState> unwritten_state_;  // only its commit is new: goes with the next write
  std::optional<raft::Entry> conf_entry_;           // handed out, verdict outstanding (or never given: a snapshot came)
  Index durable_commit_;  // as this process has synced it: what a start finds may be in the page cache alone
  Index wanted_durable_;
  Index syncing_commit_;  // of a hard state that is on its way to the disk by itself; 0: none is
  ReplicationOutput pending_;
  LeaderState last_state_;
  bool state_changed_ = true;
};

}  // namespace cairn::member
