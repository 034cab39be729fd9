// rpc/peers.h: what the services need of the transport to the cluster's other members.
//
// Threads: both functions are called by io threads, any of them at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>

#include "base/error.h"
#include "base/strong.h"
#include "net/http.h"

namespace cairn::rpc {

struct Peers {
  // Since when, monotonic, this member has been connected to another without a break; nullopt: it is not.
  std::function<std::optional<int64_t>(NodeId)> active_since_ns;
  // Sends a request to a member's peer URL. `then` is called once, on whichever thread.
  std::function<void(NodeId to, net::HttpRequest request, int64_t deadline_ns,
                     std::function<void(Result<net::HttpResponse>)> then)>
      call;
};

}  // namespace cairn::rpc
