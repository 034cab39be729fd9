// auth/store.h: users, roles and permissions of the replicated state, and the auth tables.
//
// Applies every auth entry of the log to memory and tables, deterministically. Who may do what is compiled of it
// (auth/rules.h) when it is asked for.
//
// Threads: the core thread's; what rules() gave may be read by any.
// Source:  docs/architecture.md, "Auth".
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "auth/rules.h"
#include "base/error.h"
#include "storage/write_buffer.h"

namespace etcdserverpb {
class AuthRoleGetResponse;
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
  // As of the last change.
  [[nodiscard]] const std::shared_ptr<const Rules>& rules() const;

  // The roles of a user.
  //   errors: user_not_found
  [[nodiscard]] Result<std::vector<std::string>> user_get(std::string_view name) const;
  [[nodiscard]] bool user_has_role(std::string_view user, std::string_view role) const;
  // Its permissions.
  //   errors: role_not_found
  [[nodiscard]] Status role_get(std::string_view name, etcdserverpb::AuthRoleGetResponse& out) const;
  [[nodiscard]] std::vector<std::string> user_list() const;
  [[nodiscard]] std::vector<std::string> role_list() const;

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
  [[nodiscard]] User compile(const authpb::User& user) const;
  [[nodiscard]] std::shared_ptr<const Permissions> permissions_of(const authpb::User& user) const;
  void note_role(std::string_view role);
  void bump_revision(storage::WriteBuffer& tables);
  void store_user(const authpb::User& user, storage::WriteBuffer& tables);
  void store_role(const authpb::Role& role, storage::WriteBuffer& tables);

  bool enabled_ = false;
  uint64_t revision_ = 0;
  std::map<std::string, authpb::User, std::less<>> users_;
  std::map<std::string, authpb::Role, std::less<>> roles_;
  // Compiled when somebody asks.
  mutable std::shared_ptr<const Rules> rules_;
  mutable std::set<std::string, std::less<>> changed_users_;  // since rules_ was compiled
  // By the roles, as long as a user has them.
  mutable std::map<std::vector<std::string>, std::weak_ptr<const Permissions>> permissions_;
};

}  // namespace cairn::auth
