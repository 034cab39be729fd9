#include "rpc/leader_call.h"

#include <utility>

#include "base/check.h"
#include "base/errors.h"
#include "rpc/context.h"

namespace cairn::rpc {

std::shared_ptr<LeaderCall> LeaderCall::begin(Context& context, Options options) {
  CAIRN_ASSERT(context.peers() != nullptr);
  const std::shared_ptr<LeaderCall> made(new LeaderCall(context, std::move(options)));
  made->self_ = made;
  // Not at once: a callback must not come before the caller has what it is to destroy.
  context.loop().post([weak = made->self_] {
    if (const auto self = weak.lock()) self->ask();
  });
  return made;
}

void LeaderCall::ask() {
  net::Call* const call = context_.loop().find(options_.call);
  if (call == nullptr) return;
  ++attempt_;
  asked_ = raft::kNoNode;
  const NodeId leader = context_.enter()->leader.leader;
  if (context_.clock().monotonic_ns() >= options_.deadline_ns) {
    return options_.fail(*call, leader == raft::kNoNode ? errors::no_leader() : errors::timeout());
  }
  if (leader == NodeId(context_.node().member_id())) return options_.lead(*call);
  look_later();
  if (leader == raft::kNoNode) return;
  asked_ = leader;
  net::EventLoop& loop = context_.loop();
  // Whoever answers destroys the function wherever it is: it owns nothing of this thread.
  context_.peers()->call(leader, options_.request, options_.deadline_ns,
                         [weak = self_, &loop, attempt = attempt_](Result<net::HttpResponse> response) {
                           loop.post([weak, attempt, response = std::move(response)] {
                             if (const auto self = weak.lock()) self->take(attempt, response);
                           });
                         });
}

void LeaderCall::look_later() {
  timer_ = context_.loop().after(options_.pause_ns, [weak = self_] {
    if (const auto self = weak.lock()) self->look();
  });
}

void LeaderCall::look() {
  const bool waits = asked_ != raft::kNoNode && context_.enter()->leader.leader == asked_ &&
                     context_.clock().monotonic_ns() < options_.deadline_ns;
  waits ? look_later() : ask();
}

void LeaderCall::take(uint64_t attempt, const Result<net::HttpResponse>& response) {
  if (attempt != attempt_) return;
  net::Call* const call = context_.loop().find(options_.call);
  if (call == nullptr) return;
  if (response) {
    ++attempt_;  // an answer counts once
    timer_.reset();
    if (options_.take(*call, *response)) return;
    look_later();
  }
  asked_ = raft::kNoNode;  // at the next look
}

}  // namespace cairn::rpc
