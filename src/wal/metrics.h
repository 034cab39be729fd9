// wal/metrics.h: what the log and .snap files count. Names are etcd's.
#pragma once

#include <cstdint>

#include "metrics/metrics.h"

namespace cairn::wal {

struct Metrics {
  metrics::Registry& registry;
  metrics::Histogram& fsync = registry.histogram("etcd_disk_wal_fsync_duration_seconds",
                                                 "Duration of a sync of the WAL.", metrics::kDiskBuckets);
  metrics::Histogram& write = registry.histogram("etcd_disk_wal_write_duration_seconds",
                                                 "Duration of a write to the WAL.", metrics::kDiskBuckets);
  metrics::Gauge& write_bytes = registry.gauge("etcd_disk_wal_write_bytes_total", "Bytes written to the WAL.");
  metrics::Histogram& snap_save = registry.histogram("etcd_debugging_snap_save_total_duration_seconds",
                                                     "Duration of saving a .snap file.", metrics::kDiskBuckets);
  metrics::Histogram& snap_marshalling = registry.histogram("etcd_debugging_snap_save_marshalling_duration_seconds",
                                                            "Of saving a .snap file: encoding.", metrics::kDiskBuckets);
  metrics::Histogram& snap_fsync = registry.histogram(
      "etcd_snap_fsync_duration_seconds", "Duration of writing and syncing a .snap file.", metrics::kDiskBuckets);
  int64_t slow_sync_ns = 1'000'000'000;  // a sync of the WAL that takes longer is named in the log
};

}  // namespace cairn::wal
