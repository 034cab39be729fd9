#include "metrics/families.h"

namespace cairn::metrics {
namespace {

constexpr double kMilliseconds = 1e-6;  // nanoseconds observed, milliseconds exposed
constexpr double kSeconds = 1e-9;
constexpr Buckets kDisk{0.001, 2, 14};  // 1 ms to 8 s
constexpr Buckets kQuick{0.0001, 2, 20};

constexpr std::string_view kMemory = "Memory by what it is for. The rest is connections and requests.";

std::string text(bool success) { return success ? "true" : "false"; }

constexpr std::array<const char*, 17> kCodeNames = {
    "OK",       "Canceled",       "Unknown",          "InvalidArgument",   "DeadlineExceeded",
    "NotFound", "AlreadyExists",  "PermissionDenied", "ResourceExhausted", "FailedPrecondition",
    "Aborted",  "OutOfRange",     "Unimplemented",    "Internal",          "Unavailable",
    "DataLoss", "Unauthenticated"};

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
      heartbeat_send_failures(r.counter("etcd_server_heartbeat_send_failures_total",
                                        "Heartbeats that left late; the leader is overloaded, likely by its disk.")),
      slow_apply(r.counter("etcd_server_slow_apply_total", "Applies that took longer than the warning limit.")),
      read_indexes_failed(r.counter("etcd_server_read_indexes_failed_total", "Read index rounds that failed.")),
      slow_read_indexes(
          r.counter("etcd_server_slow_read_indexes_total", "Read index rounds that were late for their request.")),
      quota_backend_bytes(r.gauge("etcd_server_quota_backend_bytes", "Quota of the storage in bytes.")),
      snapshot_apply_in_progress(r.gauge("etcd_server_snapshot_apply_in_progress_total",
                                         "1 while a snapshot from the leader is taken over, 0 otherwise.")),
      lease_expired(r.counter("etcd_debugging_server_lease_expired_total", "Leases that ran out.")),
      learner_promote_successes(
          r.counter("etcd_server_learner_promote_successes", "Learners promoted by this leader.")),
      range_duration_ok(r.histogram("etcd_server_range_duration_seconds", "Duration of ranges in the store.", kQuick,
                                    kSeconds, {{"success", "true"}})),
      range_duration_failed(
          r.histogram("etcd_server_range_duration_seconds", "", kQuick, kSeconds, {{"success", "false"}})),
      wal_fsync(r.histogram("etcd_disk_wal_fsync_duration_seconds", "Duration of a sync of the WAL.", kDisk)),
      wal_write(r.histogram("etcd_disk_wal_write_duration_seconds", "Duration of a write to the WAL.", kDisk)),
      wal_write_bytes(r.gauge("etcd_disk_wal_write_bytes_total", "Bytes written to the WAL.")),
      backend_commit(
          r.histogram("etcd_disk_backend_commit_duration_seconds", "Duration of a commit of the storage.", kDisk)),
      backend_commit_rebalance(r.histogram("etcd_debugging_disk_backend_commit_rebalance_duration_seconds",
                                           "Of a commit: merging pages.", kDisk)),
      backend_commit_spill(r.histogram("etcd_debugging_disk_backend_commit_spill_duration_seconds",
                                       "Of a commit: splitting and placing pages.", kDisk)),
      backend_commit_write(r.histogram("etcd_debugging_disk_backend_commit_write_duration_seconds",
                                       "Of a commit: writing and syncing.", kDisk)),
      backend_snapshot(r.histogram("etcd_disk_backend_snapshot_duration_seconds",
                                   "Duration of a snapshot of the storage.", {.01, 2, 17})),
      backend_defrag(
          r.histogram("etcd_disk_backend_defrag_duration_seconds", "Duration of a defragmentation.", {.1, 2, 13})),
      defrag_inflight(r.gauge("etcd_disk_defrag_inflight", "1 while a defragmentation runs, 0 otherwise.")),
      snap_save_total(
          r.histogram("etcd_debugging_snap_save_total_duration_seconds", "Duration of saving a .snap file.", kDisk)),
      snap_save_marshalling(r.histogram("etcd_debugging_snap_save_marshalling_duration_seconds",
                                        "Of saving a .snap file: encoding.", kDisk)),
      snap_fsync(r.histogram("etcd_snap_fsync_duration_seconds", "Duration of a sync of a .snap file.", kDisk)),
      snap_db_fsync(
          r.histogram("etcd_snap_db_fsync_duration_seconds", "Duration of a sync of a received database.", kDisk)),
      snap_db_save(r.histogram("etcd_snap_db_save_total_duration_seconds", "Duration of saving a received database.",
                               {0.1, 2, 10})),
      range_total(r.counter("etcd_mvcc_range_total", "Ranges seen by this member.")),
      put_total(r.counter("etcd_mvcc_put_total", "Puts seen by this member.")),
      delete_total(r.counter("etcd_mvcc_delete_total", "Deletes seen by this member.")),
      txn_total(r.counter("etcd_mvcc_txn_total", "Transactions seen by this member.")),
      db_total_size(r.gauge("etcd_mvcc_db_total_size_in_bytes", "Size of the storage's file.")),
      db_size_in_use(r.gauge("etcd_mvcc_db_total_size_in_use_in_bytes", "The part of the file that is in use.")),
      open_read_transactions(r.gauge("etcd_mvcc_db_open_read_transactions", "Open read views of the storage.")),
      hash_duration(r.histogram("etcd_mvcc_hash_duration_seconds", "Duration of hashing the storage.", {.01, 2, 15})),
      hash_rev_duration(
          r.histogram("etcd_mvcc_hash_rev_duration_seconds", "Duration of hashing at a revision.", {.01, 2, 15})),
      current_revision(r.gauge("etcd_debugging_mvcc_current_revision", "The store's revision.")),
      compact_revision(r.gauge("etcd_debugging_mvcc_compact_revision", "The revision of the last compaction.")),
      keys_total(r.gauge("etcd_debugging_mvcc_keys_total", "Keys in the store.")),
      total_put_size(r.gauge("etcd_debugging_mvcc_total_put_size_in_bytes", "Bytes put by this member.")),
      events_total(r.counter("etcd_debugging_mvcc_events_total", "Watch events sent.")),
      pending_events(r.gauge("etcd_debugging_mvcc_pending_events_total", "Watch events that wait to be sent.")),
      watchers(r.gauge("etcd_debugging_mvcc_watcher_total", "Watchers.")),
      slow_watchers(r.gauge("etcd_debugging_mvcc_slow_watcher_total", "Watchers that are behind the store.")),
      watch_streams(r.gauge("etcd_debugging_mvcc_watch_stream_total", "Watch streams.")),
      compaction_keys(r.counter("etcd_debugging_mvcc_db_compaction_keys_total", "Revisions deleted by compactions.")),
      compaction_last(r.gauge("etcd_debugging_mvcc_db_compaction_last", "Unix time of the last compaction.")),
      compaction_pause(r.histogram("etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds",
                                   "Pause of one batch of a compaction.", {1, 2, 13}, kMilliseconds)),
      compaction_total(r.histogram("etcd_debugging_mvcc_db_compaction_total_duration_milliseconds",
                                   "Duration of a compaction.", {100, 2, 14}, kMilliseconds)),
      index_compaction_pause(r.histogram("etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds",
                                         "Pause of the index for a compaction.", {0.5, 2, 14}, kMilliseconds)),
      lease_granted(r.counter("etcd_debugging_lease_granted_total", "Leases granted.")),
      lease_revoked(r.counter("etcd_debugging_lease_revoked_total", "Leases revoked.")),
      lease_renewed(r.counter("etcd_debugging_lease_renewed_total", "Renewals seen by the leader.")),
      lease_ttl(
          r.histogram("etcd_debugging_lease_ttl_total", "Times to live of granted leases, in seconds.", {1, 2, 24}, 1)),
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

Histogram& ServerMetrics::request_duration(std::string_view type, bool success) {
  return registry_.histogram("etcd_server_request_duration_seconds", "Duration of a request in the server.", kDisk,
                             kSeconds, {{"type", std::string(type)}, {"success", text(success)}});
}

Counter& ServerMetrics::client_requests(std::string_view type, std::string_view client_api_version) {
  return registry_.counter("etcd_server_client_requests_total", "Requests by the client's API version.",
                           {{"type", std::string(type)}, {"client_api_version", std::string(client_api_version)}});
}

Gauge& ServerMetrics::alarms(std::string_view member_id, std::string_view type) {
  return registry_.gauge("etcd_debugging_server_alarms", "Active alarms.",
                         {{"server_id", std::string(member_id)}, {"alarm_type", std::string(type)}});
}

Counter& ServerMetrics::stream_failures(std::string_view type, std::string_view api) {
  return registry_.counter("etcd_network_server_stream_failures_total", "Streams that failed.",
                           {{"Type", std::string(type)}, {"API", std::string(api)}});
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

void add_grpc_methods(Registry& registry, const std::vector<std::unique_ptr<MethodStats>>& methods) {
  const auto add = [&](std::string_view name, std::string_view help, Counter MethodStats::* counter) {
    registry.collect(name, help, Kind::kCounter, [&methods, counter] {
      std::vector<Sample> out;
      for (const auto& each : methods) {
        out.push_back({{{"grpc_method", each->method}, {"grpc_service", each->service}, {"grpc_type", each->type}},
                       static_cast<double>((*each.*counter).value())});
      }
      return out;
    });
  };
  add("grpc_server_started_total", "RPCs started.", &MethodStats::started);
  add("grpc_server_msg_received_total", "Messages received.", &MethodStats::msg_received);
  add("grpc_server_msg_sent_total", "Messages sent.", &MethodStats::msg_sent);
  registry.collect("grpc_server_handled_total", "RPCs completed, by code.", Kind::kCounter, [&methods] {
    std::vector<Sample> out;
    for (const auto& each : methods) {
      for (size_t code = 0; code < kCodeNames.size(); ++code) {
        const uint64_t count =
            code == 0 ? each->handled_ok.value() : each->failed[code - 1].load(std::memory_order_relaxed);
        out.push_back({{{"grpc_code", kCodeNames[code]},
                        {"grpc_method", each->method},
                        {"grpc_service", each->service},
                        {"grpc_type", each->type}},
                       static_cast<double>(count)});
      }
    }
    return out;
  });
}

}  // namespace cairn::metrics
