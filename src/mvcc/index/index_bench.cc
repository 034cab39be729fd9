// The index at a million keys of 24 to 32 random bytes: the cost of a change, a look-up and a key.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <string>
#include <vector>

#include "base/random.h"
#include "mvcc/index/index.h"
#include "mvcc/index/index_build.h"

namespace cairn::mvcc {
namespace {

constexpr uint64_t kKeys = 1'000'000;
constexpr uint32_t kRecordBytes = 320;

std::string key_of(uint64_t i, uint64_t seed) {
  Random random(seed * 0x100000000 + i);
  std::string key(random.between(24, 32), '\0');
  for (size_t at = 0; at < key.size(); at += 8) {
    const uint64_t word = random.next();
    std::memcpy(key.data() + at, &word, std::min<size_t>(8, key.size() - at));
  }
  return key;
}

const std::vector<std::string>& keys() {
  static const std::vector<std::string> all = [] {
    std::vector<std::string> out(kKeys);
    for (uint64_t i = 0; i < kKeys; ++i) out[i] = key_of(i, 1);
    return out;
  }();
  return all;
}

// Changes in batches; the batch before is let go at once.
class Writer {
 public:
  explicit Writer(uint64_t per_batch) : per_batch_(per_batch) {}
  void put(const std::string& key) {
    index.put(key, {++revision, 0}, kRecordBytes, 0);
    if (++puts_ % per_batch_ == 0) publish();
  }
  void publish() {
    index.publish(revision);
    index.reclaim({});
  }
  Index index;
  int64_t revision = 1;

 private:
  uint64_t per_batch_;
  uint64_t puts_ = 0;
};

void fill(Writer& writer) {
  for (const std::string& key : keys()) writer.put(key);
  writer.publish();
}

// The keys in a random order. The caller of an index has just parsed the key, so it is fetched beforehand.
class RandomKeys {
 public:
  explicit RandomKeys(uint64_t seed) : random_(seed) {
    for (uint32_t& place : ahead_) place = static_cast<uint32_t>(random_.below(kKeys));
  }
  const std::string& next() {
    const uint32_t now = ahead_[at_ % kAhead];
    const auto later = static_cast<uint32_t>(random_.below(kKeys));
    ahead_[at_ % kAhead] = later;
    __builtin_prefetch(&keys()[later]);
    __builtin_prefetch(keys()[ahead_[(at_ + kAhead / 2) % kAhead]].data());
    ++at_;
    return keys()[now];
  }

