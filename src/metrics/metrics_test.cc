#include "metrics/metrics.h"

#include <set>
#include <sstream>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "metrics/families.h"

namespace cairn::metrics {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST(Counter, CountsFromAllThreads) {
  Counter counter;
  std::vector<std::jthread> threads;
  for (int i = 0; i < 12; ++i) {
    threads.emplace_back([&counter] {
      for (int n = 0; n < 10'000; ++n) counter.add();
    });
  }
  threads.clear();
  EXPECT_EQ(counter.value(), 120'000u);
}

TEST(Histogram, BoundsAreInclusiveAndGrowByTheFactor) {
  Histogram histogram({0.001, 2, 3}, 1e-9);
  EXPECT_EQ(histogram.upper_bounds(), (std::vector<double>{0.001, 0.002, 0.004}));
  histogram.observe(0);
  histogram.observe(1'000'000);
  histogram.observe(1'000'001);
  histogram.observe(4'000'000);
  histogram.observe(5'000'000'000);
  const auto snapshot = histogram.snapshot();
  EXPECT_EQ(snapshot.counts, (std::vector<uint64_t>{2, 1, 1, 1}));
  EXPECT_DOUBLE_EQ(snapshot.sum, 5.006000001);
}

TEST(Registry, RendersTheTextFormat) {
  Registry registry;
  registry.counter("b_total", "Bees.").add(3);
  registry.gauge("a_size", "Ayes.", {{"z", "1"}, {"k", "quo\"te\n"}}).set(-7);
  Histogram& histogram = registry.histogram("h_seconds", "Haitch.", {0.001, 2, 2}, 1e-9);
  histogram.observe(1'500'000);
  histogram.observe(9'000'000);
  registry.collect("c_now", "Sea.", Kind::kGauge, [] { return std::vector<Sample>{{{{"x", "y"}}, 1.5}}; });
  registry.collect("none", "Nothing.", Kind::kGauge, [] { return std::vector<Sample>{}; });
  EXPECT_EQ(registry.render(),
            "# HELP a_size Ayes.\n# TYPE a_size gauge\na_size{k=\"quo\\\"te\\n\",z=\"1\"} -7\n"
            "# HELP b_total Bees.\n# TYPE b_total counter\nb_total 3\n"
            "# HELP c_now Sea.\n# TYPE c_now gauge\nc_now{x=\"y\"} 1.5\n"
            "# HELP h_seconds Haitch.\n# TYPE h_seconds histogram\n"
            "h_seconds_count 2\nh_seconds_sum 0.0105\n"
            "h_seconds_bucket{le=\"0.001\"} 0\nh_seconds_bucket{le=\"0.002\"} 1\nh_seconds_bucket{le=\"+Inf\"} 2\n");
}

TEST(Registry, TheSameNameAndLabelsAreTheSameSeries) {
  Registry registry;
  Counter& one = registry.counter("n", "", {{"a", "1"}, {"b", "2"}});
  EXPECT_EQ(&one, &registry.counter("n", "", {{"b", "2"}, {"a", "1"}}));
  EXPECT_NE(&one, &registry.counter("n", "", {{"a", "1"}, {"b", "3"}}));
}

TEST(Registry, MayBeRenderedWhileOthersRecord) {
  Registry registry;
  ServerMetrics metrics(registry);
  std::atomic<bool> stop{false};
  std::jthread writer([&] {
    while (!stop) {
      metrics.put_total.add();
      metrics.wal_fsync.observe(100'000);
    }
  });
  for (int i = 0; i < 20; ++i) EXPECT_THAT(registry.render(), HasSubstr("etcd_mvcc_put_total "));
  stop = true;
}

// Families by name with their type, as the text says.
std::map<std::string, std::string> types_of(const std::string& text) {
  std::map<std::string, std::string> types;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) {
    std::istringstream words(line);
    std::string hash, keyword, name, type;
    words >> hash >> keyword >> name >> type;
    if (keyword == "TYPE") types[name] = type;
  }
  return types;
}

TEST(ServerMetrics, HasEtcdsFamiliesWithTheirTypes) {
  Registry registry;
  ServerMetrics metrics(registry);
  add_identity(registry, {"3.7.1", "b01c7f285a70202e", "c++", {{"LeaseCheckpoint", "ALPHA", false}}});
  add_cluster_version(registry, [] { return "3.7"; });
  add_process(registry);
  metrics.apply_duration("v3", "Put", true);
  metrics.request_duration("Put", true);
  metrics.client_requests("unary", "3.7");
  metrics.alarms("1f", "NOSPACE");
  metrics.stream_failures("receive", "watch");
  const auto types = types_of(registry.render());
  const std::map<std::string, std::string> wanted = {
      {"cairn_memory_bytes", "gauge"},
      {"cairn_resident_memory_bytes", "gauge"},
      {"etcd_cluster_version", "gauge"},
      {"etcd_debugging_auth_revision", "gauge"},
      {"etcd_debugging_disk_backend_commit_rebalance_duration_seconds", "histogram"},
      {"etcd_debugging_disk_backend_commit_spill_duration_seconds", "histogram"},
      {"etcd_debugging_disk_backend_commit_write_duration_seconds", "histogram"},
      {"etcd_debugging_lease_granted_total", "counter"},
      {"etcd_debugging_lease_renewed_total", "counter"},
      {"etcd_debugging_lease_revoked_total", "counter"},
      {"etcd_debugging_lease_ttl_total", "histogram"},
      {"etcd_debugging_mvcc_compact_revision", "gauge"},
      {"etcd_debugging_mvcc_current_revision", "gauge"},
      {"etcd_debugging_mvcc_db_compaction_keys_total", "counter"},
      {"etcd_debugging_mvcc_db_compaction_last", "gauge"},
      {"etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds", "histogram"},
      {"etcd_debugging_mvcc_db_compaction_total_duration_milliseconds", "histogram"},
      {"etcd_debugging_mvcc_events_total", "counter"},
      {"etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds", "histogram"},
      {"etcd_debugging_mvcc_keys_total", "gauge"},
      {"etcd_debugging_mvcc_pending_events_total", "gauge"},
      {"etcd_debugging_mvcc_slow_watcher_total", "gauge"},
      {"etcd_debugging_mvcc_total_put_size_in_bytes", "gauge"},
      {"etcd_debugging_mvcc_watch_stream_total", "gauge"},
      {"etcd_debugging_mvcc_watcher_total", "gauge"},
      {"etcd_debugging_server_alarms", "gauge"},
      {"etcd_debugging_server_lease_expired_total", "counter"},
      {"etcd_debugging_snap_save_marshalling_duration_seconds", "histogram"},
      {"etcd_debugging_snap_save_total_duration_seconds", "histogram"},
      {"etcd_disk_backend_commit_duration_seconds", "histogram"},
      {"etcd_disk_backend_defrag_duration_seconds", "histogram"},
      {"etcd_disk_backend_snapshot_duration_seconds", "histogram"},
      {"etcd_disk_defrag_inflight", "gauge"},
      {"etcd_disk_wal_fsync_duration_seconds", "histogram"},
      {"etcd_disk_wal_write_bytes_total", "gauge"},
      {"etcd_disk_wal_write_duration_seconds", "histogram"},
      {"etcd_mvcc_db_open_read_transactions", "gauge"},
      {"etcd_mvcc_db_total_size_in_bytes", "gauge"},
      {"etcd_mvcc_db_total_size_in_use_in_bytes", "gauge"},
      {"etcd_mvcc_delete_total", "counter"},
      {"etcd_mvcc_hash_duration_seconds", "histogram"},
      {"etcd_mvcc_hash_rev_duration_seconds", "histogram"},
      {"etcd_mvcc_put_total", "counter"},
      {"etcd_mvcc_range_total", "counter"},
      {"etcd_mvcc_txn_total", "counter"},
      {"etcd_network_server_stream_failures_total", "counter"},
      {"etcd_server_apply_duration_seconds", "histogram"},
      {"etcd_server_client_requests_total", "counter"},
      {"etcd_server_feature_enabled", "gauge"},
      {"etcd_server_go_version", "gauge"},
      {"etcd_server_has_leader", "gauge"},
      {"etcd_server_heartbeat_send_failures_total", "counter"},
      {"etcd_server_id", "gauge"},
      {"etcd_server_is_leader", "gauge"},
      {"etcd_server_is_learner", "gauge"},
      {"etcd_server_leader_changes_seen_total", "counter"},
      {"etcd_server_learner_promote_successes", "counter"},
      {"etcd_server_proposals_applied_total", "gauge"},
      {"etcd_server_proposals_committed_total", "gauge"},
      {"etcd_server_proposals_failed_total", "counter"},
      {"etcd_server_proposals_pending", "gauge"},
      {"etcd_server_quota_backend_bytes", "gauge"},
      {"etcd_server_range_duration_seconds", "histogram"},
      {"etcd_server_read_indexes_failed_total", "counter"},
      {"etcd_server_request_duration_seconds", "histogram"},
      {"etcd_server_slow_apply_total", "counter"},
      {"etcd_server_slow_read_indexes_total", "counter"},
      {"etcd_server_snapshot_apply_in_progress_total", "gauge"},
      {"etcd_server_version", "gauge"},
      {"etcd_snap_db_fsync_duration_seconds", "histogram"},
      {"etcd_snap_db_save_total_duration_seconds", "histogram"},
      {"etcd_snap_fsync_duration_seconds", "histogram"},
      {"os_fd_limit", "gauge"},
      {"os_fd_used", "gauge"},
      {"process_cpu_seconds_total", "counter"},
      {"process_max_fds", "gauge"},
      {"process_network_receive_bytes_total", "counter"},
      {"process_network_transmit_bytes_total", "counter"},
      {"process_open_fds", "gauge"},
      {"process_resident_memory_bytes", "gauge"},
      {"process_start_time_seconds", "gauge"},
      {"process_virtual_memory_bytes", "gauge"},
      {"process_virtual_memory_max_bytes", "gauge"}};
  EXPECT_EQ(types, wanted);
}

TEST(ServerMetrics, BucketsAreEtcds) {
  Registry registry;
  ServerMetrics metrics(registry);
  const std::string text = registry.render();
  EXPECT_THAT(text, HasSubstr("etcd_disk_wal_fsync_duration_seconds_bucket{le=\"0.001\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("etcd_disk_wal_fsync_duration_seconds_bucket{le=\"8.192\"} 0\n"));
  EXPECT_THAT(text, Not(HasSubstr("etcd_disk_wal_fsync_duration_seconds_bucket{le=\"16.384\"}")));
  EXPECT_THAT(text, HasSubstr("etcd_debugging_lease_ttl_total_bucket{le=\"8388608\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("etcd_disk_backend_snapshot_duration_seconds_bucket{le=\"655.36\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("etcd_server_range_duration_seconds_bucket{success=\"true\",le=\"0.0001\"} 0\n"));
}

TEST(Process, SaysWhatTheKernelSays) {
  Registry registry;
  add_process(registry);
  const std::string text = registry.render();
  const auto value_of = [&](const std::string& name) {
    const size_t at = text.find("\n" + name + " ");
    return at == std::string::npos ? -1.0 : std::stod(text.substr(at + name.size() + 2));
  };
  EXPECT_GT(value_of("process_resident_memory_bytes"), 1e6);
  EXPECT_GT(value_of("process_virtual_memory_bytes"), value_of("process_resident_memory_bytes"));
  const double anonymous = value_of("cairn_resident_memory_bytes{kind=\"anonymous\"}");
  const double file = value_of("cairn_resident_memory_bytes{kind=\"file\"}");
  EXPECT_GT(anonymous, 1e5);
  EXPECT_GT(file, 1e5);
  EXPECT_NEAR(anonymous + file, value_of("process_resident_memory_bytes"), 4e6);
  EXPECT_GE(value_of("process_open_fds"), 3);
  EXPECT_GE(value_of("os_fd_limit"), value_of("os_fd_used"));
  const double now = static_cast<double>(time(nullptr));
  EXPECT_NEAR(value_of("process_start_time_seconds"), now, 300);
  EXPECT_GE(value_of("process_cpu_seconds_total"), 0);
}

TEST(GrpcMethods, AppearWithEveryCodeBeforeTheFirstCall) {
  std::vector<std::unique_ptr<MethodStats>> methods;
  methods.push_back(std::make_unique<MethodStats>("etcdserverpb.KV", "Range", "unary"));
  Registry registry;
  add_grpc_methods(registry, methods);
  const std::string labels = "grpc_method=\"Range\",grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"} ";
  EXPECT_THAT(registry.render(),
              HasSubstr("grpc_server_handled_total{grpc_code=\"Unauthenticated\"," + labels + "0\n"));
  methods[0]->started.add(2);
  methods[0]->msg_received.add(3);
  methods[0]->count_handled(0);
  methods[0]->count_handled(16);
  methods[0]->count_handled(99);
  const std::string text = registry.render();
  EXPECT_THAT(text, HasSubstr("grpc_server_started_total{" + labels + "2\n"));
  EXPECT_THAT(text, HasSubstr("grpc_server_msg_received_total{" + labels + "3\n"));
  EXPECT_THAT(text, HasSubstr("grpc_server_msg_sent_total{" + labels + "0\n"));
  EXPECT_THAT(text, HasSubstr("grpc_server_handled_total{grpc_code=\"OK\"," + labels + "1\n"));
  EXPECT_THAT(text, HasSubstr("grpc_server_handled_total{grpc_code=\"Unauthenticated\"," + labels + "1\n"));
  EXPECT_THAT(text, HasSubstr("grpc_server_handled_total{grpc_code=\"Unknown\"," + labels + "1\n"));
}

TEST(ClusterVersion, IsAbsentUntilDecided) {
  Registry registry;
  std::string version;
  add_cluster_version(registry, [&] { return version; });
  EXPECT_EQ(registry.render(), "");
  version = "3.7";
  EXPECT_THAT(registry.render(), HasSubstr("etcd_cluster_version{cluster_version=\"3.7\"} 1\n"));
}

}  // namespace
}  // namespace cairn::metrics
