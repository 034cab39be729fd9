// server/recovery.h: the replicated state as a found directory holds it: tables, index, membership.
//
// Where membership stands depends on who wrote the directory: up to 3.5 in the .snap file and the log behind it, from
// 3.6 on in the tables. docs/compatibility.md has the table of differences.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "env/fs.h"
#include "server/apply_core.h"
#include "server/checkpoint.h"
#include "wal/log.h"
#include "wal/snap_file.h"

namespace cairn::server {

struct RecoveryInput {
  env::FileSystem& fs;
  const wal::Log& log;
  wal::HardState hard_state;
  const std::vector<wal::SnapshotRecord>& snapshots;
  std::string snap_directory;
  std::shared_ptr<const storage::View> view;
  uint64_t cluster_id = 0;
  int64_t lease_ttl_min = 2;
  bool new_directory = false;
  std::string checkpoint_path = {};  // of the index; "": none
  env::FileIdentity db = {};         // what `view` is of
};

struct Recovered {
  AppliedState state;
  Index snapshot_index;  // where the log may begin
  CheckpointBase checkpoint;
};

//   errors: kDataLoss: WAL, .snap and db do not fit each other, or a table is damaged; kFailedPrecondition: the
//           directory needs what this build does not have (auth, a newer storage version)
[[nodiscard]] Result<Recovered> recover(const RecoveryInput& input);

// Reads table key and fills an empty index from it. Returns the newest revision there.
[[nodiscard]] Result<int64_t> build_index(const storage::View& view, mvcc::Index& index, int64_t compact_revision);

struct IndexTail {
  int64_t newest = 0;  // revision; 0: there was no record
  uint64_t records = 0;
};
// Adds to an index of an older revision the records of table key from revision `first` on.
[[nodiscard]] Result<IndexTail> extend_index(const storage::View& view, mvcc::Index& index, int64_t first);

}  // namespace cairn::server
