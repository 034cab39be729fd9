// Opening a log: scan, repair, clear the bytes after the last record, get ready to append.
#include <algorithm>
#include <string_view>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "wal/log.h"
#include "wal/scan.h"

namespace cairn::wal {
namespace {

constexpr uint64_t kPieceBytes = 256 * 1024;

// Calls visit(offset, bytes) for each piece of [from, to), until it answers false.
template <class Visit>
Status each_piece(const env::File& file, uint64_t from, uint64_t to, Visit visit) {
  const std::unique_ptr<char[]> buffer(new char[kPieceBytes]);
  for (uint64_t at = from; at < to;) {
    CAIRN_TRY(const size_t count, file.pread(buffer.get(), std::min(kPieceBytes, to - at), at));
    if (count == 0) break;
    CAIRN_TRY(const bool more, visit(at, std::string_view(buffer.get(), count)));
    if (!more) break;
    at += count;
  }
  return {};
}

// Zeros stay holes, so the copy of a damaged segment takes only the space that was written.
Status copy_file(env::FileSystem& fs, const env::File& source, const std::string& target_path) {
  CAIRN_TRY(const uint64_t size, source.size());
  CAIRN_TRY(const auto target, fs.open(target_path, env::OpenMode::kCreateEmpty));
  CAIRN_CHECK(target->truncate(size));
  const Status copied = each_piece(source, 0, size, [&](uint64_t at, std::string_view piece) -> Result<bool> {
    if (!all_zero(piece)) CAIRN_CHECK(target->pwrite(piece, at));
    return true;
  });
  CAIRN_CHECK(copied);
  return target->fdatasync();
}

}  // namespace

struct Opening {
  env::FileSystem& fs;
  const std::string& directory;
  const Options& options;

