// testing/file_systems.h: file systems that differ from the real one in one point.
//
//   class NoSync final : public testing::ForwardingFileSystem { Status sync_directory(...) override { ... } };
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "env/fs.h"

namespace cairn::testing {

// Forwards each call to the wrapped file.
class ForwardingFile : public env::File {
 public:
  explicit ForwardingFile(std::unique_ptr<env::File> file) : file_(std::move(file)) {}
  Result<size_t> pread(void* to, size_t size, uint64_t offset) const override { return file_->pread(to, size, offset); }
  Status pwrite(std::string_view data, uint64_t offset) override { return file_->pwrite(data, offset); }
  Status fdatasync() override { return file_->fdatasync(); }
  void sync_range(uint64_t offset, uint64_t size) override { file_->sync_range(offset, size); }
  Status allocate(uint64_t offset, uint64_t size) override { return file_->allocate(offset, size); }
  Status punch(uint64_t offset, uint64_t size) override { return file_->punch(offset, size); }
  [[nodiscard]] Result<std::vector<env::FileRange>> holes() const override { return file_->holes(); }
  Status truncate(uint64_t size) override { return file_->truncate(size); }
  [[nodiscard]] Result<uint64_t> size() const override { return file_->size(); }
  [[nodiscard]] Result<env::FileIdentity> identity() const override { return file_->identity(); }
  [[nodiscard]] Result<std::unique_ptr<env::Mapping>> map(uint64_t reserved_bytes) const override {
    return file_->map(reserved_bytes);
  }
  Status lock_flock() override { return file_->lock_flock(); }
  Status lock_ofd() override { return file_->lock_ofd(); }

 private:
  std::unique_ptr<env::File> file_;
};

// Forwards each call to the real file system.
class ForwardingFileSystem : public env::FileSystem {
 public:
  Result<std::unique_ptr<env::File>> open(const std::string& path, env::OpenMode mode) override {
    return fs_.open(path, mode);
  }
  Result<std::vector<std::string>> list(const std::string& directory) override { return fs_.list(directory); }
  [[nodiscard]] bool exists(const std::string& path) override { return fs_.exists(path); }
  Status make_directories(const std::string& path) override { return fs_.make_directories(path); }
  Status rename(const std::string& from, const std::string& to) override { return fs_.rename(from, to); }
  Status remove(const std::string& path) override { return fs_.remove(path); }
  Status remove_all(const std::string& path) override { return fs_.remove_all(path); }
  Status sync_directory(const std::string& directory) override { return fs_.sync_directory(directory); }
  [[nodiscard]] Result<uint64_t> free_bytes(const std::string& path) override { return fs_.free_bytes(path); }

 private:
  env::FileSystem& fs_ = env::posix_fs();
};

// Runs `other` before the nth call that looks at or changes the disk: what another process may do at that moment.
class InterruptedFileSystem final : public ForwardingFileSystem {
 public:
  InterruptedFileSystem(uint64_t nth, std::function<void()> other) : left_(nth), other_(std::move(other)) {}
  [[nodiscard]] bool happened() const { return left_ == 0; }

  Result<std::unique_ptr<env::File>> open(const std::string& path, env::OpenMode mode) override {
    count();
    CAIRN_TRY(auto file, ForwardingFileSystem::open(path, mode));
    return std::make_unique<CountingFile>(std::move(file), *this);
  }
  Result<std::vector<std::string>> list(const std::string& directory) override {
    count();
    return ForwardingFileSystem::list(directory);
  }
  bool exists(const std::string& path) override {
    count();
    return ForwardingFileSystem::exists(path);
  }
  Status rename(const std::string& from, const std::string& to) override {
    count();
    return ForwardingFileSystem::rename(from, to);
  }
  Status remove_all(const std::string& path) override {
    count();
    return ForwardingFileSystem::remove_all(path);
  }
  Status sync_directory(const std::string& directory) override {
    count();
    return ForwardingFileSystem::sync_directory(directory);
  }

 private:
  class CountingFile final : public ForwardingFile {
   public:
    CountingFile(std::unique_ptr<env::File> file, InterruptedFileSystem& fs)
        : ForwardingFile(std::move(file)), fs_(fs) {}
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
    InterruptedFileSystem& fs_;
  };

  void count() {
    if (left_ == 0) return;
    --left_;
    if (left_ == 0) other_();
  }

  uint64_t left_;
  std::function<void()> other_;
};

}  // namespace cairn::testing
