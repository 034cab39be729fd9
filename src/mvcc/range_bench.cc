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
#include "mvcc/range.h"
#include "mvcc/store.h"
#include "storage/bolt/engine.h"

namespace cairn::mvcc {
namespace {

constexpr uint64_t kKeys = 1'000'000;
constexpr uint64_t kPerCommit = 50'000;
constexpr size_t kPieceBytes = 16 << 10;  // what the transport asks for at a time

struct Folder {
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "cairn-range-bench-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) std::abort();
    path = name;
  }
  ~Folder() { std::filesystem::remove_all(path); }
  std::string path;
};

std::string key_of(uint64_t i) { return fmt::format("bench/{:016d}", i); }

// All keys, each at one revision; all records in the file.
struct Loaded {
  Loaded() {
    engine = *storage::open_bolt(env::posix_fs(), folder.path + "/db");
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
    const auto done = engine->commit({.changes = store->frozen_changes(), .oldest_view = ~uint64_t{0}});
    if (!done) std::abort();
    (void)store->finish_commit(done->view);
    (void)store->tidy({}, INT64_MAX);
  }

  Folder folder;
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

void BM_RandomGet(benchmark::State& state) {
  const StoreView& view = loaded().view;
  Random random(3);
  std::string to(512, '\0');
  for (auto _ : state) {
    const auto record = find_record(view, key_of(random.below(kKeys)), view.revision);
    if (!record || !*record) std::abort();
    std::copy((*record)->begin(), (*record)->end(), to.data());
    benchmark::DoNotOptimize(to.data());
  }
}
BENCHMARK(BM_RandomGet);

}  // namespace
}  // namespace cairn::mvcc
