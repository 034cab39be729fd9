// The directory around a log may be somebody else's.
#include <gtest/gtest.h>

#include "wal/log.h"
#include "wal/testing.h"

namespace cairn::wal {
namespace {

// The real one, in which some directories cannot be opened.
class GuardedFs final : public env::FileSystem {
 public:
  Result<std::unique_ptr<env::File>> open(const std::string& path, env::OpenMode mode) override {
    return fs_.open(path, mode);
  }
  Result<std::vector<std::string>> list(const std::string& directory) override { return fs_.list(directory); }
  bool exists(const std::string& path) override { return fs_.exists(path); }
  Status make_directories(const std::string& path) override { return fs_.make_directories(path); }
  Status rename(const std::string& from, const std::string& to) override { return fs_.rename(from, to); }
  Status remove(const std::string& path) override { return fs_.remove(path); }
  Status remove_all(const std::string& path) override { return fs_.remove_all(path); }
  Status sync_directory(const std::string& directory) override {
    if (directory == failing) return fail(failure, "test: {}", directory);
    return fs_.sync_directory(directory);
  }
  Result<uint64_t> free_bytes(const std::string& path) override { return fs_.free_bytes(path); }

  std::string failing;
  Code failure = Code::kPermissionDenied;

 private:
  env::FileSystem& fs_ = env::posix_fs();
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
