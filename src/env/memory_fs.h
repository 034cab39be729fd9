// env/memory_fs.h: a file system whose files are memory of this process, for --in-memory.
//
// Each file is a memfd, so that reading, writing, holes and mappings are the kernel's, as on a disk; names and folders
// are a table here. Nothing is swapped in or out by name: when the process ends, all is gone. Blocks are taken when
// they are written, not when they are allocated, and free_bytes() is the memory that is left.
//
// Threads: any.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>

#include "base/mutex.h"
#include "env/fs.h"

namespace cairn::env {

class MemoryFs final : public FileSystem {
 public:
  class Content;

  Result<std::unique_ptr<File>> open(const std::string& path, OpenMode mode) override;
  Result<std::vector<std::string>> list(const std::string& directory) override;
  bool exists(const std::string& path) override;
  Status make_directories(const std::string& path) override;
  Status rename(const std::string& from, const std::string& to) override;
  Status remove(const std::string& path) override;
  Status remove_all(const std::string& path) override;
  Status sync_directory(const std::string& directory) override;
  Result<uint64_t> free_bytes(const std::string& path) override;

 private:
  Mutex mutex_;
  std::map<std::string, std::shared_ptr<Content>> files_ CAIRN_GUARDED_BY(mutex_);
  std::set<std::string> directories_ CAIRN_GUARDED_BY(mutex_);
};

}  // namespace cairn::env
