#include "wal/log.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/check.h"
#include "base/fault.h"
#include "base/go_duration.h"
#include "base/log.h"
#include "wal/codec.h"

namespace cairn::wal {
namespace {

constexpr uint64_t kTailPartKept = 64;            // one in so many bytes of a segment: 1 MB
constexpr uint64_t kCutRetryBytes = 1024 * 1024;  // more in a segment that could not be cut for lack of space

// The new log takes the directory's place, so nothing may be lost with it.
Status check_replaceable(env::FileSystem& fs, const std::string& directory) {
  if (!fs.exists(directory)) return {};
  CAIRN_TRY(const std::vector<std::string> names, fs.list(directory));
  for (const std::string& name : names) {
    if (parse_segment_name(name)) return fail(Code::kAlreadyExists, "wal: {} holds a log already", directory);
    if (!name.ends_with(".tmp") && !name.ends_with(".broken")) {
      return fail(Code::kFailedPrecondition, "wal: {} holds {}, which is not a log's", directory, name);
    }
  }
  return {};
}

// Times a sync for its lifetime, and names a slow one in the log. Without metrics nobody reads the clock.
class SyncWatch {
 public:
  explicit SyncWatch(Metrics* into) : into_(into) {
    if (into_ != nullptr) began_ = std::chrono::steady_clock::now();
  }
  ~SyncWatch() {
    if (into_ == nullptr) return;
    const std::chrono::nanoseconds took = std::chrono::steady_clock::now() - began_;
    into_->fsync.observe(static_cast<uint64_t>(took.count()));
    if (took.count() <= into_->slow_sync_ns) return;
    log::warn("slow fdatasync", {{"took", go_duration(took)},
                                 {"expected-duration", go_duration(std::chrono::nanoseconds(into_->slow_sync_ns))}});
  }
  SyncWatch(const SyncWatch&) = delete;
  SyncWatch& operator=(const SyncWatch&) = delete;

