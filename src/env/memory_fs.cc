#include "env/memory_fs.h"

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <utility>

#include <sys/mman.h>
#include <unistd.h>

namespace cairn::env {
namespace {

// The bytes that a process may still take: what the machine has left, or the process's control group if that is less.
uint64_t memory_left() {
  uint64_t left = UINT64_MAX;
  std::ifstream machine("/proc/meminfo");
  for (std::string name, unit; machine >> name;) {
    uint64_t kilobytes = 0;
    machine >> kilobytes;
    std::getline(machine, unit);
    if (name == "MemAvailable:") left = kilobytes << 10;
  }
  uint64_t most = 0;
  uint64_t used = 0;
  if (std::ifstream("/sys/fs/cgroup/memory.max") >> most && std::ifstream("/sys/fs/cgroup/memory.current") >> used) {
    left = std::min(left, most > used ? most - used : 0);
  }
  return left;
}

std::unexpected<Error> missing(const std::string& what, const std::string& path) {
  return fail(Code::kNotFound, "{} {}: No such file or directory", what, path);
}

}  // namespace

// The memory of a file; it goes with its name and the last one who has it open.
class MemoryFs::Content {
 public:
  explicit Content(int fd) : fd_(fd) {}
  ~Content() { ::close(fd_); }
  Content(const Content&) = delete;
  Content& operator=(const Content&) = delete;
  // Under which the kernel opens it anew, with an offset and locks of its own.
  [[nodiscard]] std::string path() const { return "/proc/self/fd/" + std::to_string(fd_); }

 private:
  int fd_;
};

namespace {

class MemoryFile final : public File {
 public:
  MemoryFile(std::unique_ptr<File> file, std::shared_ptr<MemoryFs::Content> content)
      : content_(std::move(content)), file_(std::move(file)) {}

  Result<size_t> pread(void* to, size_t size, uint64_t offset) const override { return file_->pread(to, size, offset); }
  Status pwrite(std::string_view data, uint64_t offset) override { return file_->pwrite(data, offset); }
  Status fdatasync() override { return {}; }
  void sync_range(uint64_t, uint64_t) override {}
  Status allocate(uint64_t offset, uint64_t size) override {
    CAIRN_TRY(const uint64_t have, file_->size());
    return offset + size > have ? file_->truncate(offset + size) : Status{};
  }
  Status punch(uint64_t offset, uint64_t size) override { return file_->punch(offset, size); }
  [[nodiscard]] Result<std::vector<FileRange>> holes() const override { return std::vector<FileRange>{}; }
  Status truncate(uint64_t size) override { return file_->truncate(size); }
  [[nodiscard]] Result<uint64_t> size() const override { return file_->size(); }
  [[nodiscard]] Result<FileIdentity> identity() const override { return file_->identity(); }
  [[nodiscard]] Result<std::unique_ptr<Mapping>> map(uint64_t reserved_bytes) const override {
    return file_->map(reserved_bytes);
  }
  Status lock_flock() override { return file_->lock_flock(); }
  Status lock_ofd() override { return file_->lock_ofd(); }

 private:
  std::shared_ptr<MemoryFs::Content> content_;
  std::unique_ptr<File> file_;
};

}  // namespace

Result<std::unique_ptr<File>> MemoryFs::open(const std::string& path, OpenMode mode) {
  std::shared_ptr<Content> content;
  {
    const MutexLock lock(mutex_);
    const auto found = files_.find(path);
    if (found != files_.end()) {
      content = found->second;
    } else if (mode == OpenMode::kRead || mode == OpenMode::kReadWrite ||
               !directories_.contains(parent_directory(path))) {
      return missing("open", path);
    } else {
      const int fd = ::memfd_create(base_name(path).c_str(), MFD_CLOEXEC);
      if (fd < 0) return fail_errno(errno, "open " + path);
      content = std::make_shared<Content>(fd);
      files_.emplace(path, content);
    }
  }
  CAIRN_TRY(auto file, posix_fs().open(content->path(), mode));
  return std::make_unique<MemoryFile>(std::move(file), std::move(content));
}

Result<std::vector<std::string>> MemoryFs::list(const std::string& directory) {
  const MutexLock lock(mutex_);
  if (!directories_.contains(directory)) return missing("list", directory);
  std::set<std::string> names;
  const auto add = [&](const std::string& path) {
    if (path != directory && parent_directory(path) == directory) names.insert(base_name(path));
  };
  for (const auto& [path, content] : files_) add(path);
  for (const std::string& path : directories_) add(path);
  return std::vector<std::string>(names.begin(), names.end());
}

bool MemoryFs::exists(const std::string& path) {
  const MutexLock lock(mutex_);
  return files_.contains(path) || directories_.contains(path);
}

Status MemoryFs::make_directories(const std::string& path) {
  const MutexLock lock(mutex_);
  for (std::string at = clean_path(path); directories_.insert(at).second;) {
    if (parent_directory(at) == at) break;
    at = parent_directory(at);
  }
  return {};
}

Status MemoryFs::rename(const std::string& from, const std::string& to) {
  const MutexLock lock(mutex_);
  if (const auto file = files_.find(from); file != files_.end()) {
    files_.insert_or_assign(to, std::exchange(file->second, nullptr));
    files_.erase(from);
    return {};
  }
  if (!directories_.contains(from)) return missing("rename", from);
  const auto moved = [&](const std::string& path) { return to + path.substr(from.size()); };
  const auto is_inside = [&](const std::string& path) { return path == from || path.starts_with(from + "/"); };
  std::map<std::string, std::shared_ptr<Content>> files;
  for (auto& [path, content] : files_) files.emplace(is_inside(path) ? moved(path) : path, std::move(content));
  files_ = std::move(files);
  std::set<std::string> directories;
  for (const std::string& path : directories_) directories.insert(is_inside(path) ? moved(path) : path);
  directories_ = std::move(directories);
  return {};
}

Status MemoryFs::remove(const std::string& path) {
  const MutexLock lock(mutex_);
  if (files_.erase(path) == 0) return missing("remove", path);
  return {};
}

Status MemoryFs::remove_all(const std::string& path) {
  const MutexLock lock(mutex_);
  const auto is_inside = [&](const std::string& each) { return each == path || each.starts_with(path + "/"); };
  std::erase_if(files_, [&](const auto& each) { return is_inside(each.first); });
  std::erase_if(directories_, is_inside);
  return {};
}

Status MemoryFs::sync_directory(const std::string& directory) {
  const MutexLock lock(mutex_);
  return directories_.contains(directory) ? Status{} : missing("fsync", directory);
}

Result<uint64_t> MemoryFs::free_bytes(const std::string&) { return memory_left(); }

}  // namespace cairn::env
