#include "member/replication_core.h"

#include <algorithm>

#include "base/bytes.h"
#include "base/check.h"
#include "base/errors.h"
#include "base/fault.h"
#include "raft/conf_change.h"

namespace cairn::member {
namespace {

// Beyond this many rounds under way, reads gather until one is answered.
constexpr size_t kReadRoundsMax = 4;
// 500 ms, as in etcd: then a round's request or answer is taken for lost.
constexpr uint64_t kReadRetryTicks = 50;

}  // namespace

ReplicationCore::ReplicationCore(const Options& options, RaftLog log, const raft::StartState& start)
    : options_(options), log_(std::move(log)), core_(options.raft, log_, start) {}

void ReplicationCore::propose(std::vector<Proposal> proposals) {
  for (const Proposal& one : proposals) held_bytes_ += one->bytes.size() + raft::kEntryOverheadBytes;
  if (held_.empty()) {
    held_ = std::move(proposals);
  } else {
    held_.insert(held_.end(), std::make_move_iterator(proposals.begin()), std::make_move_iterator(proposals.end()));
  }
  propose_held();
}

std::optional<Index> ReplicationCore::propose_as_leader(Term term, std::vector<Proposal> proposals) {
  const size_t count = proposals.size();
  const raft::ProposeResult result = core_.propose_as_leader(term, proposals);
  if (result.outcome != raft::ProposeOutcome::kAppended) return std::nullopt;
  return Index(result.first.value + count - 1);
}

// Gives the core as many as it has room for at once; the rest waits.
void ReplicationCore::propose_held() {
  size_t given = 0;
  raft::ProposeOutcome outcome = raft::ProposeOutcome::kAppended;
  while (given < held_.size()) {
    const uint64_t room = core_.proposal_room_bytes();
    size_t end = given;
    uint64_t bytes = 0;
    do {
      bytes += held_[end]->bytes.size() + raft::kEntryOverheadBytes;
    } while (++end < held_.size() && bytes + held_[end]->bytes.size() + raft::kEntryOverheadBytes <= room);
    outcome = core_.propose(std::span(held_).subspan(given, end - given)).outcome;
    if (outcome != raft::ProposeOutcome::kAppended && outcome != raft::ProposeOutcome::kForwarded) break;
    given = end;
    held_bytes_ -= bytes;
  }
  held_.erase(held_.begin(), held_.begin() + static_cast<std::ptrdiff_t>(given));
  if (outcome == raft::ProposeOutcome::kNotMember) return refuse_held(errors::stopped());
  refuse_what_is_too_much();
}

void ReplicationCore::propose_conf_change(Proposal change) {
  if (held_conf_changes_.size() >= options_.held_conf_changes_max) {
    pending_.refused.push_back({change->tag, errors::request_too_many_requests()});
    return;
  }
  held_conf_changes_.push_back(std::move(change));
  propose_held_conf_changes();
}

// compat: what comes while another change is under way becomes an empty entry with etcd, and its client waits until
// time is up. Here it waits for its turn.
void ReplicationCore::propose_held_conf_changes() {
  while (!held_conf_changes_.empty()) {
    const raft::PayloadPtr& first = held_conf_changes_.front();
    switch (core_.propose_conf_change(raft::EntryType::kConfChange, first).outcome) {
      case raft::ProposeOutcome::kAppended:
      case raft::ProposeOutcome::kForwarded: break;
      case raft::ProposeOutcome::kNotMember: pending_.refused.push_back({first->tag, errors::stopped()}); break;
      case raft::ProposeOutcome::kConfRefused:
        // It waits for another one, or it cannot be at all: that is known when there is nothing to wait for.
        if (core_.applied() < core_.last_index()) return;
        pending_.refused.push_back({first->tag, errors::unhealthy()});
        break;
      default: return;
    }
    held_conf_changes_.pop_front();
  }
}

// The latest.
void ReplicationCore::refuse_what_is_too_much() {
  while (held_.size() > options_.held_proposals_max || held_bytes_ > options_.held_bytes_max) {
    held_bytes_ -= held_.back()->bytes.size() + raft::kEntryOverheadBytes;
    pending_.refused.push_back({held_.back()->tag, errors::request_too_many_requests()});
    held_.pop_back();
  }
}

void ReplicationCore::refuse_held(const Error& error) {
  for (const Proposal& proposal : held_) pending_.refused.push_back({proposal->tag, error});
  for (const Proposal& change : held_conf_changes_) pending_.refused.push_back({change->tag, error});
  for (const ControlRequest& read : waiting_reads_) pending_.refused.push_back({read.tag, error});
  for (const ReadRound& round : asked_reads_) {
    for (const ControlRequest& read : round.reads) pending_.refused.push_back({read.tag, error});
  }
  held_.clear();
  held_bytes_ = 0;
  held_conf_changes_.clear();
  waiting_reads_.clear();
  asked_reads_.clear();
}

size_t ReplicationCore::held_count() const {
  size_t count = held_.size() + held_conf_changes_.size() + waiting_reads_.size();
  for (const ReadRound& round : asked_reads_) count += round.reads.size();
  return count;
}

void ReplicationCore::control(ControlRequest request) {
  if (request.kind == Control::kLinearizable) {
    waiting_reads_.push_back(request);
  } else {
    pending_.apply.controls.push_back(request);
  }
}

bool ReplicationCore::may_ask_read_index() const {
  return !waiting_reads_.empty() && asked_reads_.size() < kReadRoundsMax && core_.leader() != raft::kNoNode;
}

void ReplicationCore::ask_read_index() {
  if (!may_ask_read_index()) return;
  asked_reads_.push_back({.number = ++read_number_, .asked_tick = ticks_, .reads = std::exchange(waiting_reads_, {})});
  ask_again(asked_reads_.back());
}

// Under the same context: whichever answer comes, it is to a question that was put after the reads had arrived.
void ReplicationCore::ask_again(ReadRound& round) {
  round.asked_tick = ticks_;
  core_.read_index(read_context(round.number));  // without a leader: when there is one
}

// A counter alone would begin at 0 at each start: the answer to an old round would serve a new read.
std::string ReplicationCore::read_context(uint64_t number) const {
  std::string context(3 * sizeof(uint64_t), '\0');
  store_be64(context.data(), core_.id().value);
  store_be64(context.data() + sizeof(uint64_t), options_.start_epoch);
  store_be64(context.data() + 2 * sizeof(uint64_t), number);
  return context;
}

void ReplicationCore::answer_read(const raft::ReadState& read, ApplyBatch& out) {
  // Compared as a whole: whatever a peer sends, of whatever length, is ours or it is not.
  const auto round = std::find_if(asked_reads_.begin(), asked_reads_.end(),
                                  [&](const ReadRound& asked) { return read_context(asked.number) == read.context; });
  if (round == asked_reads_.end()) return;
  for (ControlRequest& request : round->reads) {
    request.due = read.index;
    out.controls.push_back(request);
  }
  asked_reads_.erase(round);
}

void ReplicationCore::step(raft::Message message) {
  core_.step(std::move(message));
  propose_held();
}

void ReplicationCore::report(const PeerReport& report) {
  switch (report.kind) {
    case PeerReport::Kind::kUnreachable: core_.report_unreachable(report.peer); break;
    case PeerReport::Kind::kDied:
      core_.report_unreachable(report.peer);
      if (core_.leader() == report.peer) {
        core_.forget_leader();
        core_.campaign();
      }
      break;
    case PeerReport::Kind::kSnapshotDelivered: core_.report_snapshot(report.peer, true); break;
    case PeerReport::Kind::kSnapshotFailed: core_.report_snapshot(report.peer, false); break;
    case PeerReport::Kind::kStreamCut: core_.report_unreachable(report.peer); break;
  }
}

void ReplicationCore::transfer(const TransferRequest& request) {
  Error error = errors::timeout_leader_transfer();
  if (!core_.is_leader()) {
    error = errors::not_leader();
  } else if (!core_.transfer_leader(request.to)) {
    error = errors::bad_leader_transferee();
  }
  pending_.refused.push_back({request.tag, error});
}

void ReplicationCore::tick() {
  ++ticks_;
  core_.tick();
  propose_held();
  for (ReadRound& round : asked_reads_) {
    if (ticks_ - round.asked_tick >= kReadRetryTicks) ask_again(round);
  }
}

void ReplicationCore::campaign() { core_.campaign(); }

void ReplicationCore::wal_done(WalDone done) {
  if (!done.entries.empty()) log_.append(std::move(done.entries));
  if (done.durable_commit > durable_commit_) {
    durable_commit_ = done.durable_commit;
    pending_.apply.durable_commit = durable_commit_;
  }
  if (durable_commit_ >= syncing_commit_) syncing_commit_ = Index{};
  if (done.number != 0 && !core_.is_leader()) CAIRN_FAULT("raftBeforeFollowerSend");
  if (done.number != 0) core_.appended(done.number);
  for (; done.number != 0 && !departures_.empty() && departures_.front().number <= done.number;
       departures_.pop_front()) {
    auto& messages = departures_.front().messages;
    pending_.messages.insert(pending_.messages.end(), std::make_move_iterator(messages.begin()),
                             std::make_move_iterator(messages.end()));
  }
  if (done.released != Index{}) log_.released_to(std::min(done.released, core_.applied()));
  propose_held();
}

void ReplicationCore::applied(AppliedNotice notice) {
  if (notice.conf_verdict) give_verdict(*notice.conf_verdict);
  if (notice.applied > core_.applied()) {
    core_.applied_to(notice.applied);
    log_.applied_to(notice.applied);
  }
  propose_held_conf_changes();
  wanted_durable_ = std::max(wanted_durable_, notice.need_durable_commit);
  if (notice.snapshot || notice.release_below != Index{}) {
    WalWrite write;
    write.snapshot = std::move(notice.snapshot);
    write.release_below = notice.release_below;
    pending_.wal.push_back(std::move(write));
  }
}

void ReplicationCore::give_verdict(const ConfVerdict& verdict) {
  if (!conf_entry_ || conf_entry_->index != verdict.index) return;  // a snapshot overtook it
  raft::ConfChange change;
  change.changes.push_back({});  // names no node: without effect
  if (verdict.accepted) {
    auto decoded = raft::decode_conf_change(conf_entry_->type, conf_entry_->bytes());
    CAIRN_ASSERT(decoded);  // ApplyCore has read it
    change = *std::move(decoded);
  }
  const auto conf = core_.apply_conf_change(verdict.index, change);
  CAIRN_ASSERT(conf);  // checked against the same membership
  conf_entry_.reset();
  state_changed_ = true;
}

bool ReplicationCore::has_output() const {
  return core_.has_ready() || state_changed_ || !pending_.messages.empty() || !pending_.wal.empty() ||
         !pending_.apply.empty() || !pending_.refused.empty() || may_ask_read_index() || wants_state_synced();
}

bool ReplicationCore::wants_state_synced() const {
  return wanted_durable_ > durable_commit_ && syncing_commit_ == Index{} && core_.committed() >= wanted_durable_;
}

// Another leader, or the same in another term, knows nothing of the rounds under way. Before the first commit of its
// term an etcd up to 3.4 drops them.
void ReplicationCore::note_leadership() {
  const bool is_new = core_.term() != last_state_.term || core_.leader() != last_state_.leader;
  const bool first_commit = commit_seen_in_ != core_.term() && core_.knows_commit_of_term();
  if (first_commit) commit_seen_in_ = core_.term();
  if (is_new) state_changed_ = true;
  if (!is_new && !first_commit) return;
  for (ReadRound& round : asked_reads_) ask_again(round);
}

void ReplicationCore::take_ready(ReplicationOutput& out) {
  raft::Ready ready = core_.take_ready();
  note_leadership();
  if (ready.soft_state) {
    propose_held();
    propose_held_conf_changes();
  }
  if (core_.is_leader()) CAIRN_FAULT("raftBeforeLeaderSend");
  out.messages.insert(out.messages.end(), std::make_move_iterator(ready.messages.begin()),
                      std::make_move_iterator(ready.messages.end()));
  if (ready.hard_state) unwritten_state_ = ready.hard_state;
  if (ready.must_sync || !ready.entries.empty()) {
    WalWrite write;
    write.number = ready.number;
    write.entries = std::move(ready.entries);
    write.hard_state = std::exchange(unwritten_state_, std::nullopt);
    write.must_sync = ready.must_sync;
    out.wal.push_back(std::move(write));
  }
  if (ready.number != 0) last_number_ = ready.number;
  if (!ready.messages_after_sync.empty()) {
    departures_.push_back({last_number_, std::move(ready.messages_after_sync)});
  }
  CAIRN_ASSERT(ready.snapshot == nullptr);  // nobody sends one to a member that is alone
  for (const raft::ReadState& read : ready.read_states) answer_read(read, out.apply);
  if (!ready.committed.empty()) {
    const raft::Entry& last = ready.committed.back();
    if (last.type != raft::EntryType::kNormal) conf_entry_ = last;
    auto& entries = out.apply.entries;
    if (entries.empty()) {
      entries = std::move(ready.committed);
    } else {
      entries.insert(entries.end(), std::make_move_iterator(ready.committed.begin()),
                     std::make_move_iterator(ready.committed.end()));
    }
  }
}

ReplicationOutput ReplicationCore::take_output() {
  ask_read_index();
  ReplicationOutput out = std::exchange(pending_, {});
  if (core_.has_ready()) take_ready(out);
  if (wants_state_synced()) {
    // A write with entries carries the state along; alone it goes by itself.
    const bool carried = std::any_of(out.wal.begin(), out.wal.end(), [&](const WalWrite& write) {
      return write.must_sync && write.hard_state && write.hard_state->commit >= wanted_durable_;
    });
    if (!carried) {
      WalWrite write;
      write.hard_state = core_.hard_state();
      write.must_sync = true;
      unwritten_state_.reset();
      syncing_commit_ = write.hard_state->commit;
      out.wal.push_back(std::move(write));
    }
  }
  if (std::exchange(state_changed_, false)) {
    const LeaderState state{core_.term(), core_.leader(), core_.is_leader(), core_.is_sole_voter()};
    if (state != last_state_) {
      last_state_ = state;
      out.apply.leader_state = state;
    }
  }
  if (!pending_.refused.empty()) {  // by propose_held() above
    out.refused.insert(out.refused.end(), std::make_move_iterator(pending_.refused.begin()),
                       std::make_move_iterator(pending_.refused.end()));
    pending_.refused.clear();
  }
  return out;
}

}  // namespace cairn::member
