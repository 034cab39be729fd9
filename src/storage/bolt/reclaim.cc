#include "storage/bolt/reclaim.h"

#include <algorithm>

namespace cairn::storage::bolt {

Result<ReclaimPart> plan_reclaim(const BoltView& view, const Reclaim& reclaim, std::span<const Change> changes) {
  ReclaimPart part;
  const auto in_range = std::partition_point(
      changes.begin(), changes.end(), [&](const Change& change) { return compare(change.key(), reclaim.first) < 0; });
  const std::string_view pass_end = reclaim.end;
  std::string_view end = pass_end;
  if (in_range != changes.end() && compare(in_range->key(), end) < 0) end = in_range->key();
  part.changes.assign(changes.begin(), in_range);

  TreeCursor cursor(view.pages(), view.root(Table::kKey), table_name(Table::kKey), /*flags=*/0);
  uint64_t visits = 0;
  uint64_t dirty_bytes = 0;
  uint64_t leaf = 0;
  bool leaf_is_dirty = false;
  bool first = true;
  CAIRN_CHECK(cursor.seek(reclaim.first));
  while (cursor.valid() && compare(cursor.key(), end) < 0) {
    if (first || cursor.leaf_id() != leaf) {
      // A part ends between two leaves, so that none is written twice.
      if (dirty_bytes >= reclaim.dirty_bytes_max || visits >= reclaim.visits_max) break;
      first = false;
      leaf = cursor.leaf_id();
      leaf_is_dirty = false;
    }
    ++visits;
    if (!reclaim.keep(cursor.key(), cursor.value())) {
      part.changes.push_back({.data = cursor.key().data(),
                              .key_bytes = static_cast<uint32_t>(cursor.key().size()),
                              .value_bytes = 0,
                              .erase = true});
      ++part.removed;
      if (!leaf_is_dirty) dirty_bytes += cursor.leaf_bytes();
      leaf_is_dirty = true;
    }
    if (visits >= reclaim.entries_max) {
      part.position = std::string(cursor.key()) + '\0';
      break;
    }
    CAIRN_CHECK(cursor.next());
  }
  if (!part.position.empty()) {
    // as counted
  } else if (cursor.valid() && compare(cursor.key(), end) < 0) {
    part.position = cursor.key();
  } else if (end != pass_end) {
    part.position = end;
  } else {
    part.done = true;
  }
  part.changes.insert(part.changes.end(), in_range, changes.end());
  return part;
}

}  // namespace cairn::storage::bolt
