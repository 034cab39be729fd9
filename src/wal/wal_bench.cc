// The costs of the log: encoding, saving with and without a sync, opening, reading back.
#include <benchmark/benchmark.h>

#include "wal/log.h"
#include "wal/testing.h"

namespace cairn::wal {
namespace {

using testing::TempDir;

std::vector<Entry> make_batch(size_t count, uint64_t first, std::string_view data) {
  std::vector<Entry> entries;
  for (size_t i = 0; i < count; ++i) entries.push_back({0, Term(3), Index(first + i), data});
  return entries;
}

void BM_Encode320(benchmark::State& state) {
  const std::string data(320, 'v');
  const std::vector<Entry> entries = make_batch(1000, 1'000'000, data);
  RecordBuffer buffer;
  uint32_t crc = 0;
  for (auto _ : state) {
    for (const Entry& entry : entries) buffer.append_entry(entry, crc);
    benchmark::DoNotOptimize(buffer.view());
    buffer.clear();
  }
  state.SetItemsProcessed(state.iterations() * 1000);
}
BENCHMARK(BM_Encode320);

// Appended in batches of 64 and written, not synced; cuts and spares included.
void BM_AppendFlush320(benchmark::State& state) {
  const TempDir dir;
  auto log = *Log::create(env::posix_fs(), dir / "wal", {NodeId(1), 2}, {.sync = false});
  const std::string data(320, 'v');
  uint64_t next = 1;
  HardState hard{Term(3), NodeId(1), Index(0)};
  for (auto _ : state) {
    const std::vector<Entry> entries = make_batch(64, next, data);
    next += 64;
    hard.commit = Index(next - 1);
    if (!log->save(entries, hard, true)) state.SkipWithError("save failed");
    if (log->segment_count() > 3) {
      if (!log->save_snapshot({hard.commit, hard.term, std::nullopt})) state.SkipWithError("snapshot failed");
      log->release(hard.commit);
      while (*log->spares()->prepare_step()) {
      }
    }
  }
  state.SetItemsProcessed(state.iterations() * 64);
}
BENCHMARK(BM_AppendFlush320);

// One save with fdatasync. spare 0: the first segment, allocated; 1: a prepared one.
void BM_SaveSync(benchmark::State& state) {
  const TempDir dir;
  auto log = *Log::create(env::posix_fs(), dir / "wal", {NodeId(1), 2}, {});
  const std::string data(320, 'v');
  uint64_t next = 1;
  HardState hard{Term(3), NodeId(1), Index(0)};
  if (state.range(1) != 0) {
    while (*log->spares()->prepare_step()) {
    }
    while (log->segment_count() == 1) {
      (void)log->save(make_batch(10'000, next, data), hard, true);
      next += 10'000;
    }
  }
  for (auto _ : state) {
    const std::vector<Entry> entries = make_batch(static_cast<size_t>(state.range(0)), next, data);
    next += entries.size();
    hard.commit = Index(next - 1);
    if (!log->save(entries, hard, true)) state.SkipWithError("save failed");
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(BM_SaveSync)
    ->ArgNames({"entries", "spare"})
    ->Args({1, 0})
    ->Args({1, 1})
    ->Args({64, 0})
    ->Args({64, 1})
    ->UseRealTime()
    ->Unit(benchmark::kMicrosecond);

void fill(Log& log, uint64_t bytes) {
  const std::string data(320, 'v');
  uint64_t next = 1;
  while (log.segment_used_bytes() < bytes) {
    (void)log.save(make_batch(100, next, data), {Term(3), NodeId(1), Index(next + 99)}, false);
    next += 100;
  }
}

void BM_Create(benchmark::State& state) {
  const TempDir dir;
  for (auto _ : state) {
    auto log = Log::create(env::posix_fs(), dir / "wal", {NodeId(1), 2});
    if (!log) state.SkipWithError("create failed");
    state.PauseTiming();
    log = fail(Code::kUnknown, "closed");
    (void)env::posix_fs().remove_all(dir / "wal");
    state.ResumeTiming();
  }
}
BENCHMARK(BM_Create)->UseRealTime()->Unit(benchmark::kMillisecond);

void BM_Open(benchmark::State& state) {
  const TempDir dir;
  {
    auto log = *Log::create(env::posix_fs(), dir / "wal", {NodeId(1), 2});
    fill(*log, static_cast<uint64_t>(state.range(0)) * 1'000'000);
    (void)log->sync();
  }
  for (auto _ : state) {
    auto opened = Log::open(env::posix_fs(), dir / "wal");
    if (!opened) state.SkipWithError("open failed");
  }
}
BENCHMARK(BM_Open)->ArgName("MB")->Arg(0)->Arg(60)->UseRealTime()->Unit(benchmark::kMillisecond);

void BM_ReadBack(benchmark::State& state) {
  const TempDir dir;
  auto log = *Log::create(env::posix_fs(), dir / "wal", {NodeId(1), 2});
  fill(*log, 30'000'000);
  const auto index = log->index();
  uint64_t bytes = 0;
  uint64_t count = 0;
  for (auto _ : state) {
    const Status status = index->read(Index(1), index->last_index(), UINT64_MAX, [&](const Entry& entry) {
      bytes += entry.data.size();
      ++count;
    });
    if (!status) state.SkipWithError("read failed");
  }
  state.SetItemsProcessed(static_cast<int64_t>(count));
  state.SetBytesProcessed(static_cast<int64_t>(bytes));
}
BENCHMARK(BM_ReadBack);

}  // namespace
}  // namespace cairn::wal
