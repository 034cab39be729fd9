// The real file system.
#include <array>
#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <memory>

#include <dirent.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>

#include "env/fs.h"
#include "env/lost_page.h"
#include "env/system_call.h"

namespace cairn::env {
namespace {

class PosixMapping final : public Mapping {
 public:
  PosixMapping(void* base, uint64_t size, const std::string& path)
      : base_(base),
        size_(size),
        name_(base, size, path),
        seen_(static_cast<Stamp*>(std::calloc(size / kBlockBytes + 1, sizeof(Stamp)))) {}
  PosixMapping(const PosixMapping&) = delete;
  PosixMapping& operator=(const PosixMapping&) = delete;
  ~PosixMapping() override { ::munmap(base_, size_); }

  const char* base() const override { return static_cast<const char*>(base_); }
  uint64_t reserved_bytes() const override { return size_; }
  bool resident(uint64_t offset, uint64_t size) const override {
    if (size == 0) return true;
    const uint64_t last = (offset + size - 1) / kBlockBytes;
    for (uint64_t block = offset / kBlockBytes; block <= last; ++block) {
      const uint64_t begin = block * kBlockBytes;
      const uint64_t from = std::max(offset, begin) - begin;
      const uint64_t to = std::min(offset + size, begin + kBlockBytes) - begin;
      if (!block_resident(block, from, to)) return false;
    }
    return true;
  }

 private:
  // A system call tells of a block's pages at once, and what was in memory is taken to be there for a while.
  static constexpr uint64_t kBlockBytes = 64 << 10;
  static constexpr uint32_t kBelievedMs = 100;
  using Stamp = std::atomic<uint32_t>;  // when the whole block was in memory, in ms; 0: never
  struct Free {
    void operator()(Stamp* stamps) const { std::free(stamps); }
  };

  static uint32_t now_ms() {
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return static_cast<uint32_t>(now.tv_sec * 1000 + now.tv_nsec / 1'000'000) | 1;
  }

  // [from, to) are bytes of the block.
  bool block_resident(uint64_t block, uint64_t from, uint64_t to) const {
    static const auto page = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
    const uint64_t begin = block * kBlockBytes;
    if (begin + to > size_) return false;
    const uint32_t now = now_ms();
    if (seen_ != nullptr) {
      const uint32_t seen = seen_.get()[block].load(std::memory_order_relaxed);
      if (seen != 0 && now - seen < kBelievedMs) return true;
    }
    unsigned char pages[kBlockBytes / 4096];
    const uint64_t bytes = std::min(kBlockBytes, size_ - begin);
    if (::mincore(static_cast<char*>(base_) + begin, bytes, pages) != 0) return false;
    const auto are_there = [&](uint64_t first, uint64_t end) {
      for (uint64_t i = first / page; i < (end + page - 1) / page; ++i) {
        if ((pages[i] & 1) == 0) return false;
      }
      return true;
    };
    if (!are_there(0, bytes)) return are_there(from, to);
    if (seen_ != nullptr) seen_.get()[block].store(now, std::memory_order_relaxed);
    return true;
  }

  void* base_;
  uint64_t size_;
  NamedMapping name_;
  std::unique_ptr<Stamp, Free> seen_;  // by block; the memory is the kernel's zeros until it is used
};

class PosixFile final : public File {
 public:
  PosixFile(int fd, std::string path) : fd_(fd), path_(std::move(path)) {}
  PosixFile(const PosixFile&) = delete;
  PosixFile& operator=(const PosixFile&) = delete;
  ~PosixFile() override { ::close(fd_); }

  Result<size_t> pread(void* to, size_t size, uint64_t offset) const override {
    size_t done = 0;
    while (done < size) {
      const ssize_t n = uninterrupted(
          [&] { return ::pread(fd_, static_cast<char*>(to) + done, size - done, static_cast<off_t>(offset + done)); });
      if (n < 0) return error("read");
      if (n == 0) break;
      done += static_cast<size_t>(n);
    }
    return done;
  }

  Status pwrite(std::string_view data, uint64_t offset) override {
    size_t done = 0;
    while (done < data.size()) {
      const ssize_t n = uninterrupted(
          [&] { return ::pwrite(fd_, data.data() + done, data.size() - done, static_cast<off_t>(offset + done)); });
      if (n < 0) return error("write");
      done += static_cast<size_t>(n);
    }
    return {};
  }

