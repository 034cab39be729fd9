// rpc/turns.h: calls of one io thread that do the same costly thing, so many at a time; the others wait, in order.
//
// Threads: one loop.
#pragma once

#include <deque>
#include <functional>
#include <utility>

#include "net/event_loop.h"
#include "net/http2/grpc.h"

namespace cairn::rpc {

class Turns {
 public:
  using Then = std::function<void(net::Call& call)>;

  Turns(net::EventLoop& loop, size_t max) : loop_(loop), max_(max) {}

  // Calls `then` now or when it is the call's turn. Never, if the call ends before.
  void wait(net::Call& call, Then then) {
    if (taken_ < max_) {
      ++taken_;
      return then(call);
    }
    waiting_.push_back({call.id(), std::move(then)});
  }
  // A call whose `then` was called is done, or has ended.
  void give_back() {
    --taken_;
    if (!waiting_.empty()) loop_.post([this] { go_on(); });
  }

 private:
  struct Waiting {
    net::CallId call;
    Then then;
  };

  void go_on() {
    while (taken_ < max_ && !waiting_.empty()) {
      const Waiting next = std::move(waiting_.front());
      waiting_.pop_front();
      net::Call* const call = loop_.find(next.call);
      if (call == nullptr) continue;
      ++taken_;
      next.then(*call);
    }
  }

  net::EventLoop& loop_;
  const size_t max_;
  size_t taken_ = 0;
  std::deque<Waiting> waiting_;
};

}  // namespace cairn::rpc
