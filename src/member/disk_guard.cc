#include "member/disk_guard.h"

#include <algorithm>
#include <utility>

#include "base/log.h"

namespace cairn::member {

DiskGuard::DiskGuard(env::FileSystem& fs, Options options) : fs_(fs), options_(std::move(options)) {
  const MutexLock lock(mutex_);
  const auto file = fs_.open(path(), env::OpenMode::kReadWrite);  // of an earlier process
  if (!file || (*file)->size().value_or(0) != options_.reserve_bytes) return;
  // A copy of it, or what a crash has left, may have holes.
  holds_reserve_ = (*file)->allocate(0, options_.reserve_bytes).has_value();
  if (!holds_reserve_) (void)fs_.remove(path());
}

DiskGuard::Free DiskGuard::find_free() const {
  Free out;
  if (const auto free = fs_.free_bytes(env::parent_directory(options_.directory))) out.data = *free;
  if (const auto free = fs_.free_bytes(options_.log_directory)) out.log = *free;
  return out;
}

bool DiskGuard::look(const Room& room) {
  const Free free = find_free();
  const uint64_t for_db = free.data + std::min(room.in_db_bytes, UINT64_MAX - free.data);
  const MutexLock lock(mutex_);
  // What has been low is so until there is twice as much.
  const uint64_t factor = is_low_ ? 2 : 1;
  const bool is_low = room.db_is_full || for_db < factor * options_.low_bytes ||
                      (!room.has_spare && free.log < factor * options_.log_low_bytes);
  if (is_low != is_low_) {
    if (is_low) {
      log::error(
          "little space is left on the disk; a voter raises NOSPACE, and nothing but deletes and compaction goes on",
          {{"free-bytes", free.data},
           {"free-in-db-bytes", room.in_db_bytes},
           {"free-for-wal-bytes", free.log},
           {"data-dir", options_.directory},
           {"wal-dir", options_.log_directory}});
    } else {
      log::info("there is space again; once the NOSPACE alarm is disarmed, all goes on",
                {{"free-bytes", free.data}, {"free-in-db-bytes", room.in_db_bytes}, {"free-for-wal-bytes", free.log}});
    }
  }
  is_low_ = is_low;
  room_ = room;
  if (!is_low_ && !holds_reserve_ && !cannot_reserve_ && free.data >= 2 * options_.low_bytes) make_reserve();
  return is_low_;
}

bool DiskGuard::is_low() const {
  const MutexLock lock(mutex_);
  return is_low_;
}

// The log may lie on the db's device: what it takes, the db has no more.
bool DiskGuard::has_room_for(uint64_t bytes) const {
  const Free free = find_free();
  if (free.log < bytes || free.log - bytes < options_.log_low_bytes) return false;
  const MutexLock lock(mutex_);
  const uint64_t data = free.data - std::min(free.data, bytes);
  return data + std::min(room_.in_db_bytes, UINT64_MAX - data) >= options_.low_bytes;
}

uint64_t DiskGuard::room_for_deletes(uint64_t buffered_bytes) const {
  const Free free = find_free();
  if (free.data == UINT64_MAX) return UINT64_MAX;
  const MutexLock lock(mutex_);
  const uint64_t reserve = holds_reserve_ ? options_.reserve_bytes : 0;
  if (room_.db_is_full && reserve == 0) return 0;
  const uint64_t room = free.data + reserve + room_.in_db_bytes;
  return room - std::min(room, buffered_bytes + options_.pass_bytes);
}

// Its content is of no interest, so nothing is synced; what matters are its blocks.
void DiskGuard::make_reserve() {
  const auto make = [&]() -> Status {
    CAIRN_CHECK(fs_.make_directories(options_.directory));
    CAIRN_TRY(const auto file, fs_.open(path(), env::OpenMode::kCreateEmpty));
    return file->allocate(0, options_.reserve_bytes);
  };
  if (const Status made = make(); made) {
    holds_reserve_ = true;
  } else {
    (void)fs_.remove(path());
    cannot_reserve_ = made.error().code != Code::kResourceExhausted;
    if (cannot_reserve_) log::warn("no space can be reserved", {{"error", made.error().message}});
  }
}

void DiskGuard::give_up_reserve() {
  const MutexLock lock(mutex_);
  if (!std::exchange(holds_reserve_, false)) return;
  if (const Status removed = fs_.remove(path()); !removed) {
    log::warn("failed to give up the reserved space", {{"error", removed.error().message}});
    return;
  }
  log::warn("the reserved space is given up", {{"bytes", options_.reserve_bytes}});
}

}  // namespace cairn::member
