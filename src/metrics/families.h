// metrics/families.h: the families of etcd that a server fills, by field.
#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "metrics/metrics.h"

namespace cairn::metrics {

// References into a Registry. Histograms take nanoseconds unless their comment says otherwise.
struct ServerMetrics {
  explicit ServerMetrics(Registry& registry);

  // Raft and proposals
  Gauge& has_leader;
  Gauge& is_leader;
  Gauge& is_learner;
  Counter& leader_changes_seen;
  Gauge& proposals_committed;  // indexes
  Gauge& proposals_applied;
  Gauge& proposals_pending;
  Counter& proposals_failed;
  Counter& heartbeat_send_failures;
  Counter& slow_apply;
  Counter& read_indexes_failed;
  Counter& slow_read_indexes;
  Gauge& quota_backend_bytes;
  Gauge& snapshot_apply_in_progress;
  Counter& lease_expired;
  Counter& learner_promote_successes;
  Histogram& range_duration_ok;
  Histogram& range_duration_failed;

  // Disk
  Histogram& wal_fsync;
  Histogram& wal_write;
  Gauge& wal_write_bytes;
  Histogram& backend_commit;
  Histogram& backend_commit_rebalance;
  Histogram& backend_commit_spill;
  Histogram& backend_commit_write;
  Histogram& backend_snapshot;
  Histogram& backend_defrag;
  Gauge& defrag_inflight;
  Histogram& snap_save_total;
  Histogram& snap_save_marshalling;
  Histogram& snap_fsync;
  Histogram& snap_db_fsync;
  Histogram& snap_db_save;

  // MVCC
  Counter& range_total;
  Counter& put_total;
  Counter& delete_total;
  Counter& txn_total;
  Gauge& db_total_size;
  Gauge& db_size_in_use;
  Gauge& open_read_transactions;
  Histogram& hash_duration;
  Histogram& hash_rev_duration;
  Gauge& current_revision;
  Gauge& compact_revision;
  Gauge& keys_total;
  Gauge& total_put_size;
  Counter& events_total;
  Gauge& pending_events;
  Gauge& watchers;
  Gauge& slow_watchers;
  Gauge& watch_streams;
  Counter& compaction_keys;
  Gauge& compaction_last;  // unix seconds
  Histogram& compaction_pause;
  Histogram& compaction_total;
  Histogram& index_compaction_pause;

  // Leases and users
  Counter& lease_granted;
  Counter& lease_revoked;
  Counter& lease_renewed;
  Histogram& lease_ttl;  // seconds
  Gauge& auth_revision;

  // Cairn's own: cairn_memory_bytes by part
  Gauge& memory_index;
  Gauge& memory_index_for_readers;  // replaced, kept for those who still look at it
  Gauge& memory_write_buffers;
  Gauge& memory_raft_log;

  // Histogram of etcd_server_apply_duration_seconds for one operation; keep the reference.
  Histogram& apply_duration(std::string_view version, std::string_view op, bool success);
  // Histogram of etcd_server_request_duration_seconds.
  Histogram& request_duration(std::string_view type, bool success);
  Counter& client_requests(std::string_view type, std::string_view client_api_version);
  Gauge& alarms(std::string_view member_id, std::string_view type);
  Counter& stream_failures(std::string_view type, std::string_view api);

 private:
  Registry& registry_;
};

// Facts that never change, as gauges of value 1: versions, ids, feature gates.
struct Identity {
  std::string server_version;   // "3.7.1"
  std::string member_id;        // hex
  std::string runtime_version;  // in the place of Go's
  struct Feature {
    std::string name;
    std::string stage;  // "ALPHA", "BETA", ""
    bool is_on = false;
  };
  std::vector<Feature> features = {};
};
void add_identity(Registry& registry, const Identity& identity);
// etcd_cluster_version, asked at each render; empty: the family is absent.
void add_cluster_version(Registry& registry, std::function<std::string()> version);
// process_* and os_fd_*, read from /proc/self at each render.
void add_process(Registry& registry);

// One method of the gRPC surface, counted by the dispatcher.
struct MethodStats {
  MethodStats(std::string service_name, std::string method_name, std::string stream_type)
      : service(std::move(service_name)), method(std::move(method_name)), type(std::move(stream_type)) {}

  // A gRPC code, 0 to 16; what is beyond counts as Unknown.
  void count_handled(uint32_t code) {
    if (code == 0) {
      handled_ok.add();
    } else {
      failed[code <= failed.size() ? code - 1 : 1].fetch_add(1, std::memory_order_relaxed);
    }
  }

  std::string service;  // "etcdserverpb.KV"
  std::string method;   // "Range"
  std::string type;     // unary, client_stream, server_stream, bidi_stream
  Counter started;
  Counter msg_received;
  Counter msg_sent;
  Counter handled_ok;
  std::array<std::atomic<uint64_t>, 16> failed{};  // by code, from 1
};
// grpc_server_{started,handled,msg_received,msg_sent}_total. `methods` outlives the registry; all of them appear from
// the start with 0, under every code, as the interceptor that etcd uses does it.
void add_grpc_methods(Registry& registry, const std::vector<std::unique_ptr<MethodStats>>& methods);

}  // namespace cairn::metrics
