#include "member/failover.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace cairn::member {
namespace {

constexpr int64_t kMs = 1'000'000;
constexpr int64_t kRankNs = 15 * kMs;
constexpr uint64_t kJitterNs = 5 * kMs;
constexpr uint64_t kRetryNsMin = 20 * kMs;
constexpr uint64_t kRetryNsMax = 60 * kMs;
constexpr int64_t kTryingNs = 1000 * kMs;
constexpr int64_t kSuspicionNs = 50 * kMs;  // not more often

int64_t rank_of(const raft::Core& core, NodeId died) {
  int64_t rank = 0;
  for (const NodeId voter : core.conf().voters) rank += voter != died && voter < core.id() ? 1 : 0;
  return rank;
}

}  // namespace

void Failover::begin(const raft::Core& core, NodeId died, int64_t now_ns) {
  died_ = died;
  seen_term_ = core.term();
  ends_ns_ = now_ns + kTryingNs;
  due_ns_ = now_ns + rank_of(core, died) * kRankNs + static_cast<int64_t>(random_.below(kJitterNs));
}

// Also while there is a leader: another's candidacy may depose it before it has told anybody, and it alone has its
// entry then, so that nobody else can win.
void Failover::do_due(raft::Core& core, int64_t now_ns) {
  if (!due_ns_ || now_ns < *due_ns_) return;
  due_ns_ = now_ns + static_cast<int64_t>(random_.between(kRetryNsMin, kRetryNsMax));
  if (now_ns >= ends_ns_) return due_ns_.reset();
  const bool is_new_term = std::exchange(seen_term_, core.term()) != core.term();
  // The candidate of a new term, for which this member has voted, gets a turn to win.
  if (core.leader() != raft::kNoNode || (is_new_term && core.role() == raft::Role::kFollower)) return;
  core.campaign_without(died_);
}

bool Failover::suspects_leader(const raft::Core& core, const raft::Message& message, int64_t now_ns) {
  const NodeId leader = core.leader();
  if (message.type == raft::MessageType::kHeartbeat && message.from == leader) unanswered_.clear();
  if (message.type != raft::MessageType::kPreVote || message.context == raft::kCampaignTransfer) return false;
  const bool has_leader = leader != raft::kNoNode && leader != core.id() && leader != message.from;
  if (!has_leader || message.to != core.id() || message.term != core.term() + 1) return false;
  std::erase_if(unanswered_, [&](const raft::Message& one) { return one.from == message.from; });
  unanswered_.push_back(message);
  if (suspected_ns_ != INT64_MIN && now_ns - suspected_ns_ < kSuspicionNs) return false;
  suspected_ns_ = now_ns;
  return true;
}

std::vector<raft::Message> Failover::take_unanswered() { return std::exchange(unanswered_, {}); }

}  // namespace cairn::member