 private:
  Metrics* into_;
  std::chrono::steady_clock::time_point began_;
};

}  // namespace

Log::Log(env::FileSystem& fs, std::string directory, const Options& options)
    : fs_(fs),
      directory_(std::move(directory)),
      options_(options),
      cut_at_(options.segment_bytes),
      index_(std::make_shared<SegmentIndex>()),
      spares_(std::make_shared<SparePreparer>(fs, directory_, options.segment_bytes)) {
  options_.zero_ahead_bytes = std::min(options_.zero_ahead_bytes, kZerosMax);
}

Log::~Log() = default;

Result<std::unique_ptr<Log>> Log::create(env::FileSystem& fs, const std::string& directory, const Metadata& metadata,
                                         const Options& options) {
  CAIRN_CHECK(check_replaceable(fs, directory));
  const std::string temporary = directory + ".tmp";
  CAIRN_CHECK(fs.remove_all(temporary));
  CAIRN_CHECK(fs.make_directories(temporary));

  std::unique_ptr<Log> log(new Log(fs, directory, options));
  log->metadata_ = metadata;
  log->metadata_bytes_ = encode_metadata(metadata);
  auto segment = std::make_shared<Segment>();
  const std::string name = "/" + format_segment_name(segment->name);
  segment->path = directory + name;
  CAIRN_TRY(segment->file, fs.open(temporary + name, env::OpenMode::kCreateEmpty));
  CAIRN_CHECK(lock_segment(*segment->file, temporary + name));
  CAIRN_CHECK(extend_segment(*segment->file, 0, options.segment_bytes));
  log->use_segment(std::move(segment), /*written=*/false);
  log->append_head();
  log->append_snapshot({});
  CAIRN_CHECK(log->write_buffer());
  CAIRN_CHECK(log->sync_file());
  CAIRN_CHECK(fs.sync_directory(temporary));
  CAIRN_CHECK(fs.remove_all(directory));
  CAIRN_CHECK(fs.rename(temporary, directory));
  if (!CAIRN_MUTANT("wal.no_directory_sync")) CAIRN_CHECK(fs.sync_directory(env::parent_directory(directory)));
  return log;
}

template <class Step>
Status Log::guarded(Step step) {
  if (failure_) return std::unexpected(*failure_);
  Status status = step();
  if (!status) failure_ = status.error();
  return status;
}

Status Log::save(std::span<const Entry> entries, const HardState& state, bool must_sync) {
  append(entries, state);
  CAIRN_CHECK(flush());
  if (offset_ >= cut_at_) return sync();
  if (!must_sync) return {};
  CAIRN_FAULT("walBeforeSync");
  Status synced = sync();
  CAIRN_FAULT("walAfterSync");
  return synced;
}

void Log::append(std::span<const Entry> entries, const HardState& state) {
  CAIRN_ASSERT(taken_over_);
  for (const Entry& entry : entries) append_entry(entry);
  if (!state.empty()) append_state(state);
  if (!entries.empty()) CAIRN_ASSERT(entries.back().term <= state_.term);
}

void Log::append_entry(const Entry& entry) {
  CAIRN_ASSERT(entry.index > state_.commit && entry.index <= points_.last() + 1);
  const EntryPoint point{.index = entry.index,
                         .term = entry.term,
                         .sequence = segments_.back()->name.sequence,
                         .offset = offset_ + buffer_.size(),
                         .crc = crc_};
  if (points_.add(point)) unpublished_.push_back(point);
  name_index_ = entry.index;
  buffer_.append_entry(entry, crc_);
}

void Log::append_state(const HardState& state) {
  CAIRN_ASSERT(state.term >= state_.term && state.commit >= state_.commit);
  state_ = state;
  buffer_.append(RecordType::kState, encode_hard_state(state), crc_);
}

void Log::append_snapshot(const SnapshotRecord& record) {
  buffer_.append(RecordType::kSnapshot, encode_snapshot_record(record), crc_);
  snapshots_.push_back({record, segments_.back()->name.sequence});
  name_index_ = std::max(name_index_, record.index);
}

// The records at the beginning of each segment.
void Log::append_head() {
  buffer_.append_crc(crc_);
  buffer_.append(RecordType::kMetadata, metadata_bytes_, crc_);
  if (!state_.empty()) buffer_.append(RecordType::kState, encode_hard_state(state_), crc_);
}

void Log::use_segment(std::shared_ptr<Segment> segment, bool written) {
  offset_ = 0;
  cut_at_ = blocks_end_ = options_.segment_bytes;
  zeroed_ = written ? options_.segment_bytes : 0;
  {
    const MutexLock lock(index_->mutex_);
    index_->segments_.push_back(segment);
  }
  segments_.push_back(std::move(segment));
}

Status Log::flush() {
  return guarded([&] { return buffer_.empty() ? Status{} : write_buffer(); });
}

Status Log::write_buffer() {
  env::File& file = *segments_.back()->file;
  const uint64_t end = offset_ + buffer_.size();
  if (end + options_.segment_bytes / kTailPartKept / 2 > blocks_end_) CAIRN_CHECK(take_tail_again());
  // Blocks that were never written cost a write of metadata in the sync that follows; this makes it one in many.
  if (end > zeroed_ && end < options_.segment_bytes) {
    const std::string_view ahead = zeros(std::min(options_.zero_ahead_bytes, options_.segment_bytes - end));
    const Status zeroed = ahead.empty() ? Status{} : file.pwrite(ahead, end);
    if (!zeroed && zeroed.error().code != Code::kResourceExhausted) return zeroed;
    zeroed_ = end + (zeroed ? ahead.size() : 0);
  }
  {
    const metrics::StopWatch watch(options_.metrics != nullptr ? &options_.metrics->write : nullptr);
    CAIRN_CHECK(file.pwrite(buffer_.view(), offset_));
  }
  if (options_.metrics != nullptr) options_.metrics->write_bytes.add(static_cast<int64_t>(buffer_.view().size()));
  offset_ = end;
  buffer_.clear();
  dirty_ = true;
  written_index_ = points_.last();
  publish();
  return {};
}

// Shows readers the records that are now in the file.
void Log::publish() {
  const MutexLock lock(index_->mutex_);
  for (const EntryPoint& point : unpublished_) index_->points_.add_point(point);
  unpublished_.clear();
  index_->points_.extend_to(points_.last());
}

Status Log::sync_file() {
  if (options_.sync && dirty_) {
    const SyncWatch watch(options_.metrics);
    CAIRN_CHECK(segments_.back()->file->fdatasync());
  }
  dirty_ = false;
  synced_index_ = written_index_;
  return {};
}

Status Log::sync() {
  CAIRN_CHECK(flush());
  return guarded([&] { return offset_ >= cut_at_ ? cut() : sync_file(); });
}

Status Log::save_snapshot(const SnapshotRecord& record, const HardState& state) {
  CAIRN_ASSERT(taken_over_);
  CAIRN_ASSERT(record.index <= std::max(state_.commit, state.commit));
  CAIRN_CHECK(flush());
  points_.add_snapshot(record.index, record.term);
  {
    const MutexLock lock(index_->mutex_);
    index_->points_.add_snapshot(record.index, record.term);
  }
  append_snapshot(record);
  if (!state.empty()) append_state(state);
  return sync();
}

// What is cut off and what comes in its place are zeros, so a crash on the way does not matter.
Status Log::give_tail_back() {
  CAIRN_ASSERT(taken_over_ && buffer_.empty());
  return guarded([&]() -> Status {
    if (offset_ >= options_.segment_bytes) return {};
    CAIRN_CHECK(sync_file());
    env::File& file = *segments_.back()->file;
    CAIRN_CHECK(file.truncate(offset_));
    zeroed_ = offset_;
    blocks_end_ = std::min(offset_ + options_.segment_bytes / kTailPartKept, options_.segment_bytes);
    const Status kept = extend_segment(file, offset_, blocks_end_);
    if (!kept && kept.error().code != Code::kResourceExhausted) return kept;
    return file.truncate(options_.segment_bytes);
  });
}

// Without room the segment takes space as it is written, and the next write asks again.
Status Log::take_tail_again() {
  if (blocks_end_ >= options_.segment_bytes) return {};
  const Status taken = extend_segment(*segments_.back()->file, offset_, options_.segment_bytes);
  if (!taken && taken.error().code != Code::kResourceExhausted) return taken;
  if (taken) blocks_end_ = options_.segment_bytes;
  return {};
}

// The full segment is cut to its used length, and its successor is complete and synced, before the successor gets its
// name. So after a crash the last segment always has its head.
Status Log::cut() {
  CAIRN_ASSERT(buffer_.empty());
  auto next = next_file();
  if (!next) {
    if (next.error().code != Code::kResourceExhausted) return std::unexpected(std::move(next).error());
    if (cut_at_ == options_.segment_bytes) {
      log::warn("no space for another WAL segment; the last one grows on", {{"error", next.error().message}});
    }
    (void)fs_.remove(directory_ + kCutName);
    cut_at_ = offset_ + kCutRetryBytes;
    return sync_file();
  }
  Spare spare = *std::move(next);
  CAIRN_CHECK(segments_.back()->file->truncate(offset_));
  dirty_ = !CAIRN_MUTANT("wal.old_segment_not_synced_at_cut");
  CAIRN_CHECK(sync_file());

  CAIRN_CHECK(lock_segment(*spare.file, spare.path));
  auto segment = std::make_shared<Segment>();
  segment->name = {segments_.back()->name.sequence + 1, name_index_ + 1};
  segment->path = directory_ + "/" + format_segment_name(segment->name);
  segment->file = std::move(spare.file);
  const std::string path = segment->path;
  use_segment(std::move(segment), spare.written);
  append_head();
  CAIRN_CHECK(write_buffer());
  CAIRN_CHECK(sync_file());
  CAIRN_CHECK(fs_.rename(spare.path, path));
  if (options_.sync && !CAIRN_MUTANT("wal.no_directory_sync")) CAIRN_CHECK(fs_.sync_directory(directory_));
  return {};
}

Result<Spare> Log::next_file() {
  if (std::optional<Spare> spare = spares_->take()) return std::move(*spare);
  Spare spare{.path = directory_ + kCutName, .file = nullptr, .written = false};
  CAIRN_TRY(spare.file, fs_.open(spare.path, env::OpenMode::kCreateEmpty));
  CAIRN_CHECK(extend_segment(*spare.file, 0, options_.segment_bytes));
  return spare;
}

const SnapshotPlace* Log::newest_snapshot(Index at_most) const {
  const SnapshotPlace* newest = nullptr;
  for (const SnapshotPlace& place : snapshots_) {
    if (place.record.index > at_most) continue;
    if (newest == nullptr || place.record.index >= newest->record.index) newest = &place;
  }
  return newest;
}

Index Log::newest_snapshot_index() const {
  const SnapshotPlace* newest = newest_snapshot(state_.commit);
  return newest == nullptr ? Index{} : newest->record.index;
}

size_t Log::release(Index index) {
  CAIRN_ASSERT(index <= newest_snapshot_index());
  const SnapshotPlace* start = newest_snapshot(index);
  if (start == nullptr) return 0;
  size_t count = 0;
  while (count + 1 < segments_.size() && segments_.size() - count > options_.segments_kept) {
    const bool needed = segments_[count + 1]->name.first > index || segments_[count]->name.sequence >= start->sequence;
    if (needed && !CAIRN_MUTANT("wal.release_too_far")) break;
    ++count;
  }
  if (options_.segments_kept == UINT64_MAX) left_over_.clear();
  for (const SegmentName& name : std::exchange(left_over_, {})) {
    spares_->give(std::make_shared<Segment>(Segment{name, directory_ + "/" + format_segment_name(name), nullptr}));
  }
  if (count == 0) return 0;

  std::vector<std::shared_ptr<Segment>> released;
  for (size_t i = 0; i < count; ++i) released.push_back(std::move(segments_[i]));
  segments_.erase(segments_.begin(), segments_.begin() + static_cast<ptrdiff_t>(count));
  const uint64_t first = segments_.front()->name.sequence;
  std::erase_if(snapshots_, [&](const SnapshotPlace& place) { return place.sequence < first; });
  points_.release_before(first);
  {
    const MutexLock lock(index_->mutex_);
    index_->points_.release_before(first);
    index_->segments_ = segments_;
  }
  // Given away last, because the holder of the only reference may overwrite the file.
  for (auto& segment : released) spares_->give(std::move(segment));
  return count;
}

Status Log::check_start(const SnapshotRecord& start) const {
  return wal::check_start(directory_, snapshots_, points_, state_, start);
}

}  // namespace cairn::wal
