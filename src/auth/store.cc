#include "auth/store.h"

#include <algorithm>

#include "auth/password.h"
#include "base/bytes.h"
#include "base/check.h"
#include "base/errors.h"
#include "base/log.h"
#include "proto/auth.pb.h"
#include "proto/rpc.pb.h"

namespace cairn::auth {
namespace {

constexpr std::string_view kEnabledKey = "authEnabled";
constexpr std::string_view kRevisionKey = "authRevision";

using storage::Table;
using storage::WriteBuffer;

std::unexpected<Error> error(Error e) { return std::unexpected(std::move(e)); }

bool has_role(const authpb::User& user, std::string_view role) {
  return std::find(user.roles().begin(), user.roles().end(), role) != user.roles().end();
}

std::vector<std::string> roles_of(const authpb::User& user) { return {user.roles().begin(), user.roles().end()}; }

std::unexpected<Error> refuse_for_root(std::string_view why, log::Fields who) {
  log::error(why, who);
  return error(errors::invalid_auth_mgmt());
}

// Empty: one key. "\0": open. Otherwise behind the key.
bool valid_interval(std::string_view key, std::string_view range_end) {
  if (key.empty()) return false;
  if (range_end.empty() || range_end == std::string_view("\0", 1)) return true;
  return range_end > key;
}

}  // namespace

Store::Store() = default;
Store::~Store() = default;
Store::Store(Store&&) noexcept = default;
Store& Store::operator=(Store&&) noexcept = default;

Status Store::load(Table table, std::string_view key, std::string_view value) {
  const auto damaged = [&] {
    return fail(Code::kDataLoss, "auth: damaged entry {} in table {}", to_hex(key), storage::table_name(table));
  };
  switch (table) {
    case Table::kAuth:
      if (key == kEnabledKey) {
        enabled_ = value.size() == 1 && value[0] == 1;
      } else if (key == kRevisionKey) {
        if (value.size() != 8) return damaged();
        revision_ = load_be64(value.data());
      }
      return {};
    case Table::kAuthUsers:
      if (!users_[std::string(key)].ParseFromArray(value.data(), static_cast<int>(value.size()))) return damaged();
      return {};
    case Table::kAuthRoles:
      if (!roles_[std::string(key)].ParseFromArray(value.data(), static_cast<int>(value.size()))) return damaged();
      return {};
    default: return {};
  }
}

void Store::finish_load(WriteBuffer& tables) {
  if (revision_ == 0) bump_revision(tables);
}

// --- what is compiled of it

User Store::compile(const authpb::User& user) const {
  User out;
  out.is_root = has_role(user, kRoot);
  out.no_password = user.options().no_password();
  out.password = user.password();
  out.permissions = permissions_of(user);
  return out;
}

std::shared_ptr<const Permissions> Store::permissions_of(const authpb::User& user) const {
  std::weak_ptr<const Permissions>& known = permissions_[{user.roles().begin(), user.roles().end()}];
  if (auto found = known.lock()) return found;
  auto made = std::make_shared<Permissions>();
  for (const std::string& name : user.roles()) {
    const auto role = roles_.find(name);
    if (role == roles_.end()) continue;
    for (const authpb::Permission& held : role->second.keypermission()) {
      const KeyRange range{held.key(), held.range_end()};
      if (held.permtype() != authpb::Permission::WRITE) made->readable.add(range);
      if (held.permtype() != authpb::Permission::READ) made->writable.add(range);
    }
  }
  made->readable.finish();
  made->writable.finish();
  known = made;
  return made;
}

const std::shared_ptr<const Rules>& Store::rules() const {
  if (rules_ != nullptr && rules_->enabled() == enabled_ && rules_->revision() == revision_) return rules_;
  Rules::Users users;
  if (enabled_) {
    const bool follows = rules_ != nullptr && rules_->enabled();
    if (follows) users = rules_->users();
    const auto compile_one = [&](const std::string& name) {
      const auto user = users_.find(name);
      if (user == users_.end()) return void(users.erase(name));
      users.insert_or_assign(name, std::make_shared<const User>(compile(user->second)));
    };
    if (follows) {
      for (const std::string& name : changed_users_) compile_one(name);
    } else {
      for (const auto& [name, user] : users_) compile_one(name);
    }
  }
  changed_users_.clear();
  rules_ = std::make_shared<const Rules>(enabled_, revision_, std::move(users));
  if (permissions_.size() > users_.size()) {
    std::erase_if(permissions_, [](const auto& one) { return one.second.expired(); });
  }
  return rules_;
}

void Store::note_role(std::string_view role) {
  if (CAIRN_MUTANT("auth.permissions_kept_after_revocation")) return;
  for (const auto& [name, user] : users_) {
    if (has_role(user, role)) changed_users_.insert(name);
  }
  std::erase_if(permissions_, [&](const auto& one) { return std::ranges::find(one.first, role) != one.first.end(); });
}

// --- what it says

Result<std::vector<std::string>> Store::user_get(std::string_view name) const {
  const auto at = users_.find(name);
  if (at == users_.end()) return error(errors::user_not_found());
  return roles_of(at->second);
}

bool Store::user_has_role(std::string_view user, std::string_view role) const {
  const auto at = users_.find(user);
  return at != users_.end() && has_role(at->second, role);
}

Status Store::role_get(std::string_view name, etcdserverpb::AuthRoleGetResponse& out) const {
  const auto at = roles_.find(name);
  if (at == roles_.end()) return error(errors::role_not_found());
  if (name == kRoot) {
    auto* const all = out.add_perm();
    all->set_permtype(authpb::Permission::READWRITE);
    all->set_range_end(std::string(1, '\0'));
  } else {
    *out.mutable_perm() = at->second.keypermission();
  }
  return {};
}

std::vector<std::string> Store::user_list() const {
  std::vector<std::string> names;
  for (const auto& [name, user] : users_) names.push_back(name);
  return names;
}

std::vector<std::string> Store::role_list() const {
  std::vector<std::string> names;
  for (const auto& [name, role] : roles_) names.push_back(name);
  return names;
}

// --- what changes it

void Store::bump_revision(WriteBuffer& tables) {
  ++revision_;
  char value[8];
  store_be64(value, revision_);
  tables.put(Table::kAuth, kRevisionKey, {value, sizeof value});
}

void Store::store_user(const authpb::User& user, WriteBuffer& tables) {
  changed_users_.insert(user.name());
  tables.put(Table::kAuthUsers, user.name(), user.SerializeAsString());
}
void Store::store_role(const authpb::Role& role, WriteBuffer& tables) {
  tables.put(Table::kAuthRoles, role.name(), role.SerializeAsString());
}

Status Store::enable(WriteBuffer& tables) {
  if (enabled_) {
    log::info("authentication is already enabled; ignored auth enable request");
    return {};
  }
  const auto root = users_.find(kRoot);
  if (root == users_.end()) return error(errors::root_user_not_exist());
  if (!has_role(root->second, kRoot)) return error(errors::root_role_not_exist());
  enabled_ = true;
  tables.put(Table::kAuth, kEnabledKey, std::string_view("\x01", 1));
  return {};
}

Status Store::disable(WriteBuffer& tables) {
  if (!enabled_) return {};
  enabled_ = false;
  tables.put(Table::kAuth, kEnabledKey, std::string_view("\0", 1));
  bump_revision(tables);
  return {};
}

Status Store::user_add(const etcdserverpb::AuthUserAddRequest& request, WriteBuffer& tables) {
  if (request.name().empty()) return error(errors::user_empty());
  if (users_.contains(request.name())) return error(errors::user_already_exist());
  authpb::User user;
  user.set_name(request.name());
  user.mutable_options()->set_no_password(request.options().no_password());
  if (!request.options().no_password()) {
    CAIRN_TRY(std::string text, password_text(request.password(), request.hashedpassword(), kBcryptCostDefault));
    user.set_password(std::move(text));
  }
  store_user(user, tables);
  users_.emplace(request.name(), std::move(user));
  bump_revision(tables);
  log::info("added a user", {{"user-name", request.name()}});
  return {};
}

Status Store::user_delete(std::string_view name, WriteBuffer& tables) {
  if (enabled_ && name == kRoot) return refuse_for_root("cannot delete 'root' user", {{"user-name", name}});
  const auto at = users_.find(name);
  if (at == users_.end()) return error(errors::user_not_found());
  std::vector<std::string> roles = roles_of(at->second);
  users_.erase(at);
  changed_users_.emplace(name);
  tables.erase(Table::kAuthUsers, name);
  bump_revision(tables);
  log::info("deleted a user", {{"user-name", name}, {"user-roles", std::move(roles)}});
  return {};
}

Status Store::user_change_password(const etcdserverpb::AuthUserChangePasswordRequest& request, WriteBuffer& tables) {
  const auto at = users_.find(request.name());
  if (at == users_.end()) return error(errors::user_not_found());
  authpb::User& user = at->second;
  if (!user.options().no_password()) {
    CAIRN_TRY(std::string text, password_text(request.password(), request.hashedpassword(), kBcryptCostDefault));
    user.set_password(std::move(text));
  }
  store_user(user, tables);
  bump_revision(tables);
  log::info("changed a password of a user", {{"user-name", request.name()}, {"user-roles", roles_of(user)}});
  return {};
}

Status Store::user_grant_role(std::string_view name, std::string_view role, WriteBuffer& tables) {
  const auto at = users_.find(name);
  if (at == users_.end()) return error(errors::user_not_found());
  if (role != kRoot && !roles_.contains(role)) return error(errors::role_not_found());
  authpb::User& user = at->second;
  if (has_role(user, role)) {  // as etcd: a success that changes nothing
    log::warn("ignored grant role request to a user",
              {{"user-name", name}, {"user-roles", roles_of(user)}, {"duplicate-role-name", role}});
    return {};
  }
  user.add_roles(std::string(role));
  std::sort(user.mutable_roles()->begin(), user.mutable_roles()->end());
  store_user(user, tables);
  bump_revision(tables);
  log::info("granted a role to a user",
            {{"user-name", name}, {"user-roles", roles_of(user)}, {"added-role-name", role}});
  return {};
}

Status Store::user_revoke_role(std::string_view name, std::string_view role, WriteBuffer& tables) {
  if (enabled_ && name == kRoot && role == kRoot) {
    return refuse_for_root("'root' user cannot revoke 'root' role", {{"user-name", name}, {"role-name", role}});
  }
  const auto at = users_.find(name);
  if (at == users_.end()) return error(errors::user_not_found());
  authpb::User& user = at->second;
  if (!has_role(user, role)) return error(errors::role_not_granted());
  std::vector<std::string> old_roles = roles_of(user);
  auto* const roles = user.mutable_roles();
  roles->erase(std::remove(roles->begin(), roles->end(), role), roles->end());
  store_user(user, tables);
  bump_revision(tables);
  log::info("revoked a role from a user", {{"user-name", name},
                                           {"old-user-roles", std::move(old_roles)},
                                           {"new-user-roles", roles_of(user)},
                                           {"revoked-role-name", role}});
  return {};
}

Status Store::role_add(std::string_view name, WriteBuffer& tables) {
  if (name.empty()) return error(errors::role_empty());
  if (roles_.contains(name)) return error(errors::role_already_exist());
  authpb::Role role;
  role.set_name(std::string(name));
  store_role(role, tables);
  roles_.emplace(name, std::move(role));
  note_role(name);  // a user may have had it before: root's need not exist
  bump_revision(tables);
  log::info("created a role", {{"role-name", name}});
  return {};
}

Status Store::role_delete(std::string_view name, WriteBuffer& tables) {
  if (enabled_ && name == kRoot) return refuse_for_root("cannot delete 'root' role", {{"role-name", name}});
  const auto at = roles_.find(name);
  if (at == roles_.end()) return error(errors::role_not_found());
  roles_.erase(at);
  tables.erase(Table::kAuthRoles, name);
  for (auto& [user_name, user] : users_) {
    if (!has_role(user, name)) continue;
    auto* const roles = user.mutable_roles();
    roles->erase(std::remove(roles->begin(), roles->end(), name), roles->end());
    store_user(user, tables);
  }
  bump_revision(tables);
  log::info("deleted a role", {{"role-name", name}});
  return {};
}

Status Store::role_grant_permission(const etcdserverpb::AuthRoleGrantPermissionRequest& request, WriteBuffer& tables) {
  if (!request.has_perm()) return error(errors::permission_not_given());
  if (!valid_interval(request.perm().key(), request.perm().range_end())) return error(errors::invalid_auth_mgmt());
  const auto at = roles_.find(request.name());
  if (at == roles_.end()) return error(errors::role_not_found());
  auto* const permissions = at->second.mutable_keypermission();
  const auto before = [](const authpb::Permission& a, const authpb::Permission& b) { return a.key() < b.key(); };
  // compat: among permissions with the same key etcd looks only at the first. If another one has the same end, the role
  // then has two for one interval.
  const auto first = std::lower_bound(permissions->begin(), permissions->end(), request.perm(), before);
  if (first != permissions->end() && first->key() == request.perm().key() &&
      first->range_end() == request.perm().range_end()) {
    first->set_permtype(request.perm().permtype());
  } else {
    authpb::Permission& added = *permissions->Add();
    added.set_key(request.perm().key());
    added.set_range_end(request.perm().range_end());
    added.set_permtype(request.perm().permtype());
    // Go's sort keeps the order of equals up to 12 permissions; beyond that, etcd's order may be another one.
    std::stable_sort(permissions->begin(), permissions->end(), before);
  }
  store_role(at->second, tables);
  note_role(at->first);
  bump_revision(tables);
  const authpb::Permission& granted = request.perm();
  log::info("granted/updated a permission to a user",
            {{"user-name", request.name()},  // as etcd calls it
             {"permission-name", authpb::Permission::Type_Name(granted.permtype())},
             {"key", granted.key()},
             {"range-end", granted.range_end()}});
  return {};
}

Status Store::role_revoke_permission(const etcdserverpb::AuthRoleRevokePermissionRequest& request,
                                     WriteBuffer& tables) {
  const auto at = roles_.find(request.role());
  if (at == roles_.end()) return error(errors::role_not_found());
  auto* const permissions = at->second.mutable_keypermission();
  const auto removed = std::remove_if(permissions->begin(), permissions->end(), [&](const authpb::Permission& held) {
    return held.key() == request.key() && held.range_end() == request.range_end();
  });
  if (removed == permissions->end()) return error(errors::permission_not_granted());
  permissions->erase(removed, permissions->end());
  store_role(at->second, tables);
  note_role(at->first);
  bump_revision(tables);
  log::info("revoked a permission on range",
            {{"role-name", request.role()}, {"key", request.key()}, {"range-end", request.range_end()}});
  return {};
}

}  // namespace cairn::auth
