#include "gateway/unbuilt_metrics.h"

namespace cairn::gateway {

void add_unbuilt_metrics(metrics::Registry& r) {
  // Peers
  r.counter("etcd_server_heartbeat_send_failures_total",
            "Heartbeats that left late; the leader is overloaded, likely by its disk.");
  r.counter("etcd_server_slow_read_indexes_total", "Read index rounds that were late for their request.");
  r.gauge("etcd_server_snapshot_apply_in_progress_total",
          "1 while a snapshot from the leader is taken over, 0 otherwise.");
  r.histogram("etcd_snap_db_fsync_duration_seconds", "Duration of a sync of a received database.",
              metrics::kDiskBuckets);
  r.histogram("etcd_snap_db_save_total_duration_seconds", "Duration of saving a received database.", {0.1, 2, 10});
  // The v2 store, which etcd 3.7 keeps for its membership; it has no watchers, and nothing in it expires.
  r.counter("etcd_debugging_store_expires_total", "Keys of the v2 store that expired.");
  r.counter("etcd_debugging_store_watch_requests_total", "Watches of the v2 store.");
  r.gauge("etcd_debugging_store_watchers", "Watchers of the v2 store.");
  // No scrape fails.
  r.counter("promhttp_metric_handler_requests_total", "Scrapes by HTTP status.", {{"code", "500"}});
  // bbolt merges pages in a step of its own; here that is a part of planning a commit, which "spill" times.
  r.histogram("etcd_debugging_disk_backend_commit_rebalance_duration_seconds", "Of a commit: merging pages.",
              metrics::kDiskBuckets);
}

}  // namespace cairn::gateway
