#include "wal/snap_file.h"

#include <filesystem>

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "wal/testing.h"

namespace cairn::wal {
namespace {

using testing::make_state;
using testing::read_all;
using testing::TempDir;
using testing::write_all;

SnapshotFile make_snapshot(uint64_t index, uint64_t term) {
  return {.index = Index(index),
          .term = Term(term),
          .conf_state = "what it is does not matter here",
          .data = "{\"Root\":{}}"};
}

class SnapFile : public ::testing::Test {
 protected:
  void write(uint64_t index, uint64_t term) {
    ASSERT_TRUE(write_snapshot_file(fs_, dir_.path(), make_snapshot(index, term)));
  }
  env::FileSystem& fs_ = env::posix_fs();
  TempDir dir_;
};

TEST_F(SnapFile, NamesAreTermAndIndex) {
  EXPECT_EQ(format_snapshot_name({Term(3), Index(5611)}), "0000000000000003-00000000000015eb.snap");
  EXPECT_EQ(parse_snapshot_name("0000000000000003-00000000000015eb.snap"), (SnapshotName{Term(3), Index(5611)}));
  for (const char* name : {"db", "00000000000015eb.snap.db", "0000000000000003-00000000000015eb.snap.broken",
                           "0000000000000003_00000000000015eb.snap", "000000000000000g-00000000000015eb.snap"}) {
    EXPECT_FALSE(parse_snapshot_name(name)) << name;
  }
}

TEST_F(SnapFile, ReadsBackAndLeavesNothingElse) {
  write(7, 2);
  EXPECT_EQ(*fs_.list(dir_.path()), std::vector<std::string>{"0000000000000002-0000000000000007.snap"});
  const auto snapshot = read_snapshot_file(fs_, dir_.path(), {Term(2), Index(7)});
  ASSERT_TRUE(snapshot.has_value()) << snapshot.error().message;
  EXPECT_EQ(*snapshot, make_snapshot(7, 2));
}

TEST_F(SnapFile, EveryFlippedBitAndEveryCutIsFound) {
  const SnapshotFile snapshot = make_snapshot(300, 2);
  const std::string bytes = encode_snapshot_file(snapshot);
  ASSERT_EQ(decode_snapshot_file(bytes), snapshot);
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    std::string flipped = bytes;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ 1 << bit % 8);
    EXPECT_FALSE(decode_snapshot_file(flipped).has_value()) << "bit " << bit;
  }
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_FALSE(decode_snapshot_file(bytes.substr(0, size)).has_value()) << "size " << size;
  }
  EXPECT_FALSE(decode_snapshot_file(bytes + std::string(8, '\0')).has_value());
}

TEST_F(SnapFile, TheNewestRecordedOneIsChosenAndUnreadableOnesAreSetAside) {
  write(10, 1);
  write(20, 2);
  write(30, 2);  // readable, but without a record
  write(40, 3);
  const std::string broken = dir_ / format_snapshot_name({Term(3), Index(40)});
  std::string bytes = read_all(broken);
  bytes[bytes.size() / 2] ^= 1;
  write_all(broken, bytes);
  write_all(dir_ / format_snapshot_name({Term(3), Index(50)}), "");
  const std::vector<SnapshotRecord> records = {
      {}, {Index(10), Term(1), {}}, {Index(20), Term(2), {}}, {Index(40), Term(3), {}}, {Index(60), Term(3), {}}};
  const auto valid = valid_snapshot_records(records, make_state(3, 0, 45));
  EXPECT_EQ(valid.size(), 4u);
  const auto start = choose_start_snapshot(fs_, dir_.path(), valid);
  ASSERT_TRUE(start.has_value() && start->has_value());
  EXPECT_EQ(**start, make_snapshot(20, 2));
  EXPECT_TRUE(fs_.exists(broken + ".broken"));
  EXPECT_FALSE(fs_.exists(broken));
  EXPECT_TRUE(fs_.exists(dir_ / format_snapshot_name({Term(3), Index(50)}) + ".broken"));
}

TEST_F(SnapFile, WhatIsNoFileIsSetAsideAsEtcdDoes) {
  write(20, 2);
  const auto path = [&](uint64_t index) { return dir_ / format_snapshot_name({Term(3), Index(index)}); };
  ASSERT_EQ(::mkfifo(path(50).c_str(), 0600), 0);
  ASSERT_TRUE(fs_.make_directories(path(60)));
  ASSERT_EQ(::symlink("nowhere", path(70).c_str()), 0);
  EXPECT_TRUE(sync_snapshot_files(fs_, dir_.path()));
  const std::vector<SnapshotRecord> valid = {{Index(20), Term(2), {}}};
  const auto start = choose_start_snapshot(fs_, dir_.path(), valid);
  ASSERT_TRUE(start.has_value() && start->has_value());
  EXPECT_EQ(**start, make_snapshot(20, 2));
  for (const uint64_t index : {50U, 60U, 70U}) {
    EXPECT_FALSE(std::filesystem::exists(std::filesystem::symlink_status(path(index))));
    EXPECT_TRUE(std::filesystem::exists(std::filesystem::symlink_status(path(index) + ".broken")));
  }
}

TEST_F(SnapFile, WithoutAnyThereIsNone) {
  const std::vector<SnapshotRecord> records = {SnapshotRecord{}};
  const auto start = choose_start_snapshot(fs_, dir_.path(), records);
  ASSERT_TRUE(start.has_value());
  EXPECT_FALSE(start->has_value());
}

TEST_F(SnapFile, AFileUnderAnotherSnapshotsNameIsRefused) {
  write(10, 1);
  ASSERT_TRUE(
      fs_.rename(dir_ / format_snapshot_name({Term(1), Index(10)}), dir_ / format_snapshot_name({Term(1), Index(11)})));
  EXPECT_EQ(read_snapshot_file(fs_, dir_.path(), {Term(1), Index(11)}).error().code, Code::kDataLoss);
}

TEST_F(SnapFile, PurgeKeepsTheNewest) {
  for (uint64_t i = 1; i <= 8; ++i) write(i * 16, i % 3 + 1);
  write_all(dir_ / "db", "not mine");
  EXPECT_EQ(purge_snapshot_files(fs_, dir_.path()), 3u);
  const auto names = list_snapshot_files(fs_, dir_.path());
  ASSERT_EQ(names->size(), 5u);
  EXPECT_EQ(names->front(), (SnapshotName{Term(3), Index(128)}));
  EXPECT_EQ(purge_snapshot_files(fs_, dir_.path()), 0u);
  EXPECT_TRUE(fs_.exists(dir_ / "db"));
}

}  // namespace
}  // namespace cairn::wal
