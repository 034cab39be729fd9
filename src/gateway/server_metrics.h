// gateway/server_metrics.h: families whose numbers others keep: calls and bytes from net, state from the member.
#pragma once

#include "member/driver.h"
#include "metrics/identity.h"
#include "metrics/metrics.h"
#include "net/server.h"

namespace cairn::gateway {

// grpc_server_*_total for every method of etcd's surface (0 from the start, as etcd's interceptor does), client
// bytes, alarms, cluster version. Server and node outlive the registry's use.
void add_server_metrics(metrics::Registry& registry, const net::Server& server, member::Node& node);

}  // namespace cairn::gateway
