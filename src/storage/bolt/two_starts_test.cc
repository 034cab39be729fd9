// Two processes that start on one file: every interleaving of their calls.
#include <functional>

#include <gtest/gtest.h>

#include "storage/bolt/engine_testing.h"
#include "storage/test_support.h"
#include "testing/file_systems.h"

namespace cairn::storage {
namespace {

using cairn::testing::InterruptedFileSystem;
using test::Batch;
using test::open;
using test::TempDir;

TEST(BoltEngine, OfTwoStartsOnNothingOneGetsTheFileAndKeepsIt) {
  for (const bool empty_file : {false, true}) {
    bool happened = true;
    for (uint64_t nth = 1; happened; ++nth) {
      SCOPED_TRACE(nth);
      const TempDir directory;
      const std::string path = directory / "db";
      if (empty_file) {
        ASSERT_TRUE(env::write_file(env::posix_fs(), path, ""));
      }
      std::unique_ptr<Engine> second;
      InterruptedFileSystem fs(nth, [&] {
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
    const std::string path = directory / "db";
    for (const char* name : {"db", "new"}) {
      Batch batch;
      batch.put(Table::kMeta, "k", name);
      ASSERT_TRUE(open(env::posix_fs(), directory / name)->commit(batch.commit()));
    }
    bool is_open = false;
    InterruptedFileSystem fs(nth, [&] {
      // As etcd's defragmentation does: under the lock of the old file.
      const auto old = env::posix_fs().open(path, env::OpenMode::kReadWrite);
      is_open = !(*old)->lock_flock();
      if (!is_open) {
        ASSERT_TRUE(env::posix_fs().rename(directory / "new", path));
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
