// auth/store.h: users, roles and permissions of the replicated state, and the auth tables.
//
// Applies every auth entry of the log to memory and tables, deterministically. It does not check permissions yet: a
// member refuses to start on a directory in which auth is enabled.
//
// Threads: the apply thread's.
// Source:  docs/architecture.md, "Leases and auth".
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "base/error.h"
#include "storage/write_buffer.h"

namespace etcdserverpb {
class AuthRoleGrantPermissionRequest;
class AuthRoleRevokePermissionRequest;
class AuthUserAddRequest;
class AuthUserChangePasswordRequest;
}  // namespace etcdserverpb
namespace authpb {
class Role;
class User;
}  // namespace authpb

namespace cairn::auth {

class Store {
 public:
  Store();
  ~Store();
  Store(Store&&) noexcept;
  Store& operator=(Store&&) noexcept;

  // From the tables at start, entry by entry, in any order.
  //   errors: kDataLoss
  Status load(storage::Table table, std::string_view key, std::string_view value);
  // Call after load(). A store without a revision gets revision 1, which is also written.
  void finish_load(storage::WriteBuffer& tables);

  [[nodiscard]] bool enabled() const { return enabled_; }
  [[nodiscard]] uint64_t revision() const { return revision_; }

  // One entry each. Errors are etcd's; the tables are then unchanged.
  Status enable(storage::WriteBuffer& tables);
  Status disable(storage::WriteBuffer& tables);
  Status user_add(const etcdserverpb::AuthUserAddRequest& request, storage::WriteBuffer& tables);
  Status user_delete(std::string_view name, storage::WriteBuffer& tables);
  Status user_change_password(const etcdserverpb::AuthUserChangePasswordRequest& request, storage::WriteBuffer& tables);
  Status user_grant_role(std::string_view user, std::string_view role, storage::WriteBuffer& tables);
  Status user_revoke_role(std::string_view user, std::string_view role, storage::WriteBuffer& tables);
  Status role_add(std::string_view role, storage::WriteBuffer& tables);
  Status role_delete(std::string_view role, storage::WriteBuffer& tables);
  Status role_grant_permission(const etcdserverpb::AuthRoleGrantPermissionRequest& request,
                               storage::WriteBuffer& tables);
  Status role_revoke_permission(const etcdserverpb::AuthRoleRevokePermissionRequest& request,
                                storage::WriteBuffer& tables);

 private:
  void bump_revision(storage::WriteBuffer& tables);
  void store_user(const authpb::User& user, storage::WriteBuffer& tables);
  void store_role(const authpb::Role& role, storage::WriteBuffer& tables);

  bool enabled_ = false;
  uint64_t revision_ = 0;
  std::map<std::string, authpb::User, std::less<>> users_;
  std::map<std::string, authpb::Role, std::less<>> roles_;
};

// The bcrypt text ("$2a$10$...") of an entry. An entry carries it as base64 in `hashed`. Old releases sent `password`
// in the clear; for their entries the text is computed, with a fixed salt made from the password's bytes, so that
// replaying an entry gives the same table.
//   errors: kInvalidArgument for bad base64
[[nodiscard]] Result<std::string> password_text(std::string_view password, std::string_view hashed, int cost);

}  // namespace cairn::auth
