// Microbenchmarks of the bolt engine: append, random get, scan, delete and merge, open.
//
// Records are as in the table `key`: 17 bytes of key, 303 of value. CPU times are this thread's.
#include <cstdlib>
#include <filesystem>

#include <benchmark/benchmark.h>

#include "base/bytes.h"
#include "base/random.h"
#include "env/fs.h"
#include "storage/bolt/engine.h"
#include "testing/temp_dir.h"

namespace cairn::storage {
namespace {

constexpr uint64_t kRecords = 1'000'000;
constexpr size_t kRecordBytes = 320;
constexpr size_t kKeyBytes = 17;
constexpr uint64_t kPerCommit = (16 << 20) / kRecordBytes;

// One commit's worth of records, as the buffer holds them.
struct Records {
  Records() : bytes(kPerCommit * kRecordBytes, 'v') {
    for (size_t i = 0; i < kPerCommit; ++i) {
      changes.push_back(
          {.data = bytes.data() + i * kRecordBytes, .key_bytes = kKeyBytes, .value_bytes = kRecordBytes - kKeyBytes});
    }
  }
  std::span<const Change> fill(uint64_t first, uint64_t count) {
    for (size_t i = 0; i < count; ++i) {
      char* key = bytes.data() + i * kRecordBytes;
      store_be64(key, first + i);
      key[8] = '_';
      store_be64(key + 9, 0);
    }
    return std::span(changes).first(count);
  }
  std::string bytes;
  std::vector<Change> changes;
};

void append(Engine& engine, uint64_t count) {
  Records records;
  for (uint64_t done = 0; done < count;) {
    const uint64_t now = std::min(kPerCommit, count - done);
    Commit commit;
    commit.changes[static_cast<size_t>(Table::kKey)] = records.fill(done + 2, now);
    if (!engine.commit(commit)) std::abort();
    done += now;
  }
}

// A file with a million records, made once.
const std::string& million() {
  static cairn::testing::TempDir folder;
  static const std::string path = [] {
    const std::string file = folder / "million";
    const auto engine = *open_bolt(env::posix_fs(), file);
    append(*engine, kRecords);
    if (!engine->close()) std::abort();
    return file;
  }();
  return path;
}

void rate(benchmark::State& state, uint64_t records) {
  state.SetItemsProcessed(static_cast<int64_t>(records) * state.iterations());
  state.counters["cpu_us_per_record"] =
      benchmark::Counter(static_cast<double>(records) * static_cast<double>(state.iterations()) / 1e6,
                         benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

void BM_Append(benchmark::State& state) {
  for (auto _ : state) {
    state.PauseTiming();
    const cairn::testing::TempDir folder;
    const auto engine = *open_bolt(env::posix_fs(), folder / "db");
    state.ResumeTiming();
    append(*engine, kRecords);
  }
  rate(state, kRecords);
}
BENCHMARK(BM_Append)->Unit(benchmark::kMillisecond)->Iterations(3);

void BM_AppendSmallCommits(benchmark::State& state) {
  const cairn::testing::TempDir folder;
  const auto engine = *open_bolt(env::posix_fs(), folder / "db");
  Records records;
  uint64_t next = 2;
  for (auto _ : state) {
    Commit commit;
    commit.changes[static_cast<size_t>(Table::kKey)] = records.fill(next, 100);
    if (!engine->commit(commit)) std::abort();
    next += 100;
  }
  rate(state, 100);
}
BENCHMARK(BM_AppendSmallCommits)->Unit(benchmark::kMicrosecond)->Iterations(500);

void BM_RandomGet(benchmark::State& state) {
  const auto engine = *open_bolt(env::posix_fs(), million());
  const auto view = engine->view();
  Random random(1);
  char key[kKeyBytes];
  key[8] = '_';
  store_be64(key + 9, 0);
  for (auto _ : state) {
    store_be64(key, 2 + random.below(kRecords));
    auto got = view->get(Table::kKey, {key, kKeyBytes});
    if (!got || !*got) std::abort();
    benchmark::DoNotOptimize(got);
  }
  rate(state, 1);
}
BENCHMARK(BM_RandomGet);

void BM_RandomGetMany(benchmark::State& state) {
  const auto engine = *open_bolt(env::posix_fs(), million());
  const auto view = engine->view();
  Random random(1);
  const auto count = static_cast<size_t>(state.range(0));
  std::vector<std::string> keys(count, std::string(kKeyBytes, '_'));
  for (std::string& key : keys) store_be64(key.data() + 9, 0);
  const std::vector<std::string_view> asked(keys.begin(), keys.end());
  std::vector<std::optional<std::string_view>> values(count);
  for (auto _ : state) {
    for (std::string& key : keys) store_be64(key.data(), 2 + random.below(kRecords));
    if (!view->get_many(Table::kKey, asked, values)) std::abort();
    for (const auto& value : values) benchmark::DoNotOptimize(value->back());
  }
  rate(state, count);
}
BENCHMARK(BM_RandomGetMany)->Arg(2)->Arg(8)->Arg(16)->Arg(32)->Arg(64);

void BM_Scan(benchmark::State& state) {
  const auto engine = *open_bolt(env::posix_fs(), million());
  const auto view = engine->view();
  for (auto _ : state) {
    const auto cursor = view->cursor(Table::kKey);
    uint64_t count = 0;
    for (auto status = cursor->seek(""); status && cursor->valid(); status = cursor->next()) {
      benchmark::DoNotOptimize(cursor->value().data());
      ++count;
    }
    if (count != kRecords) std::abort();
  }
  rate(state, kRecords);
}
BENCHMARK(BM_Scan)->Unit(benchmark::kMillisecond);

// A pass over a million records that keeps one in ten.
void BM_DeleteAndMerge(benchmark::State& state) {
  for (auto _ : state) {
    state.PauseTiming();
    const cairn::testing::TempDir folder;
    std::filesystem::copy_file(million(), folder / "db");
    const auto engine = *open_bolt(env::posix_fs(), folder / "db");
    state.ResumeTiming();
    Reclaim reclaim;
    reclaim.end = "\xff";
    reclaim.keep = [](std::string_view key, std::string_view) { return load_be64(key.data()) % 10 == 0; };
    for (bool done = false; !done;) {
      Commit commit;
      commit.reclaim = &reclaim;
      const auto result = engine->commit(commit);
      if (!result) std::abort();
      done = result->reclaim_done;
      reclaim.first = result->reclaim_position;
    }
    state.PauseTiming();
    if (!engine->close()) std::abort();
    state.ResumeTiming();
  }
  rate(state, kRecords);
}
BENCHMARK(BM_DeleteAndMerge)->Unit(benchmark::kMillisecond)->Iterations(2);

void BM_OpenWithFreeList(benchmark::State& state) {
  const std::string& path = million();
  for (auto _ : state) benchmark::DoNotOptimize(open_bolt(env::posix_fs(), path));
}
BENCHMARK(BM_OpenWithFreeList)->Unit(benchmark::kMicrosecond);

void BM_OpenByWalk(benchmark::State& state) {
  const cairn::testing::TempDir folder;
  const std::string path = folder / "db";
  {
    const auto engine = *open_bolt(env::posix_fs(), path, {.freelist_bytes_max = 0});
    append(*engine, kRecords);
  }
  for (auto _ : state) benchmark::DoNotOptimize(open_bolt(env::posix_fs(), path));
}
BENCHMARK(BM_OpenByWalk)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace cairn::storage
