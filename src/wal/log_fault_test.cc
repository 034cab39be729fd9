// What the log asks of the disk, and what it does when the disk fails.
#include <gtest/gtest.h>

#include "sim/disk/sim_fs.h"
#include "wal/log.h"
#include "wal/testing.h"

namespace cairn::wal {
namespace {

using testing::make_entry;
using testing::make_state;
using testing::read_entries;
using testing::views;

class LogFault : public ::testing::Test {
 protected:
  void SetUp() override {
    fs_.make_durable_directories("/data");
    log_ = *Log::create(fs_, "/data/wal", {NodeId(1), 2}, options_);
  }
  Status save(uint64_t index) {
    return log_->save(views({make_entry(index, 1, std::string(300, 'v'))}), make_state(1, 1, index - 1), true);
  }
  // Saves from `index` on until the segment is full but for the next save; returns the next index.
  uint64_t fill(uint64_t index) {
    bool saved = true;
    while (saved && log_->segment_used_bytes() + 400 < options_.segment_bytes) saved = save(index++).has_value();
    EXPECT_TRUE(saved);
    return index;
  }
  void watch_operations() {
    operations_.clear();
    fs_.set_observer([this](const sim::Operation& operation) { operations_.emplace_back(sim::op_name(operation.op)); });
  }