  Status fdatasync() override {
    return uninterrupted([&] { return ::fdatasync(fd_); }) == 0 ? Status{} : error("fdatasync");
  }

  void sync_range(uint64_t offset, uint64_t size) override {
    (void)::sync_file_range(fd_, static_cast<off_t>(offset), static_cast<off_t>(size),
                            SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
  }

  Status allocate(uint64_t offset, uint64_t size) override {
    return fallocate(0, offset, size) ? Status{} : unsupported_or_error("allocate");
  }

  Status punch(uint64_t offset, uint64_t size) override {
    const int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    return fallocate(mode, offset, size) ? Status{} : unsupported_or_error("punch");
  }

  Result<std::vector<FileRange>> holes() const override {
    std::vector<FileRange> out;
    for (off_t at = 0;;) {
      const off_t hole = ::lseek(fd_, at, SEEK_HOLE);
      if (hole < 0 && errno == ENXIO) return out;  // nothing is behind `at`
      if (hole < 0) return unsupported_or_error("find the holes of");
      off_t data = ::lseek(fd_, hole, SEEK_DATA);
      const bool is_last = data < 0 && errno == ENXIO;
      if (data < 0 && !is_last) return unsupported_or_error("find the holes of");
      if (is_last) {
        CAIRN_TRY(const uint64_t end, size());
        data = static_cast<off_t>(end);
      }
      if (data > hole) out.push_back({static_cast<uint64_t>(hole), static_cast<uint64_t>(data - hole)});
      if (is_last) return out;
      at = data;
    }
  }

  Status truncate(uint64_t size) override {
    const int result = uninterrupted([&] { return ::ftruncate(fd_, static_cast<off_t>(size)); });
    return result == 0 ? Status{} : error("truncate");
  }

  Result<uint64_t> size() const override {
    struct stat st{};
    if (::fstat(fd_, &st) != 0) return error("stat");
    return static_cast<uint64_t>(st.st_size);
  }

  Result<FileIdentity> identity() const override {
    struct stat st{};
    if (::fstat(fd_, &st) != 0) return error("stat");
    return FileIdentity{st.st_dev, st.st_ino, st.st_ctim.tv_sec * 1'000'000'000 + st.st_ctim.tv_nsec};
  }

  Result<std::unique_ptr<Mapping>> map(uint64_t reserved_bytes) const override {
    void* base = ::mmap(nullptr, reserved_bytes, PROT_READ, MAP_SHARED | MAP_NORESERVE, fd_, 0);
    if (base == MAP_FAILED) return error("mmap");
    (void)::madvise(base, reserved_bytes, MADV_RANDOM);
    return std::make_unique<PosixMapping>(base, reserved_bytes, path_);
  }

  Status lock_flock() override {
    if (::flock(fd_, LOCK_EX | LOCK_NB) == 0) return {};
    return errno == EWOULDBLOCK ? held_lock() : error("lock");
  }

  Status lock_ofd() override {
    struct flock lock{};
    lock.l_type = F_WRLCK;
    lock.l_whence = SEEK_SET;
    if (::fcntl(fd_, F_OFD_SETLK, &lock) == 0) return {};
    if (errno == EINVAL) return lock_flock();
    return errno == EACCES || errno == EAGAIN ? held_lock() : error("lock");
  }

 private:
  bool fallocate(int mode, uint64_t offset, uint64_t size) {
    return uninterrupted(
               [&] { return ::fallocate(fd_, mode, static_cast<off_t>(offset), static_cast<off_t>(size)); }) == 0;
  }
  // As the file is called now: a segment of the log is written under another name before it gets its own.
  std::string name() const {
    std::array<char, PATH_MAX> found{};
    const std::string link = "/proc/self/fd/" + std::to_string(fd_);
    const ssize_t size = ::readlink(link.c_str(), found.data(), found.size());
    return size > 0 ? std::string(found.data(), static_cast<size_t>(size)) : path_;
  }
  std::unexpected<Error> error(std::string_view what) const {
    const int number = errno;
    return fail_errno(number, std::string(what) + " " + name());
  }
  // Who waits for a lock waits for this alone: EAGAIN of another call may stay for ever.
  std::unexpected<Error> held_lock() const {
    return fail(Code::kUnavailable, "lock {}: {}", name(), std::strerror(EWOULDBLOCK));
  }
  std::unexpected<Error> unsupported_or_error(std::string_view what) const {
    if (errno == EOPNOTSUPP || errno == ENOSYS) {
      return fail(Code::kUnimplemented, "{} {}: not supported by the file system", what, name());
    }
    return error(what);
  }

  int fd_;
  std::string path_;
};

class PosixFileSystem final : public FileSystem {
 public:
  // Waits for nobody. What is there and is no file, a directory or a pipe for instance, is kFailedPrecondition.
  Result<std::unique_ptr<File>> open(const std::string& path, OpenMode mode) override {
    // O_NONBLOCK says nothing for a file. A pipe would be waited for until somebody opens its other end.
    int flags = O_CLOEXEC | O_NONBLOCK;
    switch (mode) {
      case OpenMode::kRead: flags |= O_RDONLY; break;
      case OpenMode::kReadWrite: flags |= O_RDWR; break;
      case OpenMode::kCreate: flags |= O_RDWR | O_CREAT; break;
      case OpenMode::kCreateEmpty: flags |= O_RDWR | O_CREAT | O_TRUNC; break;
    }
    int fd = uninterrupted([&] { return ::open(path.c_str(), flags, 0600); });
    if (fd < 0 && errno == EWOULDBLOCK) {  // who holds a lease on the file is asked to give it up
      fd = uninterrupted([&] { return ::open(path.c_str(), flags & ~O_NONBLOCK, 0600); });
    }
    if (fd < 0 && (errno == EISDIR || errno == ENXIO)) return no_file(path);  // ENXIO: a socket
    if (fd < 0) return fail_errno(errno, "open " + path);
    auto file = std::make_unique<PosixFile>(fd, path);
    struct stat st{};
    if (::fstat(fd, &st) != 0) return fail_errno(errno, "stat " + path);
    if (!S_ISREG(st.st_mode)) return no_file(path);
    return file;
  }

  Result<std::vector<std::string>> list(const std::string& directory) override {
    DIR* dir = ::opendir(directory.c_str());
    if (dir == nullptr) return fail_errno(errno, "list " + directory);
    std::vector<std::string> names;
    while (const dirent* entry = ::readdir(dir)) {
      const std::string_view name = entry->d_name;
      if (name != "." && name != "..") names.emplace_back(name);
    }
    ::closedir(dir);
    std::sort(names.begin(), names.end());
    return names;
  }

  bool exists(const std::string& path) override {
    struct stat st{};
    return ::stat(path.c_str(), &st) == 0;
  }

  Status make_directories(const std::string& path) override {
    if (path.empty() || path == "/" || path == ".") return {};
    struct stat st{};
    if (::stat(path.c_str(), &st) == 0) {
      return S_ISDIR(st.st_mode) ? Status{} : fail_errno(ENOTDIR, "mkdir " + path);
    }
    CAIRN_CHECK(make_directories(parent_directory(path)));
    if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) return fail_errno(errno, "mkdir " + path);
    return {};
  }

  Status rename(const std::string& from, const std::string& to) override {
    return ::rename(from.c_str(), to.c_str()) == 0 ? Status{} : fail_errno(errno, "rename " + from + " to " + to);
  }

  Status remove(const std::string& path) override {
    return ::unlink(path.c_str()) == 0 ? Status{} : fail_errno(errno, "remove " + path);
  }

  Status remove_all(const std::string& path) override {
    std::error_code ec;
    std::filesystem::remove_all(path, ec);
    return ec ? Status(fail_errno(ec.value(), "remove " + path)) : Status{};
  }

  Status sync_directory(const std::string& directory) override {
    const int fd = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return fail_errno(errno, "open " + directory);
    const int result = uninterrupted([&] { return ::fsync(fd); });
    const int number = errno;
    ::close(fd);
    return result == 0 ? Status{} : Status(fail_errno(number, "fsync " + directory));
  }

  Result<uint64_t> free_bytes(const std::string& path) override {
    struct statvfs st{};
    if (::statvfs(path.c_str(), &st) != 0) return fail_errno(errno, "statvfs " + path);
    return static_cast<uint64_t>(st.f_bavail) * st.f_frsize;
  }

 private:
  static std::unexpected<Error> no_file(const std::string& path) {
    return fail(Code::kFailedPrecondition, "open {}: not a regular file", path);
  }
};

}  // namespace

FileSystem& posix_fs() {
  static PosixFileSystem fs;
  return fs;
}

}  // namespace cairn::env
