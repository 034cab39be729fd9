// storage/metrics.h: what the storage engine counts. Names are etcd's.
#pragma once

#include "metrics/metrics.h"

namespace cairn::storage {

struct Metrics {
  metrics::Registry& registry;
  metrics::Histogram& commit = registry.histogram("etcd_disk_backend_commit_duration_seconds",
                                                  "Duration of a commit of the storage.", metrics::kDiskBuckets);
  // etcd merges pages in a step of its own; here that is a part of planning.
  metrics::Histogram& commit_spill =
      registry.histogram("etcd_debugging_disk_backend_commit_spill_duration_seconds",
                         "Of a commit: merging, splitting and placing pages.", metrics::kDiskBuckets);
  metrics::Histogram& commit_write = registry.histogram("etcd_debugging_disk_backend_commit_write_duration_seconds",
                                                        "Of a commit: writing and syncing.", metrics::kDiskBuckets);
};

}  // namespace cairn::storage
