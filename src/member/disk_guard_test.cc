#include "member/disk_guard.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "sim/disk/sim_fs.h"
#include "testing/file_systems.h"
#include "testing/temp_dir.h"

namespace cairn::member {
namespace {

// The real file system, with a device of `capacity` bytes that holds the reserve and `used`.
class SmallDisk final : public cairn::testing::ForwardingFileSystem {
 public:
  Result<uint64_t> free_bytes(const std::string& path) override {
    if (fails) return fail(Code::kUnknown, "test");
    std::error_code ec;
    const auto reserve = std::filesystem::file_size(reserve_path, ec);
    const uint64_t used = (path == log_directory ? log_used : data_used) + (ec ? 0 : reserve);
    return capacity - std::min(capacity, used);
  }

  std::string reserve_path, log_directory;
  uint64_t capacity = 1000 << 20, data_used = 0, log_used = 0;
  bool fails = false;
};

class DiskGuardTest : public ::testing::Test {
 protected:
  void SetUp() override {
    disk_.reserve_path = path_ + "/cairn/reserve";
    disk_.log_directory = path_ + "/wal";
  }
  DiskGuard::Options options() const { return {.directory = path_ + "/cairn", .log_directory = path_ + "/wal"}; }
  bool holds_reserve() const { return std::filesystem::exists(disk_.reserve_path); }

