// What goes on inside of a step: from replication to apply and back, and what waits before the log.
#include <algorithm>
#include <utility>

#include "base/check.h"
#include "member/member_core.h"
#include "member/readable_request.h"

namespace cairn::member {

bool MemberCore::move_replication() {
  if (!replication_.has_output()) return false;
  ReplicationOutput output = replication_.take_output();
  for (WalWrite& write : output.wal) {
    for (const raft::Entry& entry : write.entries) write.bytes += raft::cost_bytes(entry);
    if (wal_in_flight_++ == 0) wal_moved_ns_ = now_ns_;
    wal_bytes_in_flight_ += write.bytes;
    if (write.install != nullptr) begin_installation(write);
    effects_.wal.push_back(std::move(write));
  }
  for (const LogRead& read : output.log_reads) effects_.log_reads.push_back(read);
  for (raft::Message& message : output.messages) effects_.messages.push_back(std::move(message));
  for (Refused& one : output.refused) effects_.refused.push_back(std::move(one));
  for (const NodeId leader : output.redial) effects_.redial.push_back(leader);
  // Before the messages leave, which they do when this step ends: whoever is elected by one of them, or is a voter from
  // here on, may acknowledge a write at once, and no read is to be served here alone then.
  if (output.apply.leader_state) apply_.note_leader(*std::exchange(output.apply.leader_state, std::nullopt));
  if (output.apply.empty()) return true;
  if (observer_ != nullptr) observer_->on_committed(output.apply.entries);
  // Before what waits in the queue: it may wait for the very commit that this lets go.
  apply_.note_durable_commit(output.apply.durable_commit);
  apply_queue_.push_back(std::move(output.apply));
  return true;
}

bool MemberCore::move_apply() {
  bool progress = false;
  if (installation_.is_under_way()) tell_leader_state();
  while (!apply_queue_.empty() && !installation_.is_under_way()) {
    const bool is_full = !apply_queue_.front().entries.empty() && apply_.stalled();
    if (is_full && !goes_on_when_full()) break;
    if (lets_what_is_ready_leave_first(apply_queue_.front())) break;
    is_beyond_buffers_ = is_beyond_buffers_ || is_full;
    ApplyBatch batch = std::move(apply_queue_.front());
    apply_queue_.pop_front();
    check(apply_.apply(std::move(batch), now_ns_, is_full));
    if (phase_ == Phase::kEnded) return false;
    progress = true;
  }
  if (!apply_.has_output()) return progress;
  ApplyOutput output = apply_.take_output();
  if (output.commit) {
    CAIRN_ASSERT(!effects_.commit && !retry_at_ns_);
    running_job_ = *output.commit;
    job_is_out_ = true;
    effects_.commit = *std::move(output.commit);
  }
  if (output.hash) effects_.hash = output.hash;
  if (!output.proposals.empty()) {
    if (observer_ != nullptr) {
      for (const Proposal& one : output.proposals) observer_->on_own_proposal(one);
    }
    replication_.propose(std::move(output.proposals));
  }
  if (!output.leases.empty()) {
    duties_.leases().take(output.leases, scene());
    effects_.leases.insert(effects_.leases.end(), output.leases.begin(), output.leases.end());
  }
  if (output.notice.worth_sending()) replication_.applied(std::move(output.notice));
  return true;
}

// A range of a million keys takes a second. All members are to take it at the same time, and nobody is to wait
// meanwhile for what was ready before: it leaves when a step ends.
bool MemberCore::lets_what_is_ready_leave_first(const ApplyBatch& batch) {
  if (short_step_ == steps_) return true;
  const bool has_news = told_revision_ != apply_.published().newest().kv.revision;
  const bool is_ready = has_news || !effects_.messages.empty() || !effects_.wal.empty() || !effects_.refused.empty() ||
                        !effects_.leases.empty() || effects_.commit || effects_.answers.loops != 0;
  if (short_step_ + 1 == steps_ || !(is_ready || replication_.has_output())) return false;
  const bool is_quick = std::ranges::all_of(batch.entries, [](const raft::Entry& entry) {
    return entry.type != raft::EntryType::kNormal || is_quick_request(entry.bytes());
  });
  if (!is_quick) short_step_ = steps_;
  return !is_quick;
}

// A member that is started with a db that takes nothing must come to where it can be read and told to compact: what
// its log holds, which was bounded when it was written, is applied in memory, and then a little more.
bool MemberCore::goes_on_when_full() {
  if (!db_is_full_) return false;
  const uint64_t bytes = apply_.store().buffered_bytes();
  if (!is_announced_) applies_up_to_bytes_ = bytes + options_.apply.buffer_bytes_max;
  return bytes < applies_up_to_bytes_;
}

// Gives what waits to the log, a bounded batch at a time. False: there is nothing, or the log is to take no more now.
bool MemberCore::feed_log() {
  if (waiting_.empty() || !log_has_room()) return false;
  std::vector<Proposal> batch;
  uint64_t bytes = 0;
  while (!waiting_.empty() && bytes < options_.feed_bytes_max) {
    bytes += waiting_.front().proposal->bytes.size();
    batch.push_back(std::move(waiting_.front().proposal));
    waiting_.pop_front();
  }
  hand_to_log(std::move(batch), bytes);
  return true;
}

}  // namespace cairn::member
