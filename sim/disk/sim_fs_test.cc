#include "sim/disk/sim_fs.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>

#include <gtest/gtest.h>

#include "base/random.h"

namespace cairn::sim {
namespace {

using env::OpenMode;

std::string fill(char c, size_t size) { return std::string(size, c); }

// A file that has been there for ever.
std::unique_ptr<env::File> durable_file(SimFileSystem& fs, const std::string& path, std::string_view content) {
  auto file = *fs.open(path, OpenMode::kCreate);
  EXPECT_TRUE(file->pwrite(content, 0));
  EXPECT_TRUE(file->fdatasync());
  EXPECT_TRUE(fs.sync_directory(env::parent_directory(path)));
  return file;
}

std::string content(SimFileSystem& fs, const std::string& path) {
  return env::read_file(fs, path).value_or(Error{}.message);
}

// Calls f(fs) for many seeds; f sets up, crashes and returns what is left. The set of what was seen.
template <class F>
std::set<std::string> outcomes(F&& f, uint64_t seeds = 400, Options options = {}) {
  std::set<std::string> seen;
  for (uint64_t seed = 1; seed <= seeds; ++seed) {
    options.seed = seed;
    SimFileSystem fs(options);
    seen.insert(f(fs));
  }
  return seen;
}

TEST(SimFs, ReadsWhatWasWrittenAndGrowsWithZeros) {
  SimFileSystem fs;
  ASSERT_TRUE(fs.make_directories("/a/b/"));
  auto file = *fs.open("a//b/f", OpenMode::kCreate);
  ASSERT_TRUE(file->pwrite("hello", 5000));
  EXPECT_EQ(*file->size(), 5005u);
  EXPECT_EQ(content(fs, "./a/b/f"), fill('\0', 5000) + "hello");
  ASSERT_TRUE(file->truncate(5002));
  ASSERT_TRUE(file->truncate(5010));
  EXPECT_EQ(content(fs, "/a/b/f"), fill('\0', 5000) + "he" + fill('\0', 8));
  ASSERT_TRUE(file->punch(4999, 2));
  EXPECT_EQ(content(fs, "/a/b/f"), fill('\0', 5001) + "e" + fill('\0', 8));
  ASSERT_TRUE(file->allocate(0, 6000));
  EXPECT_EQ(*file->size(), 6000u);
  char byte = 'x';
  EXPECT_EQ(*file->pread(&byte, 1, 6000), 0u);
  EXPECT_EQ(*fs.list("/a/b"), std::vector<std::string>{"f"});
}

TEST(SimFs, RefusesWhatPosixRefuses) {
  SimFileSystem fs;
  ASSERT_TRUE(fs.make_directories("/d"));
  EXPECT_EQ(fs.open("/d/none", OpenMode::kReadWrite).error().code, Code::kNotFound);
  EXPECT_EQ(fs.open("/none/f", OpenMode::kCreate).error().code, Code::kNotFound);
  EXPECT_EQ(fs.remove("/d/none").error().code, Code::kNotFound);
  EXPECT_EQ(fs.rename("/d/none", "/d/f").error().code, Code::kNotFound);
  EXPECT_EQ(fs.list("/none").error().code, Code::kNotFound);
  EXPECT_EQ(fs.sync_directory("/none").error().code, Code::kNotFound);
  EXPECT_TRUE(fs.remove_all("/none"));
  EXPECT_FALSE(fs.open("/d", OpenMode::kRead));
  EXPECT_FALSE(fs.remove("/d"));
  durable_file(fs, "/d/f", "x");
  EXPECT_FALSE(fs.make_directories("/d/f/g"));
  EXPECT_FALSE((*fs.open("/d/f", OpenMode::kRead))->pwrite("y", 0));
  ASSERT_TRUE(fs.make_directories("/e/full/deep"));
  EXPECT_FALSE(fs.rename("/d", "/e/full"));
  EXPECT_FALSE(fs.rename("/e", "/e/full/deep/e"));
  ASSERT_TRUE(fs.rename("/d", "/e/full/deep"));
  EXPECT_EQ(content(fs, "/e/full/deep/f"), "x");
  ASSERT_TRUE(fs.remove_all("/e"));
  EXPECT_TRUE(fs.list("/")->empty());
}

TEST(SimFs, SyncedBytesSurviveEveryCrash) {
  const auto seen = outcomes([](SimFileSystem& fs) {
    auto file = durable_file(fs, "/f", fill('a', 3000));
    fs.crash();
    return content(fs, "/f");
  });
  EXPECT_EQ(seen, std::set<std::string>{fill('a', 3000)});
}

TEST(SimFs, AWriteIsTornBySectorsAndNotWithin) {
  const auto seen = outcomes([](SimFileSystem& fs) {
    auto file = durable_file(fs, "/f", fill('a', 4 * 512));
    EXPECT_TRUE(file->pwrite(fill('b', 4 * 512 - 100), 50));
    fs.crash();
    const std::string left = content(fs, "/f");
    EXPECT_EQ(left.substr(0, 50), fill('a', 50));
    EXPECT_EQ(left.substr(left.size() - 50), fill('a', 50));
    std::string pattern;
    for (size_t sector = 0; sector < 4; ++sector) {
      const std::string part = left.substr(sector * 512 + 50, 412);
      EXPECT_TRUE(part == fill(part[0], 412)) << "torn within sector " << sector;
      pattern += part[0];
    }
    return pattern;
  });
  EXPECT_EQ(seen.size(), 16u);  // every subset
}

TEST(SimFs, LaterWritesMaySurviveEarlierOnesAndBytesInBetweenTheLast) {
  const auto seen = outcomes([](SimFileSystem& fs) {
    auto file = durable_file(fs, "/f", fill('0', 1024));
    EXPECT_TRUE(file->pwrite("1", 0));
    EXPECT_TRUE(file->pwrite("2", 512));
    EXPECT_TRUE(file->pwrite("3", 0));
    fs.crash();
    const std::string left = content(fs, "/f");
    return std::string{left[0], left[512]};
  });
  EXPECT_EQ(seen, (std::set<std::string>{"00", "02", "10", "12", "30", "32"}));
}

TEST(SimFs, SizeAndItsDataSurviveApart) {
  const auto seen = outcomes([](SimFileSystem& fs) {
    auto file = durable_file(fs, "/f", fill('a', 100));
    EXPECT_TRUE(file->pwrite(fill('b', 1500), 100));
    fs.crash();
    const std::string left = content(fs, "/f");
    EXPECT_EQ(left.substr(0, 100), fill('a', 100));
    for (const char c : left.substr(100)) EXPECT_TRUE(c == 'b' || c == '\0');
    std::string pattern = std::to_string(left.size());
    if (left.size() == 1600) {
      pattern += left[100] == 'b' ? " b" : " 0";
      pattern += left[1599] == 'b' ? "b" : "0";
    }
    return pattern;
  });
  EXPECT_EQ(seen, (std::set<std::string>{"100", "512", "1024", "1536", "1600 00", "1600 0b", "1600 b0", "1600 bb"}));
}

TEST(SimFs, ATruncationSurvivesAsAWholeOrLeavesTheBytes) {
  const auto seen = outcomes([](SimFileSystem& fs) {
    auto file = durable_file(fs, "/f", fill('a', 5000));
    EXPECT_TRUE(file->truncate(1024));
    fs.crash();
    const std::string left = content(fs, "/f");
    EXPECT_EQ(left, fill('a', left.size()));
    return std::to_string(left.size());
  });
  EXPECT_EQ(seen, (std::set<std::string>{"1024", "5000"}));
}

TEST(SimFs, AfterCutAndRegrowthOldBytesComeBackOnlyWithTheOldSize) {
  outcomes([](SimFileSystem& fs) {
    auto file = durable_file(fs, "/f", fill('a', 4096));
    EXPECT_TRUE(file->truncate(1024));
    EXPECT_TRUE(file->pwrite(fill('b', 1024), 1024));
    EXPECT_TRUE(file->truncate(3000));
    fs.crash();
    const std::string left = content(fs, "/f");
    EXPECT_EQ(left.substr(0, 1024), fill('a', 1024));
    for (const char c : left.substr(1024)) {
      if (left.size() == 4096) {
        EXPECT_EQ(c, 'a');
      } else {
        EXPECT_NE(c, 'a') << left.size();
      }
    }
    return std::string();
  });
}

TEST(SimFs, HolesAreWhatWasPunchedOrNeverWritten) {
  SimFileSystem fs({.seed = 1});
  auto file = durable_file(fs, "/f", fill('a', 5 * kPageBytes));
  const auto holes = [&] { return *file->holes(); };
  EXPECT_EQ(holes(), std::vector<env::FileRange>{});
  ASSERT_TRUE(file->punch(kPageBytes, 2 * kPageBytes));
  ASSERT_TRUE(file->truncate(6 * kPageBytes + 10));
  EXPECT_EQ(holes(), (std::vector<env::FileRange>{{kPageBytes, 2 * kPageBytes}, {5 * kPageBytes, kPageBytes + 10}}));
  ASSERT_TRUE(file->allocate(0, 2 * kPageBytes));
  ASSERT_TRUE(file->pwrite("x", 6 * kPageBytes));
  EXPECT_EQ(holes(), (std::vector<env::FileRange>{{2 * kPageBytes, kPageBytes}, {5 * kPageBytes, kPageBytes}}));
}

TEST(SimFs, APunchedRangeIsOldOrZero) {
  const auto seen = outcomes([](SimFileSystem& fs) {
    auto file = durable_file(fs, "/f", fill('a', 8192));
    EXPECT_TRUE(file->punch(4096, 4096));
    EXPECT_EQ(content(fs, "/f"), fill('a', 4096) + fill('\0', 4096));
    fs.crash();
    const std::string left = content(fs, "/f");
    EXPECT_EQ(left.size(), 8192u);
    return std::string{left[4095], left[4096], left[8191]};
  });
  EXPECT_TRUE(seen.contains("aaa"));
  EXPECT_TRUE(seen.contains(std::string("a\0\0", 3)));
}

TEST(SimFs, NamesSurviveOnlyWithTheirDirectorySynced) {
  const auto seen = outcomes([](SimFileSystem& fs) {
    fs.make_durable_directories("/d");
    auto file = *fs.open("/d/f", OpenMode::kCreate);
    EXPECT_TRUE(file->pwrite("x", 0));
    EXPECT_TRUE(file->fdatasync());  // not the name
    fs.crash();
    return fs.exists("/d/f") ? content(fs, "/d/f") : "gone";
  });
  EXPECT_EQ(seen, (std::set<std::string>{"gone", "x"}));
  const auto synced = outcomes([](SimFileSystem& fs) {
    fs.make_durable_directories("/d");
    auto file = *fs.open("/d/f", OpenMode::kCreate);
    EXPECT_TRUE(file->pwrite("x", 0));
    EXPECT_TRUE(fs.sync_directory("/d"));  // not the data
    fs.crash();
    return fs.exists("/d/f") ? content(fs, "/d/f") : "gone";
  });
  EXPECT_EQ(synced, (std::set<std::string>{"", std::string(1, '\0'), "x"}));
}

TEST(SimFs, ADirectoryWithoutADurableNameVanishesWithItsFiles) {
  const auto seen = outcomes([](SimFileSystem& fs) {
    EXPECT_TRUE(fs.make_directories("/d"));
    durable_file(fs, "/d/f", "x");
    fs.crash();
    return !fs.exists("/d") ? "no directory" : content(fs, "/d/f");
  });
  EXPECT_EQ(seen, (std::set<std::string>{"no directory", "x"}));
}

TEST(SimFs, ARenameIsOldOrNewAndDurableOnceSynced) {
  const auto replace = [](SimFileSystem& fs, bool sync) {
    durable_file(fs, "/f", "old");
    EXPECT_TRUE(env::write_file(fs, "/f.tmp", "new"));
    EXPECT_TRUE(fs.rename("/f.tmp", "/f"));
    if (sync) {
      EXPECT_TRUE(fs.sync_directory("/"));
    }
    fs.crash();
    return content(fs, "/f") + (fs.exists("/f.tmp") ? " and tmp" : "");
  };
  EXPECT_EQ(outcomes([&](SimFileSystem& fs) { return replace(fs, false); }),
            (std::set<std::string>{"old", "old and tmp", "new"}));
  EXPECT_EQ(outcomes([&](SimFileSystem& fs) { return replace(fs, true); }), std::set<std::string>{"new"});
}

TEST(SimFs, ARemovalMayComeBackUntilSynced) {
  const auto seen = outcomes([](SimFileSystem& fs) {
    durable_file(fs, "/f", "x");
    EXPECT_TRUE(fs.remove("/f"));
    EXPECT_FALSE(fs.exists("/f"));
    fs.crash();
    return fs.exists("/f") ? content(fs, "/f") : "gone";
  });
  EXPECT_EQ(seen, (std::set<std::string>{"gone", "x"}));
  const auto synced = outcomes([](SimFileSystem& fs) {
    durable_file(fs, "/f", "x");
    EXPECT_TRUE(fs.remove("/f"));
    EXPECT_TRUE(fs.sync_directory("/"));
    fs.crash();
    return fs.exists("/f") ? "back" : "gone";
  });
  EXPECT_EQ(synced, std::set<std::string>{"gone"});
}

TEST(SimFs, ARenameBetweenDirectoriesNeverShowsTwice) {
  const auto seen = outcomes([](SimFileSystem& fs) {
    fs.make_durable_directories("/a");
    fs.make_durable_directories("/b");
    EXPECT_TRUE(env::write_file(fs, "/a/f", "x"));
    EXPECT_TRUE(fs.rename("/a/f", "/b/f"));
    EXPECT_TRUE(fs.sync_directory("/b"));
    fs.crash();
    return std::string(fs.exists("/a/f") ? "a" : "") + (fs.exists("/b/f") ? "b" : "");
  });
  EXPECT_EQ(seen, std::set<std::string>{"b"});
}

TEST(SimFs, ARenamedDirectoryKeepsItsDurableFiles) {
  const auto seen = outcomes([](SimFileSystem& fs) {
    EXPECT_TRUE(fs.make_directories("/wal.tmp"));
    durable_file(fs, "/wal.tmp/0", "x");
    EXPECT_TRUE(fs.rename("/wal.tmp", "/wal"));
    fs.crash();
    const auto names = *fs.list("/");
    if (names.empty()) return std::string("none");
    EXPECT_EQ(names.size(), 1u);
    return names[0] + " " + content(fs, names[0] + "/0");
  });
  EXPECT_EQ(seen, (std::set<std::string>{"none", "wal x", "wal.tmp x"}));
}

TEST(SimFs, DamageCanBeChosen) {
  SimFileSystem fs({.seed = 7});
  auto file = durable_file(fs, "/f", fill('a', 2048));
  ASSERT_TRUE(file->pwrite(fill('b', 4096), 0));
  ASSERT_TRUE(env::write_file(fs, "/g", "x"));
  EXPECT_GT(fs.volatile_changes(), 0u);
  const auto other = fs.clone(3);
  fs.crash(Damage::kLoseUnsynced);
  EXPECT_EQ(content(fs, "/f"), fill('a', 2048));
  EXPECT_FALSE(fs.exists("/g"));
  EXPECT_EQ(fs.volatile_changes(), 0u);
  other->crash(Damage::kKeepAll);
  EXPECT_EQ(content(*other, "/f"), fill('b', 4096));
  EXPECT_EQ(content(*other, "/g"), "x");
  EXPECT_EQ(other->volatile_changes(), 0u);
}

TEST(SimFs, ACutInTimeKeepsWhatCameBefore) {
  std::set<size_t> counts;
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    SimFileSystem fs({.seed = seed});
    std::vector<std::unique_ptr<env::File>> files;
    for (int i = 0; i < 4; ++i) files.push_back(durable_file(fs, "/" + std::to_string(i), fill('a', 512)));
    for (auto& file : files) ASSERT_TRUE(file->pwrite(fill('b', 512), 0));
    fs.crash(Damage::kCutInTime);
    std::string left;
    for (int i = 0; i < 4; ++i) left += content(fs, "/" + std::to_string(i))[0];
    EXPECT_TRUE(std::is_sorted(left.rbegin(), left.rend())) << left;
    counts.insert(static_cast<size_t>(std::count(left.begin(), left.end(), 'b')));
  }
  EXPECT_EQ(counts.size(), 5u);
}

TEST(SimFs, FilesOfTheOldLifeAreDeadAndItsLocksGone) {
  SimFileSystem fs;
  auto file = durable_file(fs, "/f", "x");
  ASSERT_TRUE(file->lock_flock());
  auto second = *fs.open("/f", OpenMode::kReadWrite);
  EXPECT_EQ(second->lock_flock().error().code, Code::kUnavailable);
  EXPECT_TRUE(second->lock_ofd());  // another kind of lock
  EXPECT_EQ(file->lock_ofd().error().code, Code::kUnavailable);
  second.reset();
  EXPECT_TRUE(file->lock_ofd());
  fs.crash();
  char byte;
  EXPECT_EQ(file->pread(&byte, 1, 0).error().code, Code::kUnavailable);
  EXPECT_EQ(file->pwrite("y", 0).error().code, Code::kUnavailable);
  EXPECT_EQ(file->size().error().code, Code::kUnavailable);
  auto fresh = *fs.open("/f", OpenMode::kReadWrite);
  EXPECT_TRUE(fresh->lock_flock());
  file.reset();  // must not take the new life's lock away
  EXPECT_FALSE((*fs.open("/f", OpenMode::kRead))->lock_flock());
}

TEST(SimFs, EveryMutationIsACrashPoint) {
  const auto run = [](SimFileSystem& fs) -> Status {
    CAIRN_CHECK(fs.make_directories("/d"));
    CAIRN_CHECK(env::replace_file(fs, "/d/f", "data"));
    CAIRN_CHECK(fs.remove("/d/f"));
    return fs.sync_directory("/d");
  };
  SimFileSystem whole;
  ASSERT_TRUE(run(whole));
  EXPECT_EQ(whole.mutations(), 8u);
  for (uint64_t n = 1; n <= whole.mutations(); ++n) {
    SimFileSystem fs({.seed = n});
    fs.crash_at(n);
    const Status status = run(fs);
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().code, Code::kUnavailable);
    EXPECT_TRUE(fs.crashed());
    EXPECT_EQ(fs.mutations(), n);
    EXPECT_FALSE(fs.exists("/d"));  // nothing works without power
    EXPECT_FALSE(fs.list("/"));
    fs.crash();
    EXPECT_FALSE(fs.crashed());
    EXPECT_TRUE(run(fs)) << n;
  }
}

