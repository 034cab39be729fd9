// Ranges over a million keys that were put in random order, in a bolt file, with 256-byte values: what a key of a
// long list, of a page and of a limited range costs, and a single random get. The file is larger than the caches.
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include "base/random.h"
#include "env/fs.h"
#include "mvcc/kv/range.h"
#include "mvcc/kv/store.h"
#include "storage/bolt/engine.h"
#include "testing/temp_dir.h"

namespace cairn::mvcc {
namespace {

constexpr uint64_t kKeys = 1'000'000;
constexpr uint64_t kPerCommit = 50'000;
constexpr size_t kPieceBytes = 16 << 10;  // what the transport asks for at a time

std::string key_of(uint64_t i) { return fmt::format("bench/{:016d}", i); }

// All keys, each at one revision; all records in the file.
struct Loaded {
  Loaded() {
    engine = *storage::open_bolt(env::posix_fs(), folder / "db");
    store = std::make_unique<Store>(std::make_unique<Index>(), engine->view(), Store::Options{});
    std::vector<uint32_t> order(kKeys);
    for (uint32_t i = 0; i < kKeys; ++i) order[i] = i;
    Random random(1);
    for (size_t i = kKeys - 1; i > 0; --i) std::swap(order[i], order[random.below(i + 1)]);
    const std::string value(256, 'v');
    for (size_t i = 0; i < kKeys; ++i) {
      store->begin();
      if (!store->put({.key = key_of(order[i]), .value = value})) std::abort();
      store->end();
      if ((i + 1) % 100 == 0) (void)store->publish();
      if ((i + 1) % kPerCommit == 0) commit();
    }
    (void)store->publish();
    view = store->working();
  }
  void commit() {
    store->freeze();
    const auto done = engine->commit({.changes = store->frozen_changes()});
    if (!done) std::abort();
    (void)store->finish_commit(done->view);
    (void)store->tidy({}, INT64_MAX);
  }

  cairn::testing::TempDir folder;
  std::unique_ptr<storage::Engine> engine;
  std::unique_ptr<Store> store;
  StoreView view;
};

const Loaded& loaded() {
  static const Loaded all;
  return all;
}

void per_key(benchmark::State& state, uint64_t keys) {
  state.counters["per_key"] =
      benchmark::Counter(static_cast<double>(keys), benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

// Opens the range and produces all of it; how many keys.
uint64_t run(const RangeRequest& request, std::vector<char>& piece) {
  const StoreView& view = loaded().view;
  const auto reader = *RangeReader::open(view, request, *check_range_revision(request.revision, view, false));
  while (!reader->done()) {
    const auto made = reader->produce(view.records, piece);
    if (!made) std::abort();
    benchmark::DoNotOptimize(piece.data());
  }
  return reader->key_count();
}

void BM_ListAll(benchmark::State& state) {
  std::vector<char> piece(kPieceBytes);
  uint64_t keys = 0;
  const std::string_view all("\0", 1);
  (void)run({.key = all, .range_end = all}, piece);
  for (auto _ : state) keys += run({.key = all, .range_end = all}, piece);
  per_key(state, keys);
}
BENCHMARK(BM_ListAll)->Unit(benchmark::kMillisecond)->Iterations(3);

// Pages as a client asks for them: each begins behind the last key of the one before.
void BM_Pages(benchmark::State& state) {
  std::vector<char> piece(kPieceBytes);
  uint64_t keys = 0;
  const int64_t limit = state.range(0);
  for (auto _ : state) {
    for (uint64_t first = 0; first < kKeys; first += static_cast<uint64_t>(limit)) {
      const std::string key = key_of(first);
      keys += run({.key = key, .range_end = std::string_view("\0", 1), .limit = limit}, piece);
    }
  }
  per_key(state, keys);
}
BENCHMARK(BM_Pages)->Arg(10'000)->Unit(benchmark::kMillisecond)->Iterations(3);

void BM_LimitedRange(benchmark::State& state) {
  std::vector<char> piece(kPieceBytes);
  Random random(2);
  uint64_t keys = 0;
  for (auto _ : state) {
    const std::string key = key_of(random.below(kKeys - 1000));
    keys += run({.key = key, .range_end = std::string_view("\0", 1), .limit = 1000}, piece);
  }
  per_key(state, keys);
}
BENCHMARK(BM_LimitedRange)->Unit(benchmark::kMicrosecond);

// Single gets out of as many keys: a hundred stay in the processor's caches, a million do not.
void BM_RandomGet(benchmark::State& state) {
  const StoreView& view = loaded().view;
  Random random(3);
  std::vector<std::string> keys(1 << 16);
  for (std::string& key : keys) key = key_of(random.below(static_cast<uint64_t>(state.range(0))));
  std::string to(512, '\0');
  size_t i = 0;
  for (auto _ : state) {
    const auto record = find_record(view, keys[i++ % keys.size()], view.revision);
    if (!record || !*record) std::abort();
    std::copy((*record)->begin(), (*record)->end(), to.data());
    benchmark::DoNotOptimize(to.data());
  }
}
BENCHMARK(BM_RandomGet)->Arg(100)->Arg(10'000)->Arg(kKeys);

// The same without the record: what the index alone costs.
void BM_RandomFind(benchmark::State& state) {
  const StoreView& view = loaded().view;
  Random random(3);
  std::vector<std::string> keys(1 << 16);
  for (std::string& key : keys) key = key_of(random.below(static_cast<uint64_t>(state.range(0))));
  size_t i = 0;
  for (auto _ : state) benchmark::DoNotOptimize(view.root.find(keys[i++ % keys.size()]));
}
BENCHMARK(BM_RandomFind)->Arg(100)->Arg(10'000)->Arg(kKeys);

// A page of 10,000 at a revision after which a fifth of the keys has changed: with its own root, and from the newest.
void BM_PageAtAnOlderRevision(benchmark::State& state) {
  static Loaded store;
  static const StoreView older = store.view;
  static const bool changed = [] {
    Random random(4);
    const std::string value(256, 'w');
    for (uint64_t i = 0; i < kKeys / 5; ++i) {
      store.store->begin();
      if (!store.store->put({.key = key_of(random.below(kKeys)), .value = value})) std::abort();
      store.store->end();
      if (i % 100 == 0) (void)store.store->publish();  // nothing is freed: the older root stays whole
    }
    store.store->freeze();
    const auto done =
        store.engine->commit({.changes = store.store->frozen_changes(), .open_views = {store.engine->view()->txid()}});
    if (!done) std::abort();
    (void)store.store->finish_commit(done->view);
    return true;
  }();
  benchmark::DoNotOptimize(changed);
  const bool own_root = state.range(0) != 0;
  StoreView view = store.store->working();
  const int64_t revision = older.revision;
  if (own_root) {
    view.root = older.root;
    view.revision = revision;
  }
  std::vector<char> piece(kPieceBytes);
  Random random(5);
  for (auto _ : state) {
    const std::string key = key_of(random.below(kKeys / 2));
    const RangeRequest request{
        .key = key, .range_end = std::string_view("\0", 1), .limit = 10'000, .revision = revision};
    const auto reader = *RangeReader::open(view, request, revision);
    while (!reader->done()) {
      if (!reader->produce(view.records, piece)) std::abort();
    }
  }
}
BENCHMARK(BM_PageAtAnOlderRevision)->Arg(0)->Arg(1)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace cairn::mvcc
