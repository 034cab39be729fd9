// rpc/metrics.h: what the services count. Names are etcd's.
#pragma once

#include <array>
#include <set>
#include <string>
#include <string_view>
#include <utility>

#include "base/mutex.h"
#include "member/requests.h"
#include "metrics/metrics.h"
#include "rpc/methods.h"

namespace cairn::rpc {

// Threads: any.
struct Metrics {
  explicit Metrics(metrics::Registry& to) : registry(to) {}

  metrics::Registry& registry;
  metrics::Counter& range_total = registry.counter("etcd_mvcc_range_total", "Ranges seen by this member.");
  metrics::Counter& txn_total = registry.counter("etcd_mvcc_txn_total", "Transactions seen by this member.");
  // Ranges of one turn of a loop are timed together: each counts with their mean.
  metrics::Histogram& range =
      registry.histogram("etcd_server_range_duration_seconds", "Duration of ranges in the store.",
                         metrics::kQuickBuckets, metrics::kSeconds, {{"success", "true"}});
  metrics::Histogram& range_failed =
      registry.histogram("etcd_server_range_duration_seconds", "Duration of ranges in the store.",
                         metrics::kQuickBuckets, metrics::kSeconds, {{"success", "false"}});
  metrics::Histogram& hash =
      registry.histogram("etcd_mvcc_hash_duration_seconds", "Duration of hashing the storage.", {.01, 2, 15});
  metrics::Histogram& hash_rev =
      registry.histogram("etcd_mvcc_hash_rev_duration_seconds", "Duration of hashing at a revision.", {.01, 2, 15});
  metrics::Histogram& snapshot = registry.histogram("etcd_disk_backend_snapshot_duration_seconds",
                                                    "Duration of a snapshot of the storage.", {.01, 2, 17});
  // Lists are not among them: between two pieces they hold no view.
  metrics::Gauge& open_reads =
      registry.gauge("etcd_mvcc_db_open_read_transactions", "Views of the storage that snapshots and hashes hold.");
  // Shared with member::Metrics, which counts the writes.
  metrics::Counter& slow_apply = registry.counter(
      "etcd_server_slow_apply_total", "Batches of entries that took longer to apply than the warning limit.");
  metrics::Counter& read_indexes_failed =
      registry.counter("etcd_server_read_indexes_failed_total", "Linearizable reads that came to no read index.");

  metrics::Gauge& watchers = registry.gauge("etcd_debugging_mvcc_watcher_total", "Watchers.");
  metrics::Gauge& slow_watchers =
      registry.gauge("etcd_debugging_mvcc_slow_watcher_total", "Watchers that are behind the store.");
  metrics::Gauge& watch_streams = registry.gauge("etcd_debugging_mvcc_watch_stream_total", "Watch streams.");
  metrics::Counter& watch_events = registry.counter("etcd_debugging_mvcc_events_total", "Watch events sent.");
  metrics::Gauge& pending_watch_events =
      registry.gauge("etcd_debugging_mvcc_pending_events_total", "Watch events that wait for clients to take them.");
  metrics::Histogram& watch_send =
      registry.histogram("etcd_debugging_server_watch_send_loop_watch_stream_duration_seconds",
                         "Duration of sending a watch response.", metrics::kDiskBuckets);
  metrics::Histogram& watch_send_per_event =
      registry.histogram("etcd_debugging_server_watch_send_loop_watch_stream_duration_per_event_seconds",
                         "The same, for each of its events.", metrics::kDiskBuckets);
  metrics::Histogram& watch_send_control =
      registry.histogram("etcd_debugging_server_watch_send_loop_control_stream_duration_seconds",
                         "Duration of answering a request of a watch stream.", metrics::kDiskBuckets);
  metrics::Histogram& watch_send_progress =
      registry.histogram("etcd_debugging_server_watch_send_loop_progress_duration_seconds",
                         "Duration of sending a stream's progress notifications.", metrics::kDiskBuckets);

  metrics::Counter& promote_total =
      registry.counter("etcd_server_learner_promote_successes", "Learners promoted by this leader.");
  // Reasons are few and ours.
  metrics::Counter& promote_failed(std::string_view reason) {
    return registry.counter("etcd_server_learner_promote_failures", "Promotions of learners that failed.",
                            {{"Reason", std::string(reason)}});
  }

