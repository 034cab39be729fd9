// The log on a disk that loses power: whatever was synced is there afterwards, what was not is there up to some
// point, and the log always opens again.
#include <gtest/gtest.h>

#include <map>

#include "sim/disk/sim_fs.h"
#include "wal/log.h"
#include "wal/snap_file.h"
#include "wal/testing.h"

namespace cairn::wal {
namespace {

using testing::kConfState;
using testing::make_entry;
using testing::read_entries;
using testing::StoredEntry;
using testing::views;

const std::string kWal = "/data/member/wal";
const std::string kSnap = "/data/member/snap";
constexpr Metadata kMetadata{NodeId(0x20a9f295c3588abf), 0x6d74b5aeb5386b};

// What a reader of the log knows.
struct State {
  std::map<uint64_t, StoredEntry> entries;
  HardState hard;
  std::vector<SnapshotRecord> snapshots{SnapshotRecord{}};
  uint64_t last = 0;

  void add(const StoredEntry& entry) {
    entries.erase(entries.lower_bound(entry.index.value), entries.end());
    entries[entry.index.value] = entry;
    last = entry.index.value;
  }
};

class CrashRun {
 public:
  explicit CrashRun(uint64_t seed) : random_(seed), fs_({.seed = seed, .can_allocate = seed % 5 != 0}) {
    options_.segment_bytes = 4096 * random_.between(1, 8);
    options_.zero_ahead_bytes = 512 * random_.below(9);
    fs_.make_durable_directories("/data/member");
    fs_.make_durable_directories(kSnap);
  }

  void life() {
    create();
    for (int lives = 0; lives < 4 && !::testing::Test::HasFatalFailure(); ++lives) {
      if (!random_.one_in(5)) fs_.crash_at(fs_.mutations() + random_.between(1, random_.one_in(2) ? 20 : 200));
      for (int i = 0; i < 150 && step(); ++i) {
      }
      log_.reset();
      if (::testing::Test::HasFatalFailure()) return;
      fs_.crash(static_cast<sim::Damage>(random_.below(4)));
      recover();
    }
  }
  [[nodiscard]] uint64_t repairs() const { return repairs_; }

 private:
  // Remembers the log as it is after each record, from the last sync on: one of these must be found after a crash.
  void note() { possible_.push_back(now_); }
  bool synced(const Status& status) {
    if (status) possible_ = {now_};
    return status.has_value();
  }

  void create() {
    for (;;) {
      if (random_.one_in(2)) fs_.crash_at(fs_.mutations() + random_.between(1, 12));
      auto log = Log::create(fs_, kWal, kMetadata, options_);
      possible_ = {now_};
      if (log) {
        log_ = *std::move(log);
        fs_.crash_at(0);
        return;
      }
      fs_.crash();
      const auto opened = Log::open(fs_, kWal, options_);
      if (opened) break;  // it was complete before the power went
      ASSERT_EQ(opened.error().code, Code::kNotFound) << opened.error().message;
    }
    recover();
  }

  bool step() {
    switch (random_.below(12)) {
      case 0: return snapshot();
      case 1: return leader_snapshot();
      case 2: log_->release(Index(random_.between(0, log_->newest_snapshot_index().value))); return true;
      case 3:
      case 4:
        for (uint64_t i = random_.below(12); i > 0; --i) {
          if (!log_->spares()->prepare_step()) return false;
        }
        return true;
      default: return save();
    }
  }

  bool save() {
    const uint64_t commit = now_.hard.commit.value;
    HardState hard = now_.hard;
    // The state that came with the last entries may have been lost.
    if (!now_.entries.empty()) hard.term = std::max(hard.term, now_.entries.rbegin()->second.term);
    uint64_t index = now_.last + 1;
    const bool overwrite = random_.one_in(6) && now_.last > commit;
    if (overwrite || hard.term.value == 0 || random_.one_in(30)) hard.term += 1;
    if (overwrite) index = random_.between(commit + 1, now_.last);
    std::vector<StoredEntry> entries;
    for (uint64_t i = 0, count = random_.below(5); i < count; ++i) {
      entries.push_back(make_entry(index + i, hard.term.value, testing::random_data(random_, 1500)));
      now_.add(entries.back());
      note();
    }
    // A commit index is stored only for what is synced.
    if (random_.one_in(2)) hard.commit = Index(std::max(commit, std::min(log_->last_synced_index().value, index - 1)));
    now_.hard = hard;
    note();
    const bool must_sync = !random_.one_in(3);
    const Status status = log_->save(views(entries), hard, must_sync);
    if (status && log_->last_synced_index().value != now_.last) return true;
    return must_sync ? synced(status) : status.has_value();
  }

