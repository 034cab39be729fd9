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
  Counter& slow_apply;
  Gauge& quota_backend_bytes;

  // MVCC
  Counter& put_total;
  Counter& delete_total;
  Counter& txn_total;
  Gauge& db_total_size;
  Gauge& db_size_in_use;
  Gauge& current_revision;
  Gauge& compact_revision;
  Gauge& keys_total;
  Gauge& total_put_size;
  Counter& compaction_keys;
  Gauge& compaction_last;  // unix seconds
  Histogram& compaction_pause;
  Histogram& compaction_total;
  Histogram& index_compaction_pause;

  // Leases and users
  Gauge& auth_revision;

  // Cairn's own: cairn_memory_bytes by part
  Gauge& memory_index;
  Gauge& memory_index_for_readers;  // replaced, kept for those who still look at it
  Gauge& memory_write_buffers;
  Gauge& memory_raft_log;

  // Histogram of etcd_server_apply_duration_seconds for one operation; keep the reference.
  Histogram& apply_duration(std::string_view version, std::string_view op, bool success);

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

}  // namespace cairn::metrics
