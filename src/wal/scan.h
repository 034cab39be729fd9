// wal/scan.h: reads a whole log and checks all that can be checked.
//
// Beyond the checksums: each segment begins with its checksum record and the log's metadata; terms do not fall from
// one entry to the next; committed entries are not replaced; hard states do not go back. These catch damage to a
// record's type, which no checksum covers.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "wal/record.h"
#include "wal/segment.h"
#include "wal/segment_reader.h"
#include "wal/types.h"

namespace cairn::wal {

struct SnapshotPlace {
  SnapshotRecord record;
  uint64_t sequence = 0;  // of the segment that holds it
};

// What a log says.
struct Scan {
  Metadata metadata;
  std::string metadata_bytes;  // as they are: the same in every segment
  HardState state;
  std::vector<SnapshotPlace> snapshots;
  EntryPoints points;
  Index name_index;         // the highest index of an entry or snapshot: the next segment's name is one more
  uint64_t end_offset = 0;  // behind the last good record of the last segment
  uint32_t crc = 0;
  std::optional<std::string> torn;  // why the last segment ends with an interrupted write
};

using RecordVisitor = std::function<void(const Segment&, const Record&)>;

// Reads `segments` in order. `visit`, when given, sees every record.
//   errors: kDataLoss naming file, offset, reason and a way out. An interrupted write at the end of the last segment
//           is no error but Scan::torn
[[nodiscard]] Result<Scan> scan_segments(std::span<const std::shared_ptr<Segment>> segments,
                                         const RecordVisitor& visit = {});

// A log that is not in use, or is only to be looked at: takes no locks, changes nothing.
[[nodiscard]] Result<Scan> scan_directory(env::FileSystem& fs, const std::string& directory,
                                          const RecordVisitor& visit = {});

// Whether a member may start from `start` with this log: its record is there, committed, and no entry behind it is
// missing.
//   errors: kDataLoss, saying what is missing in `directory`
[[nodiscard]] Status check_start(const std::string& directory, std::span<const SnapshotPlace> snapshots,
                                 const EntryPoints& points, const HardState& state, const SnapshotRecord& start);

}  // namespace cairn::wal