TEST(SimFs, ASyncThatTheCrashHitsDidNotHappen) {
  const auto seen = outcomes([](SimFileSystem& fs) {
    auto file = durable_file(fs, "/f", "a");
    EXPECT_TRUE(file->pwrite("b", 0));
    fs.plan(Op::kSync, Fault::kCrash);
    EXPECT_FALSE(file->fdatasync());
    fs.crash();
    return content(fs, "/f");
  });
  EXPECT_EQ(seen, (std::set<std::string>{"a", "b"}));
}

TEST(SimFs, AFailedSyncIsNotMadeGoodByALaterOne) {
  SimFileSystem fs;
  auto file = durable_file(fs, "/f", fill('a', 1024));
  ASSERT_TRUE(file->pwrite(fill('b', 1024), 0));
  fs.plan(Op::kSync, Fault::kIo);
  EXPECT_EQ(file->fdatasync().error().code, Code::kUnknown);
  ASSERT_TRUE(file->pwrite(fill('c', 512), 512));  // this one again
  ASSERT_TRUE(file->fdatasync());
  EXPECT_EQ(content(fs, "/f"), fill('b', 512) + fill('c', 512));
  fs.crash(Damage::kLoseUnsynced);
  EXPECT_EQ(content(fs, "/f"), fill('a', 512) + fill('c', 512));
}

