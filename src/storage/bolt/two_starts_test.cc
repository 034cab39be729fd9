// Two processes that start on one file: every interleaving of their calls.
#include <functional>

#include <gtest/gtest.h>

#include "env/testing.h"
#include "storage/bolt/engine_testing.h"
#include "storage/test_support.h"

namespace cairn::storage {
namespace {

using test::Batch;
using test::open;
using test::TempDir;

// Runs `other` before the nth call that looks at or changes the disk.
class Interrupted final : public env::testing::ForwardingFileSystem {
 public:
  Interrupted(uint64_t nth, std::function<void()> other) : left_(nth), other_(std::move(other)) {}
  void count() {
    if (left_ > 0 && --left_ == 0) other_();
  }
  [[nodiscard]] bool happened() const { return left_ == 0; }

  Result<std::unique_ptr<env::File>> open(const std::string& path, env::OpenMode mode) override {
    count();
    CAIRN_TRY(auto file, ForwardingFileSystem::open(path, mode));
    return std::make_unique<CountingFile>(std::move(file), *this);
  }
  bool exists(const std::string& path) override {
    count();
    return ForwardingFileSystem::exists(path);
  }
  Status rename(const std::string& from, const std::string& to) override {
    count();
    return ForwardingFileSystem::rename(from, to);
  }
  Status sync_directory(const std::string& directory) override {
    count();
    return ForwardingFileSystem::sync_directory(directory);
  }

 private:
  class CountingFile final : public env::testing::ForwardingFile {
   public:
    CountingFile(std::unique_ptr<env::File> file, Interrupted& fs) : ForwardingFile(std::move(file)), fs_(fs) {}
    Status pwrite(std::string_view data, uint64_t offset) override {
      fs_.count();
      return ForwardingFile::pwrite(data, offset);
    }
    Status fdatasync() override {
      fs_.count();
      return ForwardingFile::fdatasync();
    }
    Status lock_flock() override {
      fs_.count();
      return ForwardingFile::lock_flock();
    }
    [[nodiscard]] Result<uint64_t> size() const override {
      fs_.count();
      return ForwardingFile::size();
    }

   private:
    Interrupted& fs_;
  };

  uint64_t left_;
  std::function<void()> other_;
};

TEST(BoltEngine, OfTwoStartsOnNothingOneGetsTheFileAndKeepsIt) {
  for (const bool empty_file : {false, true}) {
    bool happened = true;
    for (uint64_t nth = 1; happened; ++nth) {
      SCOPED_TRACE(nth);
      const TempDir directory;
      const std::string path = directory.file("db");
      if (empty_file) {
        ASSERT_TRUE(env::write_file(env::posix_fs(), path, ""));
      }
      std::unique_ptr<Engine> second;
      Interrupted fs(nth, [&] {
        auto opened = open_bolt(env::posix_fs(), path);
        if (opened) second = *std::move(opened);
      });
      auto first = open_bolt(fs, path);
      happened = fs.happened();
      if (!first) {
        EXPECT_EQ(first.error().code, Code::kUnavailable) << first.error().message;
      }
      ASSERT_NE(first.has_value(), second != nullptr);
      Engine& engine = first ? **first : *second;
      Batch batch;
      batch.put(Table::kMeta, "k", "v");
      ASSERT_TRUE(engine.commit(batch.commit()));
      first = fail(Code::kUnavailable, "ended");
      second.reset();
      EXPECT_EQ(open(env::posix_fs(), path)->view()->get(Table::kMeta, "k")->value(), "v");
    }
  }
}

TEST(BoltEngine, LocksTheFileThatHasTheName) {
  bool happened = true;
  for (uint64_t nth = 1; happened; ++nth) {
    SCOPED_TRACE(nth);
    const TempDir directory;
    const std::string path = directory.file("db");
    for (const char* name : {"db", "new"}) {
      Batch batch;
      batch.put(Table::kMeta, "k", name);
      ASSERT_TRUE(open(env::posix_fs(), directory.file(name))->commit(batch.commit()));
    }
    bool is_open = false;
    Interrupted fs(nth, [&] {
      // As etcd's defragmentation does: under the lock of the old file.
      const auto old = env::posix_fs().open(path, env::OpenMode::kReadWrite);
      is_open = !(*old)->lock_flock();
      if (!is_open) {
        ASSERT_TRUE(env::posix_fs().rename(directory.file("new"), path));
      }
    });
    const auto engine = open_bolt(fs, path);
    ASSERT_TRUE(engine) << engine.error().message;
    happened = fs.happened();
    EXPECT_EQ((*engine)->view()->get(Table::kMeta, "k")->value(), is_open || !happened ? "db" : "new");
  }
}

}  // namespace
}  // namespace cairn::storage
