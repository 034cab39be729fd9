// storage/memory/file_system.h: files that are bytes in memory, for images of the memory engine and for fuzzing.
//
// The only failure is a file that grows beyond its limit: kResourceExhausted. Syncs do nothing.
//
// Threads:  as env/fs.h; the file system itself belongs to one thread.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "env/fs.h"

namespace cairn::storage {

class MemoryFileSystem final : public env::FileSystem {
 public:
  // Each file reserves this much address space and can grow to it.
  explicit MemoryFileSystem(uint64_t file_bytes_max) : file_bytes_max_(file_bytes_max) {}

  Result<std::unique_ptr<env::File>> open(const std::string& path, env::OpenMode mode) override;
  Result<std::vector<std::string>> list(const std::string& directory) override;
  bool exists(const std::string& path) override { return files_.contains(path); }
  Status make_directories(const std::string& path) override;
  Status rename(const std::string& from, const std::string& to) override;
  Status remove(const std::string& path) override;
  Status remove_all(const std::string& path) override;
  Status sync_directory(const std::string& directory) override;
  Result<uint64_t> free_bytes(const std::string& path) override;

  class Content;

 private:
  uint64_t file_bytes_max_;
  std::map<std::string, std::shared_ptr<Content>> files_;
};

}  // namespace cairn::storage
