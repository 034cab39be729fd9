#include "metrics/metrics.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <optional>

#include "base/check.h"
#include "base/mutex.h"
#include "metrics/text.h"

namespace cairn::metrics {
namespace {

// Series of one kind by label set; node handles keep addresses for life.
template <class Metric>
using Series = std::map<Labels, std::unique_ptr<Metric>>;

enum class Type : uint8_t { kCounter, kGauge, kHistogram };

std::string_view name_of(Type type) {
  switch (type) {
    case Type::kCounter: return "counter";
    case Type::kGauge: return "gauge";
    case Type::kHistogram: return "histogram";
  }
  return "untyped";
}

struct Family {
  std::string help;
  Type type = Type::kCounter;
  Series<Counter> counters;
  Series<Gauge> gauges;
  Series<Histogram> histograms;
  std::vector<Collector> collectors;
};

void append_histogram(std::string& out, std::string_view name, const Labels& labels, const Histogram& histogram) {
  const Histogram::Snapshot snapshot = histogram.snapshot();
  const std::vector<double>& bounds = histogram.upper_bounds();
  const std::string buckets = std::string(name) + "_bucket";
  uint64_t cumulative = 0;
  for (size_t i = 0; i < snapshot.counts.size(); ++i) {
    cumulative += snapshot.counts[i];
    const double bound = i < bounds.size() ? bounds[i] : std::numeric_limits<double>::infinity();
    append_sample(out, buckets, labels, bound, static_cast<double>(cumulative));
  }
  append_sample(out, std::string(name) + "_sum", labels, std::nullopt, snapshot.sum);
  append_sample(out, std::string(name) + "_count", labels, std::nullopt, static_cast<double>(cumulative));
}

// Nothing for a family without series.
void append_family(std::string& out, const std::string& name, const Family& family) {
  std::string samples;
  const auto append = [&](const Labels& labels, double value) {
    append_sample(samples, name, labels, std::nullopt, value);
  };
  for (const auto& [labels, counter] : family.counters) append(labels, static_cast<double>(counter->value()));
  for (const auto& [labels, gauge] : family.gauges) append(labels, static_cast<double>(gauge->value()));
  for (const auto& [labels, histogram] : family.histograms) append_histogram(samples, name, labels, *histogram);
  for (const Collector& collector : family.collectors) {
    for (Sample& sample : collector()) {
      std::ranges::sort(sample.labels);
      append(sample.labels, sample.value);
    }
  }
  if (samples.empty()) return;
  append_head(out, name, family.help, name_of(family.type));
  out += samples;
}

}  // namespace

Histogram::Histogram(Buckets buckets, double unit) : unit_(unit), shards_(std::make_unique<Shard[]>(kShardCount)) {
  CAIRN_ASSERT(buckets.count <= kBucketCountMax);
  CAIRN_ASSERT(buckets.bounds.size() <= kBucketCountMax);
  exposed_bounds_.assign(buckets.bounds.begin(), buckets.bounds.end());
  double bound = buckets.start;
  for (size_t i = 0; i < buckets.count && buckets.bounds.empty(); ++i, bound *= buckets.factor) {
    exposed_bounds_.push_back(bound);
  }
  for (const double one : exposed_bounds_) bounds_.push_back(static_cast<uint64_t>(std::llround(one / unit)));
}

Histogram::Snapshot Histogram::snapshot() const {
  Snapshot out;
  out.counts.resize(bounds_.size() + 1);
  uint64_t sum = 0;
  for (size_t s = 0; s < kShardCount; ++s) {
    for (size_t i = 0; i < out.counts.size(); ++i) {
      out.counts[i] += shards_[s].counts[i].load(std::memory_order_relaxed);
    }
    sum += shards_[s].sum.load(std::memory_order_relaxed);
  }
  out.sum = static_cast<double>(sum) * unit_;
  return out;
}

struct Registry::Impl {
  // Guards the maps. Values in them are atomics that recorders reach by reference, without it.
  mutable Mutex mutex;
  std::map<std::string, Family> families CAIRN_GUARDED_BY(mutex);

  Family& family(std::string_view name, std::string_view help, Type type) CAIRN_REQUIRES(mutex) {
    const auto [it, is_new] = families.try_emplace(std::string(name));
    if (is_new) {
      it->second.help = help;
      it->second.type = type;
    }
    CAIRN_ASSERT(it->second.type == type);
    return it->second;
  }
};

Registry::Registry() : impl_(std::make_unique<Impl>()) {}
Registry::~Registry() = default;

Counter& Registry::counter(std::string_view name, std::string_view help, Labels labels) {
  const MutexLock lock(impl_->mutex);
  std::ranges::sort(labels);
  auto& slot = impl_->family(name, help, Type::kCounter).counters[std::move(labels)];
  if (!slot) slot = std::make_unique<Counter>();
  return *slot;
}

Gauge& Registry::gauge(std::string_view name, std::string_view help, Labels labels) {
  const MutexLock lock(impl_->mutex);
  std::ranges::sort(labels);
  auto& slot = impl_->family(name, help, Type::kGauge).gauges[std::move(labels)];
  if (!slot) slot = std::make_unique<Gauge>();
  return *slot;
}

Histogram& Registry::histogram(std::string_view name, std::string_view help, Buckets buckets, double unit,
                               Labels labels) {
  const MutexLock lock(impl_->mutex);
  std::ranges::sort(labels);
  auto& slot = impl_->family(name, help, Type::kHistogram).histograms[std::move(labels)];
  if (!slot) slot = std::make_unique<Histogram>(buckets, unit);
  return *slot;
}

void Registry::collect(std::string_view name, std::string_view help, Kind kind, Collector collector) {
  const MutexLock lock(impl_->mutex);
  const auto type = kind == Kind::kCounter ? Type::kCounter : Type::kGauge;
  impl_->family(name, help, type).collectors.push_back(std::move(collector));
}

std::string Registry::render() const {
  const MutexLock lock(impl_->mutex);
  std::string out;
  for (const auto& [name, family] : impl_->families) append_family(out, name, family);
  return out;
}

}  // namespace cairn::metrics
