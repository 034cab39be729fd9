#include "base/check.h"
#include "storage/engine.h"

namespace cairn::storage {

std::string_view table_name(Table table) {
  switch (table) {
    case Table::kAlarm: return "alarm";
    case Table::kAuth: return "auth";
    case Table::kAuthRoles: return "authRoles";
    case Table::kAuthUsers: return "authUsers";
    case Table::kCluster: return "cluster";
    case Table::kKey: return "key";
    case Table::kLease: return "lease";
    case Table::kMembers: return "members";
    case Table::kMembersRemoved: return "members_removed";
    case Table::kMeta: return "meta";
  }
  CAIRN_ASSERT(false);
}

bool View::descends_from(const CommitId& commit) const {
  const Lineage made_by = lineage();
  if (commit.opening == 0) return false;
  return (commit.opening == made_by.opening && commit.txid <= txid()) || commit == made_by.ancestor;
}

Result<std::unique_ptr<ImageReader>> open_image(std::shared_ptr<const View> view) {
  const View& of = *view;
  return of.make_image(std::move(view));
}

Status View::get_many(Table table, std::span<const std::string_view> keys,
                      std::span<std::optional<std::string_view>> values) const {
  CAIRN_ASSERT(keys.size() == values.size() && keys.size() <= kGetManyMax);
  for (size_t i = 0; i < keys.size(); ++i) {
    CAIRN_TRY(values[i], get(table, keys[i]));
  }
  return {};
}

}  // namespace cairn::storage
