// The file gives space back: pages move down, the end is cut, long free runs are punched. After each commit the file is
// sound and holds what it should.
#include <gtest/gtest.h>

#include "sim/disk/sim_fs.h"
#include "storage/bolt/check.h"
#include "storage/bolt/engine.h"
#include "storage/bolt/engine_testing.h"
#include "storage/test_support.h"

namespace cairn::storage {
namespace {

using test::Batch;
using test::revision_key;

constexpr std::string_view kPath = "/data/db";
constexpr SpaceLimits kSmall{.move_above_bytes = 64 << 10,
                             .move_bytes_max = 64 << 10,
                             .punch_bytes_min = 32 << 10,
                             .solid_bytes_kept = 64 << 10};

class BoltSpace : public ::testing::Test {
 protected:
  BoltSpace() {
    fs_.make_durable_directories("/data");
    fs_.options().poison_punched = true;
    options_.space = kSmall;
    options_.poison_free_pages = true;
    open();
  }

  void open() {
    engine_.reset();
    engine_ = test::open(fs_, std::string(kPath), options_);
    ASSERT_NE(engine_, nullptr);
  }

  // `bytes_max` of value in each of `count` records.
  void fill(uint64_t count, uint64_t bytes_min, uint64_t bytes_max) {
    for (uint64_t done = 0; done < count;) {
      Batch batch;
      for (uint64_t i = 0; i < 50 && done < count; ++i, ++done) {
        batch.put(Table::kKey, revision_key(next_revision_++),
                  test::random_bytes(random_, random_.between(bytes_min, bytes_max)));
      }
      commit(batch, GiveBack::kNone);
    }
  }

  // Removes all but one record in `kept_one_in`.
  void reclaim(uint64_t kept_one_in) {
    Reclaim pass;
    pass.end = "\xff";
    pass.keep = [&](std::string_view key, std::string_view) { return load_be64(key.data()) % kept_one_in == 0; };
    for (bool done = false; !done;) {
      const auto result = run({.reclaim = &pass, .open_views = open_views()});
      pass.first = result.reclaim_position;
      done = result.reclaim_done;
    }
    std::erase_if(test::of(model_, Table::kKey), [&](const auto& entry) { return !pass.keep(entry.first, ""); });
  }

  CommitResult commit(Batch& batch, GiveBack give_back) {
    Commit commit = batch.commit(open_views());
    commit.give_back = give_back;
    batch.apply_to(model_);
    return run(commit);
  }

  // As long as it goes on. Returns the number of commits.
  int give_back(GiveBack how) {
    for (int commits = 1;; ++commits) {
      Batch batch;
      batch.put(Table::kMeta, "i", std::to_string(commits));
      const CommitResult result = commit(batch, how);
      if (!result.gives_more_back || commits == 2000 || HasFailure()) return commits;
    }
  }

  CommitResult run(const Commit& commit) {
    auto result = engine_->commit(commit);
    EXPECT_TRUE(result) << result.error().message;
    return result ? *std::move(result) : CommitResult{};
  }

  [[nodiscard]] std::vector<uint64_t> open_views() const {
    std::vector<uint64_t> txids;
    if (held_ != nullptr) txids.push_back(held_->txid());
    if (held_ == nullptr || engine_->view()->txid() != held_->txid()) txids.push_back(engine_->view()->txid());
    return txids;
  }

  void expect_whole() {
    test::expect_sound(fs_, std::string(kPath));
    EXPECT_EQ(test::difference(*engine_->view(), model_, random_), "");
  }

  [[nodiscard]] uint64_t file_bytes() const { return engine_->space().file_bytes; }

