// member/installer.h: puts a leader's snapshot in the place of the db: the shell's half of Installation.
//
// Threads: the commit thread's, which has no other job meanwhile.
// Failure: after any error the member must end; the next start takes the image.
#pragma once

#include <memory>
#include <string>

#include "env/fs.h"
#include "member/commit_stage.h"
#include "member/installation.h"
#include "member/recovery/image.h"

namespace cairn::member {

class Installer {
 public:
  struct Options {
    std::string snap_directory;
    std::string checkpoint_directory;  // whose index checkpoint is of the old db
    OpenDb open;
    uint64_t cluster_id = 0;
    int64_t lease_ttl_min = 2;
    bool concurrent = false;
  };
  Installer(env::FileSystem& fs, Options options) : fs_(fs), options_(std::move(options)) {}

  // needs: the log holds the snapshot; its image is complete and synced. `stage` goes on with the new db.
  InstallDone run(const InstallOrder& order, CommitStage& stage);

 private:
  Result<std::unique_ptr<AppliedState>> install(const raft::Snapshot& snapshot, CommitStage& stage);

  env::FileSystem& fs_;
  Options options_;
};

}  // namespace cairn::member
