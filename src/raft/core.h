// raft/core.h: one member's part in consensus, as a value: ticks, messages and proposals in, a Ready out.
//
// It behaves on the wire as etcd's raft does: elections with pre-vote and check-quorum, pipelined replication,
// ReadIndex, leader transfer, learners, joint configurations, snapshots.
//
// How a driver uses it:
//
//     tick(), step(message), propose(...), ...             any number of inputs
//     while (core.has_ready()) {
//       Ready ready = core.take_ready();
//       send ready.messages
//       write ready.snapshot, then ready.entries, then ready.hard_state (sync if must_sync), in the order taken
//       hand ready.committed to the applier
//     }
//     ... when Ready `number` is stable: send its messages_after_sync; core.appended(number)
//     ... when a conf change was applied or refused: core.apply_conf_change(its index, change)
//     ... when entries were applied: core.applied_to(index)
//
// Several Readys may be on their way to the disk; they become stable in the order in which they were taken.
//
// Always true: at most one leader a term; a committed entry is in the log of every later leader; entries handed to
//              the applier are committed, each is handed out once, in order. They may not be stable here yet: what the
//              applier stores must wait until the member's own log holds them.
// Threads:     owned by one; nothing here locks, waits, or sees a clock, a disk or a socket.
// Failure:     a broken promise of a peer or of the log (a committed entry contradicted, commit beyond the log's
//              end) is an assertion: to go on would lose data.
// Source:      Ongaro's Raft dissertation; etcd's raft 3.7 for what goes over the wire.
#pragma once

#include <deque>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "base/error.h"
#include "base/random.h"
#include "raft/log.h"
#include "raft/log_view.h"
#include "raft/progress.h"
#include "raft/quorum.h"
#include "raft/read_index.h"
#include "raft/types.h"

namespace cairn::raft {

struct Config {
  NodeId id;                      // not 0
  uint64_t seed = 0;              // of the random part of election timeouts
  uint32_t election_ticks = 100;  // a follower waits this long, and up to once more, for its leader
  uint32_t heartbeat_ticks = 10;  // < election_ticks
  bool pre_vote = true;
  bool check_quorum = true;  // a leader steps down, and members refuse votes, by who was heard of lately
  bool step_down_on_removal = false;
  uint64_t max_bytes_per_message = uint64_t{1} << 20;
  uint32_t max_inflight_messages = 512;  // appends to one member not yet answered
  uint64_t max_inflight_bytes = uint64_t{32} << 20;
  uint64_t max_uncommitted_bytes = uint64_t{256} << 20;  // proposals beyond it are refused; see proposal_room_bytes()
  uint64_t max_unapplied_bytes = uint64_t{64} << 20;     // handed out for applying and not reported applied
  uint64_t max_unstable_bytes = uint64_t{32} << 20;      // proposals beyond it wait until entries are stable here
};

// What was found on disk. `conf` is the configuration after the entry `applied`.
struct StartState {
  HardState hard;
  ConfState conf;
  Index applied;
};

enum class ProposeOutcome : uint8_t {
  kAppended,      // in our log as [first, first + count) of `term`; committed later, or lost with the term
  kForwarded,     // sent to the leader of `term`, who may append it in that term or never get it
  kNoLeader,      // nobody to give it to: hold it or refuse it
  kTransferring,  // we lead, and are handing over or being removed: hold it, then give it to the next leader
  kFull,          // max_uncommitted_bytes or max_unstable_bytes: hold it until proposal_room_bytes() says otherwise
  kNotMember,     // we lead, but were removed
  kWrongTerm,     // propose_as_leader: not leader of that term
  kConfRefused,   // a conf change while another is on its way, or one that does not fit the configuration
};

struct ProposeResult {
  ProposeOutcome outcome = ProposeOutcome::kNoLeader;
  Term term;
  Index first;  // kAppended only
};

// What the driver must do now. Empty fields ask for nothing.
struct Ready {
  // Not 0 exactly when must_sync: to be answered with appended(number), once, in order.
  uint64_t number = 0;
  bool must_sync = false;
  std::optional<SoftState> soft_state;
  // When it changed. If only `commit` did, it is written but need not be synced (must_sync is false).
  std::optional<HardState> hard_state;
  // Replaces log and state; before `entries`. appended() for this Ready means that it is stable, installed and
  // applied; nothing is handed out for applying in between.
  SnapshotPtr snapshot;
  // To append. If the first index was written before, its entry and all later ones are replaced.
  std::vector<Entry> entries;
  // To apply. A conf change is always the last one; nothing follows until apply_conf_change().
  std::vector<Entry> committed;
  // To send now, without waiting for the disk.
  std::vector<Message> messages;
  // To send when this Ready and all earlier ones are stable. (Not empty without must_sync only if an earlier
  // write is still on its way.)
  std::vector<Message> messages_after_sync;
  std::vector<ReadState> read_states;
};

struct PeerStatus {
  NodeId id;
  ProgressState state = ProgressState::kProbe;
  Index match;
  Index next;
  bool is_learner = false;
  bool recent_active = false;
  bool paused = false;
};

class Core {
 public:
  // `view` outlives the core and holds all entries up to start.hard.commit and start.applied.
  Core(const Config& config, const LogView& view, const StartState& start);
  Core(const Core&) = delete;
  Core& operator=(const Core&) = delete;

