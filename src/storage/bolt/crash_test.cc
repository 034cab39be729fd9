// The engine on a disk that crashes: whatever order unsynced sectors arrive in, the file is the last finished commit
// or the one that was under way.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "sim/disk/sim_fs.h"
#include "storage/bolt/check.h"
#include "storage/bolt/engine.h"
#include "storage/test_support.h"
#include "testing/scale.h"
#include "testing/seeds.h"

namespace cairn::storage {
namespace {

using test::Batch;
using test::Model;
using test::revision_key;

constexpr std::string_view kPath = "/data/member/snap/db";

class CrashingLife {
 public:
  explicit CrashingLife(uint64_t seed) : random_(seed), fs_({.seed = seed, .mapping_bytes_max = 64 << 20}) {
    fs_.options().can_allocate = !random_.one_in(5);
    fs_.options().can_punch = !random_.one_in(5);
    fs_.options().poison_punched = true;
    options_.space = {.move_above_bytes = 16 << 10,
                      .move_bytes_max = uint64_t{4096} << random_.below(6),
                      .punch_bytes_min = uint64_t{4096} << random_.below(4),
                      .solid_bytes_kept = random_.below(64 << 10)};
    fs_.make_durable_directories("/data/member/snap");
    options_.freelist_bytes_max = random_.one_in(3) ? 100 : 256 << 10;
    options_.poison_free_pages = random_.one_in(2);
  }

  void run(int lives) {
    for (int i = 0; i < lives && !::testing::Test::HasFailure(); ++i) {
      SCOPED_TRACE("life " + std::to_string(i));
      live();
      fs_.crash();
      after_crash();
    }
  }

 private:
  // Until the power goes.
  void live() {
    fs_.crash_at(fs_.mutations() + 1 + random_.below(60));
    auto engine = open_bolt(fs_, std::string(kPath), options_);
    if (!engine) {
      ASSERT_TRUE(fs_.crashed()) << engine.error().message;
      return;
    }
    for (int commits = 0; commits < 30; ++commits) {
      Batch batch;
      const uint64_t appends = random_.one_in(4) ? random_.below(200) : random_.below(5);
      for (uint64_t i = 0; i < appends; ++i) batch.put(Table::kKey, revision_key(revision_++), value());
      for (uint64_t i = random_.below(20); i > 0; --i) {
        const std::string key = std::to_string(random_.below(300));
        if (random_.one_in(2)) {
          batch.put(Table::kLease, key, value());
        } else {
          batch.erase(Table::kLease, key);
        }
      }
      batch.put(Table::kMeta, "consistent_index", std::to_string(revision_));
      Commit commit = batch.commit({(*engine)->view()->txid()});
      Reclaim reclaim;
      if (random_.one_in(3)) {
        reclaim.end = revision_key(random_.below(revision_));
        reclaim.keep = [](std::string_view key, std::string_view) { return load_be64(key.data()) % 7 == 0; };
        commit.reclaim = &reclaim;
      }
      commit.give_back = static_cast<GiveBack>(commits / 10);
      pending_ = finished_;
      if (commit.reclaim != nullptr) {
        std::erase_if(test::of(pending_, Table::kKey),
                      [&](const auto& entry) { return entry.first < reclaim.end && !reclaim.keep(entry.first, ""); });
      }
      batch.apply_to(pending_);
      if (random_.one_in(20)) fs_.plan(random_.one_in(2) ? sim::Op::kAllocate : sim::Op::kWrite, sim::Fault::kNoSpace);
      auto result = (*engine)->commit(commit);
      if (!result && result.error().code == Code::kResourceExhausted && !fs_.crashed()) {
        result = (*engine)->commit(commit);
      }
      if (!result) {
        // The first commit, and without a free list one that changes nothing, may write a meta first; if that fails,
        // the engine is dead.
        const bool meta_failed =
            result.error().code == Code::kInternal && (commits == 0 || options_.freelist_bytes_max == 100);
        ASSERT_TRUE(fs_.crashed() || meta_failed) << result.error().message;
        return;
      }
      finished_ = pending_;
    }
    const Status status = (*engine)->close();
    ASSERT_TRUE(status || fs_.crashed()) << status.error().message;
  }

  void after_crash() {
    // A crash may have come before the file was there.
    if (!fs_.exists(std::string(kPath))) {
      ASSERT_TRUE(test::of(finished_, Table::kMeta).empty());
      pending_ = finished_;
      return;
    }
    const auto report = check_bolt(fs_, std::string(kPath), {.older_tree_too = true});
    // Nothing, or something that was interrupted before it was a file.
    const bool is_begun = test::of(finished_, Table::kMeta).empty();
    ASSERT_TRUE(report || is_begun) << report.error().message;
    const auto engine = open_bolt(fs_, std::string(kPath), options_);
    ASSERT_TRUE(engine) << engine.error().message;
    const std::string not_finished = test::difference(*(*engine)->view(), finished_, random_);
    if (not_finished.empty()) return;
    const std::string not_pending = test::difference(*(*engine)->view(), pending_, random_);
    ASSERT_EQ(not_pending, "") << "nor is it the commit before: " << not_finished;
    finished_ = pending_;
  }