TEST(SimFs, WhatAFailedSyncLostDoesNotTakeLaterNeighboursAlong) {
  SimFileSystem fs;
  auto file = durable_file(fs, "/f", fill('\0', 4096));
  ASSERT_TRUE(file->pwrite(fill('b', 512), 0));
  fs.plan(Op::kSync, Fault::kIo);
  ASSERT_FALSE(file->fdatasync());
  ASSERT_TRUE(file->pwrite(fill('c', 512), 512));
  ASSERT_TRUE(file->fdatasync());
  ASSERT_TRUE(file->pwrite(fill('d', 512), 512));
  fs.crash(Damage::kLoseUnsynced);
  EXPECT_EQ(content(fs, "/f"), fill('\0', 512) + fill('c', 512) + fill('\0', 3072));
}

TEST(SimFs, FaultsComeAsPlannedByRateAndByHook) {
  SimFileSystem fs;
  auto file = durable_file(fs, "/f", "a");
  fs.plan(Op::kWrite, Fault::kNoSpace, 2);
  EXPECT_TRUE(file->pwrite("b", 0));
  EXPECT_EQ(file->pwrite("c", 0).error().code, Code::kResourceExhausted);
  EXPECT_TRUE(file->pwrite("d", 0));
  fs.plan(Op::kAllocate, Fault::kUnsupported);
  EXPECT_EQ(file->allocate(0, 10).error().code, Code::kUnimplemented);
  EXPECT_TRUE(file->allocate(0, 10));
  fs.options().tells_holes = false;
  EXPECT_EQ(file->holes().error().code, Code::kUnimplemented);
  fs.options().can_punch = false;
  EXPECT_EQ(file->punch(0, 10).error().code, Code::kUnimplemented);
  fs.set_rate(Op::kRead, Fault::kIo, 1);
  char byte;
  EXPECT_FALSE(file->pread(&byte, 1, 0));
  fs.set_rate(Op::kRead, Fault::kIo, 0);
  EXPECT_TRUE(file->pread(&byte, 1, 0));
  fs.set_hook([](const Operation& operation) { return operation.path == "/g" ? Fault::kIo : Fault::kNone; });
  EXPECT_FALSE(fs.open("/g", OpenMode::kCreate));
  EXPECT_FALSE(fs.exists("/g"));
  EXPECT_TRUE(fs.open("/h", OpenMode::kCreate));
  fs.clear_faults();
  EXPECT_TRUE(fs.open("/g", OpenMode::kCreate));
}

