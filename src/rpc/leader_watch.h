// rpc/leader_watch.h: calls that are to fail when the member has no leader, as their metadata "hasleader" asks.
//
// A call is refused when there is no leader as it begins. A stream that has begun is ended when there was none at three
// looks, an election timeout apart.
//
// Threads: one loop.
// Source:  etcd's newStreamInterceptor and monitorLeader.
#pragma once

#include <memory>
#include <vector>

#include "net/event_loop.h"

namespace cairn::rpc {

class Context;

class LeaderWatch {
 public:
  explicit LeaderWatch(Context& context) : context_(context) {}

  // False: the call asks for a leader, there is none, and it has been refused.
  [[nodiscard]] bool admit(net::Call& call, bool streams);

 private:
  [[nodiscard]] bool has_leader();
  void look_later();
  void look();

  Context& context_;
  std::vector<net::CallId> streams_;
  unsigned looks_without_ = 0;
  std::unique_ptr<net::EventLoop::Timer> timer_;
};

}  // namespace cairn::rpc
