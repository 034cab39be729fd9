// wal/segment_reader.h: entries that have left memory, read back from the segments.
//
// A SegmentIndex knows where entries lie: one point (index, term, segment, offset, checksum before it) for every
// 64 KB of log and wherever a run of consecutive entries of one term begins. Reading starts at the point at or below
// the wanted index and checks every record's checksum again, so damage that came later is noticed.
//
// Always true: between two points the file holds consecutive indexes of one term; an overwritten tail has no points.
// Threads:     any. One mutex guards the points; file reads happen outside it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/mutex.h"
#include "wal/segment.h"
#include "wal/types.h"

namespace cairn::wal {

// Where an entry's record begins, and what is needed to read on from there.
struct EntryPoint {
  Index index;
  Term term;
  uint64_t sequence = 0;  // of the segment
  uint64_t offset = 0;    // of the record's frame
  uint32_t crc = 0;       // the running checksum before the record
};

// The points of one run of consecutive indexes [first, last]. A plain value: no thread, no file.
class EntryPoints {
 public:
  // The next entry of the log. An index at or below last() replaces what was there from it on; one above last() + 1
  // (after a snapshot from a leader) begins anew. True when this entry has become a point.
  bool add(const EntryPoint& entry);
  // A point made by another EntryPoints, and then: entries up to `last` follow the newest point.
  void add_point(const EntryPoint& point);
  void extend_to(Index last);
  // A committed snapshot's record: when the log does not hold (index, term), it begins anew behind `index`.
  void add_snapshot(Index index, Term term);
  // Forgets what lies in segments before `sequence`.
  void release_before(uint64_t sequence);

  [[nodiscard]] bool empty() const { return points_.empty(); }
  [[nodiscard]] Index first() const { return first_; }
  [[nodiscard]] Index last() const { return last_; }  // first() - 1 when empty
  [[nodiscard]] std::optional<Term> term(Index index) const;
  // The point at or below `index`, and the index at which the next one begins.
  [[nodiscard]] std::optional<EntryPoint> find(Index index, Index& end) const;
  [[nodiscard]] const std::vector<EntryPoint>& all() const { return points_; }

 private:
  void restart(Index last);

  std::vector<EntryPoint> points_;  // ascending by index
  Index first_{1};
  Index last_{0};
};

// The points and segments that the Log publishes for its readers.
class SegmentIndex {
 public:
  [[nodiscard]] Index first_index() const;
  [[nodiscard]] Index last_index() const;
  // errors: kOutOfRange when `index` is not in [first_index(), last_index()]
  [[nodiscard]] Result<Term> term(Index index) const;

  // How many bytes of log follow each point up to the next one, roughly.
  [[nodiscard]] std::vector<std::pair<Index, uint64_t>> sizes() const;

  // The entries [lo, hi) in order, cut before the one that would take their data past `bytes_max` bytes. At least
  // one entry when lo < hi, however large it is. `visit` may keep nothing of the entry's data.
  //   needs:  lo <= hi
  //   errors: kOutOfRange when an entry is not in a segment (released, overwritten meanwhile, or not yet flushed),
  //           kDataLoss when the file is damaged
  Status read(Index lo, Index hi, uint64_t bytes_max, const std::function<void(const Entry&)>& visit) const;

 private:
  friend class Log;
  friend struct Opening;
  struct Place {
    EntryPoint point;
    Index end;
    std::shared_ptr<const Segment> segment;
  };
  Result<std::vector<Place>> places_of(Index lo, Index hi) const;

  mutable Mutex mutex_;
  EntryPoints points_ CAIRN_GUARDED_BY(mutex_);
  std::vector<std::shared_ptr<Segment>> segments_ CAIRN_GUARDED_BY(mutex_);  // ascending by sequence
};

}  // namespace cairn::wal