TEST(SimFs, TheObserverSeesTheOrderOfWritesAndSyncs) {
  SimFileSystem fs;
  std::string order;
  fs.set_observer([&](const Operation& operation) {
    if (operation.number == 0) return;
    order += std::string(op_name(operation.op)) + " " + std::string(operation.path) + "; ";
  });
  ASSERT_TRUE(env::replace_file(fs, "/f", "x"));
  EXPECT_EQ(order, "create /f.tmp; write /f.tmp; sync /f.tmp; rename /f.tmp; sync directory /; ");
}

TEST(SimFs, SpaceIsCountedInPagesAndRunsOut) {
  SimFileSystem fs({.capacity_bytes = 10 * kPageBytes});
  auto file = durable_file(fs, "/f", fill('a', 2 * kPageBytes));
  EXPECT_EQ(*fs.free_bytes("/"), 8 * kPageBytes);
  ASSERT_TRUE(file->allocate(2 * kPageBytes, 6 * kPageBytes));
  EXPECT_EQ(fs.used_bytes(), 8 * kPageBytes);
  EXPECT_EQ(file->allocate(0, 11 * kPageBytes).error().code, Code::kResourceExhausted);
  EXPECT_TRUE(file->pwrite(fill('b', kPageBytes), 7 * kPageBytes));  // allocated before
  EXPECT_EQ(file->pwrite(fill('b', 3 * kPageBytes), 8 * kPageBytes).error().code, Code::kResourceExhausted);
  ASSERT_TRUE(file->truncate(8 * kPageBytes));
  ASSERT_TRUE(file->punch(0, 4 * kPageBytes));
  EXPECT_EQ(fs.used_bytes(), 4 * kPageBytes);
  ASSERT_TRUE(fs.remove("/f"));
  EXPECT_EQ(fs.used_bytes(), 4 * kPageBytes);  // still open
  file.reset();
  EXPECT_EQ(fs.used_bytes(), 0u);
  EXPECT_EQ(*fs.free_bytes("/"), 10 * kPageBytes);
  fs.crash(Damage::kLoseUnsynced);  // the removal was not durable, nor what came after the first sync
  EXPECT_EQ(content(fs, "/f"), fill('a', 2 * kPageBytes));
  EXPECT_EQ(fs.used_bytes(), 2 * kPageBytes);
}

