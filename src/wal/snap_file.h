// wal/snap_file.h: the .snap files beside the log, <term>-<index>.snap, in etcd's format.
//
//     snappb.snapshot { 1: crc-32c of data, 2: data = raftpb.Snapshot { 1: bytes, 2: { 1: ConfState, 2: index, 3: term
//     } } }
//
// The inner bytes are etcd's v2 store as JSON; here they are opaque. The key space is not in them.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "env/fs.h"
#include "wal/metrics.h"
#include "wal/types.h"

namespace cairn::wal {

struct SnapshotFile {
  Index index;
  Term term;
  std::string conf_state;  // encoded, as in SnapshotRecord
  std::string data;

  friend bool operator==(const SnapshotFile&, const SnapshotFile&) = default;
};

struct SnapshotName {
  Term term;
  Index index;

  friend auto operator<=>(const SnapshotName&, const SnapshotName&) = default;
};

[[nodiscard]] std::string format_snapshot_name(const SnapshotName& name);
[[nodiscard]] std::optional<SnapshotName> parse_snapshot_name(std::string_view file_name);

[[nodiscard]] std::string encode_snapshot_file(const SnapshotFile& snapshot);
// errors: kDataLoss "wal: snapshot file ...: reason"
[[nodiscard]] Result<SnapshotFile> decode_snapshot_file(std::string_view bytes);

// Newest first, by (term, index) as etcd sorts them.
[[nodiscard]] Result<std::vector<SnapshotName>> list_snapshot_files(env::FileSystem& fs, const std::string& directory);

// After it returns the file and its name survive a crash. It appears under its name only when complete.
[[nodiscard]] Status write_snapshot_file(env::FileSystem& fs, const std::string& directory,
                                         const SnapshotFile& snapshot, Metrics* metrics = nullptr);
// Syncs the files that are there, with their names: a process that wrote them may have been killed before its sync.
[[nodiscard]] Status sync_snapshot_files(env::FileSystem& fs, const std::string& directory);
[[nodiscard]] Result<SnapshotFile> read_snapshot_file(env::FileSystem& fs, const std::string& directory,
                                                      const SnapshotName& name);

// The records a member may start from: those at or below the commit index, in log order.
[[nodiscard]] std::vector<SnapshotRecord> valid_snapshot_records(std::span<const SnapshotRecord> records,
                                                                 const HardState& state);

// The newest readable .snap whose (term, index) is one of `valid`; nullopt when there is none. Files that cannot be
// read are renamed to <name>.broken on the way, as etcd does.
[[nodiscard]] Result<std::optional<SnapshotFile>> choose_start_snapshot(env::FileSystem& fs,
                                                                        const std::string& directory,
                                                                        std::span<const SnapshotRecord> valid);

// Removes all but the `keep` newest, oldest first. Returns the number removed.
Result<size_t> purge_snapshot_files(env::FileSystem& fs, const std::string& directory, size_t keep = 5);

}  // namespace cairn::wal