  // The series of grpc_server_handling_seconds; keep the reference.
  metrics::Histogram& handling(const Method& method) {
    return registry.histogram("grpc_server_handling_seconds", "Duration of RPCs until they are answered.",
                              metrics::kDefaultBuckets, metrics::kSeconds,
                              {{"grpc_method", std::string(method.name)},
                               {"grpc_service", std::string(method.service)},
                               {"grpc_type", std::string(name_of(method.kind))}});
  }

  // The series of etcd_server_request_duration_seconds; keep the reference.
  metrics::Histogram& request(std::string_view type, bool success) {
    return registry.histogram("etcd_server_request_duration_seconds", "Duration of a request, by its kind.",
                              metrics::kDiskBuckets, metrics::kSeconds,
                              {{"type", std::string(type)}, {"success", success ? "true" : "false"}});
  }

  // etcd_server_client_requests_total of clients that name this version; keep the reference. Clients choose the name:
  // beyond a hundred of them all are "other".
  metrics::Counter& client_requests(std::string_view version, bool streams) {
    static constexpr size_t kVersionsMax = 100;
    std::string name(version);
    {
      const MutexLock lock(mutex_);
      if (versions_.size() < kVersionsMax) {
        versions_.insert(name);
      } else if (!versions_.contains(name)) {
        name = "other";
      }
    }
    return registry.counter("etcd_server_client_requests_total", "Requests by the client's API version.",
                            {{"type", streams ? "stream" : "unary"}, {"client_api_version", std::move(name)}});
  }

 private:
  Mutex mutex_;
  std::set<std::string> versions_ CAIRN_GUARDED_BY(mutex_);
};

// Durations of requests by kind, on one thread. A series appears with its first request, as in etcd.
class RequestTimes {
 public:
  // A kind is a place in member::kRequestNames, or this.
  static constexpr size_t kReadonlyTxn = member::kRequestNames.size();

  explicit RequestTimes(Metrics& metrics) : metrics_(metrics) {}
  void observe(size_t kind, bool success, uint64_t took_ns, uint64_t times = 1) {
    metrics::Histogram*& at = series_[kind * 2 + (success ? 1 : 0)];
    if (at == nullptr) {
      at = &metrics_.request(kind == kReadonlyTxn ? "ReadonlyTxn" : member::kRequestNames[kind].name, success);
    }
    at->observe(took_ns, times);
  }

  // Observes requests one after the other; those that are alike, such as the answered ones of one turn, at once.
  class Run {
   public:
    explicit Run(RequestTimes& to) : to_(to) {}
    ~Run() { end(); }
    Run(const Run&) = delete;
    Run& operator=(const Run&) = delete;

    void observe(size_t kind, bool success, uint64_t took_ns) {
      if (kind != kind_ || success != success_ || took_ns != took_ns_) {
        end();
        kind_ = kind;
        success_ = success;
        took_ns_ = took_ns;
      }
      ++times_;
    }

   private:
    void end() {
      if (times_ > 0) to_.observe(kind_, success_, took_ns_, std::exchange(times_, 0));
    }

    RequestTimes& to_;
    size_t kind_ = 0;
    bool success_ = false;
    uint64_t took_ns_ = 0;
    uint64_t times_ = 0;
  };

 private:
  Metrics& metrics_;
  std::array<metrics::Histogram*, 2 * (kReadonlyTxn + 1)> series_{};
};

// Counts calls by the client's version, on one thread: most calls are of the version of the one before.
class ClientRequests {
 public:
  explicit ClientRequests(Metrics& metrics) : metrics_(metrics) {}
  void count(std::string_view version, bool streams) {
    if (unary_ == nullptr || version != version_) {
      version_ = version;
      unary_ = &metrics_.client_requests(version, false);
      stream_ = nullptr;  // a family shows what has happened
    }
    if (streams && stream_ == nullptr) stream_ = &metrics_.client_requests(version, true);
    (streams ? stream_ : unary_)->add();
  }

 private:
  Metrics& metrics_;
  std::string version_;
  metrics::Counter* unary_ = nullptr;
  metrics::Counter* stream_ = nullptr;
};

}  // namespace cairn::rpc
