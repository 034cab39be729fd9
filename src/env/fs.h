// env/fs.h: the interface of the file system. `posix_fs()` is the real one; sim/disk/sim_fs.h is a simulated one that
// crashes.
//
// Threads: a File and a Mapping belong to one thread at a time, except that pread and the bytes of a Mapping may
//          be read by any thread while the owner writes elsewhere in the file.
// Failure: every error names the path. ENOSPC is kResourceExhausted, a missing file kNotFound, a lock held by
//          somebody else kUnavailable.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace cairn::env {

// A read-only view of a file from offset 0, at a fixed address with reserved length. Bytes past the file's end
// must not be touched; growth of the file becomes visible by itself.
class Mapping {
 public:
  virtual ~Mapping() = default;
  [[nodiscard]] virtual const char* base() const = 0;
  [[nodiscard]] virtual uint64_t reserved_bytes() const = 0;
  // True when [offset, offset + size) is in memory, so that touching it does not wait for the disk. The answer may be a
  // tenth of a second old.
  [[nodiscard]] virtual bool resident(uint64_t offset, uint64_t size) const = 0;
};

struct FileIdentity {
  uint64_t device = 0;
  uint64_t inode = 0;
  int64_t ctime_ns = 0;
  friend bool operator==(const FileIdentity&, const FileIdentity&) = default;
};

struct FileRange {
  uint64_t offset = 0;
  uint64_t bytes = 0;
  friend bool operator==(const FileRange&, const FileRange&) = default;
};

class File {
 public:
  virtual ~File() = default;

  // Reads up to `size` bytes at `offset`; fewer only at the end of the file. Returns the count.
  virtual Result<size_t> pread(void* to, size_t size, uint64_t offset) const = 0;
  // Writes all of `data` at `offset`, growing the file as needed.
  virtual Status pwrite(std::string_view data, uint64_t offset) = 0;
  // After it returns, everything written before survives a crash (data, size, allocation).
  virtual Status fdatasync() = 0;
  // Writes [offset, offset + size) back and waits for it, without a promise: for whoever writes much and is in no
  // hurry, so that neither its own fdatasync nor others' wait behind all of it.
  virtual void sync_range(uint64_t offset, uint64_t size) = 0;
  // Allocates blocks for [offset, offset + size) and grows the file to cover it; new bytes read as zeros.
  //   errors: kUnimplemented where the file system cannot, kResourceExhausted when full
  virtual Status allocate(uint64_t offset, uint64_t size) = 0;
  // Gives the blocks of [offset, offset + size) back; they read as zeros. The size stays.
  //   errors: kUnimplemented where the file system cannot
  virtual Status punch(uint64_t offset, uint64_t size) = 0;
  // The parts without blocks, ascending, below the end of the file. Blocks that are allocated and were never written
  // may count as such.
  //   errors: kUnimplemented where the file system does not know
  [[nodiscard]] virtual Result<std::vector<FileRange>> holes() const = 0;
  virtual Status truncate(uint64_t size) = 0;
  [[nodiscard]] virtual Result<uint64_t> size() const = 0;
  [[nodiscard]] virtual Result<FileIdentity> identity() const = 0;
  [[nodiscard]] virtual Result<std::unique_ptr<Mapping>> map(uint64_t reserved_bytes) const = 0;
  // Exclusive whole-file locks, held until the File is destroyed. flock() as on etcd's db, an open-file-description
  // lock as on its WAL segments.
  //   errors: kUnavailable when another process (or File) holds it
  virtual Status lock_flock() = 0;
  virtual Status lock_ofd() = 0;
};

enum class OpenMode : uint8_t {
  kRead,         // must exist
  kReadWrite,    // must exist
  kCreate,       // read and write; created (0600) when missing
  kCreateEmpty,  // read and write; created or truncated to 0 bytes
};

class FileSystem {
 public:
  virtual ~FileSystem() = default;

  virtual Result<std::unique_ptr<File>> open(const std::string& path, OpenMode mode) = 0;
  // The names in a directory, sorted, without "." and "..".
  virtual Result<std::vector<std::string>> list(const std::string& directory) = 0;
  [[nodiscard]] virtual bool exists(const std::string& path) = 0;
  // With parents, mode 0700. Existing is not an error.
  virtual Status make_directories(const std::string& path) = 0;
  virtual Status rename(const std::string& from, const std::string& to) = 0;
  virtual Status remove(const std::string& path) = 0;  // a file; missing is kNotFound
  // A directory and what is in it; missing is not an error.
  virtual Status remove_all(const std::string& path) = 0;
  // After it returns, names created, renamed and removed in `directory` survive a crash.
  virtual Status sync_directory(const std::string& directory) = 0;
  [[nodiscard]] virtual Result<uint64_t> free_bytes(const std::string& path) = 0;
};

[[nodiscard]] FileSystem& posix_fs();

// Whole-file helpers on top of the interface.
[[nodiscard]] Result<std::string> read_file(FileSystem& fs, const std::string& path);
// Writes, fdatasyncs; does not sync the directory.
[[nodiscard]] Status write_file(FileSystem& fs, const std::string& path, std::string_view data);
// Writes `path`.tmp, syncs it, renames it over `path`, syncs the directory.
[[nodiscard]] Status replace_file(FileSystem& fs, const std::string& path, std::string_view data);
// The path without doubled or trailing slashes and dots. Does not look at links.
[[nodiscard]] std::string clean_path(std::string_view path);
// needs: a clean path
[[nodiscard]] std::string parent_directory(const std::string& path);
[[nodiscard]] std::string base_name(const std::string& path);

}  // namespace cairn::env
