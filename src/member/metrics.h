// member/metrics.h: what a member counts. Names are etcd's, but for those that begin with cairn_.
#pragma once

#include <string_view>

#include "metrics/metrics.h"

namespace cairn::member {

// Threads: any; the driver's threads write them.
struct Metrics {
  explicit Metrics(metrics::Registry& to) : registry(to) {}

  metrics::Registry& registry;

  // Raft and proposals
  metrics::Gauge& has_leader =
      registry.gauge("etcd_server_has_leader", "1 when this member knows a leader, 0 otherwise.");
  metrics::Gauge& is_leader = registry.gauge("etcd_server_is_leader", "1 when this member leads, 0 otherwise.");
  metrics::Gauge& is_learner =
      registry.gauge("etcd_server_is_learner", "1 when this member is a learner, 0 otherwise.");
  metrics::Counter& leader_changes_seen =
      registry.counter("etcd_server_leader_changes_seen_total", "Changes of the leader seen.");
  metrics::Gauge& proposals_committed =
      registry.gauge("etcd_server_proposals_committed_total", "Index of the last committed entry.");
  metrics::Gauge& proposals_applied =
      registry.gauge("etcd_server_proposals_applied_total", "Index of the last applied entry.");
  metrics::Gauge& proposals_pending =
      registry.gauge("etcd_server_proposals_pending", "Proposals that wait to be applied.");
  metrics::Counter& heartbeat_send_failures =
      registry.counter("etcd_server_heartbeat_send_failures_total",
                       "Heartbeats that left late; the leader is overloaded, likely by its disk.");
  metrics::Counter& slow_read_indexes =
      registry.counter("etcd_server_slow_read_indexes_total", "Read index rounds that were late for their request.");
  metrics::Gauge& snapshot_apply_in_progress = registry.gauge(
      "etcd_server_snapshot_apply_in_progress_total", "1 while a snapshot from the leader is taken over, 0 otherwise.");
  metrics::Counter& proposals_failed = registry.counter("etcd_server_proposals_failed_total", "Proposals that failed.");
  metrics::Counter& slow_apply = registry.counter(
      "etcd_server_slow_apply_total", "Batches of entries that took longer to apply than the warning limit.");
  // The series of etcd_server_apply_duration_seconds; keep the reference.
  metrics::Histogram& apply(std::string_view op, bool success) {
    return registry.histogram("etcd_server_apply_duration_seconds", "Duration of applying an entry: its step's mean.",
                              metrics::kQuickBuckets, metrics::kSeconds,
                              {{"version", "v3"}, {"op", std::string(op)}, {"success", success ? "true" : "false"}});
  }
  metrics::Gauge& quota_backend_bytes =
      registry.gauge("etcd_server_quota_backend_bytes", "Quota of the storage in bytes.");

  // The store
  metrics::Counter& range_total = registry.counter("etcd_mvcc_range_total", "Ranges seen by this member.");
  metrics::Counter& put_total = registry.counter("etcd_mvcc_put_total", "Puts seen by this member.");
  metrics::Counter& delete_total = registry.counter("etcd_mvcc_delete_total", "Deletes seen by this member.");
  metrics::Counter& txn_total = registry.counter("etcd_mvcc_txn_total", "Transactions seen by this member.");
  metrics::Gauge& db_total_size = registry.gauge("etcd_mvcc_db_total_size_in_bytes", "Size of the storage's file.");
  metrics::Gauge& db_size_in_use =
      registry.gauge("etcd_mvcc_db_total_size_in_use_in_bytes", "The part of the file that is in use.");
  metrics::Gauge& db_high_water =
      registry.gauge("cairn_db_high_water_bytes",
                     "The file up to its last page, punched ones too: what etcd counts against the quota.");
  metrics::Gauge& defrag_inflight =
      registry.gauge("etcd_disk_defrag_inflight", "1 while a defragmentation runs, 0 otherwise.");
  metrics::Histogram& defrag = registry.histogram("etcd_disk_backend_defrag_duration_seconds",
                                                  "Duration of a defragmentation.", {.1, 2, 13}, metrics::kSeconds);
  metrics::Gauge& current_revision = registry.gauge("etcd_debugging_mvcc_current_revision", "The store's revision.");
  metrics::Gauge& compact_revision =
      registry.gauge("etcd_debugging_mvcc_compact_revision", "The revision of the last compaction.");
  metrics::Gauge& keys_total = registry.gauge("etcd_debugging_mvcc_keys_total", "Keys in the store.");
  metrics::Gauge& total_put_size =
      registry.gauge("etcd_debugging_mvcc_total_put_size_in_bytes", "Bytes put by this member.");
  metrics::Gauge& auth_revision = registry.gauge("etcd_debugging_auth_revision", "Revision of the users and roles.");

  // Compactions
  metrics::Counter& compaction_keys =
      registry.counter("etcd_debugging_mvcc_db_compaction_keys_total", "Revisions deleted by compactions.");
  metrics::Gauge& compaction_last =
      registry.gauge("etcd_debugging_mvcc_db_compaction_last", "Unix time at which the last pass began.");
  metrics::Histogram& compaction_pause =
      registry.histogram("etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds",
                         "Duration of a commit with a part of a pass.", {1, 2, 13}, metrics::kMilliseconds);
  metrics::Histogram& compaction_total =
      registry.histogram("etcd_debugging_mvcc_db_compaction_total_duration_milliseconds", "Duration of a pass.",
                         {100, 2, 14}, metrics::kMilliseconds);
  metrics::Histogram& index_compaction_pause =
      registry.histogram("etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds",
                         "Duration of the step that compacts the index.", {0.5, 2, 14}, metrics::kMilliseconds);

  // Leases
  metrics::Counter& lease_granted = registry.counter("etcd_debugging_lease_granted_total", "Leases granted.");
  metrics::Counter& lease_revoked = registry.counter("etcd_debugging_lease_revoked_total", "Leases revoked.");
  metrics::Counter& lease_renewed =
      registry.counter("etcd_debugging_lease_renewed_total", "Renewals seen by the leader.");
  metrics::Counter& lease_expired =
      registry.counter("etcd_debugging_server_lease_expired_total", "Leases that ran out.");
  metrics::Histogram& lease_ttl = registry.histogram("etcd_debugging_lease_ttl_total",
                                                     "Times to live of granted leases, in seconds.", {1, 2, 24}, 1);

  metrics::Gauge& memory_index = memory("index");
  metrics::Gauge& memory_index_for_readers = memory("index_for_readers");  // replaced, kept for who looks at it
  metrics::Gauge& memory_write_buffers = memory("write_buffers");
  metrics::Gauge& memory_raft_log = memory("raft_log");

 private:
  metrics::Gauge& memory(std::string_view part) {
    return registry.gauge("cairn_memory_bytes", "Memory by what it is for. The rest is connections and requests.",
                          {{"part", std::string(part)}});
  }
};

}  // namespace cairn::member
