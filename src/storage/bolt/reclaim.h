// storage/bolt/reclaim.h: one commit's part of a pass that removes entries of the table `key`.
//
// The pass reads the file as it was before the commit. It stops before the first entry in its range that the commit
// itself writes; that entry waits for the next part. The tree writer deletes the entries and merges small pages.
#pragma once

#include <string>
#include <vector>

#include "storage/bolt/reader.h"

namespace cairn::storage::bolt {

struct ReclaimPart {
  std::vector<Change> changes;  // the commit's own, with the removals among them
  uint64_t removed = 0;
  bool done = false;
  std::string position;  // where the next part begins, unless done
};

//   errors: kDataLoss
[[nodiscard]] Result<ReclaimPart> plan_reclaim(const BoltView& view, const Reclaim& reclaim,
                                               std::span<const Change> changes);

}  // namespace cairn::storage::bolt