  Random random_{7};
  sim::SimFileSystem fs_{{.seed = 7, .mapping_bytes_max = 256 << 20}};
  BoltOptions options_;
  std::unique_ptr<Engine> engine_;
  test::Model model_;
  std::shared_ptr<const View> held_;
  uint64_t next_revision_ = 2;
};

TEST_F(BoltSpace, ComesBackAfterAPassAndTheFileIsCut) {
  fill(4000, 100, 2000);
  const uint64_t full = file_bytes();
  reclaim(10);
  EXPECT_LT(give_back(GiveBack::kDue), 400);
  expect_whole();
  const Space space = engine_->space();
  EXPECT_LE(space.high_water_bytes, space.in_use_bytes * 3 / 2 + kSmall.move_above_bytes);
  EXPECT_LT(file_bytes(), full / 3);
  EXPECT_LE(space.in_use_bytes, space.total_bytes);
  EXPECT_LE(space.total_bytes, space.high_water_bytes);
  const uint64_t high_water = space.high_water_bytes;
  open();
  expect_whole();
  EXPECT_EQ(engine_->space().high_water_bytes, high_water);
}

TEST_F(BoltSpace, IsAllGivenBackWhenAskedFor) {
  fill(4000, 100, 2000);
  reclaim(3);
  EXPECT_LT(give_back(GiveBack::kAll), 400);
  expect_whole();
  const Space space = engine_->space();
  EXPECT_LE(space.high_water_bytes, space.in_use_bytes + (256 << 10)) << "in use and one commit";
  EXPECT_LE(file_bytes(), space.high_water_bytes + (128 << 10));
  // Leaves that were thinned out are joined.
  uint64_t bytes = 0;
  for (const auto& [key, value] : test::of(model_, Table::kKey)) bytes += key.size() + value.size() + 16;
  EXPECT_LE(space.in_use_bytes, bytes * 3 / 2);
  // Nothing is left to do: it ends at once.
  EXPECT_LT(give_back(GiveBack::kAll), 20);
}

// What is moved may need blocks that a full disk does not have. What the commit is for needs none.
TEST_F(BoltSpace, OnAFullDiskACommitGoesOnWithoutMoving) {
  for (const GiveBack how : {GiveBack::kDue, GiveBack::kAll}) {
    fs_.options().capacity_bytes = uint64_t{1} << 40;
    fill(3000, 100, 2000);
    reclaim(10);
    for (int i = 0; i < 5; ++i) {
      Batch batch;
      batch.put(Table::kMeta, "i", std::to_string(i));
      commit(batch, GiveBack::kNone);
    }
    const Space before = engine_->space();
    ASSERT_LT(before.total_bytes, before.high_water_bytes) << "much is punched";
    fs_.options().capacity_bytes = 1;
    uint64_t no_space = 0;
    fs_.set_hook([&](const sim::Operation& operation) {
      no_space += operation.op == sim::Op::kAllocate ? 1 : 0;
      return sim::Fault::kNone;
    });
    bool more = true;
    for (int i = 0; i < 100 && (how == GiveBack::kDue || more); ++i) {
      Batch batch;
      batch.put(Table::kMeta, "i", std::to_string(i));
      batch.apply_to(model_);
      Commit commit = batch.commit(open_views());
      commit.give_back = how;
      const auto result = engine_->commit(commit);
      ASSERT_TRUE(result) << result.error().message;
      more = result->gives_more_back;
    }
    fs_.set_hook({});
    EXPECT_EQ(no_space, 1) << "it is not tried again at once";
    EXPECT_FALSE(more);
    expect_whole();
    fs_.options().capacity_bytes = uint64_t{1} << 40;
    give_back(GiveBack::kAll);
    expect_whole();
    EXPECT_LT(engine_->space().high_water_bytes, before.high_water_bytes / 2);
  }
}

TEST_F(BoltSpace, PagesOfOtherTablesMoveAsWell) {
  fill(1000, 500, 2000);
  for (int round = 0; round < 3; ++round) {
    Batch batch;
    for (int i = 0; i < 400; ++i) {
      batch.put(Table::kLease, std::to_string(i), test::random_bytes(random_, 300));
      batch.put(Table::kAuthUsers, std::to_string(i), test::random_bytes(random_, 100 + (i % 7 == 0 ? 5000 : 0)));
    }
    commit(batch, GiveBack::kNone);
  }
  reclaim(1000);
  give_back(GiveBack::kAll);
  expect_whole();
  const Space space = engine_->space();
  EXPECT_LE(space.high_water_bytes, space.in_use_bytes + (256 << 10));
}

// No free run is as long as the pages that should move down.
TEST_F(BoltSpace, LongPagesBetweenShortGapsMove) {
  fill(300, 60'000, 60'000);
  Reclaim pass;
  pass.end = "\xff";
  Batch thin;
  // Each second one is replaced by one that is a little longer: it does not fit where the old one was.
  pass.keep = [&](std::string_view key, std::string_view) { return load_be64(key.data()) % 2 == 0; };
  std::erase_if(test::of(model_, Table::kKey), [&](const auto& entry) { return !pass.keep(entry.first, ""); });
  pass.dirty_bytes_max = 64 << 20;
  run({.reclaim = &pass, .open_views = open_views()});
  fill(100, 64'000, 64'000);
  fill(150, 40'000, 40'000);
  pass.keep = [&](std::string_view, std::string_view value) { return value.size() > 50'000; };
  std::erase_if(test::of(model_, Table::kKey), [&](const auto& entry) { return entry.second.size() < 50'000; });
  run({.reclaim = &pass, .open_views = open_views()});
  EXPECT_LT(give_back(GiveBack::kAll), 1000);
  expect_whole();
  const Space space = engine_->space();
  EXPECT_LE(space.high_water_bytes, space.in_use_bytes + space.in_use_bytes / 50);
}

TEST_F(BoltSpace, AHeldViewStaysWholeAndNothingOfItIsCut) {
  fill(3000, 100, 2000);
  held_ = engine_->view();
  const test::Model then = model_;
  const uint64_t full = engine_->space().high_water_bytes;
  reclaim(10);
  give_back(GiveBack::kAll);
  EXPECT_EQ(test::difference(*held_, then, random_), "");
  EXPECT_GE(file_bytes(), full);
  expect_whole();
  held_.reset();
  give_back(GiveBack::kAll);
  expect_whole();
  EXPECT_LT(file_bytes(), full / 3);
}

TEST_F(BoltSpace, LongFreeRunsArePunchedAndTakenWithTheirBlocks) {
  fill(3000, 100, 2000);
  const uint64_t used = fs_.used_bytes();
  reclaim(1000);
  give_back(GiveBack::kNone);  // nothing moves, so the file is as long as before
  for (int i = 0; i < 4; ++i) give_back(GiveBack::kNone);
  const Space punched = engine_->space();
  EXPECT_LT(fs_.used_bytes(), used / 3);
  EXPECT_LE(punched.total_bytes, punched.in_use_bytes + kSmall.solid_bytes_kept + (512 << 10));
  expect_whole();
  // Each page that is written has blocks already.
  fs_.set_hook([&](const sim::Operation& operation) {
    if (operation.op == sim::Op::kWrite) {
      EXPECT_EQ(fs_.missing_bytes(std::string(operation.path), operation.offset, operation.size), 0);
    }
    return sim::Fault::kNone;
  });
  fill(3000, 100, 2000);
  fs_.set_hook({});
  expect_whole();
  EXPECT_LE(engine_->space().high_water_bytes, punched.high_water_bytes + (512 << 10)) << "they are used again";
}

TEST_F(BoltSpace, ACommitWithoutRoomForAHoleCanBeTriedAgain) {
  fill(2000, 100, 2000);
  reclaim(1000);
  for (int i = 0; i < 4; ++i) give_back(GiveBack::kNone);
  fs_.options().capacity_bytes = fs_.used_bytes() + (96 << 10);
  Batch batch;
  for (int i = 0; i < 400; ++i)
    batch.put(Table::kKey, revision_key(next_revision_++), test::random_bytes(random_, 1000));
  const Commit commit = batch.commit(open_views());
  std::optional<uint64_t> in_use;
  for (int i = 0; i < 3; ++i) {
    const auto result = engine_->commit(commit);
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code, Code::kResourceExhausted);
    EXPECT_EQ(engine_->space().in_use_bytes, in_use.value_or(engine_->space().in_use_bytes));
    in_use = engine_->space().in_use_bytes;
  }
  fs_.options().capacity_bytes = uint64_t{1} << 40;
  batch.apply_to(model_);
  run(commit);
  expect_whole();
}

// A start knows which free pages have blocks: it counts no others as room, and on a full disk it writes where blocks
// are.
TEST_F(BoltSpace, AStartFindsWhatWasPunched) {
  fill(3000, 100, 2000);
  reclaim(1000);
  for (int i = 0; i < 4; ++i) give_back(GiveBack::kNone);
  const Space before = engine_->space();
  ASSERT_LT(before.total_bytes, before.high_water_bytes / 2);
  open();
  EXPECT_EQ(engine_->space().total_bytes, before.total_bytes);
  EXPECT_LE(engine_->space().in_use_bytes, before.in_use_bytes);
  fs_.options().capacity_bytes = 1;
  for (int i = 0; i < 20; ++i) {
    Batch batch;
    batch.put(Table::kMeta, "i", std::to_string(i));
    commit(batch, GiveBack::kDue);
  }
  expect_whole();
  // Where the file system does not tell, all is taken for solid.
  fs_.options().capacity_bytes = uint64_t{1} << 40;
  fs_.options().tells_holes = false;
  open();
  EXPECT_EQ(engine_->space().total_bytes, engine_->space().high_water_bytes);
  fill(1000, 100, 2000);
  expect_whole();
}

// As on a file system that needs room to give room back.
TEST_F(BoltSpace, APunchOrCutThatFailsIsTriedAgainLater) {
  fill(2000, 100, 2000);
  uint64_t tries = 0;
  bool fails = true;
  fs_.set_hook([&](const sim::Operation& operation) {
    if (operation.op != sim::Op::kPunch && operation.op != sim::Op::kTruncate) return sim::Fault::kNone;
    ++tries;
    return fails ? sim::Fault::kNoSpace : sim::Fault::kNone;
  });
  const auto commit_some = [&](int count) {
    for (int i = 0; i < count; ++i) {
      Batch batch;
      batch.put(Table::kMeta, "i", std::to_string(i));
      commit(batch, GiveBack::kDue);
    }
  };
  const uint64_t full = file_bytes();
  reclaim(1000);
  commit_some(100);
  EXPECT_GE(tries, 1);
  EXPECT_LE(tries, 2);
  EXPECT_EQ(file_bytes(), full);
  EXPECT_EQ(engine_->space().total_bytes, engine_->space().high_water_bytes);
  commit_some(300);
  EXPECT_LE(tries, 4);
  fails = false;
  commit_some(300);
  EXPECT_LT(file_bytes(), full / 3);
  // A defragmentation does not wait.
  fails = true;
  fill(2000, 100, 2000);
  reclaim(1000);
  commit_some(20);
  fails = false;
  give_back(GiveBack::kAll);
  EXPECT_LE(file_bytes(), engine_->space().high_water_bytes + (128 << 10));
  fs_.set_hook({});
  expect_whole();
}

TEST_F(BoltSpace, WithoutPunchingTheFileKeepsItsBlocks) {
  fs_.options().can_punch = false;
  fill(2000, 100, 2000);
  uint64_t punches = 0;
  fs_.set_hook([&](const sim::Operation& operation) {
    punches += operation.op == sim::Op::kPunch ? 1 : 0;
    return sim::Fault::kNone;
  });
  reclaim(1000);
  for (int i = 0; i < 4; ++i) give_back(GiveBack::kNone);
  EXPECT_EQ(punches, 1) << "it is tried once";
  EXPECT_EQ(engine_->space().total_bytes, engine_->space().high_water_bytes);
  give_back(GiveBack::kAll);
  expect_whole();
}

// What etcd counts against its quota, the whole file, falls below it.
TEST_F(BoltSpace, TheFileComesBackBelowTheQuota) {
  options_.quota_bytes = 2 << 20;
  options_.reserved_bytes = 128 << 20;
  options_.space.move_above_bytes = uint64_t{1} << 30;
  open();
  fill(2000, 1000, 1300);
  EXPECT_GT(engine_->space().high_water_bytes, options_.quota_bytes);
  Reclaim pass;
  pass.end = "\xff";
  pass.keep = [&](std::string_view key, std::string_view) { return load_be64(key.data()) % 5 < 3; };
  pass.dirty_bytes_max = 64 << 20;
  run({.reclaim = &pass, .open_views = open_views()});
  std::erase_if(test::of(model_, Table::kKey), [&](const auto& entry) { return !pass.keep(entry.first, ""); });
  give_back(GiveBack::kDue);
  give_back(GiveBack::kDue);
  ASSERT_LT(engine_->space().in_use_bytes, options_.quota_bytes * 9 / 10);
  EXPECT_LE(engine_->space().high_water_bytes, options_.quota_bytes);
  expect_whole();
}

}  // namespace
}  // namespace cairn::storage