  std::string value() {
    return test::random_bytes(random_, random_.one_in(20) ? random_.below(20'000) : random_.below(400));
  }

  Random random_;
  sim::SimFileSystem fs_;
  BoltOptions options_;
  Model finished_;  // by the last commit that said so
  Model pending_;   // by the one under way
  uint64_t revision_ = 2;
};

TEST(BoltCrash, LeavesTheLastFinishedCommitOrTheOneUnderWay) {
  const uint64_t first = cairn::testing::first_seed(1);
  for (uint64_t seed = first; seed < first + cairn::testing::scaled(60U); ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    CrashingLife(seed).run(12);
    if (HasFailure()) return;
  }
}

int number_in(const Engine& engine) {
  const auto value = engine.view()->get(Table::kMeta, "i");
  EXPECT_TRUE(value) << value.error().message;
  return value && *value ? std::stoi(std::string(**value)) : 0;
}

// Six commits more than the file has, each of which frees pages of those before. `finished`: the last one that a crash
// must leave.
void live_a_little(sim::SimFileSystem& fs, int& finished) {
  auto engine = open_bolt(fs, std::string(kPath), {.poison_free_pages = true});
  if (!engine) return;
  finished = number_in(**engine);
  for (const int last = finished + 6; finished < last; ++finished) {
    const int i = finished + 1;
    Batch batch;
    for (uint64_t j = 0; j < 40; ++j)
      batch.put(Table::kKey, revision_key(static_cast<uint64_t>(i) * 100 + j), std::string(300, 'v'));
    for (int j = 0; j < 10; ++j)
      batch.put(Table::kLease, std::to_string(j * i % 13), std::string(900, static_cast<char>(i)));
    batch.put(Table::kMeta, "i", std::to_string(i));
    if (!(*engine)->commit(batch.commit({(*engine)->view()->txid()}))) return;
  }
  (void)(*engine)->close();
}

// After a crash: the last finished commit or the one under way, and a whole tree below either meta.
void expect_left(sim::SimFileSystem& fs, int finished) {
  if (!fs.exists(std::string(kPath))) {
    EXPECT_EQ(finished, 0);
    return;
  }
  const auto report = check_bolt(fs, std::string(kPath), {.older_tree_too = true});
  ASSERT_TRUE(report || finished == 0) << report.error().message;
  const auto engine = open_bolt(fs, std::string(kPath));
  ASSERT_TRUE(engine) << engine.error().message;
  const int found = number_in(**engine);
  EXPECT_GE(found, finished);
  EXPECT_LE(found, finished + 1);
  if (!report) return;
  const uint64_t keys = report->bucket_entries.contains("key") ? report->bucket_entries.at("key") : 0;
  EXPECT_EQ(keys, static_cast<uint64_t>(found) * 40);
}

// Each mutation of one small life is a crash point, each crash point has several outcomes.
TEST(BoltCrash, AtEveryOperationOfALife) {
  sim::SimFileSystem whole({.seed = 1});
  whole.make_durable_directories("/data/member/snap");
  int finished = 0;
  const uint64_t before = whole.mutations();
  live_a_little(whole, finished);
  ASSERT_EQ(finished, 6);
  const uint64_t points = whole.mutations() - before;
  ASSERT_GT(points, 20);
  for (uint64_t point = 1; point <= points; ++point) {
    sim::SimFileSystem fs({.seed = point});
    fs.make_durable_directories("/data/member/snap");
    fs.crash_at(fs.mutations() + point);
    finished = 0;
    live_a_little(fs, finished);
    for (uint64_t outcome = 0; outcome < 8; ++outcome) {
      SCOPED_TRACE("point " + std::to_string(point) + " outcome " + std::to_string(outcome));
      const auto copy = fs.clone(point * 100 + outcome);
      copy->crash();
      expect_left(*copy, finished);
      if (HasFatalFailure()) return;
    }
  }
}

// The kernel shows what a sync that failed has not written, and the next start reads that. Nothing it goes on from may
// be lost in a power cut, at any of its operations.
TEST(BoltCrash, AtEveryOperationOfALifeAfterAFailedSync) {
  for (uint64_t failing = 3; failing <= 14; ++failing) {  // not of the beginning of the file
    sim::SimFileSystem left({.seed = failing});
    left.make_durable_directories("/data/member/snap");
    left.plan(sim::Op::kSync, sim::Fault::kIo, failing);
    int before = 0;
    live_a_little(left, before);
    ASSERT_LT(before, 6);
    left.restart();  // of the process; the page cache stays
    uint64_t points = 1;
    for (uint64_t point = 1; point <= points; ++point) {
      const auto fs = left.clone(failing);
      const uint64_t first = fs->mutations();
      fs->crash_at(first + point);
      int finished = before;
      live_a_little(*fs, finished);
      if (fs->crashed()) ++points;
      for (uint64_t outcome = 0; outcome < 4; ++outcome) {
        SCOPED_TRACE(fmt::format("sync {} failed, point {}, outcome {}", failing, point, outcome));
        const auto copy = fs->clone(point * 100 + outcome);
        copy->crash();
        expect_left(*copy, finished);
        if (HasFailure()) return;
      }
    }
    ASSERT_GT(points, 20);
  }
}

}  // namespace
}  // namespace cairn::storage
