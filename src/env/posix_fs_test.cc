#include <cerrno>
#include <map>
#include <string>

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "env/fs.h"
#include "env/system_call.h"
#include "testing/temp_dir.h"

namespace cairn::env {
namespace {

class PosixFsTest : public ::testing::Test {
 protected:
  void TearDown() override { ASSERT_TRUE(posix_fs().remove_all(root_)); }

  const cairn::testing::TempDir folder_;
  const std::string root_ = folder_.path();
};

TEST(Paths, AreCleaned) {
  for (const auto& [given, clean] : std::map<std::string, std::string>{
           {"x", "x"}, {"x/", "x"}, {"/a//b/", "/a/b"}, {"./x/.", "x"}, {"/", "/"}, {"a/../b", "b"}, {"..", ".."}}) {
    EXPECT_EQ(clean_path(given), clean) << given;
  }
}

TEST_F(PosixFsTest, WritesReadsGrowsAndTruncates) {
  auto file = *posix_fs().open(root_ + "/f", OpenMode::kCreate);
  ASSERT_TRUE(file->pwrite("hello", 4096));
  EXPECT_EQ(*file->size(), 4101u);
  char buffer[8] = {};
  EXPECT_EQ(*file->pread(buffer, 8, 4096), 5u);
  EXPECT_STREQ(buffer, "hello");
  ASSERT_TRUE(file->truncate(10));
  EXPECT_EQ(*file->size(), 10u);
  ASSERT_TRUE(file->fdatasync());
}

TEST_F(PosixFsTest, MappingSeesLaterGrowth) {
  auto file = *posix_fs().open(root_ + "/f", OpenMode::kCreate);
  ASSERT_TRUE(file->truncate(4096));
  auto mapping = *file->map(1 << 30);
  ASSERT_TRUE(file->pwrite("grown", 1 << 20));
  EXPECT_EQ(std::string(mapping->base() + (1 << 20), 5), "grown");
}

TEST_F(PosixFsTest, WhatWasJustWrittenIsInMemoryAndWhatIsBehindTheEndIsNot) {
  auto file = *posix_fs().open(root_ + "/f", OpenMode::kCreate);
  const uint64_t size = 50 * 4096;  // three blocks and a piece
  ASSERT_TRUE(file->pwrite(std::string(size, 'x'), 0));
  const auto mapping = *file->map(1 << 20);
  for (int repeat = 0; repeat < 2; ++repeat) {
    EXPECT_TRUE(mapping->resident(0, size));
    EXPECT_TRUE(mapping->resident(15 * 4096, 2 * 4096));
    EXPECT_TRUE(mapping->resident(size - 1, 1));
    EXPECT_FALSE(mapping->resident(size, 1));
    EXPECT_FALSE(mapping->resident(0, size + 1));
    EXPECT_FALSE(mapping->resident(1 << 20, 1));
  }
}

TEST_F(PosixFsTest, HolesAreWhatWasPunched) {
  constexpr uint64_t kMegabyte = 1 << 20;
  const auto file = *posix_fs().open(root_ + "/f", OpenMode::kCreate);
  EXPECT_TRUE(file->holes()->empty());
  ASSERT_TRUE(file->pwrite(std::string(4 * kMegabyte, 'x'), 0));
  EXPECT_TRUE(file->holes()->empty());
  if (!file->punch(kMegabyte, kMegabyte)) GTEST_SKIP() << "no holes in /tmp";
  ASSERT_TRUE(file->truncate(5 * kMegabyte));
  EXPECT_EQ(*file->holes(), (std::vector<FileRange>{{kMegabyte, kMegabyte}, {4 * kMegabyte, kMegabyte}}));
  ASSERT_TRUE(file->pwrite("y", 0));
}

TEST_F(PosixFsTest, LocksExcludeASecondHolder) {
  auto a = *posix_fs().open(root_ + "/f", OpenMode::kCreate);
  auto b = *posix_fs().open(root_ + "/f", OpenMode::kReadWrite);
  ASSERT_TRUE(a->lock_flock());
  EXPECT_EQ(b->lock_flock().error().code, Code::kUnavailable);
  auto c = *posix_fs().open(root_ + "/g", OpenMode::kCreate);
  auto d = *posix_fs().open(root_ + "/g", OpenMode::kReadWrite);
  ASSERT_TRUE(c->lock_ofd());
  EXPECT_EQ(d->lock_ofd().error().code, Code::kUnavailable);
}

TEST_F(PosixFsTest, WhatIsNoFileIsNotOpenedAndAPipeIsNotWaitedFor) {
  ASSERT_EQ(::mkfifo((root_ + "/pipe").c_str(), 0600), 0);
  ASSERT_TRUE(posix_fs().make_directories(root_ + "/directory"));
  for (const std::string name : {"pipe", "directory"}) {
    for (const OpenMode mode : {OpenMode::kRead, OpenMode::kReadWrite, OpenMode::kCreate, OpenMode::kCreateEmpty}) {
      const auto opened = posix_fs().open(root_ + "/" + name, mode);
      ASSERT_FALSE(opened) << name;
      EXPECT_EQ(opened.error(),
                Error(Code::kFailedPrecondition, "open " + root_ + "/" + name + ": not a regular file"));
    }
  }
  ASSERT_TRUE(write_file(posix_fs(), root_ + "/f", "x"));
  ASSERT_EQ(::symlink("f", (root_ + "/link").c_str()), 0);
  EXPECT_EQ(*read_file(posix_fs(), root_ + "/link"), "x");
}

TEST(Uninterrupted, CallsAgainAndNotForEver) {
  int calls = 0;
  const auto call = [&](int interruptions) {
    calls = 0;
    return uninterrupted([&] {
      errno = EINTR;
      return ++calls > interruptions ? 7 : -1;
    });
  };
  EXPECT_EQ(call(0), 7);
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(call(kInterruptionsMax), 7);
  EXPECT_EQ(call(kInterruptionsMax + 1), -1);
  EXPECT_EQ(errno, EINTR);
}

// A start waits for a lock, and must not wait for what comes with the same number.
TEST(FailErrno, OnlyALockThatIsHeldReadsAsOne) {
  EXPECT_NE(fail_errno(EAGAIN, "mmap").error().code, Code::kUnavailable);
  EXPECT_NE(fail_errno(EWOULDBLOCK, "read").error().code, Code::kUnavailable);
}

TEST_F(PosixFsTest, ErrorsNameAFileAsItIsCalledNow) {
  ASSERT_TRUE(write_file(posix_fs(), root_ + "/f.tmp", "x"));
  auto file = *posix_fs().open(root_ + "/f.tmp", OpenMode::kRead);  // so that writes fail
  EXPECT_NE(file->pwrite("y", 0).error().message.find("write " + root_ + "/f.tmp: "), std::string::npos);
  ASSERT_TRUE(posix_fs().rename(root_ + "/f.tmp", root_ + "/f"));
  EXPECT_NE(file->pwrite("y", 0).error().message.find("write " + root_ + "/f: "), std::string::npos);
}

TEST_F(PosixFsTest, ReplaceFileLeavesNoTemporary) {
  ASSERT_TRUE(replace_file(posix_fs(), root_ + "/f", "one"));
  ASSERT_TRUE(replace_file(posix_fs(), root_ + "/f", "two"));
  EXPECT_EQ(*read_file(posix_fs(), root_ + "/f"), "two");
  EXPECT_EQ(posix_fs().list(root_)->size(), 1u);
  EXPECT_EQ(read_file(posix_fs(), root_ + "/none").error().code, Code::kNotFound);
}

}  // namespace
}  // namespace cairn::env
