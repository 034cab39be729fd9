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

}  // namespace cairn::storage