TEST(SimFs, AMappingShowsWritesGrowthCutsAndLaterMappingsTheSame) {
  SimFileSystem fs({.mapping_bytes_max = 1 << 24});
  auto file = durable_file(fs, "/f", fill('a', 5000));
  const auto small = *file->map(8192);
  EXPECT_EQ(small->reserved_bytes(), 8192u);
  EXPECT_EQ(std::string(small->base(), 5000), fill('a', 5000));
  ASSERT_TRUE(file->pwrite("b", 4096));
  EXPECT_EQ(small->base()[4096], 'b');
  const auto large = *file->map(uint64_t{1} << 36);
  EXPECT_EQ(large->reserved_bytes(), uint64_t{1} << 24);
  ASSERT_TRUE(file->pwrite("grown", 1 << 20));
  EXPECT_EQ(std::string(large->base() + (1 << 20), 5), "grown");
  EXPECT_EQ(large->base()[4096], 'b');
  ASSERT_TRUE(file->pwrite("far", (1 << 24) + 10));  // past the mapping
  char far[4] = {};
  EXPECT_EQ(*file->pread(far, 3, (1 << 24) + 10), 3u);
  EXPECT_STREQ(far, "far");

  ASSERT_TRUE(file->truncate(4096));
  EXPECT_EQ(large->base()[4096], static_cast<char>(0xDD));
  EXPECT_EQ(large->base()[1 << 20], static_cast<char>(0xDD));
  ASSERT_TRUE(file->truncate(6000));
  EXPECT_EQ(large->base()[4096], '\0');
  EXPECT_EQ(large->base()[5999], '\0');
  fs.crash(Damage::kLoseUnsynced);
  EXPECT_EQ(content(fs, "/f"), fill('a', 5000));
  EXPECT_EQ((*(*fs.open("/f", OpenMode::kRead))->map(8192))->base()[4999], 'a');
}

