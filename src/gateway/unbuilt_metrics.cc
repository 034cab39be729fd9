#include "gateway/unbuilt_metrics.h"

namespace cairn::gateway {

void add_unbuilt_metrics(metrics::Registry& r) {
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
