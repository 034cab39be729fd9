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
constexpr int kRetries = 3;
constexpr int64_t kSuspicionNs = 50 * kMs;  // not more often

int64_t rank_of(const raft::Core& core, NodeId died) {
  int64_t rank = 0;
  for (const NodeId voter : core.conf().voters) rank += voter != died && voter < core.id() ? 1 : 0;
  return rank;
}

}  // namespace

void Failover::begin(const raft::Core& core, NodeId died, int64_t now_ns) {
  tries_left_ = 1 + kRetries;
  due_ns_ = now_ns + rank_of(core, died) * kRankNs + static_cast<int64_t>(random_.below(kJitterNs));
}

// A campaign whose votes have not all come goes on; the core says no to another one then.
bool Failover::take_due(const raft::Core& core, int64_t now_ns) {
  if (!due_ns_) return false;
  if (core.leader() != raft::kNoNode || tries_left_ == 0) {
    due_ns_.reset();
    return false;
  }
  if (now_ns < *due_ns_) return false;
  --tries_left_;
  due_ns_ = now_ns + static_cast<int64_t>(random_.between(kRetryNsMin, kRetryNsMax));
  return true;
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