TEST(SimFs, PoisonOfPunchedPagesGoesWhenTheyAreAllocatedAgain) {
  SimFileSystem fs({.poison_punched = true});
  auto file = durable_file(fs, "/f", fill('a', 3 * kPageBytes));
  ASSERT_TRUE(file->punch(kPageBytes, 2 * kPageBytes));
  EXPECT_EQ(content(fs, "/f").substr(kPageBytes), fill(static_cast<char>(0xDD), 2 * kPageBytes));
  EXPECT_EQ(fs.used_bytes(), kPageBytes);
  ASSERT_TRUE(file->allocate(kPageBytes, kPageBytes));
  ASSERT_TRUE(file->pwrite("b", 2 * kPageBytes));
  EXPECT_EQ(content(fs, "/f"), fill('a', kPageBytes) + fill('\0', kPageBytes) + "b" + fill('\0', kPageBytes - 1));
  fs.crash(Damage::kLoseUnsynced);
  EXPECT_EQ(content(fs, "/f"), fill('a', 3 * kPageBytes));
  EXPECT_EQ(fs.used_bytes(), 3 * kPageBytes);
}

TEST(SimFs, ResidencyIsByChanceWhenAsked) {
  SimFileSystem fs({.not_resident_one_in = 4});
  auto mapping = *durable_file(fs, "/f", "a")->map(4096);
  int misses = 0;
  for (int i = 0; i < 400; ++i) misses += mapping->resident(0, 1) ? 0 : 1;
  EXPECT_GT(misses, 50);
  EXPECT_LT(misses, 200);
}

