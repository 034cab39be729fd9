// testing/stuck_disk.h: a real file system of which a part stands still while a test says so.
//
// Threads: any.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "base/mutex.h"
#include "testing/file_systems.h"

namespace cairn::testing {

class StuckDisk final : public ForwardingFileSystem {
 public:
  enum class Part : uint8_t { kNone, kSyncs, kWritesOfTheDb, kWritesOfTheLog };

  Result<std::unique_ptr<env::File>> open(const std::string& path, env::OpenMode mode) override {
    CAIRN_TRY(auto file, ForwardingFileSystem::open(path, mode));
    return std::unique_ptr<env::File>(std::make_unique<Stuck>(*this, written_by(path), std::move(file)));
  }
  void set_stuck(Part part) {
    const MutexLock lock(mutex_);
    stuck_ = part;
    changed_.notify_all();
  }
  // Until somebody waits.
  void wait_for_victim() {
    MutexLock lock(mutex_);
    while (victims_ == 0) changed_.wait(lock);
  }

 private:
  class Stuck final : public ForwardingFile {
   public:
    Stuck(StuckDisk& disk, Part written, std::unique_ptr<env::File> file)
        : ForwardingFile(std::move(file)), disk_(disk), written_(written) {}
    Status pwrite(std::string_view data, uint64_t offset) override {
      disk_.pass(written_);
      return ForwardingFile::pwrite(data, offset);
    }
    Status fdatasync() override {
      disk_.pass(Part::kSyncs);
      return ForwardingFile::fdatasync();
    }

   private:
    StuckDisk& disk_;
    const Part written_;
  };
  static Part written_by(const std::string& path) {
    if (path.ends_with("/db")) return Part::kWritesOfTheDb;
    return path.ends_with(".wal") ? Part::kWritesOfTheLog : Part::kNone;
  }
  void pass(Part part) {
    MutexLock lock(mutex_);
    if (part == Part::kNone || stuck_ != part) return;
    ++victims_;
    changed_.notify_all();
    while (stuck_ == part) changed_.wait(lock);
    --victims_;
  }

  Mutex mutex_;
  Condition changed_;
  Part stuck_ CAIRN_GUARDED_BY(mutex_) = Part::kNone;
  int victims_ CAIRN_GUARDED_BY(mutex_) = 0;
};

}  // namespace cairn::testing
