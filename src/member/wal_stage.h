// member/wal_stage.h: carries out WalWrites: the log, the .snap files, the release of segments.
//
// Threads: one owner at a time: the replication thread while the member is alone, a WAL thread of its own otherwise.
// Failure: after any error the member must end: what was not synced is not known to be there.
#pragma once

#include <memory>
#include <string>

#include "base/error.h"
#include "env/fs.h"
#include "member/stages.h"
#include "wal/log.h"

namespace cairn::member {

class WalStage {
 public:
  static constexpr size_t kSnapshotsKept = 5;

  // `snapshots_kept`: so many of the newest .snap files stay, at least one.
  WalStage(env::FileSystem& fs, std::unique_ptr<wal::Log> log, std::string snap_directory,
           size_t snapshots_kept = kSnapshotsKept);

  Result<WalDone> run(WalWrite write);

  [[nodiscard]] const wal::Log& log() const { return *log_; }
  [[nodiscard]] std::shared_ptr<wal::SparePreparer> spares() const { return log_->spares(); }

 private:
  Result<bool> save_snapshot(const SnapshotPoint& point);

  env::FileSystem& fs_;
  std::unique_ptr<wal::Log> log_;
  std::string snap_directory_;
  size_t snapshots_kept_;
  std::vector<wal::Entry> views_;  // kept for its memory
  Index durable_commit_;
};

}  // namespace cairn::member
