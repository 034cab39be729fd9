// gateway/server_metrics.h: families whose numbers others keep: calls and bytes from net, state from the member.
#pragma once

#include <string_view>
#include <vector>

#include "member/driver.h"
#include "metrics/identity.h"
#include "metrics/metrics.h"
#include "net/server.h"

namespace cairn::gateway {

// A method that grpc_server_*_total are about. The names outlive the registry.
struct CountedMethod {
  std::string_view service;  // "etcdserverpb.KV"
  std::string_view name;
  std::string_view type;  // "unary"
};

// grpc_server_*_total for each of `methods` (0 from the start, as etcd's interceptor does), client bytes, alarms,
// cluster version. Server and node outlive the registry's use.
void add_server_metrics(metrics::Registry& registry, const net::Server& server, member::Node& node,
                        std::vector<CountedMethod> methods);

}  // namespace cairn::gateway
