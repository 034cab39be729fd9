#include "storage/memory/file_system.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <sys/mman.h>

namespace cairn::storage {

class MemoryFileSystem::Content {
 public:
  static Result<std::shared_ptr<Content>> make(uint64_t reserved) {
    void* base = ::mmap(nullptr, reserved, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) return fail_errno(errno, "memory file");
    return std::make_shared<Content>(static_cast<char*>(base), reserved);
  }
  Content(char* base, uint64_t reserved) : base_(base), reserved_(reserved) {}
  Content(const Content&) = delete;
  Content& operator=(const Content&) = delete;
  ~Content() { ::munmap(base_, reserved_); }

  Status grow(uint64_t size) {
    if (size > reserved_) return fail(Code::kResourceExhausted, "memory file: {} bytes, reserved {}", size, reserved_);
    size_ = std::max(size_, size);
    return {};
  }
  void cut(uint64_t size) {
    if (size < size_) std::memset(base_ + size, 0, size_ - size);
    size_ = size;
  }
  [[nodiscard]] char* base() const { return base_; }
  [[nodiscard]] uint64_t reserved() const { return reserved_; }
  [[nodiscard]] uint64_t size() const { return size_; }
  bool locked = false;

 private:
  char* base_;
  uint64_t reserved_;
  uint64_t size_ = 0;
};

namespace {

using Content = MemoryFileSystem::Content;

class MemoryMapping final : public env::Mapping {
 public:
  explicit MemoryMapping(std::shared_ptr<Content> content) : content_(std::move(content)) {}
  const char* base() const override { return content_->base(); }
  uint64_t reserved_bytes() const override { return content_->reserved(); }
  bool resident(uint64_t, uint64_t) const override { return true; }

 private:
  std::shared_ptr<Content> content_;
};

class MemoryFile final : public env::File {
 public:
  explicit MemoryFile(std::shared_ptr<Content> content) : content_(std::move(content)) {}
  ~MemoryFile() override {
    if (locked_) content_->locked = false;
  }

  Result<size_t> pread(void* to, size_t size, uint64_t offset) const override {
    if (offset >= content_->size()) return size_t{0};
    const size_t count = std::min<uint64_t>(size, content_->size() - offset);
    std::memcpy(to, content_->base() + offset, count);
    return count;
  }
  Status pwrite(std::string_view data, uint64_t offset) override {
    CAIRN_CHECK(content_->grow(offset + data.size()));
    std::memcpy(content_->base() + offset, data.data(), data.size());
    return {};
  }
  Status fdatasync() override { return {}; }
  void sync_range(uint64_t, uint64_t) override {}
  Status allocate(uint64_t offset, uint64_t size) override { return content_->grow(offset + size); }
  Status punch(uint64_t offset, uint64_t size) override {
    if (offset < content_->size()) std::memset(content_->base() + offset, 0, std::min(size, content_->size() - offset));
    return {};
  }
  Result<std::vector<env::FileRange>> holes() const override { return std::vector<env::FileRange>{}; }
  Status truncate(uint64_t size) override {
    if (size > content_->size()) return content_->grow(size);
    content_->cut(size);
    return {};
  }
  Result<uint64_t> size() const override { return content_->size(); }
  Result<env::FileIdentity> identity() const override { return env::FileIdentity{}; }
  Result<std::unique_ptr<env::Mapping>> map(uint64_t) const override {
    return std::make_unique<MemoryMapping>(content_);
  }
  Status lock_flock() override {
    if (content_->locked) return fail(Code::kUnavailable, "memory file: locked");
    content_->locked = locked_ = true;
    return {};
  }
  Status lock_ofd() override { return lock_flock(); }

 private:
  std::shared_ptr<Content> content_;
  bool locked_ = false;
};

}  // namespace

Result<std::unique_ptr<env::File>> MemoryFileSystem::open(const std::string& path, env::OpenMode mode) {
  auto& content = files_[path];
  if (content == nullptr) {
    if (mode == env::OpenMode::kRead || mode == env::OpenMode::kReadWrite) {
      files_.erase(path);
      return fail(Code::kNotFound, "open {}: no such file", path);
    }
    auto made = Content::make(file_bytes_max_);
    if (!made) {
      files_.erase(path);
      return std::unexpected(std::move(made).error());
    }
    content = *std::move(made);
  } else if (mode == env::OpenMode::kCreateEmpty) {
    content->cut(0);
  }
  return std::make_unique<MemoryFile>(content);
}

Result<std::vector<std::string>> MemoryFileSystem::list(const std::string& directory) {
  std::vector<std::string> names;
  for (const auto& [path, content] : files_) {
    if (env::parent_directory(path) == directory) names.push_back(env::base_name(path));
  }
  return names;
}

Status MemoryFileSystem::make_directories(const std::string&) { return {}; }

Status MemoryFileSystem::rename(const std::string& from, const std::string& to) {
  const auto it = files_.find(from);
  if (it == files_.end()) return fail(Code::kNotFound, "rename {}: no such file", from);
  files_[to] = std::move(it->second);
  files_.erase(from);
  return {};
}

Status MemoryFileSystem::remove(const std::string& path) {
  if (files_.erase(path) == 0) return fail(Code::kNotFound, "remove {}: no such file", path);
  return {};
}

Status MemoryFileSystem::remove_all(const std::string& path) {
  std::erase_if(files_, [&](const auto& file) { return file.first == path || file.first.starts_with(path + "/"); });
  return {};
}

Status MemoryFileSystem::sync_directory(const std::string&) { return {}; }
Result<uint64_t> MemoryFileSystem::free_bytes(const std::string&) { return file_bytes_max_; }

}  // namespace cairn::storage
