// member/recovery/index_recovery.h: the index of a found db: from its checkpoint and the records that came after it, or
// from table `key` alone.
//
// Needs the db and the checkpoint, no log: it may run on a thread of its own while the log is read.
#pragma once

#include <memory>
#include <string>

#include "env/fs.h"
#include "member/recovery/checkpoint.h"
#include "mvcc/index/index.h"
#include "storage/engine.h"

namespace cairn::member {

// Numbers and revisions in table `meta`; 0: not there.
//   errors: kDataLoss: it is there, and no number or revision
[[nodiscard]] Result<uint64_t> meta_number(const storage::View& view, std::string_view key);
[[nodiscard]] Result<int64_t> meta_revision(const storage::View& view, std::string_view key);

struct IndexRecoveryInput {
  env::FileSystem& fs;
  std::shared_ptr<const storage::View> view;
  std::string checkpoint_path = {};  // "": none
  // The db's file, to be read front to back first where many of its pages are needed and not in memory; "": not done.
  std::string read_ahead_path = {};
  bool concurrent = false;  // what comes after the checkpoint is read by another thread
};
struct RecoveredIndex {
  std::unique_ptr<mvcc::Index> index;  // unpublished, compacted at the db's compaction
  int64_t newest = 1;                  // revision
  CheckpointBase checkpoint;
};
//   errors: kDataLoss: the db is damaged. A checkpoint that cannot be used is no error
[[nodiscard]] Result<RecoveredIndex> recover_index(const IndexRecoveryInput& input);

// Reads table key and fills an empty index from it.
struct TableScan {
  int64_t newest = 1;    // revision
  uint64_t records = 0;  // of all revisions; a transaction makes several
};
[[nodiscard]] Result<TableScan> build_index(const storage::View& view, mvcc::Index& index, int64_t compact_revision);

}  // namespace cairn::member
