// member/recovery/image.h: the db that a leader has sent, and what it takes to live on with it.
//
//     the transport   <snap>/<index>.snap.db, synced     another name until it is complete
//     the log         .snap file, record, hard state     from here on a start takes the image
//     here            opened, checked, state recovered; renamed to <snap>/db, folder synced
//
// So after a crash the directory is that of before, or that of the snapshot, and never a part of both.
//
// Threads: any; one at a time.
// Source:  docs/architecture.md; names and order as in etcd's applySnapshot and recoverSnapshotBackend.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "env/fs.h"
#include "member/apply/applied_state.h"
#include "raft/types.h"
#include "storage/engine.h"
#include "wal/types.h"

namespace cairn::member {

// <snap>/<index, 16 hex digits>.snap.db
[[nodiscard]] std::string image_path(const std::string& snap_directory, Index index);

// Opens an image, or the db, and locks it. Its opening number differs from that of every other.
using OpenDb = std::function<Result<std::unique_ptr<storage::Engine>>(const std::string& path)>;

// An image that has arrived, before raft is told of the snapshot: a damaged one, or one of another index, is better
// refused than found out when there is no way back.
//   errors: kDataLoss
[[nodiscard]] Status check_image(const storage::View& view, Index index);

// The same of a file that nobody has opened; it is closed again.
//   errors: kDataLoss, kNotFound, those of opening it
[[nodiscard]] Status look_at_image(env::FileSystem& fs, const std::string& path, Index index);

// A start: the newest snapshot of a log whose db is older than that, and has its image beside it. Nothing is changed.
//   `records`: those that the log's hard state commits, in log order
[[nodiscard]] Result<std::optional<Index>> find_image(env::FileSystem& fs, const std::string& snap_directory,
                                                      const std::vector<wal::SnapshotRecord>& records,
                                                      const storage::View& db);

// Gives the image that `open` has opened and locked the db's name. After it returns this survives a crash.
[[nodiscard]] Status rename_image(env::FileSystem& fs, const std::string& snap_directory, Index index);

// Removes images that nobody will ask for: all but those above `index`.
void remove_old_images(env::FileSystem& fs, const std::string& snap_directory, Index index);

struct ImageInput {
  env::FileSystem& fs;
  const raft::Snapshot& snapshot;
  storage::Engine& engine;  // of the image
  uint64_t cluster_id = 0;
  int64_t lease_ttl_min = 2;
  bool concurrent = false;
};
// The state that an image holds, with its index.
//   errors: kDataLoss, kFailedPrecondition: as recover()
[[nodiscard]] Result<AppliedState> recover_image(const ImageInput& input);

}  // namespace cairn::member
