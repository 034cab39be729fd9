// gateway/unbuilt_metrics.h: etcd's families whose writer this build does not have yet.
#pragma once

#include "metrics/metrics.h"

namespace cairn::gateway {

// They stand at 0, so that dashboards and alerts which name them find them. Who builds a writer moves its rows there.
void add_unbuilt_metrics(metrics::Registry& registry);

}  // namespace cairn::gateway
