// metrics/metrics.h: counters, gauges and histograms with etcd's names, and their text form.
//
// Recording is one relaxed atomic add, without a lock, from any thread. A counter that many threads hit spreads over
// cache lines by thread. Everything else happens when /metrics is read.
//
// A family belongs to the module that writes it. A line of that module's struct Metrics registers it, and another line
// counts. main() makes the Registry and the structs and passes them on. No decision reads a metric.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace cairn::metrics {

using Labels = std::vector<std::pair<std::string, std::string>>;

// Slots are given to threads in turn, so that a few busy threads each count on their own cache line.
inline constexpr size_t kShardCount = 8;
inline size_t shard_of_this_thread() {
  static std::atomic<size_t> next{0};
  static thread_local const size_t shard = next.fetch_add(1, std::memory_order_relaxed) % kShardCount;
  return shard;
}

class Counter {
 public:
  void add(uint64_t n = 1) { shards_[shard_of_this_thread()].value.fetch_add(n, std::memory_order_relaxed); }
  [[nodiscard]] uint64_t value() const {
    uint64_t sum = 0;
    for (const Shard& shard : shards_) sum += shard.value.load(std::memory_order_relaxed);
    return sum;
  }

 private:
  struct alignas(64) Shard {
    std::atomic<uint64_t> value{0};
  };
  std::array<Shard, kShardCount> shards_;
};

class Gauge {
 public:
  void set(int64_t value) { value_.store(value, std::memory_order_relaxed); }
  void add(int64_t n) { value_.fetch_add(n, std::memory_order_relaxed); }
  [[nodiscard]] int64_t value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<int64_t> value_{0};
};

// Adds one to a gauge for as long as it lives.
class Held {
 public:
  explicit Held(Gauge& gauge) : gauge_(gauge) { gauge_.add(1); }
  ~Held() { gauge_.add(-1); }
  Held(const Held&) = delete;
  Held& operator=(const Held&) = delete;

 private:
  Gauge& gauge_;
};

// Upper bounds start * factor^i for i in [0, count), in the unit of the exposed family.
struct Buckets {
  double start = 0.001;
  double factor = 2;
  size_t count = 14;
  std::span<const double> bounds = {};  // these in place of the others, ascending
};

// etcd's buckets, for operations that wait for a disk and for those that do not.
inline constexpr Buckets kDiskBuckets{0.001, 2, 14};    // 1 ms to 8 s
inline constexpr Buckets kQuickBuckets{0.0001, 2, 20};  // 0.1 ms to 52 s

// Those of Prometheus' client libraries.
inline constexpr double kDefaultBounds[] = {.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10};
inline constexpr Buckets kDefaultBuckets{.count = 0, .bounds = kDefaultBounds};

inline constexpr double kSeconds = 1e-9;  // nanoseconds are observed, seconds exposed
inline constexpr double kMilliseconds = 1e-6;

class Histogram {
 public:
  static constexpr size_t kBucketCountMax = 24;

  // An observation of n stands for n * unit in the exposed family: nanoseconds with 1e-9 for one in seconds.
  Histogram(Buckets buckets, double unit);

  void observe(uint64_t n, uint64_t times = 1) {
    size_t bucket = 0;
    while (bucket < bounds_.size() && n > bounds_[bucket]) ++bucket;
    Shard& shard = shards_[shard_of_this_thread()];
    shard.counts[bucket].fetch_add(times, std::memory_order_relaxed);
    shard.sum.fetch_add(n * times, std::memory_order_relaxed);
  }

  // The count of each single bucket, then of all larger values. A render during observations may miss the newest.
  struct Snapshot {
    std::vector<uint64_t> counts;
    double sum = 0;  // in the exposed unit
  };
  [[nodiscard]] Snapshot snapshot() const;
  [[nodiscard]] const std::vector<double>& upper_bounds() const { return exposed_bounds_; }

 private:
  struct alignas(64) Shard {
    std::array<std::atomic<uint64_t>, kBucketCountMax + 1> counts{};
    std::atomic<uint64_t> sum{0};
  };

  double unit_;
  std::vector<double> exposed_bounds_;
  std::vector<uint64_t> bounds_;  // the same in observations
  std::unique_ptr<Shard[]> shards_;
};

// Observes its own lifetime, for modules without a clock. Without a histogram it does not read the clock.
class StopWatch {
 public:
  explicit StopWatch(Histogram* into) : into_(into) {
    if (into_ != nullptr) began_ = std::chrono::steady_clock::now();
  }
  ~StopWatch() {
    if (into_ == nullptr) return;
    const auto took = std::chrono::steady_clock::now() - began_;
    into_->observe(static_cast<uint64_t>(std::chrono::nanoseconds(took).count()));
  }
  StopWatch(const StopWatch&) = delete;
  StopWatch& operator=(const StopWatch&) = delete;

 private:
  Histogram* into_;
  std::chrono::steady_clock::time_point began_;
};

enum class Kind : uint8_t { kCounter, kGauge };

// A value computed at each render: one sample per label set.
struct Sample {
  Labels labels;
  double value = 0;
};
using Collector = std::function<std::vector<Sample>()>;

// Holds families and renders them. References that it hands out live as long as it does. Registering is for start-up
// (it locks); rendering may run on any thread at any time.
class Registry {
 public:
  Registry();
  ~Registry();
  Registry(const Registry&) = delete;
  Registry& operator=(const Registry&) = delete;

  // The same name with other labels gives another series of the same family; with the same labels, the same object.
  Counter& counter(std::string_view name, std::string_view help, Labels labels = {});
  // The kind does not follow from the name: etcd has gauges that only grow and gauges that end in _total.
  Gauge& gauge(std::string_view name, std::string_view help, Labels labels = {});
  Histogram& histogram(std::string_view name, std::string_view help, Buckets buckets, double unit = kSeconds,
                       Labels labels = {});
  // Called at each render; must be quick and thread-safe.
  void collect(std::string_view name, std::string_view help, Kind kind, Collector collector);

  // Text exposition format 0.0.4, families by name.
  [[nodiscard]] std::string render() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace cairn::metrics
