// rpc/leader_call.h: asks the leader on its peer URL for what only a leader can do, until it has answered or time is
// up.
//
//     ask -> answer that is one -> take()         the leader has changed, or is this member, or is not known: wait, ask
//         -> no answer, or none that says it -> wait, ask
//
// compat: etcd waits for an answer of a leader that hangs until time is up; here a new leader is asked once it is
// known.
//
// Threads: one loop. A callback may destroy the LeaderCall; after its destruction none comes.
// Source:  etcd 3.7.1, LeaseRenew, leaseTimeToLive and PromoteMember.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "base/error.h"
#include "base/strong.h"
#include "net/event_loop.h"
#include "net/http.h"

namespace cairn::rpc {

class Context;

class LeaderCall {
 public:
  struct Options {
    net::CallId call;  // that waits; nothing is called once it has ended
    net::HttpRequest request;
    int64_t deadline_ns = 0;
    int64_t pause_ns = 50'000'000;  // before it is asked again
    // False: that says nothing; it is asked again.
    std::function<bool(net::Call& call, const net::HttpResponse& response)> take;
    std::function<void(net::Call& call)> lead;  // this member has come to lead
    // Time is up: errors::timeout(), or errors::no_leader() if there is none.
    std::function<void(net::Call& call, const Error& error)> fail;
  };

  // needs: context.peers() != nullptr; the context outlives this
  static std::shared_ptr<LeaderCall> begin(Context& context, Options options);

 private:
  LeaderCall(Context& context, Options options) : context_(context), options_(std::move(options)) {}

  void ask();
  void look();
  void look_later();
  void take(uint64_t attempt, const Result<net::HttpResponse>& response);

  Context& context_;
  const Options options_;
  std::weak_ptr<LeaderCall> self_;
  NodeId asked_;          // whose answer is waited for
  uint64_t attempt_ = 0;  // answers of earlier ones do not count
  std::unique_ptr<net::EventLoop::Timer> timer_;
};

}  // namespace cairn::rpc