  // ---- Inputs.

  // One unit of time passed. After a pause of any length one tick is due, behind the messages already received.
  void tick();

  // A message from another member. Those that are stale, malformed or not for us are dropped.
  void step(Message message);

  // Proposes each payload as one entry: all or none. Moves from `payloads` only when kAppended or kForwarded.
  // A forwarded proposal names the term (ForwardTag::term).
  ProposeResult propose(std::span<PayloadPtr> payloads);
  // The same, but only as leader of `term`: never forwarded.
  ProposeResult propose_as_leader(Term term, std::span<PayloadPtr> payloads);
  // `data` is an encoded ConfChangeV1 (kConfChange) or ConfChange (kConfChangeV2): conf_change.h.
  ProposeResult propose_conf_change(EntryType type, PayloadPtr data);

  // Starts an election (by pre-vote, if configured). False when this member leads, is a candidate already (a new
  // candidacy would throw away the votes of the running one: it has its election timeout), is no voter, or has a conf
  // change or snapshot still to apply.
  bool campaign();
  // The same, when it is known that `absent` is dead. A candidacy that all others have answered, and that is not won,
  // ends: another begins.
  bool campaign_without(NodeId absent);

  // Asks for an index at which a read is linearizable; it comes in Ready::read_states with `context` (unique among
  // requests of all members), or never, if the leader changes or a message is lost: ask again after a while.
  // False: no leader known.
  bool read_index(std::string context);

  // Hands leadership to `target`, or asks the leader to. Given up after election_ticks. False: no leader known,
  // or (at the leader) `target` is not a voter or the leader itself.
  bool transfer_leader(NodeId target);

  // Forgets a leader that is known to be dead, so that others may get votes before election_ticks.
  void forget_leader();

  void report_unreachable(NodeId peer);
  void report_snapshot(NodeId peer, bool ok);  // the transport finished or failed to deliver our snapshot

  // The verdict on the conf change that was handed out as entry `index`: it takes effect here, now. A refused one is
  // a change that names node 0 only. If a snapshot arrived in between, the change is part of it: nothing happens, and
  // nothing happens either if this verdict is never given.
  //   errors: kFailedPrecondition when the change does not fit the configuration, which then stays
  Result<ConfState> apply_conf_change(Index index, const ConfChange& change);

  // Everything up to `index` is applied. Not below an earlier call, not above what was handed out.
  void applied_to(Index index);

  // The writes of Ready `number` are stable and readable through the LogView.
  void appended(uint64_t number);

  // Entries for which the LogView said kNotInMemory are there now.
  void log_loaded();

  // ---- Output.

  [[nodiscard]] bool has_ready() const;
  [[nodiscard]] Ready take_ready();

  // ---- What is known.

  [[nodiscard]] NodeId id() const { return config_.id; }
  [[nodiscard]] Role role() const;
  [[nodiscard]] bool is_leader() const { return std::holds_alternative<Leader>(state_); }
  [[nodiscard]] NodeId leader() const { return leader_; }
  [[nodiscard]] Term term() const { return hard_.term; }
  [[nodiscard]] HardState hard_state() const { return {hard_.term, hard_.vote, log_.committed()}; }
  [[nodiscard]] const ConfState& conf() const { return conf_; }
  [[nodiscard]] Index committed() const { return log_.committed(); }
  [[nodiscard]] Index applied() const { return log_.applied(); }
  [[nodiscard]] Index last_index() const { return log_.last_index(); }
  [[nodiscard]] Index stable_index() const { return log_.stable_index(); }
  // The entries [lo, hi) of the log, stable or not, as LogView::entries().
  std::expected<void, LogGap> entries(Index lo, Index hi, uint64_t bytes_max, std::vector<Entry>& out) const {
    return log_.entries(lo, hi, bytes_max, out);
  }
  // The leader has committed an entry of its own term (only then does it know what is committed).
  [[nodiscard]] bool has_committed_in_term() const;
  // An entry of the current term is known to be committed: from here on its leader answers reads.
  [[nodiscard]] bool knows_commit_of_term() const;
  // How much propose() accepts now, in cost_bytes(); 0: nothing until entries are committed or stable. A single
  // proposal that is larger than the bounds is taken while this is above 0. A member that does not lead has no limit.
  [[nodiscard]] uint64_t proposal_room_bytes() const;
  // This member is the only voter: it decides alone.
  [[nodiscard]] bool is_sole_voter() const;
  // This member is the only voter, and there is no learner either.
  [[nodiscard]] bool is_sole_member() const;
  [[nodiscard]] NodeId transfer_target() const;  // 0: no transfer under way
  [[nodiscard]] bool awaits_conf_verdict() const { return awaited_verdict_ != Index(0); }
  [[nodiscard]] std::vector<PeerStatus> peers() const;  // empty unless leader; includes this member
  // A majority was heard of since the last check (every election_ticks). Meaningful for a leader.
  [[nodiscard]] bool quorum_active() const;

