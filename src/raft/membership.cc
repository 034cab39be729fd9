// The members of the cluster. A change takes effect at the verdict of the applier, in one step for quorums,
// replication and everything else.
#include <algorithm>
#include <utility>

#include "base/check.h"
#include "raft/conf_change.h"
#include "raft/core.h"

namespace cairn::raft {

Result<ConfState> Core::apply_conf_change(Index index, const ConfChange& change) {
  if (index != awaited_verdict_) {
    CAIRN_ASSERT(index <= log_.committed());  // a snapshot overtook it
    return conf_;
  }
  awaited_verdict_ = Index(0);
  if (!is_noop(change)) {
    Result<ConfState> next = changed(conf_, change);
    if (!next && CAIRN_MUTANT("raft.conf_change_counted_early")) return conf_;
    if (!next) return next;
    switch_to(*std::move(next));
  }
  if (owed_campaign_.ticks_left > 0 && owed_campaign_.term == hard_.term && role() == Role::kFollower) {
    owed_campaign_ = {};
    campaign_as(/*pre=*/false, /*transfer=*/true);
  }
  return conf_;
}

void Core::switch_to(ConfState conf) {
  conf_ = std::move(conf);
  if (!is_leader()) return;
  refresh_peers();
  if (config_.step_down_on_removal && !is_voter(conf_, config_.id)) {
    become_follower(hard_.term, kNoNode);
    return;
  }
  Leader& leader = leading();
  maybe_commit();  // fewer may be needed now
  finish_reads();
  leader.appends_due = true;  // new members need not wait for a heartbeat
  if (!is_voter(conf_, leader.transfer_target)) leader.transfer_target = kNoNode;
}

// Makes the leader's list equal to the configuration. Members that stay keep their progress.
void Core::refresh_peers() {
  const auto contains = [](const std::vector<NodeId>& ids, NodeId id) {
    return std::binary_search(ids.begin(), ids.end(), id);
  };
  std::vector<Progress> next;
  for (const NodeId id : all_members(conf_)) {
    if (Progress* known = find_peer(id)) {
      next.push_back(std::move(*known));
    } else {
      next.emplace_back(id, log_.last_index() + 1, config_.max_inflight_messages, config_.max_inflight_bytes);
      next.back().recent_active = true;  // or check-quorum could end our term before it was asked anything
    }
    Progress& peer = next.back();
    peer.is_voter = contains(conf_.voters, id);
    peer.is_outgoing_voter = contains(conf_.voters_outgoing, id);
    peer.is_learner = contains(conf_.learners, id);
    if (id == config_.id) {
      peer.become_replicate();
      peer.acked(log_.stable_index());
    }
  }
  leading().peers = std::move(next);
}

void Core::maybe_leave_joint() {
  if (!is_leader() || !is_joint(conf_) || !conf_.auto_leave || awaits_conf_verdict()) return;
  if (log_.applied() < leading().pending_conf_index || may_append() != ProposeOutcome::kAppended) return;
  append_as_leader(EntryType::kConfChangeV2, nullptr);
}

}  // namespace cairn::raft
