#include "member/installer.h"

#include <utility>

#include "base/fault.h"
#include "base/log.h"
#include "member/recovery/checkpoint.h"

namespace cairn::member {

InstallDone Installer::run(const InstallOrder& order, CommitStage& stage) {
  InstallDone done;
  auto state = install(*order.snapshot, stage);
  if (state) {
    done.state = *std::move(state);
  } else {
    done.status = std::unexpected(std::move(state).error());
    done.status.error().message += "; the member ends, and its next start takes the snapshot";
  }
  return done;
}

// The state is known to be good before the db has its name.
Result<std::unique_ptr<AppliedState>> Installer::install(const raft::Snapshot& snapshot, CommitStage& stage) {
  CAIRN_FAULT("applyBeforeOpenSnapshot");
  const std::string path = image_path(options_.snap_directory, snapshot.index);
  if (!fs_.exists(path)) return fail(Code::kDataLoss, "server: {} is gone", path);  // else an empty one is made
  CAIRN_TRY(auto engine, options_.open(path));
  log::info("applySnapshot: opened snapshot backend", {{"snapshot-index", snapshot.index.value}});
  CAIRN_FAULT("applyAfterOpenSnapshot");
  const ImageInput input{.fs = fs_,
                         .snapshot = snapshot,
                         .engine = *engine,
                         .cluster_id = options_.cluster_id,
                         .lease_ttl_min = options_.lease_ttl_min,
                         .concurrent = options_.concurrent};
  CAIRN_TRY(AppliedState recovered, recover_image(input));
  auto state = std::make_unique<AppliedState>(std::move(recovered));
  const Status removed = fs_.remove(options_.checkpoint_directory + "/" + std::string(kCheckpointName));
  if (!removed && removed.error().code != Code::kNotFound) {
    log::warn("failed to remove the index checkpoint", {{"error", removed.error().message}});
  }
  CAIRN_CHECK(rename_image(fs_, options_.snap_directory, snapshot.index));
  stage.replace(std::move(engine));
  remove_old_images(fs_, options_.snap_directory, snapshot.index);
  return state;
}

}  // namespace cairn::member