 private:
  static constexpr size_t kAhead = 16;
  Random random_;
  uint32_t ahead_[kAhead];
  size_t at_ = 0;
};

void report_memory(benchmark::State& state, const Index& index) {
  uint64_t key_bytes = 0;
  for (const std::string& key : keys()) key_bytes += key.size();
  const IndexStats stats = index.stats();
  const auto per_key = [&](uint64_t bytes) {
    return (static_cast<double>(bytes) - static_cast<double>(key_bytes)) / static_cast<double>(stats.keys);
  };
  state.counters["beside_key_B"] = per_key(stats.block_bytes);
  state.counters["with_slack_B"] = per_key(stats.reserved_bytes);
}

// One index for all that only look or put in place.
Writer& shared() {
  static Writer* writer = [] {
    auto* out = new Writer(100);
    fill(*out);
    return out;
  }();
  return *writer;
}

void BM_LoadRandomOrder(benchmark::State& state) {
  (void)keys();
  for (auto _ : state) {
    Writer writer(static_cast<uint64_t>(state.range(0)));
    fill(writer);
    state.PauseTiming();
    report_memory(state, writer.index);
    state.ResumeTiming();
  }
  state.counters["per_put"] = benchmark::Counter(static_cast<double>(kKeys * state.iterations()),
                                                 benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}
BENCHMARK(BM_LoadRandomOrder)->Arg(1)->Arg(100)->Arg(kKeys)->Unit(benchmark::kMillisecond)->Iterations(1);

void BM_LoadAscending(benchmark::State& state) {
  std::vector<std::string> sorted = keys();
  std::sort(sorted.begin(), sorted.end());
  for (auto _ : state) {
    Writer writer(100);
    for (const std::string& key : sorted) writer.put(key);
    writer.publish();
    state.PauseTiming();
    report_memory(state, writer.index);
    state.ResumeTiming();
  }
}
BENCHMARK(BM_LoadAscending)->Unit(benchmark::kMillisecond)->Iterations(1);

void BM_Get(benchmark::State& state) {
  const IndexRoot root = shared().index.published();
  RandomKeys random(3);
  for (auto _ : state) benchmark::DoNotOptimize(root.find(random.next()));
}
BENCHMARK(BM_Get);

void BM_Scan(benchmark::State& state) {
  const IndexRoot root = shared().index.published();
  uint64_t sum = 0;
  IndexCursor cursor(root, {"", {}});
  cursor.seek_first();
  for (auto _ : state) {
    sum += cursor.at().size;
    cursor.next();
    if (!cursor.valid()) cursor.seek_first();
  }
  benchmark::DoNotOptimize(sum);
}
BENCHMARK(BM_Scan);

void BM_ScanKeys(benchmark::State& state) {
  const IndexRoot root = shared().index.published();
  uint64_t sum = 0;
  IndexCursor cursor(root, {"", {}});
  cursor.seek_first();
  for (auto _ : state) {
    sum += cursor.key().size();
    cursor.next();
    if (!cursor.valid()) cursor.seek_first();
  }
  benchmark::DoNotOptimize(sum);
}
BENCHMARK(BM_ScanKeys);

void BM_Tally(benchmark::State& state) {
  const IndexRoot root = shared().index.published();
  RandomKeys random(4);
  for (auto _ : state) {
    const std::string a = random.next();
    const std::string b = random.next();
    benchmark::DoNotOptimize(root.tally({std::min(a, b), std::max(a, b)}));
  }
}
BENCHMARK(BM_Tally);

void BM_PutNew(benchmark::State& state) {
  Writer writer(static_cast<uint64_t>(state.range(0)));
  fill(writer);
  std::vector<std::string> more(static_cast<size_t>(state.max_iterations));
  for (uint64_t i = 0; i < more.size(); ++i) more[i] = key_of(i, 2);
  size_t next = 0;
  for (auto _ : state) writer.put(more[next++]);
}
BENCHMARK(BM_PutNew)->Arg(1)->Arg(100)->Iterations(300'000);

// A key that is put again and again: the chunks are there, the index does not grow in nodes.
void BM_PutExisting(benchmark::State& state) {
  Writer writer(static_cast<uint64_t>(state.range(0)));
  fill(writer);
  RandomKeys random(5);
  for (auto _ : state) writer.put(random.next());
}
BENCHMARK(BM_PutExisting)->Arg(1)->Arg(100)->Iterations(1'000'000);

// The millionth put of one key costs what the tenth does.
void BM_PutOneKey(benchmark::State& state) {
  Writer writer(1);
  const std::string key = "one key";
  for (int64_t i = 0; i < state.range(0); ++i) writer.put(key);
  for (auto _ : state) writer.put(key);
}
BENCHMARK(BM_PutOneKey)->Arg(10)->Arg(1'000'000)->Iterations(100'000);

// Every key has a second revision; a compaction drops the first ones.
void BM_TrimAll(benchmark::State& state) {
  for (auto _ : state) {
    state.PauseTiming();
    Writer writer(100);
    fill(writer);
    for (const std::string& key : keys()) writer.put(key);
    writer.publish();
    writer.index.compact(writer.revision);
    state.ResumeTiming();
    while (writer.index.trim_step(INT64_MAX, 1000)) {
      state.PauseTiming();
      writer.publish();
      state.ResumeTiming();
    }
    state.PauseTiming();
    writer.publish();
    writer.publish();
    report_memory(state, writer.index);
    state.ResumeTiming();
  }
}
BENCHMARK(BM_TrimAll)->Unit(benchmark::kMillisecond)->Iterations(1);

void BM_Build(benchmark::State& state) {
  (void)keys();
  for (auto _ : state) {
    Index index;
    {
      IndexBuilder builder;
      int64_t revision = 1;
      for (const std::string& key : keys()) {
        ++revision;
        builder.add({.key = key, .mod = {revision, 0}, .size = kRecordBytes, .create = revision, .version = 1});
      }
      builder.finish(index, 0);
    }
    state.PauseTiming();
    report_memory(state, index);
    state.ResumeTiming();
  }
}
BENCHMARK(BM_Build)->Unit(benchmark::kMillisecond)->Iterations(3);

void BM_Checkpoint(benchmark::State& state) {
  const IndexRoot root = shared().index.published();
  size_t size = 0;
  for (auto _ : state) {
    std::string bytes;
    IndexSaver saver(root, 0);
    while (saver.next(bytes)) {
    }
    size = bytes.size();
  }
  state.counters["bytes_per_key"] = static_cast<double>(size) / static_cast<double>(kKeys);
}
BENCHMARK(BM_Checkpoint)->Unit(benchmark::kMillisecond)->Iterations(3);

void BM_LoadCheckpoint(benchmark::State& state) {
  std::string bytes;
  IndexSaver saver(shared().index.published(), 0);
  while (saver.next(bytes)) {
  }
  for (auto _ : state) {
    auto index = std::make_unique<Index>();
    benchmark::DoNotOptimize(load_index(bytes, *index));
    state.PauseTiming();
    report_memory(state, *index);
    index.reset();
    state.ResumeTiming();
  }
}
BENCHMARK(BM_LoadCheckpoint)->Unit(benchmark::kMillisecond)->Iterations(3);

}  // namespace
}  // namespace cairn::mvcc
