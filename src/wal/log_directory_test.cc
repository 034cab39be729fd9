// The directory around a log may be somebody else's.
#include <gtest/gtest.h>

#include "testing/file_systems.h"
#include "wal/log.h"
#include "wal/testing.h"

namespace cairn::wal {
namespace {

// The real one, in which some directories cannot be opened.
class GuardedFs final : public cairn::testing::ForwardingFileSystem {
 public:
  Status sync_directory(const std::string& directory) override {
    if (directory == failing) return fail(failure, "test: {}", directory);
    return ForwardingFileSystem::sync_directory(directory);
  }

  std::string failing;
  Code failure = Code::kPermissionDenied;
};

TEST(LogDirectory, AParentThatMayNotBeReadDoesNotKeepALogFromBeingOpened) {
  const testing::TempDir directory;
  const std::string path = directory.path() + "/wal";
  GuardedFs fs;
  ASSERT_TRUE(Log::create(fs, path, {NodeId(1), 2}));
  fs.failing = directory.path();
  const auto opened = Log::open(fs, path);
  EXPECT_TRUE(opened) << opened.error().message;
}

TEST(LogDirectory, ALogWhoseDirectoriesCannotBeSyncedIsNotOpened) {
  const testing::TempDir directory;
  const std::string path = directory.path() + "/wal";
  GuardedFs fs;
  ASSERT_TRUE(Log::create(fs, path, {NodeId(1), 2}));
  fs.failing = path;
  EXPECT_FALSE(Log::open(fs, path)) << "its own directory is ours";
  fs.failing = directory.path();
  fs.failure = Code::kUnknown;
  EXPECT_FALSE(Log::open(fs, path)) << "the disk, perhaps";
}

}  // namespace
}  // namespace cairn::wal
