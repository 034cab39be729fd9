// env/testing.h: shared by tests of disks: a folder for each test, and file systems that differ from the real one in
// one point.
//
//   class NoSync final : public env::testing::ForwardingFileSystem { Status sync_directory(...) override { ... } };
#pragma once

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/check.h"
#include "env/fs.h"

namespace cairn::env::testing {

// A new directory, removed with its content.
class TempDir {
 public:
  TempDir() {
    std::string name = (std::filesystem::temp_directory_path() / "cairn-test-XXXXXX").string();
    CAIRN_ASSERT(::mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  ~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  [[nodiscard]] std::string operator/(std::string_view name) const { return path_ + "/" + std::string(name); }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// Forwards each call to the wrapped file.
class ForwardingFile : public File {
 public:
  explicit ForwardingFile(std::unique_ptr<File> file) : file_(std::move(file)) {}
  Result<size_t> pread(void* to, size_t size, uint64_t offset) const override { return file_->pread(to, size, offset); }
  Status pwrite(std::string_view data, uint64_t offset) override { return file_->pwrite(data, offset); }
  Status fdatasync() override { return file_->fdatasync(); }
  void sync_range(uint64_t offset, uint64_t size) override { file_->sync_range(offset, size); }
  Status allocate(uint64_t offset, uint64_t size) override { return file_->allocate(offset, size); }
  Status punch(uint64_t offset, uint64_t size) override { return file_->punch(offset, size); }
  Status truncate(uint64_t size) override { return file_->truncate(size); }
  [[nodiscard]] Result<uint64_t> size() const override { return file_->size(); }
  [[nodiscard]] Result<FileIdentity> identity() const override { return file_->identity(); }
  [[nodiscard]] Result<std::unique_ptr<Mapping>> map(uint64_t reserved_bytes) const override {
    return file_->map(reserved_bytes);
  }
  Status lock_flock() override { return file_->lock_flock(); }
  Status lock_ofd() override { return file_->lock_ofd(); }

 private:
  std::unique_ptr<File> file_;
};

// Forwards each call to the real file system.
class ForwardingFileSystem : public FileSystem {
 public:
  Result<std::unique_ptr<File>> open(const std::string& path, OpenMode mode) override { return fs_.open(path, mode); }
  Result<std::vector<std::string>> list(const std::string& directory) override { return fs_.list(directory); }
  [[nodiscard]] bool exists(const std::string& path) override { return fs_.exists(path); }
  Status make_directories(const std::string& path) override { return fs_.make_directories(path); }
  Status rename(const std::string& from, const std::string& to) override { return fs_.rename(from, to); }
  Status remove(const std::string& path) override { return fs_.remove(path); }
  Status remove_all(const std::string& path) override { return fs_.remove_all(path); }
  Status sync_directory(const std::string& directory) override { return fs_.sync_directory(directory); }
  [[nodiscard]] Result<uint64_t> free_bytes(const std::string& path) override { return fs_.free_bytes(path); }

 private:
  FileSystem& fs_ = posix_fs();
};

}  // namespace cairn::env::testing
