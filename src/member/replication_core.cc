#include "member/replication_core.h"

#include <algorithm>

#include "base/bytes.h"
#include "base/check.h"
#include "base/errors.h"
#include "raft/conf_change.h"

namespace cairn::member {

ReplicationCore::ReplicationCore(const Options& options, RaftLog log, const raft::StartState& start)
    : options_(options), log_(std::move(log)), core_(options.raft, log_, start) {}

void ReplicationCore::propose(std::vector<Proposal> proposals) {
  if (held_.empty()) {
    held_ = std::move(proposals);
  } else {
    held_.insert(held_.end(), std::make_move_iterator(proposals.begin()), std::make_move_iterator(proposals.end()));
  }
  propose_held();
}

void ReplicationCore::propose_held() {
  if (held_.empty()) return;
  const raft::ProposeResult result = core_.propose(held_);
  switch (result.outcome) {
    case raft::ProposeOutcome::kAppended:
    case raft::ProposeOutcome::kForwarded: held_.clear(); return;
    case raft::ProposeOutcome::kFull:
      for (const Proposal& proposal : held_) {
        pending_.refused.push_back({proposal->tag, errors::request_too_many_requests()});
      }
      held_.clear();
      return;
    case raft::ProposeOutcome::kNotMember: refuse_held(errors::stopped()); return;
    case raft::ProposeOutcome::kNoLeader:
    case raft::ProposeOutcome::kTransferring:
    case raft::ProposeOutcome::kWrongTerm:
    case raft::ProposeOutcome::kConfRefused: break;
  }
  while (held_.size() > options_.held_proposals_max) {
    pending_.refused.push_back({held_.back()->tag, errors::request_too_many_requests()});
    held_.pop_back();
  }
}

void ReplicationCore::refuse_held(const Error& error) {
  for (const Proposal& proposal : held_) pending_.refused.push_back({proposal->tag, error});
  for (const ControlRequest& read : waiting_reads_) pending_.refused.push_back({read.tag, error});
  held_.clear();
  waiting_reads_.clear();
}

void ReplicationCore::control(ControlRequest request) {
  if (request.kind == Control::kLinearizable) {
    waiting_reads_.push_back(request);
  } else {
    pending_.apply.controls.push_back(request);
  }
}

void ReplicationCore::ask_read_index() {
  if (waiting_reads_.empty()) return;
  std::string context(8, '\0');
  store_be64(context.data(), ++read_context_);
  if (!core_.read_index(std::move(context))) return;  // no leader: asked again when there is one
  asked_reads_.emplace(read_context_, std::move(waiting_reads_));
  waiting_reads_.clear();
}

void ReplicationCore::step(raft::Message message) { core_.step(std::move(message)); }

void ReplicationCore::tick() {
  core_.tick();
  propose_held();
}

void ReplicationCore::campaign() { core_.campaign(); }

void ReplicationCore::wal_done(WalDone done) {
  if (!done.entries.empty()) log_.append(std::move(done.entries));
  if (done.durable_commit > durable_commit_) {
    durable_commit_ = done.durable_commit;
    pending_.apply.durable_commit = durable_commit_;
  }
  if (durable_commit_ >= syncing_commit_) syncing_commit_ = Index{};
  if (done.number != 0) core_.appended(done.number);
  if (done.released != Index{}) log_.released_to(std::min(done.released, core_.applied()));
}

void ReplicationCore::applied(AppliedNotice notice) {
  if (notice.conf_verdict) {
    CAIRN_ASSERT(conf_entry_ && conf_entry_->index == notice.conf_verdict->index);
    raft::ConfChange change;
    change.changes.push_back({});  // names no node: without effect
    if (notice.conf_verdict->accepted) {
      auto decoded = raft::decode_conf_change(conf_entry_->type, conf_entry_->bytes());
      CAIRN_ASSERT(decoded);  // ApplyCore has read it
      change = *std::move(decoded);
    }
    const auto conf = core_.apply_conf_change(change);
    CAIRN_ASSERT(conf);  // checked against the same membership
    conf_entry_.reset();
    state_changed_ = true;
  }
  if (notice.applied > core_.applied()) {
    core_.applied_to(notice.applied);
    log_.applied_to(notice.applied);
  }
  wanted_durable_ = std::max(wanted_durable_, notice.need_durable_commit);
  if (notice.snapshot || notice.release_below != Index{}) {
    WalWrite write;
    write.snapshot = std::move(notice.snapshot);
    write.release_below = notice.release_below;
    pending_.wal.push_back(std::move(write));
  }
}

bool ReplicationCore::has_output() const {
  return core_.has_ready() || state_changed_ || !pending_.messages.empty() || !pending_.wal.empty() ||
         !pending_.apply.empty() || !pending_.refused.empty() ||
         (!waiting_reads_.empty() && core_.leader() != raft::kNoNode) || wants_state_synced();
}

bool ReplicationCore::wants_state_synced() const {
  return wanted_durable_ > durable_commit_ && syncing_commit_ == Index{} && core_.committed() >= wanted_durable_;
}

void ReplicationCore::take_ready(ReplicationOutput& out) {
  raft::Ready ready = core_.take_ready();
  if (ready.soft_state) {
    state_changed_ = true;
    if (ready.soft_state->leader == raft::kNoNode) {
      // Their contexts went with the leader; they are asked again.
      for (auto& [context, reads] : asked_reads_) {
        waiting_reads_.insert(waiting_reads_.end(), reads.begin(), reads.end());
      }
      asked_reads_.clear();
    }
    propose_held();
  }
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
  // A member without peers sends nothing that waits for the disk.
  CAIRN_ASSERT(ready.messages_after_sync.empty() && ready.snapshot == nullptr);
  for (raft::ReadState& read : ready.read_states) {
    const auto asked = asked_reads_.find(load_be64(read.context.data()));
    if (asked == asked_reads_.end()) continue;
    for (ControlRequest& request : asked->second) {
      request.due = read.index;
      out.apply.controls.push_back(request);
    }
    asked_reads_.erase(asked);
  }
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
