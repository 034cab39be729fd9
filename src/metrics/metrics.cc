#include "metrics/metrics.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <sstream>

#include <prometheus/collectable.h>
#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>

#include "base/check.h"
#include "base/mutex.h"

namespace cairn::metrics {
namespace {

prometheus::ClientMetric with_labels(const Labels& labels) {
  prometheus::ClientMetric metric;
  for (const auto& [name, value] : labels) {
    metric.label.emplace_back();
    metric.label.back().name = name;
    metric.label.back().value = value;
  }
  return metric;
}

void fill(prometheus::ClientMetric& metric, const Histogram& histogram) {
  const Histogram::Snapshot snapshot = histogram.snapshot();
  const std::vector<double>& bounds = histogram.upper_bounds();
  uint64_t cumulative = 0;
  for (size_t i = 0; i < snapshot.counts.size(); ++i) {
    cumulative += snapshot.counts[i];
    prometheus::ClientMetric::Bucket bucket;
    bucket.cumulative_count = cumulative;
    bucket.upper_bound = i < bounds.size() ? bounds[i] : std::numeric_limits<double>::infinity();
    metric.histogram.bucket.push_back(bucket);
  }
  metric.histogram.sample_count = cumulative;
  metric.histogram.sample_sum = snapshot.sum;
}

// Series of one kind by label set; node handles keep addresses for life.
template <class Metric>
using Series = std::map<Labels, std::unique_ptr<Metric>>;

struct Family {
  std::string help;
  prometheus::MetricType type = prometheus::MetricType::Untyped;
  Series<Counter> counters;
  Series<Gauge> gauges;
  Series<Histogram> histograms;
  std::vector<Collector> collectors;
};

prometheus::MetricFamily collect_family(const std::string& name, const Family& family) {
  prometheus::MetricFamily out{name, family.help, family.type, {}};
  for (const auto& [labels, counter] : family.counters) {
    out.metric.push_back(with_labels(labels));
    out.metric.back().counter.value = static_cast<double>(counter->value());
  }
  for (const auto& [labels, gauge] : family.gauges) {
    out.metric.push_back(with_labels(labels));
    out.metric.back().gauge.value = static_cast<double>(gauge->value());
  }
  for (const auto& [labels, histogram] : family.histograms) {
    out.metric.push_back(with_labels(labels));
    fill(out.metric.back(), *histogram);
  }
  for (const Collector& collector : family.collectors) {
    for (Sample& sample : collector()) {
      std::ranges::sort(sample.labels);
      out.metric.push_back(with_labels(sample.labels));
      if (family.type == prometheus::MetricType::Counter) {
        out.metric.back().counter.value = sample.value;
      } else {
        out.metric.back().gauge.value = sample.value;
      }
    }
  }
  return out;
}

}  // namespace

Histogram::Histogram(Buckets buckets, double unit) : unit_(unit), shards_(std::make_unique<Shard[]>(kShardCount)) {
  CAIRN_ASSERT(buckets.count <= kBucketCountMax);
  double bound = buckets.start;
  for (size_t i = 0; i < buckets.count; ++i, bound *= buckets.factor) {
    exposed_bounds_.push_back(bound);
    bounds_.push_back(static_cast<uint64_t>(std::llround(bound / unit)));
  }
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

struct Registry::Impl final : prometheus::Collectable {
  // Guards the maps. Values in them are atomics that recorders reach by reference, without it.
  mutable Mutex mutex;
  std::map<std::string, Family> families CAIRN_GUARDED_BY(mutex);

  Family& family(std::string_view name, std::string_view help, prometheus::MetricType type) CAIRN_REQUIRES(mutex) {
    const auto [it, is_new] = families.try_emplace(std::string(name));
    if (is_new) {
      it->second.help = help;
      it->second.type = type;
    }
    CAIRN_ASSERT(it->second.type == type);
    return it->second;
  }

  std::vector<prometheus::MetricFamily> Collect() const override {
    const MutexLock lock(mutex);
    std::vector<prometheus::MetricFamily> out;
    for (const auto& [name, each] : families) {
      prometheus::MetricFamily collected = collect_family(name, each);
      if (!collected.metric.empty()) out.push_back(std::move(collected));
    }
    return out;
  }
};

Registry::Registry() : impl_(std::make_unique<Impl>()) {}
Registry::~Registry() = default;

Counter& Registry::counter(std::string_view name, std::string_view help, Labels labels) {
  const MutexLock lock(impl_->mutex);
  std::ranges::sort(labels);
  auto& slot = impl_->family(name, help, prometheus::MetricType::Counter).counters[std::move(labels)];
  if (!slot) slot = std::make_unique<Counter>();
  return *slot;
}

Gauge& Registry::gauge(std::string_view name, std::string_view help, Labels labels) {
  const MutexLock lock(impl_->mutex);
  std::ranges::sort(labels);
  auto& slot = impl_->family(name, help, prometheus::MetricType::Gauge).gauges[std::move(labels)];
  if (!slot) slot = std::make_unique<Gauge>();
  return *slot;
}

Histogram& Registry::histogram(std::string_view name, std::string_view help, Buckets buckets, double unit,
                               Labels labels) {
  const MutexLock lock(impl_->mutex);
  std::ranges::sort(labels);
  auto& slot = impl_->family(name, help, prometheus::MetricType::Histogram).histograms[std::move(labels)];
  if (!slot) slot = std::make_unique<Histogram>(buckets, unit);
  return *slot;
}

void Registry::collect(std::string_view name, std::string_view help, Kind kind, Collector collector) {
  const MutexLock lock(impl_->mutex);
  const auto type = kind == Kind::kCounter ? prometheus::MetricType::Counter : prometheus::MetricType::Gauge;
  impl_->family(name, help, type).collectors.push_back(std::move(collector));
}

std::string Registry::render() const {
  std::ostringstream out;
  prometheus::TextSerializer().Serialize(out, impl_->Collect());
  return std::move(out).str();
}

}  // namespace cairn::metrics
