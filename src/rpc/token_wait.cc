#include "rpc/token_wait.h"

#include <utility>

#include "auth/tokens.h"
#include "rpc/context.h"

namespace cairn::rpc {
namespace {

constexpr int64_t kLookNs = 2'000'000;
constexpr int64_t kNextEntryNs = 1'000'000'000;  // the next entry comes soon, or the token is none

}  // namespace

std::unique_ptr<net::CallHandler> TokenWait::in_front_of(std::unique_ptr<net::CallHandler> handler, Context& context,
                                                         const net::Call& call) {
  if (context.peers() == nullptr || handler == nullptr || context.token_waits >= kCallsMax) return handler;
  auto token = call.metadata("token");
  if (!token) token = call.metadata("authorization");
  if (!token) return handler;
  const auto index = context.tokens().index_before(auth::without_bearer(*token));
  if (!index) return handler;
  {
    const auto state = context.enter();
    if (state->applied > Index(*index) || state->members->members.size() < 2) return handler;
  }
  return std::unique_ptr<net::CallHandler>(new TokenWait(std::move(handler), context, call, *index));
}

TokenWait::TokenWait(std::unique_ptr<net::CallHandler> handler, Context& context, const net::Call& call, uint64_t index)
    : handler_(std::move(handler)),
      context_(context),
      call_(call.id()),
      index_(index),
      ends_ns_(context.clock().monotonic_ns() + context.limits().request_timeout_ns) {
  ++context_.token_waits;
  look_later();
}

TokenWait::~TokenWait() { end_wait(); }

void TokenWait::end_wait() {
  if (!std::exchange(waits_, false)) return;
  --context_.token_waits;
  timer_.reset();
}

void TokenWait::on_message(net::Call& call, std::string_view message) {
  if (!waits_) return handler_->on_message(call, message);
  messages_.emplace_back(message);
  if (messages_.size() > kMessagesMax) go_on(call);
}

void TokenWait::on_half_close(net::Call& call) {
  if (!waits_) return handler_->on_half_close(call);
  is_half_closed_ = true;
}

void TokenWait::on_end(net::Call& call) {
  end_wait();
  handler_->on_end(call);
}

void TokenWait::look_later() {
  timer_ = context_.loop().after(kLookNs, [this] { look(); });
}

void TokenWait::look() {
  const int64_t now_ns = context_.clock().monotonic_ns();
  const Index applied = context_.enter()->applied;
  if (applied >= Index(index_) && reached_ns_ == 0) reached_ns_ = now_ns;
  const bool is_over =
      applied > Index(index_) || now_ns >= ends_ns_ || (reached_ns_ != 0 && now_ns - reached_ns_ >= kNextEntryNs);
  if (!is_over) return look_later();
  if (net::Call* const call = context_.loop().find(call_)) go_on(*call);
}

// The handler may end the call at each of them.
void TokenWait::go_on(net::Call& call) {
  end_wait();
  for (const std::string& message : std::exchange(messages_, {})) {
    if (context_.loop().find(call_) == nullptr) return;
    handler_->on_message(call, message);
  }
  if (is_half_closed_ && context_.loop().find(call_) != nullptr) handler_->on_half_close(call);
}

}  // namespace cairn::rpc
