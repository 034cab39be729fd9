// wal/log.h: the write-ahead log, in etcd's format, as its writer sees it.
//
// A log is a row of segments (segment.h) of records (record.h) with one running checksum. Each segment begins with
// that checksum, the metadata and the last hard state. When a segment has reached segment_bytes it is cut to its used
// length and the next one, taken from the spares (spare.h), becomes the last.
//
//   CAIRN_TRY(wal::OpenedLog opened, wal::Log::open(fs, directory));
//   CAIRN_CHECK(opened.log->save(entries, hard_state, /*must_sync=*/true));
//
// Always true: bytes before the last sync never change; only the last segment is written to.
// No space:    if there is none for a new segment, the last one grows beyond segment_bytes. etcd reads that as well.
//
// Threads:     one owner. index() and spares() are shared with other threads, see there.
//
// Failure:     after a failed write or sync the log refuses everything with that error, because a second try could
//              acknowledge lost bytes. The process must end.
//
// Source:      etcd 3.7 server/storage/wal.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "env/fs.h"
#include "wal/metrics.h"
#include "wal/record.h"
#include "wal/scan.h"
#include "wal/segment.h"
#include "wal/segment_reader.h"
#include "wal/spare.h"
#include "wal/types.h"

namespace cairn::wal {

struct Options {
  uint64_t segment_bytes = 64'000'000;     // as etcd, which counts megabytes of 1000
  uint64_t zero_ahead_bytes = 128 * 1024;  // in a segment whose blocks are merely allocated
  bool sync = true;                        // false: --unsafe-no-fsync
  Metrics* metrics = nullptr;              // none: nothing is counted or timed
  uint64_t segments_kept = 0;              // released ones stay while there are no more than so many in all
  bool take_over = true;                   // false: open() changes nothing; Log::take_over() is the caller's
};

// What open() did about an interrupted write at the end.
struct Repair {
  std::string file;  // cut at `offset`; a copy stands in <file>.broken
  uint64_t offset = 0;
  std::string reason;
};

class Log;

struct OpenedLog {
  std::unique_ptr<Log> log;
  Metadata metadata;
  HardState hard_state;
  std::vector<SnapshotRecord> snapshots;  // all records, in log order; see valid_snapshot_records()
  std::optional<Repair> repair;
};

class Log {
 public:
  // A new log: made in <directory>.tmp, synced, renamed to `directory`, the parent synced.
  //   errors: kAlreadyExists when `directory` holds segments
  static Result<std::unique_ptr<Log>> create(env::FileSystem& fs, const std::string& directory,
                                             const Metadata& metadata, const Options& options = {});

  // Reads and checks the whole log, repairs an interrupted write at its end (see take_over), and stands ready to
  // append. Entries are not kept: index() reads those that the caller wants. check_start() says whether the log can
  // follow a snapshot.
  //   errors: kNotFound when there is no log, kUnavailable when another process holds it, kDataLoss when it is
  //           damaged; the message names file, offset, reason and a way out
  static Result<OpenedLog> open(env::FileSystem& fs, const std::string& directory, const Options& options = {});

  // For a log that was opened with Options::take_over = false and can only be read so far. The end of the last segment
  // may be in the kernel's memory only, and after a failed sync no later sync writes it. So settle() writes it again,
  // unchanged, from entry `synced` on, which is known to be on disk. It may run beside other readers of the log.
  Status settle(Index synced = {});
  // settle() if that was not done; then cuts an interrupted write off the log's end and makes it ready for append().
  Result<std::optional<Repair>> take_over(Index synced = {});
  [[nodiscard]] bool taken_over() const { return taken_over_; }

  ~Log();
  Log(const Log&) = delete;
  Log& operator=(const Log&) = delete;

  // append, flush, and sync when must_sync is set or the segment is full.
  //   needs: see append()
  Status save(std::span<const Entry> entries, const HardState& state, bool must_sync);

  // Encodes into the buffer, entries first, then the state unless it is empty; nothing is written yet. An entry at or
  // below last_index() replaces the old entry at its index and all later ones.
  //   needs: consecutive indexes, the first in (commit, last_index() + 1]; terms that do not fall; a state that does
  //          not go back, and has (or had) at least the term of the last entry
  void append(std::span<const Entry> entries, const HardState& state = {});
  // One pwrite of what is encoded. Afterwards readers see it.
  Status flush();
  // After it returns, all that was flushed survives a crash. Cuts when the segment is full.
  Status sync();

  // Writes and syncs the record that makes `record` a place to start from. A leader's snapshot comes with the hard
  // state that commits it. The state follows the record, so that no crash leaves a commit index above the log's end.
  //   needs: the .snap file is on disk; record.index <= the commit index of the log or of `state`
  Status save_snapshot(const SnapshotRecord& record, const HardState& state = {});

