#include "wal/segment_reader.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "wal/codec.h"
#include "wal/record.h"

namespace cairn::wal {
namespace {

constexpr uint64_t kPointBytes = 64 * 1024;
constexpr uint64_t kReadBytes = 128 * 1024;

}  // namespace

void EntryPoints::restart(Index last) {
  points_.clear();
  first_ = last + 1;
  last_ = last;
}

bool EntryPoints::add(const EntryPoint& entry) {
  CAIRN_ASSERT(entry.index.value > 0);
  bool is_point = points_.empty() || entry.index != last_ + 1;
  if (!is_point) {
    const EntryPoint& back = points_.back();
    is_point = entry.term != back.term || entry.sequence != back.sequence || entry.offset - back.offset >= kPointBytes;
  }
  if (!is_point) {
    last_ = entry.index;
    return false;
  }
  if (entry.index > last_ + 1) restart(entry.index - 1);
  add_point(entry);
  return true;
}

void EntryPoints::add_point(const EntryPoint& point) {
  while (!points_.empty() && points_.back().index >= point.index) points_.pop_back();
  if (points_.empty()) first_ = point.index;
  points_.push_back(point);
  last_ = point.index;
}

void EntryPoints::extend_to(Index last) {
  CAIRN_ASSERT(points_.empty() ? last == last_ : last >= points_.back().index);
  last_ = last;
}

void EntryPoints::add_snapshot(Index index, Term term) {
  if (index > last_) return restart(index);
  const std::optional<Term> held = this->term(index);
  if (held && *held != term) restart(index);
}

void EntryPoints::release_before(uint64_t sequence) {
  const auto keep =
      std::find_if(points_.begin(), points_.end(), [&](const EntryPoint& point) { return point.sequence >= sequence; });
  points_.erase(points_.begin(), keep);
  first_ = points_.empty() ? last_ + 1 : points_.front().index;
}

std::optional<Term> EntryPoints::term(Index index) const {
  Index end;
  const std::optional<EntryPoint> point = find(index, end);
  if (!point) return std::nullopt;
  return point->term;
}

std::optional<EntryPoint> EntryPoints::find(Index index, Index& end) const {
  if (index < first_ || index > last_) return std::nullopt;
  const auto above = std::upper_bound(points_.begin(), points_.end(), index,
                                      [](Index wanted, const EntryPoint& point) { return wanted < point.index; });
  CAIRN_ASSERT(above != points_.begin());
  end = above == points_.end() ? last_ + 1 : above->index;
  return *(above - 1);
}

Index SegmentIndex::first_index() const {
  const MutexLock lock(mutex_);
  return points_.first();
}

Index SegmentIndex::last_index() const {
  const MutexLock lock(mutex_);
  return points_.last();
}

// Where a segment ends is not known here; the next one's first point is behind its head alone.
std::vector<std::pair<Index, uint64_t>> SegmentIndex::sizes() const {
  const MutexLock lock(mutex_);
  std::vector<std::pair<Index, uint64_t>> out;
  const std::vector<EntryPoint>& points = points_.all();
  for (size_t i = 0; i < points.size(); ++i) {
    const bool is_known = i + 1 < points.size() && points[i + 1].sequence == points[i].sequence;
    out.emplace_back(points[i].index, is_known ? points[i + 1].offset - points[i].offset : kPointBytes / 2);
  }
  return out;
}

Result<Term> SegmentIndex::term(Index index) const {
  const MutexLock lock(mutex_);
  const std::optional<Term> term = points_.term(index);
  if (!term) return fail(Code::kOutOfRange, "wal: entry {} is in no segment", index);
  return *term;
}

// Taken under one lock, so that changes by the log's owner cannot mix old places and new ones.
Result<std::vector<SegmentIndex::Place>> SegmentIndex::places_of(Index lo, Index hi) const {
  const MutexLock lock(mutex_);
  if (lo < points_.first() || hi > points_.last() + 1) {
    return fail(Code::kOutOfRange, "wal: entries {} to {} are not in the segments, which hold {} to {}", lo, hi - 1,
                points_.first(), points_.last());
  }
  std::vector<Place> places;
  for (Index index = lo; index < hi;) {
    Place place;
    place.point = *points_.find(index, place.end);
    const auto segment = std::find_if(segments_.begin(), segments_.end(), [&](const auto& candidate) {
      return candidate->name.sequence == place.point.sequence;
    });
    CAIRN_ASSERT(segment != segments_.end());
    place.segment = *segment;
    index = place.end;
    places.push_back(std::move(place));
  }
  return places;
}

Status SegmentIndex::read(Index lo, Index hi, uint64_t bytes_max,
                          const std::function<void(const Entry&)>& visit) const {
  CAIRN_ASSERT(lo <= hi);
  if (lo == hi) return {};
  CAIRN_TRY(const std::vector<Place> places, places_of(lo, hi));
  uint64_t bytes = 0;
  const Segment* segment = nullptr;
  std::optional<RecordReader> reader;
  for (const Place& place : places) {
    if (segment != place.segment.get()) {
      segment = place.segment.get();
      CAIRN_TRY(const uint64_t size, segment->file->size());
      reader.emplace(*segment->file, size, kReadBytes);
    }
    reader->seek(place.point.offset, place.point.crc);
    const Index end = std::min(place.end, hi);
    for (Index expected = place.point.index; expected < end;) {
      Record record;
      CAIRN_TRY(const ReadOutcome outcome, reader->next(record));
      if (outcome != ReadOutcome::kRecord) {
        return fail(Code::kDataLoss, "wal: {} at offset {}: entry {} cannot be read again: {}", segment->path,
                    reader->offset(), expected, outcome == ReadOutcome::kEnd ? "it is gone" : reader->problem());
      }
      if (record.type != RecordType::kEntry) continue;
      const std::optional<Entry> entry = decode_entry(record.data);
      if (!entry || entry->index != expected || entry->term != place.point.term) {
        return fail(Code::kDataLoss, "wal: {} at offset {}: this is not entry {}", segment->path, record.offset,
                    expected);
      }
      ++expected;
      if (entry->index < lo) continue;
      bytes += entry->data.size();
      if (bytes > bytes_max && entry->index > lo) return {};
      visit(*entry);
    }
  }
  return {};
}

}  // namespace cairn::wal