 private:
  struct Follower {};
  struct Candidate {
    bool pre = false;
    std::vector<Ballot> ballots;
  };
  struct Uncommitted {
    Index last;
    uint64_t bytes = 0;
  };
  struct Leader {
    std::vector<Progress> peers;  // all members of the configuration, by id; this one included
    ReadRounds reads;
    Index term_start;          // our first entry: nothing below it is committed by counting
    Index pending_conf_index;  // no conf change is accepted until this is applied
    Index own_removal;         // a change that removes this member: until it is applied, little is appended behind it
    NodeId transfer_target;
    uint32_t heartbeat_elapsed = 0;
    bool appends_due = false;
    uint64_t uncommitted_bytes = 0;
    std::deque<Uncommitted> uncommitted;
  };

  // core.cc
  void become_follower(Term term, NodeId leader);
  void reset_timer();
  void send(Message message);
  void send_after_sync(Message message);
  Message message_to(NodeId to, MessageType type) const;
  bool step_to_term(const Message& message);
  bool can_hand_out() const;
  void hand_out(Ready& ready);

  // election.cc
  bool campaign_as(bool pre, bool transfer);
  bool is_promotable() const;
  bool has_unapplied_conf_change() const;
  bool in_lease() const;
  void become_candidate(bool pre);
  void request_votes(bool transfer);
  void record_vote(NodeId from, bool granted);
  void on_vote_request(const Message& message);
  void on_vote_reply(const Message& message);
  void tell_committed(Message& refusal) const;
  void learn_committed(const Message& refusal);

  // follower.cc
  void on_leader_message(Message& message);
  void on_append(Message& message);
  void on_heartbeat(const Message& message);
  void on_snapshot(Message& message);
  bool restore(const SnapshotPtr& snapshot);
  void acknowledge(NodeId to, Index index);
  void on_read_index_reply(Message& message);

  // leader.cc
  Leader& leading() { return std::get<Leader>(state_); }
  const Leader& leading() const { return std::get<Leader>(state_); }
  Progress* find_peer(NodeId id);
  void become_leader();
  void tick_leader();
  void broadcast_heartbeat();
  void on_heartbeat_reply(const Message& message);
  void start_transfer(Progress& peer);
  void start_reads();
  void finish_reads();
  void on_read_index(const Message& message);

  // replicate.cc
  void on_append_reply(const Message& message);
  void on_append_refused(Progress& peer, const Message& message);
  bool maybe_commit();
  void flush_appends();
  bool send_append(Progress& peer, bool even_if_empty);
  bool send_snapshot(Progress& peer);
  void commit_to(Index index);

  // propose.cc
  ProposeOutcome may_append() const;
  bool admit(uint64_t bytes, Index last);
  Index append_as_leader(EntryType type, PayloadPtr data);
  ProposeResult append_batch(std::span<PayloadPtr> payloads);
  ProposeResult forward(EntryType type, std::span<PayloadPtr> payloads);
  void on_proposal(Message& message);
  bool conf_change_fits(EntryType type, std::string_view bytes) const;

  // membership.cc
  void switch_to(ConfState conf);
  void refresh_peers();
  void maybe_leave_joint();

  Config config_;
  Random random_;
  Log log_;
  HardState hard_;  // its commit is not kept here but in log_
  ConfState conf_;
  std::variant<Follower, Candidate, Leader> state_;
  NodeId leader_;

  uint32_t election_elapsed_ = 0;
  uint32_t election_timeout_ = 0;  // config_.election_ticks and a random part

  struct OwedCampaign {
    Term term;
    uint32_t ticks_left = 0;
  };
  OwedCampaign owed_campaign_;  // a transfer to us came while a conf change was not applied
  Index awaited_verdict_;       // the conf change that was handed out last; 0: none is being applied
  mutable bool waits_for_log_ = false;
  uint64_t last_ready_number_ = 0;

  SoftState handed_soft_;
  HardState handed_hard_;
  std::vector<Message> messages_;
  std::vector<Message> messages_after_sync_;
  std::vector<ReadState> read_states_;
};

}  // namespace cairn::raft
