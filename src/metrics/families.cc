#include "metrics/families.h"

namespace cairn::metrics {
namespace {

constexpr const Buckets& kQuick = kQuickBuckets;

constexpr std::string_view kMemory = "Memory by what it is for. The rest is connections and requests.";

std::string text(bool success) { return success ? "true" : "false"; }

}  // namespace

ServerMetrics::ServerMetrics(Registry& r)
    : has_leader(r.gauge("etcd_server_has_leader", "1 when this member knows a leader, 0 otherwise.")),
      is_leader(r.gauge("etcd_server_is_leader", "1 when this member leads, 0 otherwise.")),
      is_learner(r.gauge("etcd_server_is_learner", "1 when this member is a learner, 0 otherwise.")),
      leader_changes_seen(r.counter("etcd_server_leader_changes_seen_total", "Changes of the leader seen.")),
      proposals_committed(r.gauge("etcd_server_proposals_committed_total", "Index of the last committed entry.")),
      proposals_applied(r.gauge("etcd_server_proposals_applied_total", "Index of the last applied entry.")),
      proposals_pending(r.gauge("etcd_server_proposals_pending", "Proposals that wait to be applied.")),
      proposals_failed(r.counter("etcd_server_proposals_failed_total", "Proposals that failed.")),
      slow_apply(r.counter("etcd_server_slow_apply_total", "Applies that took longer than the warning limit.")),
      quota_backend_bytes(r.gauge("etcd_server_quota_backend_bytes", "Quota of the storage in bytes.")),
      put_total(r.counter("etcd_mvcc_put_total", "Puts seen by this member.")),
      delete_total(r.counter("etcd_mvcc_delete_total", "Deletes seen by this member.")),
      txn_total(r.counter("etcd_mvcc_txn_total", "Transactions seen by this member.")),
      db_total_size(r.gauge("etcd_mvcc_db_total_size_in_bytes", "Size of the storage's file.")),
      db_size_in_use(r.gauge("etcd_mvcc_db_total_size_in_use_in_bytes", "The part of the file that is in use.")),
      current_revision(r.gauge("etcd_debugging_mvcc_current_revision", "The store's revision.")),
      compact_revision(r.gauge("etcd_debugging_mvcc_compact_revision", "The revision of the last compaction.")),
      keys_total(r.gauge("etcd_debugging_mvcc_keys_total", "Keys in the store.")),
      total_put_size(r.gauge("etcd_debugging_mvcc_total_put_size_in_bytes", "Bytes put by this member.")),
      compaction_keys(r.counter("etcd_debugging_mvcc_db_compaction_keys_total", "Revisions deleted by compactions.")),
      compaction_last(r.gauge("etcd_debugging_mvcc_db_compaction_last", "Unix time of the last compaction.")),
      compaction_pause(r.histogram("etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds",
                                   "Pause of one batch of a compaction.", {1, 2, 13}, kMilliseconds)),
      compaction_total(r.histogram("etcd_debugging_mvcc_db_compaction_total_duration_milliseconds",
                                   "Duration of a compaction.", {100, 2, 14}, kMilliseconds)),
      index_compaction_pause(r.histogram("etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds",
                                         "Pause of the index for a compaction.", {0.5, 2, 14}, kMilliseconds)),
      auth_revision(r.gauge("etcd_debugging_auth_revision", "Revision of the users and roles.")),
      memory_index(r.gauge("cairn_memory_bytes", kMemory, {{"part", "index"}})),
      memory_index_for_readers(r.gauge("cairn_memory_bytes", kMemory, {{"part", "index_for_readers"}})),
      memory_write_buffers(r.gauge("cairn_memory_bytes", kMemory, {{"part", "write_buffers"}})),
      memory_raft_log(r.gauge("cairn_memory_bytes", kMemory, {{"part", "raft_log"}})),
      registry_(r) {}

Histogram& ServerMetrics::apply_duration(std::string_view version, std::string_view op, bool success) {
  return registry_.histogram("etcd_server_apply_duration_seconds", "Duration of applying one request.", kQuick,
                             kSeconds,
                             {{"version", std::string(version)}, {"op", std::string(op)}, {"success", text(success)}});
}

void add_identity(Registry& registry, const Identity& identity) {
  registry.gauge("etcd_server_version", "The server's version.", {{"server_version", identity.server_version}}).set(1);
  registry.gauge("etcd_server_id", "This member's id.", {{"server_id", identity.member_id}}).set(1);
  registry
      .gauge("etcd_server_go_version", "What the server is built with.",
             {{"server_go_version", identity.runtime_version}})
      .set(1);
  for (const auto& [name, stage, is_on] : identity.features) {
    registry.gauge("etcd_server_feature_enabled", "Feature gates.", {{"name", name}, {"stage", stage}})
        .set(is_on ? 1 : 0);
  }
}

void add_cluster_version(Registry& registry, std::function<std::string()> version) {
  registry.collect("etcd_cluster_version", "The cluster's version.", Kind::kGauge,
                   [version = std::move(version)]() -> std::vector<Sample> {
                     const std::string now = version();
                     if (now.empty()) return {};
                     return {Sample{{{"cluster_version", now}}, 1}};
                   });
}

}  // namespace cairn::metrics
