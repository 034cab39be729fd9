// How a member ends: hands over, finishes what its clients wait for, and closes log and db.
#include <chrono>
#include <utility>

#include "base/bytes.h"
#include "base/check.h"
#include "base/errors.h"
#include "base/go_duration.h"
#include "base/log.h"
#include "member/member_core.h"

namespace cairn::member {

void MemberCore::begin_stop() {
  if (phase_ != Phase::kRuns) return;
  const bool is_removed = apply_.members().removed.contains(options_.replication.raft.id);  // nobody listens to it
  phase_ = replication_.has_peers() && !is_removed ? Phase::kHandsOver : Phase::kStops;
  leaves_until_ns_ = now_ns_ + options_.replication.request_timeout_ns;
  if (retry_at_ns_) retry_at_ns_ = now_ns_;  // once more, and not again
}

// In etcd's words.
void MemberCore::tell_handing_over() {
  const raft::Core& raft = replication_.raft();
  const std::string self = hex_id(options_.replication.raft.id.value);
  if (const NodeId target = raft.transfer_target(); target != raft::kNoNode && target != successor_) {
    successor_ = target;
    hands_over_since_ns_ = now_ns_;
    log::info("leadership transfer starting", {{"local-member-id", self},
                                               {"current-leader-member-id", self},
                                               {"transferee-member-id", hex_id(target.value)}});
  }
  if (successor_ == raft::kNoNode || raft.leader() != successor_) return;
  log::info("leadership transfer finished",
            {{"local-member-id", self},
             {"old-leader-member-id", self},
             {"new-leader-member-id", hex_id(successor_.value)},
             {"took", go_duration(std::chrono::nanoseconds(now_ns_ - hands_over_since_ns_))}});
}

// What is held goes to the new leader; nothing new is taken then.
void MemberCore::go_on_with_leaving() {
  if (phase_ == Phase::kHandsOver) {
    const bool hands_over = now_ns_ < leaves_until_ns_ && replication_.hand_over();
    tell_handing_over();
    // A moment later it is known who leads.
    const bool is_elected = successor_ == raft::kNoNode || replication_.raft().leader() != raft::kNoNode;
    if (hands_over || (!is_elected && now_ns_ < hands_over_since_ns_ + options_.drain_ns)) return pump();
    if (replication_.raft().is_leader() && !replication_.raft().is_sole_voter()) {
      const Error error = successor_ == raft::kNoNode ? errors::unhealthy() : errors::timeout_leader_transfer();
      log::warn("leadership transfer failed",
                {{"local-member-id", hex_id(options_.replication.raft.id.value)}, {"error", error.message}});
    }
    phase_ = Phase::kDrains;
    leaves_until_ns_ = now_ns_ + options_.drain_ns;
  }
  if (phase_ != Phase::kDrains) return;
  const bool waits = replication_.own_count() > 0 || replication_.held_count() > 0 || !waiting_.empty();
  if (waits && now_ns_ < leaves_until_ns_ && !replication_.raft().is_leader()) return;
  phase_ = Phase::kStops;
  if (retry_at_ns_) retry_at_ns_ = now_ns_;
}

// Whether it may go, after all that has come in this step.
void MemberCore::note_removal() {
  effects_.is_removed = removal_.is_over(apply_.members(), now_ns_);
  if (was_removed_ || phase_ == Phase::kEnded || !removal_.is_known(apply_.members())) return;
  was_removed_ = true;
  refuse_what_waits();
  note_leadership();
  refuse_lease_requests();
  pump();
}

// What is in the log is applied, then the db is written: the log's own end comes before.
void MemberCore::go_on_with_stop() {
  refuse_what_waits();
  duties_.leases().refuse_all(errors::stopped(), effects_.answers);
  apply_.refuse_defragment(errors::stopped());
  pump();
  if (phase_ == Phase::kEnded || wal_in_flight_ > 0) return;
  if (gives_db_up_) {
    effects_.ending = Ending::kNoRoom;
  } else if (is_quiet()) {
    const bool is_careless = CAIRN_MUTANT("server.stop_before_last_commit");
    if (!apply_.is_clean() && !is_careless) {
      apply_.request_commit(now_ns_);
      pump();
    }
    if (is_quiet() && (apply_.is_clean() || is_careless)) effects_.ending = Ending::kSaved;
  }
  if (effects_.ending != Ending::kNone) phase_ = Phase::kEnded;
}

void MemberCore::refuse_what_waits() {
  for (const Waiting& one : waiting_) {
    effects_.refused.push_back({one.proposal->tag, errors::stopped()});
    waiting_bytes_.fetch_sub(one.proposal->bytes.size(), std::memory_order_relaxed);
  }
  waiting_.clear();
  replication_.refuse_held(errors::stopped());
}

bool MemberCore::is_quiet() const {
  return !installation_.is_under_way() && wal_in_flight_ == 0 && apply_queue_.empty() && !apply_.commit_pending() &&
         !replication_.has_output();
}

}  // namespace cairn::member