  Result<OpenedLog> open() const;
  Status write_again(const Segment& segment, uint64_t unsure_offset, uint64_t end_offset) const;
  Result<bool> ends_in_zeros(const Segment& segment, uint64_t end_offset) const;
  Result<std::optional<Repair>> clear_tail(const Segment& segment, uint64_t end_offset, bool ends_in_zeros,
                                           const std::optional<std::string>& torn) const;
  Status keep_broken(const Segment& segment) const;
  Status remove_other_names(const std::vector<std::shared_ptr<Segment>>& segments) const;
  Result<std::unique_ptr<Log>> make_log(std::vector<std::shared_ptr<Segment>> segments, Scan scan,
                                        std::vector<SegmentName> left_over) const;
};

Result<OpenedLog> Log::open(env::FileSystem& fs, const std::string& directory, const Options& options) {
  return Opening{fs, directory, options}.open();
}

Result<OpenedLog> Opening::open() const {
  CAIRN_TRY(SegmentList list, list_segments(fs, directory));
  std::vector<std::shared_ptr<Segment>> segments;
  for (const SegmentName& name : list.in_use) {
    CAIRN_TRY(auto segment, open_segment(fs, directory, name, SegmentAccess::kOwn));
    segments.push_back(std::move(segment));
  }
  CAIRN_TRY(Scan scan, scan_segments(segments));
  OpenedLog opened;
  opened.metadata = scan.metadata;
  opened.hard_state = scan.state;
  for (const SnapshotPlace& place : scan.snapshots) opened.snapshots.push_back(place.record);
  CAIRN_TRY(opened.log, make_log(std::move(segments), std::move(scan), std::move(list.left_over)));
  if (options.take_over) {
    CAIRN_TRY(opened.repair, opened.log->take_over());
  }
  return opened;
}

Status Log::settle(Index synced) {
  CAIRN_ASSERT(!taken_over_);
  if (ends_in_zeros_) return {};
  const Opening opening{fs_, directory_, options_};
  Index end;
  const auto point = points_.find(std::min(synced, points_.last()), end);
  const Segment& last = *segments_.back();
  const uint64_t unsure = point && point->sequence == last.name.sequence ? point->offset : 0;
  if (options_.sync) CAIRN_CHECK(opening.write_again(last, unsure, offset_));
  CAIRN_TRY(ends_in_zeros_, opening.ends_in_zeros(last, offset_));
  return {};
}

Result<std::optional<Repair>> Log::take_over(Index synced) {
  CAIRN_CHECK(settle(synced));
  const Opening opening{fs_, directory_, options_};
  CAIRN_TRY(std::optional<Repair> repair, opening.clear_tail(*segments_.back(), offset_, *ends_in_zeros_, torn_));
  CAIRN_CHECK(opening.remove_other_names(segments_));
  taken_over_ = true;
  return repair;
}

// The good records of the last segment and the log's own name, which may have been in the kernel's memory only, now
// survive a crash. The earlier segments were synced before the last one got its name.
Status Opening::write_again(const Segment& segment, uint64_t unsure_offset, uint64_t end_offset) const {
  if (CAIRN_MUTANT("wal.open_without_sync")) return {};
  env::File& file = *segment.file;
  const uint64_t sure_offset = CAIRN_MUTANT("wal.tail_not_written_again") ? end_offset : unsure_offset;
  const Status written = each_piece(file, sure_offset, end_offset, [&](uint64_t at, std::string_view piece) {
    const Status status = file.pwrite(piece, at);
    return status ? Result<bool>(true) : std::unexpected(status.error());
  });
  CAIRN_CHECK(written);
  CAIRN_CHECK(file.fdatasync());
  if (CAIRN_MUTANT("wal.open_without_directory_sync")) return {};
  CAIRN_CHECK(fs.sync_directory(directory));
  // create() may have ended before it did this. A parent that we may not even read is not of our making.
  const Status synced = fs.sync_directory(env::parent_directory(directory));
  return synced || synced.error().code == Code::kPermissionDenied ? Status{} : synced;
}

// A zero length may stand before bytes of a write that was interrupted; appending would run into them.
Result<bool> Opening::ends_in_zeros(const Segment& segment, uint64_t end_offset) const {
  CAIRN_TRY(const uint64_t size, segment.file->size());
  bool zeros = true;
  CAIRN_CHECK(each_piece(*segment.file, end_offset, size, [&](uint64_t, std::string_view piece) -> Result<bool> {
    zeros = all_zero(piece);
    return zeros;
  }));
  return zeros;
}

// Afterwards the last segment holds the good records followed by zeros, also after a crash.
Result<std::optional<Repair>> Opening::clear_tail(const Segment& segment, uint64_t end_offset, bool ends_in_zeros,
                                                  const std::optional<std::string>& torn) const {
  env::File& file = *segment.file;
  CAIRN_TRY(const uint64_t size, file.size());
  std::optional<Repair> repair;
  if (torn) {
    repair = Repair{.file = segment.path, .offset = end_offset, .reason = *torn};
    CAIRN_CHECK(keep_broken(segment));
  }
  const bool is_clean = ends_in_zeros && !torn;
  if (!is_clean && !CAIRN_MUTANT("wal.tail_not_cleared")) CAIRN_CHECK(file.truncate(end_offset));
  // Also where zeros are: who copied the directory may have left holes for them.
  const Status extended = extend_segment(file, end_offset, options.segment_bytes);
  // Without room the segment takes space as it is written.
  if (!extended && extended.error().code != Code::kResourceExhausted) return std::unexpected(extended.error());
  if (is_clean && size >= options.segment_bytes) return repair;
  if (!options.sync || CAIRN_MUTANT("wal.open_without_sync")) return repair;
  CAIRN_CHECK(file.fdatasync());
  if (!CAIRN_MUTANT("wal.open_without_directory_sync")) CAIRN_CHECK(fs.sync_directory(directory));
  return repair;
}

// For whoever wants to look into it. On a full disk the member must start all the same, to make room.
Status Opening::keep_broken(const Segment& segment) const {
  const std::string path = segment.path + ".broken";
  const Status copied = copy_file(fs, *segment.file, path);
  if (copied || copied.error().code != Code::kResourceExhausted) return copied;
  (void)fs.remove(path);
  log::warn("no space to keep a copy of the WAL segment with the interrupted write", {{"path", segment.path}});
  return {};
}

// On a file system without a journal, a rename interrupted by a crash may have left a segment under its old name as
// well. That file must not be taken for a spare and overwritten. Other names are not ours; etcd ignores them, too.
Status Opening::remove_other_names(const std::vector<std::shared_ptr<Segment>>& segments) const {
  for (const std::string_view name : kTemporaryNames) {
    const std::string path = directory + std::string(name);
    bool remove = name == kCutName;
    const auto file = fs.open(path, env::OpenMode::kRead);
    if (!file && file.error().code == Code::kNotFound) continue;  // or a link that leads nowhere
    if (!file) return std::unexpected(file.error());
    CAIRN_TRY(const env::FileIdentity identity, (*file)->identity());
    for (const auto& segment : segments) {
      CAIRN_TRY(const env::FileIdentity other, segment->file->identity());
      remove |= identity.device == other.device && identity.inode == other.inode;
    }
    if (remove) CAIRN_CHECK(fs.remove(path));
  }
  return {};
}

Result<std::unique_ptr<Log>> Opening::make_log(std::vector<std::shared_ptr<Segment>> segments, Scan scan,
                                               std::vector<SegmentName> left_over) const {
  std::unique_ptr<Log> log(new Log(fs, directory, options));
  log->metadata_ = scan.metadata;
  log->metadata_bytes_ = std::move(scan.metadata_bytes);
  log->state_ = scan.state;
  log->snapshots_ = std::move(scan.snapshots);
  log->segments_ = std::move(segments);
  log->left_over_ = std::move(left_over);
  log->offset_ = scan.end_offset;
  log->zeroed_ = CAIRN_MUTANT("wal.tail_not_cleared") ? options.segment_bytes : scan.end_offset;
  log->cut_at_ = log->blocks_end_ = options.segment_bytes;
  log->taken_over_ = false;
  log->torn_ = std::move(scan.torn);
  log->crc_ = scan.crc;
  log->points_ = std::move(scan.points);
  log->name_index_ = scan.name_index;
  log->written_index_ = log->synced_index_ = log->points_.last();
  const MutexLock lock(log->index_->mutex_);
  log->index_->points_ = log->points_;
  log->index_->segments_ = log->segments_;
  return log;
}

}  // namespace cairn::wal
