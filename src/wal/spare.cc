#include "wal/spare.h"

#include <algorithm>
#include <cstring>
#include <string_view>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/log.h"

namespace cairn::wal {
namespace {

constexpr uint64_t kSliceBytes = 1024 * 1024;
// A sync of the whole at the end would hold up the log's own syncs.
constexpr uint64_t kSyncBytes = 8 * 1024 * 1024;
constexpr const char* kOldNames[] = {kSpareNames[0], kSpareNames[1], kPreparing};

}  // namespace

SparePreparer::SparePreparer(env::FileSystem& fs, std::string directory, uint64_t segment_bytes)
    : fs_(fs), directory_(std::move(directory)), segment_bytes_(segment_bytes) {}

Result<bool> SparePreparer::prepare_step() {
  Status status;
  if (work_) {
    status = work_->done_bytes < segment_bytes_ ? slice() : finish();
  } else if (wants_spare()) {
    status = begin();
  } else {
    status = remove_released();
  }
  if (!status) {
    work_.reset();
    // Others need the little space more.
    if (status.error().code == Code::kResourceExhausted) (void)fs_.remove(directory_ + kPreparing);
    return std::unexpected(std::move(status).error());
  }
  return has_work();
}

bool SparePreparer::has_work() const {
  const MutexLock lock(mutex_);
  return (is_wanted_ && !ready_) || !released_.empty();
}

void SparePreparer::want() {
  const MutexLock lock(mutex_);
  is_wanted_ = true;
}

Status SparePreparer::give_back() {
  {
    const MutexLock lock(mutex_);
    is_wanted_ = false;
  }
  work_.reset();
  std::vector<std::string> paths = {directory_ + kPreparing};
  if (const std::optional<Spare> spare = take()) paths.push_back(spare->path);
  // Once this process has made a spare, a file with the name of one may be the log's.
  if (!std::exchange(looked_for_old_, true)) {
    for (const char* name : kSpareNames) paths.push_back(directory_ + name);
  }
  Status status;  // one that cannot be removed keeps no other
  for (const std::string& path : paths) {
    const Status removed = fs_.remove(path);
    if (!removed && removed.error().code != Code::kNotFound && status) status = removed;
  }
  return status;
}

bool SparePreparer::needs_space() const {
  if (work_) return false;
  if (!looked_for_old_) {
    for (const char* name : kOldNames) {
      if (fs_.exists(directory_ + name)) return false;
    }
  }
  const MutexLock lock(mutex_);
  return is_wanted_ && !ready_ && released_.empty();
}

// Files that cannot be used again are removed first, to make room.
bool SparePreparer::wants_spare() const {
  const MutexLock lock(mutex_);
  return is_wanted_ && !ready_ && (released_.empty() || may_reuse_released());
}

// A left-over has no open file. It is only removed: after a crash its file may have another name, too.
bool SparePreparer::may_reuse_released() const {
  return !released_.empty() && released_.front()->file != nullptr && released_.front().use_count() == 1;
}

bool SparePreparer::ready() const {
  const MutexLock lock(mutex_);
  return ready_.has_value();
}

bool SparePreparer::has_released() const {
  const MutexLock lock(mutex_);
  return !released_.empty();
}

std::optional<Spare> SparePreparer::take() {
  const MutexLock lock(mutex_);
  return std::exchange(ready_, std::nullopt);
}

void SparePreparer::give(std::shared_ptr<Segment> segment) {
  const MutexLock lock(mutex_);
  released_.push_back(std::move(segment));
}

Status SparePreparer::begin() {
  const std::string path = directory_ + kPreparing;
  CAIRN_TRY(const std::string old, choose_file());
  Work work;
  if (old.empty()) {
    CAIRN_TRY(work.file, fs_.open(path, env::OpenMode::kCreateEmpty));
    CAIRN_CHECK(extend_segment(*work.file, 0, segment_bytes_));  // in one piece, before it is filled
  } else {
    if (old != path) CAIRN_CHECK(fs_.rename(old, path));
    // Otherwise a crash could bring the name of the released segment back, for a file that is no segment any more.
    if (!CAIRN_MUTANT("wal.no_directory_sync")) CAIRN_CHECK(fs_.sync_directory(directory_));
    CAIRN_TRY(work.file, fs_.open(path, env::OpenMode::kReadWrite));
    CAIRN_TRY(const uint64_t size, work.file->size());
    if (size > segment_bytes_) CAIRN_CHECK(work.file->truncate(segment_bytes_));
    CAIRN_CHECK(extend_segment(*work.file, 0, segment_bytes_));  // it may be a copy with holes
    // Zeros that are there were synced before a spare got its name.
    work.look_first = !old.ends_with(".wal") && old != path;
  }
  work_ = std::move(work);
  return {};
}

// The file to make a spare of: one that an earlier process left, or a released segment nobody reads; "" for a new one.
Result<std::string> SparePreparer::choose_file() {
  if (!std::exchange(looked_for_old_, true)) {
    std::string old;
    for (const char* name : kOldNames) {
      const std::string path = directory_ + name;
      if (!fs_.exists(path)) continue;
      if (old.empty()) {
        old = path;
      } else {
        CAIRN_CHECK(fs_.remove(path));
      }
    }
    if (!old.empty()) return old;
  }
  const MutexLock lock(mutex_);
  if (!may_reuse_released()) return std::string();
  std::string path = released_.front()->path;
  released_.pop_front();  // closed, and so unlocked
  return path;
}

Status SparePreparer::slice() {
  const uint64_t begin = work_->done_bytes;
  const uint64_t end = std::min(begin + kSliceBytes, segment_bytes_);
  std::string found;
  for (uint64_t at = begin; at < end;) {
    const std::string_view zero = zeros(end - at);
    if (work_->look_first) {
      found.resize(zero.size());
      CAIRN_TRY(const size_t count, work_->file->pread(found.data(), found.size(), at));
      if (count == zero.size() && found == zero) {
        work_->written = false;
        at += zero.size();
        continue;
      }
    }
    if (!CAIRN_MUTANT("wal.spare_not_zeroed")) CAIRN_CHECK(work_->file->pwrite(zero, at));
    at += zero.size();
  }
  work_->file->sync_range(begin, end - begin);
  work_->done_bytes = end;
  if (end - work_->synced_bytes >= kSyncBytes) {
    CAIRN_CHECK(work_->file->fdatasync());
    work_->synced_bytes = end;
  }
  return {};
}

Status SparePreparer::finish() {
  CAIRN_CHECK(work_->file->fdatasync());
  // Two names in turn: the one before may have been taken and not yet renamed.
  std::string path = fmt::format("{}/{}.tmp", directory_, finished_count_ % 2);
  CAIRN_CHECK(fs_.rename(directory_ + kPreparing, path));
  ++finished_count_;
  const MutexLock lock(mutex_);
  ready_ = Spare{std::move(path), std::move(work_->file), work_->written};
  work_.reset();
  return {};
}

Status SparePreparer::remove_released() {
  std::string path;
  {
    const MutexLock lock(mutex_);
    if (released_.empty()) return {};
    path = released_.front()->path;
    released_.pop_front();
  }
  const Status removed = fs_.remove(path);
  if (!removed && removed.error().code == Code::kNotFound) return {};
  if (removed) log::info("purged", {{"path", path}});
  return removed;
}

}  // namespace cairn::wal
