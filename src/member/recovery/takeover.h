// member/recovery/takeover.h: what a found directory may hold that this build could not serve, or would lose.
//
// Looked for before anything is written, in the tables and in what the log has still to apply. A directory that is
// refused stays as it was, so that the etcd it comes from goes on with it.
#pragma once

#include <optional>
#include <string_view>

#include "env/fs.h"
#include "member/apply/applied_state.h"
#include "wal/log.h"
#include "wal/snap_file.h"

namespace cairn::member {

struct TakeoverInput {
  const wal::Log& log;
  const std::optional<wal::SnapshotFile>& snapshot;
  Schema schema;
  Index applied;  // what the db holds
};

//   errors: kFailedPrecondition: keys of the v2 API, up to 3.5
[[nodiscard]] Status check_takeover(const TakeoverInput& input);

// The same of what a leader up to 3.5 sends: the data of its snapshot, and an entry that is a v2 request. A member that
// went on would give the snapshots that it sends without these keys.
[[nodiscard]] Status check_v2_store(std::string_view snapshot_data);
[[nodiscard]] Status check_v2_request(std::string_view entry_data);

}  // namespace cairn::member
