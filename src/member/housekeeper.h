// member/housekeeper.h: what a member does beside its requests, a slice at a time: the next WAL segment, looks at the
// free space of its disks, index checkpoints.
//
// A slice is at most a megabyte written, or a few thousand keys; between two slices there is a pause, so that the disk
// serves others. What is to be done is ordered by MemberCore; carried out it is here, by a thread (driver.h) or by the
// simulator's events.
//
// Threads: the housekeeper's; admit_deletes() may be used by any.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "base/mutex.h"
#include "env/fs.h"
#include "member/disk_guard.h"
#include "member/member_core.h"
#include "member/published.h"
#include "member/recovery/checkpoint.h"
#include "mvcc/kv/range.h"
#include "wal/spare.h"

namespace cairn::member {

class Housekeeper {
 public:
  struct Options {
    DiskGuard::Options disk;
    CheckpointOptions checkpoint;
    std::string snap_directory = {};
    uint64_t segment_bytes = 64 << 20;
    int64_t look_interval_ns = 1'000'000'000;
    int64_t short_look_interval_ns =
        100'000'000;                     // while there is no spare: the log takes from the disk as it is written
    int64_t spare_pause_ns = 4'000'000;  // between slices of a megabyte: 250 MB/s at most
    int64_t checkpoint_pause_ns = 1'000'000;
  };
  // What MemberCore wants; it adds up until the next slice.
  struct Orders {
    bool prepare_spare = false;
    bool give_spare_back = false;
    bool remove_released = false;
    bool step_checkpoint = false;
    bool look_at_disk = false;
    bool give_up_reserve = false;
    bool db_is_full = false;  // for the look, and those that follow
    bool is_at_rest = false;  // for the checkpoint: fewer changes are enough
    bool end = false;         // for the thread
    std::vector<Index> unused_images = {};

    [[nodiscard]] static Orders of(const Effects& effects);
    [[nodiscard]] bool empty() const {
      return !prepare_spare && !give_spare_back && !remove_released && !step_checkpoint && !look_at_disk &&
             !give_up_reserve && !end && unused_images.empty();
    }
    void clear() { *this = {}; }
    void add(const Orders& later) {
      // The later word about the spare counts.
      prepare_spare = later.prepare_spare || (prepare_spare && !later.give_spare_back);
      give_spare_back = later.give_spare_back || (give_spare_back && !later.prepare_spare);
      remove_released |= later.remove_released;
      step_checkpoint |= later.step_checkpoint;
      is_at_rest |= later.is_at_rest;
      look_at_disk |= later.look_at_disk;
      give_up_reserve |= later.give_up_reserve;
      if (later.look_at_disk) db_is_full = later.db_is_full;
      end |= later.end;
      unused_images.insert(unused_images.end(), later.unused_images.begin(), later.unused_images.end());
    }
  };
  struct Slice {
    int64_t again_at_ns = 0;          // the next slice is due, orders or not
    std::optional<bool> disk_is_low;  // to be told to MemberCore
  };

  // `reader`: this thread's registration; `fs` and `reader` outlive the housekeeper.
  Housekeeper(env::FileSystem& fs, Options options, std::shared_ptr<wal::SparePreparer> spares,
              const CheckpointBase& checkpoint, PublishedDomain::Reader& reader);

  Slice step(const Orders& orders, int64_t now_ns);

  // At a clean stop, when all is in the db and no other thread runs: saves a checkpoint if one is due. `time_is_up` is
  // asked between slices.
  template <class TimeIsUp>
  void save_at_stop(const TimeIsUp& time_is_up) {
    while (step_checkpoint(true)) {
      if (checkpoint_.in_progress() && time_is_up()) return give_checkpoint_up();
    }
  }

  // Whether a delete of so many keys may be proposed: a tombstone takes room as well, and once a commit finds none
  // there is no way on. `buffered_bytes` of others' changes are on their way to the db.
  [[nodiscard]] bool admit_deletes(const mvcc::DeleteCount& count, uint64_t buffered_bytes, int64_t now_ns);

  [[nodiscard]] uint64_t checkpoints_written() const { return checkpoint_.written_count(); }

 private:
  enum class Progress : uint8_t { kMore, kDone, kLater };

  std::optional<bool> look();
  Progress prepare_spare();
  void give_spare_back();
  bool step_checkpoint(bool is_last);
  void give_checkpoint_up();
  void remove_image(Index index);

  env::FileSystem& fs_;
  const Options options_;
  std::shared_ptr<wal::SparePreparer> spares_;
  PublishedDomain::Reader& reader_;
  DiskGuard guard_;
  CheckpointWriter checkpoint_;
  Progress spare_ = Progress::kDone;
  bool checkpoint_goes_on_ = false;
  bool is_at_rest_ = false;  // as the checkpoint that goes on was ordered
  int64_t next_look_ns_ = 0;
  int64_t rests_until_ns_ = 0;
  bool was_low_ = false;
  bool db_is_full_ = false;

  Mutex deletes_mutex_;
  int64_t deletes_since_ns_ CAIRN_GUARDED_BY(deletes_mutex_) = 0;
  uint64_t deletes_bytes_ CAIRN_GUARDED_BY(deletes_mutex_) = 0;  // let through since then
};

}  // namespace cairn::member