TEST(SimFs, IdentityChangesWithTheFile) {
  SimFileSystem fs;
  auto file = durable_file(fs, "/f", "a");
  const auto before = *file->identity();
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(file->pwrite("b", 0));
  EXPECT_NE(file->identity()->ctime_ns, before.ctime_ns);
  EXPECT_EQ(file->identity()->inode, before.inode);
  ASSERT_TRUE(env::replace_file(fs, "/f", "c"));
  EXPECT_NE((*fs.open("/f", OpenMode::kRead))->identity()->inode, before.inode);
}

TEST(SimFs, ACloneCrashesInOtherWaysAndLeavesTheOriginal) {
  SimFileSystem fs({.seed = 1});
  auto file = durable_file(fs, "/f", fill('a', 4096));
  auto mapping = *file->map(1 << 20);
  ASSERT_TRUE(file->pwrite(fill('b', 4096), 0));
  std::set<std::string> seen;
  for (uint64_t seed = 0; seed < 200; ++seed) {
    auto copy = fs.clone(seed);
    EXPECT_EQ(copy->used_bytes(), fs.used_bytes());
    copy->crash();
    seen.insert(content(*copy, "/f"));
  }
  EXPECT_GT(seen.size(), 10u);
  EXPECT_EQ(content(fs, "/f"), fill('b', 4096));
}

TEST(SimFs, SameSeedSameResult) {
  const auto run = [](uint64_t seed) {
    SimFileSystem fs({.seed = seed});
    auto file = durable_file(fs, "/f", fill('a', 65536));
    Random random(seed);
    for (int i = 0; i < 50; ++i) EXPECT_TRUE(file->pwrite(fill('b', random.below(5000)), random.below(70000)));
    fs.crash();
    return content(fs, "/f");
  };
  EXPECT_EQ(run(5), run(5));
  EXPECT_NE(run(5), run(6));
}

}  // namespace
}  // namespace cairn::sim
