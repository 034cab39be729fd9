#include <benchmark/benchmark.h>

#include <string>

#include "metrics/identity.h"

namespace cairn::metrics {
namespace {

Counter shared_counter;
Histogram shared_histogram({0.0001, 2, 20}, 1e-9);

void BM_CounterAdd(benchmark::State& state) {
  for (auto _ : state) shared_counter.add();
}
BENCHMARK(BM_CounterAdd)->Threads(1)->Threads(2);

void BM_HistogramObserve(benchmark::State& state) {
  uint64_t n = 0;
  for (auto _ : state) shared_histogram.observe(n += 977);
}
BENCHMARK(BM_HistogramObserve)->Threads(1)->Threads(2);

void BM_Render(benchmark::State& state) {
  Registry registry;
  for (int i = 0; i < 60; ++i) registry.histogram("family_" + std::to_string(i), "", kDiskBuckets);
  add_process(registry);
  for (auto _ : state) benchmark::DoNotOptimize(registry.render());
}
BENCHMARK(BM_Render);

}  // namespace
}  // namespace cairn::metrics