  const cairn::testing::TempDir folder_;
  const std::string path_ = folder_.path();
  SmallDisk disk_;
};

constexpr uint64_t kMegabyte = 1 << 20;

TEST_F(DiskGuardTest, ReservesWhileThereIsRoomAndGivesUpOnce) {
  DiskGuard guard(disk_, options());
  EXPECT_FALSE(guard.look({}));
  EXPECT_TRUE(holds_reserve());
  disk_.data_used = disk_.capacity - 45 * kMegabyte;
  EXPECT_TRUE(guard.look({})) << "with the reserve, 37 MB are free";
  EXPECT_TRUE(holds_reserve()) << "kept until it is needed";
  guard.give_up_reserve();
  EXPECT_FALSE(holds_reserve());
  EXPECT_TRUE(guard.look({}));
  EXPECT_FALSE(holds_reserve()) << "not taken back from those who need it";
  guard.give_up_reserve();
}

TEST_F(DiskGuardTest, IsLowUntilThereIsTwiceTheRoom) {
  DiskGuard guard(disk_, options());
  (void)guard.look({});
  disk_.data_used = disk_.capacity;
  EXPECT_TRUE(guard.look({}));
  EXPECT_TRUE(guard.is_low());
  guard.give_up_reserve();
  disk_.data_used = disk_.capacity - 79 * kMegabyte;
  EXPECT_TRUE(guard.look({}));
  disk_.data_used = disk_.capacity - 80 * kMegabyte;
  EXPECT_FALSE(guard.look({}));
  EXPECT_TRUE(holds_reserve());
  EXPECT_FALSE(guard.look({})) << "72 MB are free: below what ends low, above what begins it";
  EXPECT_FALSE(guard.is_low());
}

TEST_F(DiskGuardTest, WhatIsFreeInTheDbIsRoomForTheDb) {
  DiskGuard guard(disk_, options());
  (void)guard.look({});
  disk_.data_used = disk_.log_used = disk_.capacity - 20 * kMegabyte;  // with the reserve, 12 MB are free
  EXPECT_TRUE(guard.look({.in_db_bytes = 27 * kMegabyte}));
  guard.give_up_reserve();  // 20 MB are free
  EXPECT_TRUE(guard.look({.in_db_bytes = 59 * kMegabyte}));
  EXPECT_FALSE(guard.look({.in_db_bytes = 60 * kMegabyte}));
  EXPECT_FALSE(holds_reserve()) << "not made of the last room on the device";
  EXPECT_FALSE(guard.look({.in_db_bytes = UINT64_MAX}));
}

TEST_F(DiskGuardTest, TheLogMayBeOnAnotherDevice) {
  DiskGuard guard(disk_, options());
  EXPECT_FALSE(guard.look({}));
  disk_.reserve_path = "elsewhere";
  disk_.log_used = disk_.capacity - 8 * kMegabyte;
  EXPECT_FALSE(guard.look({}));
  disk_.log_used = disk_.capacity - 7 * kMegabyte;
  EXPECT_FALSE(guard.look({.has_spare = true})) << "it needs nothing of the device for a while";
  EXPECT_TRUE(guard.look({}));
  disk_.log_used = disk_.capacity - 15 * kMegabyte;
  EXPECT_TRUE(guard.look({}));
  disk_.log_used = disk_.capacity - 16 * kMegabyte;
  EXPECT_FALSE(guard.look({}));
}

TEST_F(DiskGuardTest, ACommitWithoutRoomMeansLowWhateverTheDeviceSays) {
  DiskGuard guard(disk_, options());
  (void)guard.look({});
  EXPECT_TRUE(guard.look({.db_is_full = true}));
  guard.give_up_reserve();
  EXPECT_TRUE(guard.look({.db_is_full = true}));
  EXPECT_FALSE(holds_reserve()) << "not made and given up in turn";
  EXPECT_FALSE(guard.look({}));
  EXPECT_TRUE(holds_reserve());
}

TEST_F(DiskGuardTest, RoomForTheLogIsWhatLeavesTheRestAboveLow) {
  DiskGuard guard(disk_, options());
  disk_.data_used = disk_.log_used = disk_.capacity - 104 * kMegabyte;
  EXPECT_TRUE(guard.has_room_for(64 * kMegabyte));
  EXPECT_FALSE(guard.has_room_for(64 * kMegabyte + 1));
  EXPECT_FALSE(guard.has_room_for(200 * kMegabyte));
  disk_.data_used = disk_.log_used = disk_.capacity - 72 * kMegabyte;
  (void)guard.look({.in_db_bytes = 32 * kMegabyte});
  EXPECT_FALSE(holds_reserve());
  EXPECT_TRUE(guard.has_room_for(64 * kMegabyte));
  EXPECT_FALSE(guard.has_room_for(64 * kMegabyte + 1));
  (void)guard.look({.in_db_bytes = 1000 * kMegabyte});
  EXPECT_FALSE(guard.has_room_for(64 * kMegabyte + 1)) << "the log has 8 MB of its own";
}

TEST_F(DiskGuardTest, DeletesMayTakeWhatIsFreeLessWhatACompactionNeeds) {
  DiskGuard guard(disk_, options());
  EXPECT_FALSE(guard.look({}));
  ASSERT_TRUE(holds_reserve());
  disk_.data_used = disk_.capacity - 38 * kMegabyte;  // 30 MB, and the reserve
  EXPECT_TRUE(guard.look({.in_db_bytes = 2 * kMegabyte}));
  EXPECT_EQ(guard.room_for_deletes(0), 37 * kMegabyte);
  EXPECT_EQ(guard.room_for_deletes(4 * kMegabyte), 33 * kMegabyte);
  EXPECT_EQ(guard.room_for_deletes(100 * kMegabyte), 0u);
  guard.give_up_reserve();
  EXPECT_EQ(guard.room_for_deletes(0), 37 * kMegabyte) << "it is free now";
  EXPECT_TRUE(guard.look({.db_is_full = true}));
  EXPECT_EQ(guard.room_for_deletes(0), 0u);
  disk_.fails = true;
  EXPECT_EQ(guard.room_for_deletes(0), UINT64_MAX);
}

TEST_F(DiskGuardTest, KnowsTheReserveOfAnEarlierProcess) {
  {
    DiskGuard guard(disk_, options());
    (void)guard.look({});
  }
  ASSERT_TRUE(holds_reserve());
  DiskGuard guard(disk_, options());
  disk_.data_used = disk_.capacity;
  EXPECT_TRUE(guard.look({}));
  guard.give_up_reserve();
  EXPECT_FALSE(holds_reserve());
}

TEST_F(DiskGuardTest, AHalfMadeReserveCountsAsNone) {
  std::filesystem::create_directories(path_ + "/cairn");
  ASSERT_TRUE(env::write_file(disk_, disk_.reserve_path, "half"));
  DiskGuard guard(disk_, options());
  EXPECT_FALSE(guard.look({}));
  EXPECT_EQ(std::filesystem::file_size(disk_.reserve_path), 8 * kMegabyte);
}

TEST(DiskGuardOnCopiedFiles, AReserveWithHolesIsFilledOrIsNone) {
  for (const bool has_room : {true, false}) {
    sim::SimFileSystem disk({.seed = 1});
    disk.make_durable_directories("/data/cairn");
    const DiskGuard::Options options{.directory = "/data/cairn", .log_directory = "/data/wal"};
    ASSERT_TRUE((*disk.open("/data/cairn/reserve", env::OpenMode::kCreate))->truncate(options.reserve_bytes));
    if (!has_room) disk.options().capacity_bytes = disk.used_bytes() + options.reserve_bytes / 2;
    const DiskGuard guard(disk, options);
    EXPECT_EQ(disk.exists("/data/cairn/reserve"), has_room);
    EXPECT_EQ(disk.used_bytes(), has_room ? options.reserve_bytes : 0);
  }
}

TEST_F(DiskGuardTest, ADeviceThatDoesNotSayHasRoom) {
  disk_.fails = true;
  DiskGuard guard(disk_, options());
  EXPECT_FALSE(guard.look({.in_db_bytes = 1}));
  EXPECT_TRUE(guard.has_room_for(64 * kMegabyte));
}

}  // namespace
}  // namespace cairn::member
