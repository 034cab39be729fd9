// sim/cluster/recording.h: what the clients of a cluster's life saw, as a history (sim/history/history.h).
//
// Threads: one.
#pragma once

#include <vector>

#include "sim/cluster/judge.h"
#include "sim/history/history.h"

namespace cairn::sim {

// `members`: by place. Renewals of leases are not in it: what they promise depends on time.
[[nodiscard]] History history_of(const Judge& judge, const std::vector<NodeId>& members, std::vector<Watch> watches);

}  // namespace cairn::sim
