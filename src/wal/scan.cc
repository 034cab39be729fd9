#include "wal/scan.h"

#include <algorithm>

#include "wal/codec.h"

namespace cairn::wal {
namespace {

constexpr uint64_t kReadBytes = 1024 * 1024;
constexpr std::string_view kWayOut =
    "restore the member from a snapshot, or remove it from the cluster and add it again with an empty data directory";

// No cluster has that many elections. But a hard state that is taken for an entry has a member id in this place.
constexpr Term kTermMax{uint64_t{1} << 48};

class Scanner {
 public:
  Status segment(const Segment& segment, bool is_last, const RecordVisitor& visit);
  Scan take() { return std::move(scan_); }

 private:
  // Each returns what is wrong with the record, "" for nothing.
  std::string take_record(const Segment& segment, const Record& record, uint64_t number);
  std::string take_metadata(std::string_view data);
  std::string take_entry(const Segment& segment, const Record& record);
  std::string take_state(std::string_view data);
  std::string take_snapshot(const Segment& segment, std::string_view data);
  void commit_snapshot();

  Scan scan_;
  bool has_metadata_ = false;
  std::optional<uint32_t> crc_;
  // A leader's snapshot is recorded before the hard state that commits it. Until that, or an entry behind the
  // snapshot, the log must still be able to start from an older one.
  std::optional<SnapshotRecord> uncommitted_snapshot_;
};

std::unexpected<Error> damaged(const Segment& segment, uint64_t offset, std::string_view reason) {
  return fail(Code::kDataLoss, "wal: {} at offset {}: {}; this is damage, not an interrupted write: {}", segment.path,
              offset, reason, kWayOut);
}

Status Scanner::segment(const Segment& segment, bool is_last, const RecordVisitor& visit) {
  CAIRN_TRY(const uint64_t size, segment.file->size());
  RecordReader reader(*segment.file, size, kReadBytes);
  reader.seek(0, crc_);
  uint64_t record_count = 0;
  for (;;) {
    Record record;
    CAIRN_TRY(const ReadOutcome outcome, reader.next(record));
    if (outcome == ReadOutcome::kEnd) break;
    // A segment's head is synced before the segment gets its name, so it is never torn.
    if (outcome == ReadOutcome::kTorn && is_last && record_count >= 2) {
      scan_.torn = reader.problem();
      break;
    }
    if (outcome != ReadOutcome::kRecord) return damaged(segment, reader.offset(), reader.problem());
    const std::string problem = take_record(segment, record, record_count);
    if (!problem.empty()) return damaged(segment, record.offset, problem);
    if (visit) visit(segment, record);
    ++record_count;
  }
  if (record_count < 2) return damaged(segment, reader.offset(), "the segment has no head");
  crc_ = reader.crc();
  scan_.crc = reader.crc();
  scan_.end_offset = reader.offset();
  return {};
}

std::string Scanner::take_record(const Segment& segment, const Record& record, uint64_t number) {
  // The first two records of a segment are its checksum and the metadata.
  if ((number == 0) != (record.type == RecordType::kCrc) || (number == 1) != (record.type == RecordType::kMetadata)) {
    return fmt::format("a {} record stands where none can be", record_type_name(record.type));
  }
  switch (record.type) {
    case RecordType::kCrc: return {};
    case RecordType::kMetadata: return take_metadata(record.data);
    case RecordType::kEntry: return take_entry(segment, record);
    case RecordType::kState: return take_state(record.data);
    case RecordType::kSnapshot: return take_snapshot(segment, record.data);
  }
  return "unknown type";
}

std::string Scanner::take_metadata(std::string_view data) {
  if (has_metadata_) return data == scan_.metadata_bytes ? "" : "the metadata differ from those of the segment before";
  const std::optional<Metadata> metadata = decode_metadata(data);
  if (!metadata) return "the metadata cannot be read";
  has_metadata_ = true;
  scan_.metadata = *metadata;
  scan_.metadata_bytes = data;
  return {};
}

std::string Scanner::take_entry(const Segment& segment, const Record& record) {
  const std::optional<Entry> entry = decode_entry(record.data);
  if (!entry) return "the entry cannot be read";
  if (entry->index.value == 0 || entry->term.value == 0 || entry->term > kTermMax) {
    return fmt::format("the entry has index {}, term {}", entry->index, entry->term);
  }
  if (entry->type == 1 && entry->data.empty()) return "the entry is an empty configuration change";
  if (entry->index <= scan_.state.commit) {
    return fmt::format("entry {} would replace one that is committed ({} are)", entry->index, scan_.state.commit);
  }
  if (uncommitted_snapshot_ && entry->index > uncommitted_snapshot_->index &&
      entry->term >= uncommitted_snapshot_->term) {
    commit_snapshot();
  }
  const std::optional<Term> before = scan_.points.term(entry->index - 1);
  if (before && *before > entry->term) {
    return fmt::format("entry {} has term {}, below term {} of the entry before", entry->index, entry->term, *before);
  }
  scan_.points.add({.index = entry->index,
                    .term = entry->term,
                    .sequence = segment.name.sequence,
                    .offset = record.offset,
                    .crc = record.crc_before});
  scan_.name_index = entry->index;
  return {};
}

std::string Scanner::take_state(std::string_view data) {
  const std::optional<HardState> state = decode_hard_state(data);
  if (!state) return "the hard state cannot be read";
  // Its term may be below an entry's: the write of both may have been interrupted between them.
  if (state->term < scan_.state.term || state->commit < scan_.state.commit) {
    return fmt::format("hard state (term {}, commit {}) goes back behind term {}, commit {}", state->term,
                       state->commit, scan_.state.term, scan_.state.commit);
  }
  scan_.state = *state;
  if (uncommitted_snapshot_ && state->commit >= uncommitted_snapshot_->index) commit_snapshot();
  return {};
}

void Scanner::commit_snapshot() {
  scan_.points.add_snapshot(uncommitted_snapshot_->index, uncommitted_snapshot_->term);
  uncommitted_snapshot_.reset();
}

std::string Scanner::take_snapshot(const Segment& segment, std::string_view data) {
  std::optional<SnapshotRecord> record = decode_snapshot_record(data);
  if (!record) return "the snapshot record cannot be read";
  uncommitted_snapshot_.reset();
  if (record->index <= scan_.state.commit) {
    scan_.points.add_snapshot(record->index, record->term);
  } else {
    uncommitted_snapshot_ = *record;
  }
  scan_.name_index = std::max(scan_.name_index, record->index);
  scan_.snapshots.push_back({std::move(*record), segment.name.sequence});
  return {};
}

}  // namespace

Result<Scan> scan_segments(std::span<const std::shared_ptr<Segment>> segments, const RecordVisitor& visit) {
  Scanner scanner;
  for (const auto& segment : segments) {
    CAIRN_CHECK(scanner.segment(*segment, segment == segments.back(), visit));
  }
  return scanner.take();
}

Result<Scan> scan_directory(env::FileSystem& fs, const std::string& directory, const RecordVisitor& visit) {
  CAIRN_TRY(const SegmentList list, list_segments(fs, directory));
  std::vector<std::shared_ptr<Segment>> segments;
  for (const SegmentName& name : list.in_use) {
    CAIRN_TRY(auto segment, open_segment(fs, directory, name, SegmentAccess::kRead));
    segments.push_back(std::move(segment));
  }
  return scan_segments(segments, visit);
}

Status check_start(const std::string& directory, std::span<const SnapshotPlace> snapshots, const EntryPoints& points,
                   const HardState& state, const SnapshotRecord& start) {
  const auto is_start = [&](const SnapshotPlace& place) {
    return place.record.index == start.index && place.record.term == start.term;
  };
  if (std::none_of(snapshots.begin(), snapshots.end(), is_start)) {
    return fail(Code::kDataLoss, "wal: {} has no record of a snapshot at index {}, term {}: {}", directory, start.index,
                start.term, kWayOut);
  }
  if (start.index > state.commit) {
    return fail(Code::kDataLoss, "wal: {}: snapshot index {} is above the commit index {}: {}", directory, start.index,
                state.commit, kWayOut);
  }
  const Index last = std::max(points.last(), start.index);
  if (points.last() > start.index && points.first() > start.index + 1) {
    return fail(Code::kDataLoss, "wal: {}: entries {} to {} behind the snapshot are missing: {}", directory,
                start.index + 1, points.first() - 1, kWayOut);
  }
  if (state.commit > last) {
    return fail(Code::kDataLoss, "wal: {}: entries {} to {} are committed but missing: {}", directory, last + 1,
                state.commit, kWayOut);
  }
  return {};
}

}  // namespace cairn::wal
