// member/recovery/recovery.h: the replicated state as a found directory holds it: tables, index, membership.
//
// Where membership stands depends on who wrote the directory: up to 3.5 in the .snap file and the log behind it, from
// 3.6 on in the tables. docs/compatibility.md has the table of differences.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cluster/versions.h"
#include "env/fs.h"
#include "member/apply/applied_state.h"
#include "member/recovery/index_recovery.h"
#include "wal/log.h"
#include "wal/snap_file.h"

namespace cairn::member {

// The error of a start alone whose member is of its cluster no more, and what a member says that ends for that reason.
inline constexpr std::string_view kRemovedText = "the member has been permanently removed from the cluster";

struct RecoveryInput {
  env::FileSystem& fs;
  const wal::Log& log;
  wal::HardState hard_state;
  const std::vector<wal::SnapshotRecord>& snapshots;
  std::string snap_directory;
  std::shared_ptr<const storage::View> view;
  uint64_t cluster_id = 0;
  int64_t lease_ttl_min = 2;
  size_t learner_count_max = 1;
  bool new_directory = false;
  bool has_peers = false;                       // other members are no reason to refuse: they can be reached
  std::optional<cluster::MinorVersion> joined;  // the member has joined a cluster of this version
  bool force_new_cluster = false;               // other members are no reason to refuse
};

// What --force-new-cluster makes of a log: what is behind `commit` goes, and the entries that remove `others` follow
// it.
struct ForcedCluster {
  Index commit;  // the higher one of the last hard state's and of what the db holds
  std::vector<NodeId> others;
};

struct Recovered {
  AppliedState state;    // without the index, for which see adopt_index
  Index snapshot_index;  // where the log may begin
  ForcedCluster forced;  // with force_new_cluster
};

//   errors: kDataLoss: WAL, .snap and db do not fit each other, or a table is damaged; kFailedPrecondition: the
//           directory needs what this build does not have (a newer storage version)
[[nodiscard]] Result<Recovered> recover(const RecoveryInput& input);

// Puts the index into the state, and what is known with it: revisions, the keys that leases hold.
void adopt_index(RecoveredIndex recovered, AppliedState& state);

}  // namespace cairn::member
