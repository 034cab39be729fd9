// member/wal_stage.h: carries out WalWrites: the log, the .snap files, the release of segments.
//
// Threads: one owner at a time: the core thread while the member is alone, a WAL thread of its own otherwise.
// Failure: after any error the member must end: what was not synced is not known to be there.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

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
  // All of them, in order. Those that stand together are appended in one write and synced once.
  Result<std::vector<WalDone>> run(std::vector<WalWrite> writes);

  [[nodiscard]] const wal::Log& log() const { return *log_; }
  [[nodiscard]] std::shared_ptr<wal::SparePreparer> spares() const { return log_->spares(); }

 private:
  // Of a write: what goes to the log, as save() and append() take it. The views are valid until the next call.
  struct Part {
    std::span<const wal::Entry> entries;
    wal::HardState state;
  };
  [[nodiscard]] Part part_of(const WalWrite& write);
  Status save(std::span<const WalWrite> writes);
  Result<WalDone> finish(WalWrite write);
  Result<bool> save_snapshot(const SnapshotPoint& point);
  Status install(const WalWrite& write);

  env::FileSystem& fs_;
  std::unique_ptr<wal::Log> log_;
  std::string snap_directory_;
  size_t snapshots_kept_;
  std::vector<wal::Entry> views_;  // kept for its memory
  Index durable_commit_;
};

}  // namespace cairn::member
