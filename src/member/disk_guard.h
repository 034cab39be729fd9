// member/disk_guard.h: what a member does before its disk is full, and then.
//
// A file of `reserve_bytes` is kept allocated, <data-dir>/member/cairn/reserve. Space is low when less than `low_bytes`
// is left for the db, on the device or free in the file, when a commit finds no room, or when less than `log_low_bytes`
// is free on the log's device and no spare segment stands ready. Then a member that votes raises its NOSPACE alarm,
// which refuses what would need more, and once that is in force, or a commit needs it, the reserve is given up for what
// makes room again: commits, deletes, compaction. When twice `low_bytes` is free on the device the reserve is made
// anew. The alarm is withdrawn (no_space_duty.h) or disarmed by the operator; while space is low it is raised again.
//
// Threads: any.
// Failure: a file system that cannot say what is free counts as having room.
#pragma once

#include <cstdint>
#include <string>

#include "base/mutex.h"
#include "env/fs.h"

namespace cairn::member {

class DiskGuard {
 public:
  struct Options {
    std::string directory;      // of the reserve; made when needed
    std::string log_directory;  // may be on another device
    uint64_t reserve_bytes = 8 << 20;
    uint64_t low_bytes = 40 << 20;
    uint64_t log_low_bytes = 8 << 20;
    uint64_t pass_bytes = 3 << 20;
  };

  DiskGuard(env::FileSystem& fs, Options options);

  struct Room {
    uint64_t in_db_bytes = 0;  // free in the file, so the db can take them without growing
    bool has_spare = false;    // the log can go on in a segment that is there
    bool db_is_full = false;   // a commit has found no room, and has not succeeded since
  };
  // Looks at what is free, makes the reserve if it is missing and there is room. True: space is low.
  bool look(const Room& room);
  [[nodiscard]] bool is_low() const;
  // Whether `bytes` more may be taken for the log, going by the last look, without space becoming low.
  [[nodiscard]] bool has_room_for(uint64_t bytes) const;
  // What a delete may write to the db at most, with `buffered_bytes` of others' changes on their way there, so that a
  // compaction can still follow: the reserve counts as free, what a compaction's pass needs does not.
  [[nodiscard]] uint64_t room_for_deletes(uint64_t buffered_bytes) const;
  // The reserve's space is free afterwards. Nothing happens when it was given up before.
  void give_up_reserve();

 private:
  struct Free {
    uint64_t data = UINT64_MAX;
    uint64_t log = UINT64_MAX;
  };
  [[nodiscard]] Free find_free() const;
  void make_reserve() CAIRN_REQUIRES(mutex_);
  [[nodiscard]] std::string path() const { return options_.directory + "/reserve"; }

  env::FileSystem& fs_;
  const Options options_;
  mutable Mutex mutex_;
  Room room_ CAIRN_GUARDED_BY(mutex_);
  bool is_low_ CAIRN_GUARDED_BY(mutex_) = false;
  bool holds_reserve_ CAIRN_GUARDED_BY(mutex_) = false;
  bool cannot_reserve_ CAIRN_GUARDED_BY(mutex_) = false;  // the file system allocates nothing beforehand
};

}  // namespace cairn::member
