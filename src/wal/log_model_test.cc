// The log beside a slow, obvious twin, on random input.
#include <gtest/gtest.h>

#include <map>

#include "wal/log.h"
#include "wal/scan.h"
#include "wal/testing.h"

namespace cairn::wal {
namespace {

using testing::kConfState;
using testing::make_entry;
using testing::make_state;
using testing::read_entries;
using testing::StoredEntry;
using testing::TempDir;
using testing::views;

// What a log holds: entries by index, from `first` on.
struct Model {
  std::map<uint64_t, StoredEntry> entries;
  uint64_t last = 0;
  HardState state;
  std::vector<SnapshotRecord> snapshots{SnapshotRecord{}};

  void append(const std::vector<StoredEntry>& more) {
    for (const StoredEntry& entry : more) {
      entries.erase(entries.lower_bound(entry.index.value), entries.end());
      entries[entry.index.value] = entry;
      last = entry.index.value;
    }
  }
};

class ModelRun {
 public:
  explicit ModelRun(uint64_t seed) : random_(seed) {
    options_ = {
        .segment_bytes = 1000 + random_.below(20'000), .zero_ahead_bytes = random_.below(3) * 700, .sync = false};
    log_ = *Log::create(fs_, wal_, {NodeId(1), 2}, options_);
  }

  void step() {
    switch (random_.below(20)) {
      case 0: reopen(); break;
      case 1: snapshot(); break;
      case 2: leader_snapshot(); break;
      case 3: release(); break;
      case 4: read(); break;
      case 5: save_state(); break;
      case 6:
        for (uint64_t i = random_.below(30); i > 0; --i) ASSERT_TRUE(log_->spares()->prepare_step());
        break;
      default: save_entries(); break;
    }
  }
  void finish() { reopen(); }

 private:
  void save_entries() {
    const uint64_t commit = model_.state.commit.value;
    const bool overwrite = random_.one_in(5) && model_.last > commit;
    uint64_t index = model_.last + 1;
    HardState state = model_.state;
    if (overwrite || state.term.value == 0 || random_.one_in(20)) state.term += 1;
    if (overwrite) index = random_.between(commit + 1, model_.last);
    std::vector<StoredEntry> entries;
    for (uint64_t i = 0, count = random_.between(1, 8); i < count; ++i) {
      entries.push_back(make_entry(index + i, state.term.value, testing::random_data(random_, 600),
                                   static_cast<uint8_t>(random_.below(3))));
      if (entries.back().data.empty()) entries.back().type = 0;
    }
    model_.append(entries);
    if (random_.one_in(2)) state.commit = Index(random_.between(commit, model_.last));
    if (random_.one_in(3)) {
      log_->append(views(entries), state);  // waits for the next flush
    } else {
      ASSERT_TRUE(log_->save(views(entries), state, random_.one_in(2)));
    }
    model_.state = state;
  }

  void save_state() {
    if (model_.state.empty()) return;
    model_.state.commit = Index(random_.between(model_.state.commit.value, model_.last));
    ASSERT_TRUE(log_->save({}, model_.state, random_.one_in(2)));
  }

  void record_snapshot(uint64_t index, Term term, const HardState& state = {}) {
    const SnapshotRecord record{Index(index), term, kConfState};
    ASSERT_TRUE(log_->save_snapshot(record, state));
    model_.snapshots.push_back(record);
  }

  void snapshot() {
    const uint64_t commit = model_.state.commit.value;
    const uint64_t newest = log_->newest_snapshot_index().value;
    if (commit <= newest) return;
    const uint64_t index = random_.between(newest + 1, commit);
    record_snapshot(index, model_.entries.at(index).term);
  }

  void leader_snapshot() {
    if (!random_.one_in(4)) return;
    const uint64_t index = model_.last + random_.between(1, 50);
    model_.state = {model_.state.term + 1, NodeId(0), Index(index)};
    record_snapshot(index, model_.state.term, model_.state);
    model_.entries.clear();
    model_.last = index;
  }

  void release() {
    const uint64_t newest = log_->newest_snapshot_index().value;
    ASSERT_TRUE(log_->flush());
    const uint64_t index = random_.between(0, newest);
    log_->release(Index(index));
    // All behind the released index must still be there.
    released_ = std::max({index, released_, first_of_model() - 1});
    ASSERT_LE(log_->first_index(), Index(released_ + 1));
    ASSERT_TRUE(check_newest_start());
  }

  uint64_t first_of_model() const { return model_.entries.empty() ? model_.last + 1 : model_.entries.begin()->first; }

  bool check_newest_start() {
    const SnapshotRecord* start = nullptr;
    for (const SnapshotRecord& record : model_.snapshots) {
      if (record.index == log_->newest_snapshot_index()) start = &record;
    }
    return start != nullptr && log_->check_start(*start).has_value();
  }

  void read() {
    ASSERT_TRUE(log_->flush());
    check_entries();
  }

  void check_entries() {
    const auto index = log_->index();
    ASSERT_EQ(log_->last_index(), Index(model_.last));
    ASSERT_EQ(index->last_index(), Index(model_.last));
    const uint64_t first = index->first_index().value;
    ASSERT_EQ(log_->first_index().value, first);
    ASSERT_GE(first, first_of_model());
    for (int i = 0; i < 3; ++i) {
      const uint64_t lo = i == 0 ? first : random_.between(first, model_.last + 1);
      const uint64_t hi = i == 0 ? model_.last + 1 : random_.between(lo, model_.last + 1);
      const auto entries = read_entries(*index, Index(lo), Index(hi), UINT64_MAX);
      ASSERT_TRUE(entries.has_value()) << entries.error().message;
      ASSERT_EQ(entries->size(), hi - lo);
      for (const StoredEntry& entry : *entries) {
        ASSERT_EQ(entry, model_.entries.at(entry.index.value));
        ASSERT_EQ(*index->term(entry.index), entry.term);
      }
    }
  }

  void reopen() {
    ASSERT_TRUE(log_->flush());
    const Index first = log_->first_index();
    log_.reset();
    auto opened = Log::open(fs_, wal_, options_);
    ASSERT_TRUE(opened.has_value()) << opened.error().message;
    ASSERT_FALSE(opened->repair);
    ASSERT_EQ(opened->hard_state, model_.state);
    log_ = std::move(opened->log);
    // Segments that were released and not yet removed come back.
    ASSERT_LE(log_->first_index(), first);
    check_entries();
    ASSERT_TRUE(check_newest_start());
  }

  env::FileSystem& fs_ = env::posix_fs();
  TempDir dir_;
  std::string wal_ = dir_ / "wal";
  Random random_;
  Options options_;
  std::unique_ptr<Log> log_;
  Model model_;
  uint64_t released_ = 0;
};

TEST(LogModel, HoldsWhatTheModelHolds) {
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    ModelRun run(seed);
    for (int i = 0; i < 400; ++i) {
      run.step();
      if (HasFatalFailure()) return;
    }
    run.finish();
    if (HasFatalFailure()) return;
  }
}

// Whatever bit is wrong: the log is refused, unless the bit is in the padding.
TEST(LogModel, NoFlippedBitChangesHistory) {
  std::string whole;
  TempDir dir;
  const std::string path = dir / "wal/0000000000000000-0000000000000000.wal";
  std::vector<std::string> history;
  const auto collect = [](std::vector<std::string>& into) {
    return [&into](const Segment&, const Record& record) {
      into.push_back(std::to_string(static_cast<int>(record.type)) + std::string(record.data));
    };
  };
  {
    auto log = *Log::create(env::posix_fs(), dir / "wal", {NodeId(1), 2}, {.segment_bytes = 2048});
    for (uint64_t i = 1; i <= 6; ++i) {
      ASSERT_TRUE(log->save(views({make_entry(i, 1 + i / 4, "some bytes that are not zero")}),
                            make_state(1 + i / 4, 0x20a9f295c3588abf, i), true));
      if (i != 4) continue;
      ASSERT_TRUE(log->save_snapshot({Index(3), Term(1), kConfState}));
    }
    whole = testing::read_all(path);
    ASSERT_TRUE(scan_directory(env::posix_fs(), dir / "wal", collect(history)).has_value());
  }
  const size_t used = whole.find_last_not_of('\0') + 1;
  size_t refused = 0;
  size_t unnoticed = 0;
  for (size_t bit = 0; bit < used * 8; ++bit) {
    std::string bytes = whole;
    bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ 1 << bit % 8);
    auto segment = std::make_shared<Segment>();
    segment->path = path;
    segment->file = std::make_unique<testing::MemFile>(std::move(bytes));
    std::vector<std::string> found;
    const auto scan = scan_segments(std::vector{segment}, collect(found));
    if (!scan) {
      ASSERT_EQ(scan.error().code, Code::kDataLoss);
      ++refused;
      continue;
    }
    ASSERT_LE(found.size(), history.size()) << "bit " << bit;
    for (size_t i = 0; i < found.size(); ++i) {
      ASSERT_EQ(found[i], history[i]) << "bit " << bit << " of record " << i;
    }
    // Not even cut as an interrupted write: no sector is missing.
    ASSERT_EQ(found.size(), history.size()) << "bit " << bit;
    ++unnoticed;
  }
  EXPECT_GT(refused, used * 7);
  EXPECT_LT(unnoticed, used);
  std::printf("%zu flips refused, %zu in padding\n", refused, unnoticed);
}

}  // namespace
}  // namespace cairn::wal
