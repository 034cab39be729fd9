// wal/spare.h: the next segment, made ready before it is needed; and the end of released ones.
//
// A spare is a synced file of segment_bytes real zeros. Its blocks are allocated and written, so fdatasync in the
// middle of it writes no metadata and no old byte follows a log's tail. One thread of the program's choice makes it in
// slices, by calls of prepare_step():
//
//     <released>.wal  or nothing  ->  preparing.tmp  ->  0.tmp or 1.tmp  ->  (Log) <sequence>-<first>.wal
//
// Only a finished spare is called 0.tmp or 1.tmp, because etcd uses a file of that name without a check.
//
// A log at rest needs no spare: give_back() removes it, and want() has another one made.
//
// Threads: take(), give() by the log's owner; prepare_step(), want(), give_back(), needs_space() by one other (or the
//          same) thread; the rest by any.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>

#include "base/error.h"
#include "base/mutex.h"
#include "env/fs.h"
#include "wal/segment.h"

namespace cairn::wal {

struct Spare {
  std::string path;
  std::unique_ptr<env::File> file;
  bool written = false;  // every block has been written; false: some may be merely allocated
};

class SparePreparer {
 public:
  SparePreparer(env::FileSystem& fs, std::string directory, uint64_t segment_bytes);

  // One slice of work (at most a megabyte written or read, or one file removed). True when more is to be done now,
  // false when a spare stands ready, or none is wanted, and nothing is left to remove. After an error the next call
  // begins anew.
  Result<bool> prepare_step();
  [[nodiscard]] bool has_work() const;
  // A spare is wanted, as it is at first, until give_back().
  void want();
  // Removes the spare, or what there is of one, also what an earlier process left. From then on released segments are
  // removed, too. A spare that the log has taken stays.
  Status give_back();
  // Whether the next step begins a new file, for lack of one to use again.
  [[nodiscard]] bool needs_space() const;
  [[nodiscard]] bool ready() const;
  // Whether released segments wait to be used again or removed.
  [[nodiscard]] bool has_released() const;

  // The finished spare, if there is one. The caller renames it.
  std::optional<Spare> take();
  // A released segment: becomes the next spare, or is removed. In the order of their sequences.
  void give(std::shared_ptr<Segment> segment);

 private:
  struct Work {
    std::unique_ptr<env::File> file;
    uint64_t done_bytes = 0;
    uint64_t synced_bytes = 0;
    bool look_first = false;  // an old file: what is zero already is not written again
    bool written = true;      // see Spare
  };

  Status begin();
  Result<std::string> choose_file();
  [[nodiscard]] bool wants_spare() const;
  [[nodiscard]] bool may_reuse_released() const CAIRN_REQUIRES(mutex_);
  Status slice();
  Status finish();
  Status remove_released();

  env::FileSystem& fs_;
  const std::string directory_;
  const uint64_t segment_bytes_;
  std::optional<Work> work_;  // the rest of this group belongs to the preparing thread
  bool looked_for_old_ = false;
  uint64_t finished_count_ = 0;

  mutable Mutex mutex_;
  bool is_wanted_ CAIRN_GUARDED_BY(mutex_) = true;
  std::optional<Spare> ready_ CAIRN_GUARDED_BY(mutex_);
  std::deque<std::shared_ptr<Segment>> released_ CAIRN_GUARDED_BY(mutex_);
};

}  // namespace cairn::wal
