#include "env/memory_fs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace cairn::env {
namespace {

std::string text_of(FileSystem& fs, const std::string& path) { return read_file(fs, path).value_or("(none)"); }

TEST(MemoryFs, HoldsFilesAndFolders) {
  MemoryFs fs;
  EXPECT_FALSE(fs.open("/d/a", OpenMode::kCreate)) << "no folder yet";
  ASSERT_TRUE(fs.make_directories("/d/e"));
  ASSERT_TRUE(fs.make_directories("/d/e")) << "again is no error";
  EXPECT_TRUE(fs.exists("/d"));
  ASSERT_TRUE(write_file(fs, "/d/a", "one"));
  ASSERT_TRUE(replace_file(fs, "/d/a", "two"));
  EXPECT_EQ(text_of(fs, "/d/a"), "two");
  EXPECT_EQ(*fs.list("/d"), (std::vector<std::string>{"a", "e"}));
  EXPECT_EQ(fs.list("/x").error().code, Code::kNotFound);
  EXPECT_EQ(fs.open("/d/x", OpenMode::kReadWrite).error().code, Code::kNotFound);
  EXPECT_EQ(fs.remove("/d/x").error().code, Code::kNotFound);
  ASSERT_TRUE(fs.remove("/d/a"));
  EXPECT_FALSE(fs.exists("/d/a"));
  EXPECT_TRUE(fs.sync_directory("/d"));
  EXPECT_FALSE(fs.sync_directory("/x"));
  EXPECT_GT(*fs.free_bytes("/d"), 0u);
}

TEST(MemoryFs, MovesFilesAndFolders) {
  MemoryFs fs;
  ASSERT_TRUE(fs.make_directories("/d/log.tmp"));
  ASSERT_TRUE(write_file(fs, "/d/log.tmp/1", "x"));
  ASSERT_TRUE(write_file(fs, "/d/log.tmpx", "y"));
  ASSERT_TRUE(fs.rename("/d/log.tmp", "/d/log"));
  EXPECT_EQ(text_of(fs, "/d/log/1"), "x");
  EXPECT_FALSE(fs.exists("/d/log.tmp"));
  EXPECT_EQ(text_of(fs, "/d/log.tmpx"), "y");
  ASSERT_TRUE(write_file(fs, "/d/2", "z"));
  ASSERT_TRUE(fs.rename("/d/2", "/d/log/1")) << "over another";
  EXPECT_EQ(text_of(fs, "/d/log/1"), "z");
  EXPECT_EQ(fs.rename("/d/2", "/d/3").error().code, Code::kNotFound);
  ASSERT_TRUE(fs.remove_all("/d/log"));
  EXPECT_FALSE(fs.exists("/d/log/1"));
  EXPECT_TRUE(fs.remove_all("/d/log")) << "missing is no error";
}

TEST(MemoryFs, FilesAreReadWrittenMappedAndCut) {
  MemoryFs fs;
  ASSERT_TRUE(fs.make_directories("/d"));
  const auto file = *fs.open("/d/a", OpenMode::kCreate);
  const auto mapping = *file->map(1 << 20);
  ASSERT_TRUE(file->allocate(0, 8192));
  EXPECT_EQ(*file->size(), 8192u);
  ASSERT_TRUE(file->allocate(0, 4096));
  EXPECT_EQ(*file->size(), 8192u) << "never shorter";
  ASSERT_TRUE(file->pwrite("hello", 4096));
  EXPECT_EQ(std::string_view(mapping->base() + 4096, 5), "hello") << "seen through the mapping";
  EXPECT_EQ(mapping->base()[0], 0);
  ASSERT_TRUE(file->punch(4096, 4096));
  EXPECT_EQ(mapping->base()[4096], 0);
  ASSERT_TRUE(file->truncate(10));
  EXPECT_EQ(*file->size(), 10u);
  EXPECT_TRUE(file->fdatasync());
  const auto other = *fs.open("/d/a", OpenMode::kRead);
  EXPECT_EQ(*other->identity(), *file->identity());
  ASSERT_TRUE(file->lock_flock());
  EXPECT_EQ(other->lock_flock().error().code, Code::kUnavailable) << "one opening at a time";
}

TEST(MemoryFs, AFileThatIsRemovedLivesUntilItIsClosed) {
  MemoryFs fs;
  ASSERT_TRUE(fs.make_directories("/d"));
  const auto file = *fs.open("/d/a", OpenMode::kCreate);
  ASSERT_TRUE(fs.remove("/d/a"));
  ASSERT_TRUE(file->pwrite("x", 0));
  char byte = 0;
  EXPECT_EQ(*file->pread(&byte, 1, 0), 1u);
  EXPECT_EQ(byte, 'x');
  EXPECT_FALSE(fs.exists("/d/a"));
}

}  // namespace
}  // namespace cairn::env