  // Gives the blocks behind the last record back, all but a few, so that a disk that fills up meanwhile does not end
  // the log at once. Writes that come near to the end of these take the others again. The size stays.
  Status give_tail_back();

  // Releases to spares() the segments that a start from the newest snapshot at or below `index` does not need. A
  // segment stays if it holds or follows that snapshot's record. It also stays if it is or follows the last segment
  // named with an index <= `index`: etcd starts there, although the one before may hold nothing above `index` either.
  // And it stays while there are no more than Options::segments_kept.
  //   needs: index <= the newest snapshot record's
  //   returns the number released
  size_t release(Index index);

  // Whether a member can start from `start`: its record is there, committed, and no later entry is missing.
  //   errors: kDataLoss, saying what is missing
  [[nodiscard]] Status check_start(const SnapshotRecord& start) const;

  [[nodiscard]] const Metadata& metadata() const { return metadata_; }
  [[nodiscard]] const HardState& hard_state() const { return state_; }  // the last appended one
  [[nodiscard]] Index first_index() const { return points_.first(); }   // of what the segments hold
  [[nodiscard]] Index last_index() const { return points_.last(); }     // of what was appended
  [[nodiscard]] Index last_synced_index() const { return synced_index_; }
  [[nodiscard]] Index newest_snapshot_index() const;  // of the records at or below the commit index
  [[nodiscard]] uint64_t segment_count() const { return segments_.size(); }
  // As if those that only segments_kept keeps were not there.
  [[nodiscard]] uint64_t segment_count_beyond_kept() const {
    const uint64_t kept = options_.segments_kept == 0 ? 0 : options_.segments_kept - 1;
    return segments_.size() - std::min<uint64_t>(segments_.size() - 1, kept);
  }
  [[nodiscard]] uint64_t segment_sequence() const { return segments_.back()->name.sequence; }  // of the last one
  [[nodiscard]] uint64_t segment_used_bytes() const { return offset_; }
  [[nodiscard]] const std::string& directory() const { return directory_; }
  [[nodiscard]] Metrics* metrics() const { return options_.metrics; }

  // For reader threads, which may keep it after the log is gone.
  [[nodiscard]] std::shared_ptr<const SegmentIndex> index() const { return index_; }
  // For the thread that makes spares and removes released segments. Without one, a cut makes its file in line.
  [[nodiscard]] std::shared_ptr<SparePreparer> spares() const { return spares_; }

 private:
  friend struct Opening;

  Log(env::FileSystem& fs, std::string directory, const Options& options);

  // Runs a step that writes; its failure ends the log.
  template <class Step>
  Status guarded(Step step);
  Status write_buffer();
  Status take_tail_again();
  Status sync_file();
  Status cut();
  Result<Spare> next_file();
  void append_entry(const Entry& entry);
  void append_state(const HardState& state);
  void append_snapshot(const SnapshotRecord& record);
  void append_head();
  void use_segment(std::shared_ptr<Segment> segment, bool written);
  void publish();
  [[nodiscard]] const SnapshotPlace* newest_snapshot(Index at_most) const;

  env::FileSystem& fs_;
  std::string directory_;
  Options options_;
  Metadata metadata_;
  std::string metadata_bytes_;  // as found: the same in every segment
  HardState state_;
  std::vector<SnapshotPlace> snapshots_;  // in log order, those in segments_
  std::vector<std::shared_ptr<Segment>> segments_;
  uint64_t offset_ = 0;      // bytes written in the last segment
  uint64_t zeroed_ = 0;      // up to here its blocks are written
  uint64_t blocks_end_ = 0;  // up to here it has blocks, where there was room for them
  uint64_t cut_at_;          // bytes of the last segment at which the next one is begun
  uint32_t crc_ = 0;         // running, over all that is encoded
  RecordBuffer buffer_;      // encoded, not yet written
  EntryPoints points_;       // of all that is encoded
  Index name_index_;         // the next segment's name says one more
  Index written_index_;      // the last entry's that is in the file
  Index synced_index_;
  bool dirty_ = false;  // written, not synced
  std::optional<Error> failure_;
  bool taken_over_ = true;
  std::optional<std::string> torn_;    // until then: why the end is no clean one
  std::optional<bool> ends_in_zeros_;  // behind the last record; set when the log is settled
  std::shared_ptr<SegmentIndex> index_;
  std::vector<EntryPoint> unpublished_;  // those of the buffer's entries that are points
  std::vector<SegmentName> left_over_;   // found behind a hole; go with the next release
  std::shared_ptr<SparePreparer> spares_;
};

}  // namespace cairn::wal