  bool write_file(const SnapshotRecord& record) {
    return write_snapshot_file(fs_, kSnap, {record.index, record.term, *record.conf_state, "{}"}).has_value();
  }

  bool snapshot() {
    const uint64_t newest = log_->newest_snapshot_index().value;
    const uint64_t commit = now_.hard.commit.value;
    if (commit <= newest) return true;
    const Index index(random_.between(newest + 1, commit));
    const SnapshotRecord record{index, now_.entries.at(index.value).term, kConfState};
    if (!write_file(record)) return false;
    now_.snapshots.push_back(record);
    note();
    return synced(log_->save_snapshot(record));
  }

  bool leader_snapshot() {
    if (!random_.one_in(4) || now_.hard.term.value == 0) return true;
    const HardState hard{now_.hard.term + 2, NodeId(0), Index(now_.last + random_.between(1, 20))};
    const SnapshotRecord record{hard.commit, hard.term, kConfState};
    if (!write_file(record)) return false;
    now_.snapshots.push_back(record);
    note();
    now_.hard = hard;
    now_.entries.clear();
    now_.last = hard.commit.value;
    note();
    return synced(log_->save_snapshot(record, hard));
  }

  // Opens what the crash left, sometimes with more crashes while doing so.
  void recover() {
    while (random_.one_in(2)) {
      fs_.crash_at(fs_.mutations() + random_.between(1, 6));
      const auto opened = Log::open(fs_, kWal, options_);
      const Error error = opened ? Error{Code::kUnavailable, ""} : opened.error();
      ASSERT_EQ(error.code, Code::kUnavailable) << error.message;
      fs_.crash(static_cast<sim::Damage>(random_.below(4)));
    }
    auto opened = Log::open(fs_, kWal, options_);
    ASSERT_TRUE(opened.has_value()) << opened.error().message;
    repairs_ += opened->repair.has_value();
    log_ = std::move(opened->log);
    const bool found = std::any_of(possible_.begin(), possible_.end(), [&](const State& state) {
      if (!matches(state, *opened)) return false;
      now_ = state;
      return true;
    });
    ASSERT_TRUE(found) << "last " << log_->last_index().value << ", state term " << opened->hard_state.term.value
                       << " commit " << opened->hard_state.commit.value << "; synced up to " << possible_.front().last
                       << " commit " << possible_.front().hard.commit.value;
    possible_ = {now_};

    const auto start = choose_start_snapshot(fs_, kSnap, valid_snapshot_records(opened->snapshots, now_.hard));
    ASSERT_TRUE(start.has_value()) << start.error().message;
    const Index start_index = *start ? (*start)->index : Index(0);
    ASSERT_EQ(start_index, log_->newest_snapshot_index());
    const Status can_start = log_->check_start({start_index, *start ? (*start)->term : Term(0), {}});
    ASSERT_TRUE(can_start.has_value()) << can_start.error().message;
  }

  bool matches(const State& state, const OpenedLog& opened) const {
    if (opened.hard_state != state.hard || log_->last_index() != Index(state.last)) return false;
    if (opened.snapshots.empty() || opened.snapshots.back() != state.snapshots.back()) return false;
    const auto entries = read_entries(*log_->index(), log_->first_index(), log_->last_index() + 1, UINT64_MAX);
    if (!entries) return false;
    return std::all_of(entries->begin(), entries->end(), [&](const StoredEntry& entry) {
      const auto known = state.entries.find(entry.index.value);
      return known != state.entries.end() && known->second == entry;
    });
  }

  Random random_;
  sim::SimFileSystem fs_;
  Options options_;
  std::unique_ptr<Log> log_;
  State now_;
  std::vector<State> possible_;
  uint64_t repairs_ = 0;
};

TEST(LogCrash, SyncedRecordsSurviveAndTheLogOpensAgain) {
  uint64_t repairs = 0;
  for (uint64_t seed = 1; seed <= 400; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    CrashRun run(seed);
    run.life();
    if (::testing::Test::HasFatalFailure()) return;
    repairs += run.repairs();
  }
  EXPECT_GT(repairs, 10u);  // or the test tears nothing
}

}  // namespace
}  // namespace cairn::wal