  Options options_{.segment_bytes = 16 * 1024, .zero_ahead_bytes = 4096};
  sim::SimFileSystem fs_{{.seed = 1}};
  std::unique_ptr<Log> log_;
  std::vector<std::string> operations_;
};

TEST_F(LogFault, ASaveIsOneWriteAndOneSync) {
  while (*log_->spares()->prepare_step()) {
  }
  uint64_t next = fill(1);
  ASSERT_TRUE(save(next++));
  ASSERT_TRUE(save(next++));
  ASSERT_EQ(log_->segment_count(), 2u);  // in a segment that was a spare
  watch_operations();
  for (int i = 0; i < 10; ++i) {
    operations_.clear();
    ASSERT_TRUE(save(next++));
    EXPECT_EQ(operations_.size(), 2u);
  }
  const std::vector<Entry> none;
  operations_.clear();
  ASSERT_TRUE(log_->save(none, make_state(1, 1, next - 1), false));
  EXPECT_EQ(operations_.size(), 1u);
  operations_.clear();
  ASSERT_TRUE(log_->save(none, {}, false));
  EXPECT_TRUE(operations_.empty());
}

TEST_F(LogFault, AnAllocatedSegmentIsZeroedAheadInFewWrites) {
  size_t writes = 0;
  fs_.set_observer([&](const sim::Operation& operation) { writes += operation.op == sim::Op::kWrite; });
  for (uint64_t i = 1; i <= 30; ++i) ASSERT_TRUE(save(i));
  EXPECT_GT(writes, 30u);
  EXPECT_LT(writes, 35u);
}

TEST_F(LogFault, AFailedSyncEndsTheLogForGood) {
  ASSERT_TRUE(save(1));
  fs_.plan(sim::Op::kSync, sim::Fault::kIo);
  EXPECT_FALSE(save(2));
  // The disk would take it now, but what the failed sync lost is lost.
  EXPECT_FALSE(save(3));
  EXPECT_FALSE(log_->sync());
  EXPECT_EQ(log_->last_synced_index(), Index(1));
  log_.reset();
  fs_.crash(sim::Damage::kLoseUnsynced);
  const auto opened = Log::open(fs_, "/data/wal", options_);
  ASSERT_TRUE(opened.has_value()) << opened.error().message;
  EXPECT_EQ(opened->log->last_index(), Index(1));
}

TEST_F(LogFault, AFailedWriteEndsTheLogForGood) {
  ASSERT_TRUE(save(1));
  fs_.plan(sim::Op::kWrite, sim::Fault::kIo);
  EXPECT_FALSE(save(2));
  EXPECT_FALSE(log_->flush());
}

TEST_F(LogFault, WithASpareACutNeedsNoSpaceButForTheLastSave) {
  while (*log_->spares()->prepare_step()) {
  }
  const uint64_t next = fill(1);
  fs_.options().capacity_bytes = fs_.used_bytes() + sim::kPageBytes;  // a segment ends with the save that overfills it
  ASSERT_TRUE(save(next));
  ASSERT_TRUE(save(next + 1));
  EXPECT_EQ(log_->segment_count(), 2u);
}

TEST_F(LogFault, WithoutSpareOrSpaceACutSaysSo) {
  const uint64_t next = fill(1);
  fs_.options().capacity_bytes = fs_.used_bytes();
  Status status = save(next);
  if (status) status = save(next + 1);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, Code::kResourceExhausted);
}

// Many programs copy zeros as holes.
TEST_F(LogFault, ACopyWithHolesGetsItsBlocksWhileThereAreSome) {
  ASSERT_TRUE(save(1));
  const uint64_t used = log_->segment_used_bytes();
  log_.reset();
  const auto make_hollow = [&](const std::string& name, uint64_t from) {
    const auto file = *fs_.open("/data/wal/" + name, env::OpenMode::kCreate);
    ASSERT_TRUE(file->truncate(from));
    ASSERT_TRUE(file->truncate(options_.segment_bytes));
  };
  make_hollow("0000000000000000-0000000000000000.wal", used);
  make_hollow("0.tmp", 0);
  log_ = std::move(Log::open(fs_, "/data/wal", options_)->log);
  while (*log_->spares()->prepare_step()) {
  }
  fs_.options().capacity_bytes = fs_.used_bytes() + sim::kPageBytes;  // see above
  const uint64_t next = fill(2);
  ASSERT_TRUE(save(next));
  ASSERT_TRUE(save(next + 1));
  EXPECT_EQ(log_->segment_count(), 2u);
  fill(next + 2);
}

// A member at rest whose disk is filled by others has still to raise its alarm, and to take what makes room.
TEST_F(LogFault, ATailThatWasGivenBackLeavesRoomForALittle) {
  Options options = options_;
  options.segment_bytes = 1 << 20;
  for (const bool fills_at_rest : {true, false}) {
    const std::string directory = fills_at_rest ? "/data/resting" : "/data/busy";
    fs_.options().capacity_bytes = uint64_t{1} << 40;
    const auto log = *Log::create(fs_, directory, {NodeId(1), 2}, options);
    uint64_t next = 1;
    const auto save_many = [&](uint64_t bytes) {
      for (const uint64_t end = log->segment_used_bytes() + bytes; log->segment_used_bytes() < end; ++next) {
        const auto entry = make_entry(next, 1, std::string(300, 'v'));
        ASSERT_TRUE(log->save(views({entry}), make_state(1, 1, next - 1), true));
      }
    };
    save_many(100'000);
    const uint64_t used_before = fs_.used_bytes();
    ASSERT_TRUE(log->give_tail_back());
    EXPECT_LT(fs_.used_bytes(), used_before - 800'000);
    if (!fills_at_rest) save_many(12'000);
    fs_.options().capacity_bytes = fs_.used_bytes();
    save_many(fills_at_rest ? 15'000 : 900'000);
  }
}

TEST_F(LogFault, OnAFullDiskALogWithAnInterruptedWriteIsOpened) {
  ASSERT_TRUE(save(1));
  {
    const auto file = *fs_.open("/data/wal/0000000000000000-0000000000000000.wal", env::OpenMode::kReadWrite);
    ASSERT_TRUE(file->pwrite({"\x40\0\0\0\0\0\0\0", 8}, log_->segment_used_bytes()));
  }
  log_.reset();
  fs_.options().capacity_bytes = fs_.used_bytes();
  auto opened = Log::open(fs_, "/data/wal", options_);
  ASSERT_TRUE(opened) << opened.error().message;
  EXPECT_TRUE(opened->repair);
  EXPECT_FALSE(fs_.exists("/data/wal/0000000000000000-0000000000000000.wal.broken"));
  log_ = std::move(opened->log);
  EXPECT_EQ(log_->last_index(), Index(1));
  fill(2);
}

TEST_F(LogFault, AFailedSpareIsBegunAnewAndHarmsNothing) {
  fs_.set_rate(sim::Op::kWrite, sim::Fault::kNoSpace, 2);
  fs_.set_rate(sim::Op::kSync, sim::Fault::kNoSpace, 2);
  int failures = 0;
  for (int i = 0; i < 50 && !log_->spares()->ready(); ++i) failures += !log_->spares()->prepare_step();
  EXPECT_GT(failures, 0);
  fs_.clear_faults();
  while (*log_->spares()->prepare_step()) {
  }
  EXPECT_TRUE(log_->spares()->ready());
  for (uint64_t i = 1; i < 100; ++i) ASSERT_TRUE(save(i));
  EXPECT_EQ(read_entries(*log_->index(), Index(1), Index(100), UINT64_MAX)->size(), 99u);
}

TEST_F(LogFault, WorksWhereBlocksCannotBeAllocated) {
  sim::SimFileSystem fs({.seed = 2, .can_allocate = false});
  fs.make_durable_directories("/data");
  {
    auto log = *Log::create(fs, "/data/wal", {NodeId(1), 2}, options_);
    while (*log->spares()->prepare_step()) {
    }
    for (uint64_t i = 1; i < 200; ++i) {
      ASSERT_TRUE(log->save(views({make_entry(i, 1, std::string(300, 'v'))}), make_state(1, 1, i - 1), true));
    }
  }
  fs.crash(sim::Damage::kLoseUnsynced);
  const auto opened = Log::open(fs, "/data/wal", options_);
  ASSERT_TRUE(opened.has_value()) << opened.error().message;
  EXPECT_EQ(opened->log->last_index(), Index(199));
}

// After a sync that failed the kernel shows what was written and never writes it again: the next process must, before
// it builds on it.
TEST_F(LogFault, AStartAfterAFailedSyncWritesTheTailAgain) {
  for (const uint64_t known : {0, 3, 9}) {  // what the caller knows to have been synced
    const std::string path = fmt::format("/data/wal{}", known);
    log_ = *Log::create(fs_, path, {NodeId(1), 2}, options_);
    for (uint64_t index = 1; index <= 10; ++index) ASSERT_TRUE(save(index));
    // Not synced, as a commit index need not be: also this may be lost.
    ASSERT_TRUE(log_->save({}, make_state(1, 1, 10), false));
    fs_.plan(sim::Op::kSync, sim::Fault::kIo);
    ASSERT_FALSE(save(11));
    log_.reset();  // the process ends; the machine goes on

    auto opened = Log::open(fs_, path, {.segment_bytes = 16 * 1024, .zero_ahead_bytes = 4096, .take_over = false});
    ASSERT_TRUE(opened) << opened.error().message;
    ASSERT_TRUE(opened->log->take_over(Index(known)));
    log_ = std::move(opened->log);
    EXPECT_EQ(log_->last_index(), Index(11));
    ASSERT_TRUE(save(12));
    log_.reset();
    fs_.crash(sim::Damage::kLoseUnsynced);
    const auto again = Log::open(fs_, path, options_);
    ASSERT_TRUE(again) << again.error().message;
    EXPECT_EQ(again->log->last_index(), Index(12)) << known;
    EXPECT_FALSE(again->repair);
  }
}

// Settled alone, the records are on the disk. The rest of taking over may wait, and so it may never come.
TEST_F(LogFault, ASettledLogSurvivesWithoutBeingTakenOver) {
  for (uint64_t index = 1; index <= 10; ++index) ASSERT_TRUE(save(index));
  fs_.plan(sim::Op::kSync, sim::Fault::kIo);
  ASSERT_FALSE(save(11));
  log_.reset();
  {
    Options options = options_;
    options.take_over = false;
    const auto opened = Log::open(fs_, "/data/wal", options);
    ASSERT_TRUE(opened) << opened.error().message;
    ASSERT_TRUE(opened->log->settle(Index(9)));
    watch_operations();
    ASSERT_TRUE(opened->log->settle(Index(9)));
    EXPECT_TRUE(operations_.empty());
    EXPECT_FALSE(opened->log->taken_over());
  }
  fs_.crash(sim::Damage::kLoseUnsynced);
  const auto again = Log::open(fs_, "/data/wal", options_);
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(again->log->last_index(), Index(11));
}

// What an interrupted preparation left may be zeros in the kernel's memory alone.
TEST_F(LogFault, ASpareThatWasNotFinishedIsFilledAgain) {
  {
    const auto file = *fs_.open("/data/wal/preparing.tmp", env::OpenMode::kCreate);
    ASSERT_TRUE(file->pwrite(std::string(16 * 1024, 'o'), 0));
    ASSERT_TRUE(file->fdatasync());
    ASSERT_TRUE(file->pwrite(std::string(16 * 1024, '\0'), 0));
    fs_.plan(sim::Op::kSync, sim::Fault::kIo);
    ASSERT_FALSE(file->fdatasync());
  }
  while (*log_->spares()->prepare_step()) {
  }
  ASSERT_TRUE(fs_.sync_directory("/data/wal"));
  log_.reset();
  fs_.crash(sim::Damage::kLoseUnsynced);
  EXPECT_EQ(env::read_file(fs_, "/data/wal/0.tmp"), std::string(16 * 1024, '\0'));
}

}  // namespace
}  // namespace cairn::wal
