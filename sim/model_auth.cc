// Users, roles, and who may do what.
#include <algorithm>

#include "base/bytes.h"
#include "base/errors.h"
#include "sim/model.h"

namespace cairn::sim {
namespace {

using storage::Table;

Reply refused(const Error& error) { return {.code = error.code, .text = error.message}; }

std::string number_bytes(uint64_t number) {
  std::string out(8, '\0');
  store_be64(out.data(), number);
  return out;
}

bool asks_for_root(const etcdserverpb::InternalRaftRequest& request) {
  return !request.has_auth_status() && !request.has_auth_user_get() && !request.has_auth_role_get() &&
         !request.has_authenticate();
}

}  // namespace

void Model::bump_auth() { put_table(Table::kAuth, "authRevision", number_bytes(++auth_revision_)); }

Reply Model::apply_auth(const etcdserverpb::InternalRaftRequest& request, bool& handled) {
  etcdserverpb::AuthStatusResponse only_header;  // of all answers that say no more
  header(only_header.mutable_header(), revision_);
  const Reply done = ok(only_header);
  const auto store_user = [&](const authpb::User& user) {
    put_table(Table::kAuthUsers, user.name(), user.SerializeAsString());
  };
  const auto store_role = [&](const authpb::Role& role) {
    put_table(Table::kAuthRoles, role.name(), role.SerializeAsString());
  };
  const auto without = [](authpb::User& user, const std::string& role) {
    const auto end = std::remove(user.mutable_roles()->begin(), user.mutable_roles()->end(), role);
    const bool had = end != user.mutable_roles()->end();
    user.mutable_roles()->erase(end, user.mutable_roles()->end());
    return had;
  };
  if (asks_for_root(request)) {
    if (const auto error = not_root()) return refused(*error);
  }
  if (request.has_auth_user_add()) {
    const auto& add = request.auth_user_add();
    if (add.name().empty()) return refused(errors::user_empty());
    if (users_.contains(add.name())) return refused(errors::user_already_exist());
    authpb::User& user = users_[add.name()];
    user.set_name(add.name());
    user.mutable_options()->set_no_password(add.options().no_password());
    if (!add.options().no_password()) user.set_password("hidden");  // "aGlkZGVu", see sim/requests.cc
    store_user(user);
  } else if (request.has_auth_user_delete()) {
    if (auth_enabled_ && request.auth_user_delete().name() == "root") return refused(errors::invalid_auth_mgmt());
    if (users_.erase(request.auth_user_delete().name()) == 0) return refused(errors::user_not_found());
    erase_table(Table::kAuthUsers, request.auth_user_delete().name());
  } else if (request.has_auth_user_change_password()) {
    const auto user = users_.find(request.auth_user_change_password().name());
    if (user == users_.end()) return refused(errors::user_not_found());
    if (!user->second.options().no_password()) user->second.set_password("secret");  // "c2VjcmV0"
    store_user(user->second);
  } else if (request.has_auth_user_grant_role()) {
    const auto& grant = request.auth_user_grant_role();
    const auto user = users_.find(grant.user());
    if (user == users_.end()) return refused(errors::user_not_found());
    if (grant.role() != "root" && !roles_.contains(grant.role())) return refused(errors::role_not_found());
    auto* const roles = user->second.mutable_roles();
    if (std::find(roles->begin(), roles->end(), grant.role()) != roles->end()) return done;
    user->second.add_roles(grant.role());
    std::sort(roles->begin(), roles->end());
    store_user(user->second);
  } else if (request.has_auth_user_revoke_role()) {
    const auto& revoke = request.auth_user_revoke_role();
    if (auth_enabled_ && revoke.name() == "root" && revoke.role() == "root") {
      return refused(errors::invalid_auth_mgmt());
    }
    const auto user = users_.find(revoke.name());
    if (user == users_.end()) return refused(errors::user_not_found());
    if (!without(user->second, revoke.role())) return refused(errors::role_not_granted());
    store_user(user->second);
  } else if (request.has_auth_role_add()) {
    const std::string& name = request.auth_role_add().name();
    if (name.empty()) return refused(errors::role_empty());
    if (roles_.contains(name)) return refused(errors::role_already_exist());
    roles_[name].set_name(name);
    store_role(roles_[name]);
  } else if (request.has_auth_role_delete()) {
    const std::string& name = request.auth_role_delete().role();
    if (auth_enabled_ && name == "root") return refused(errors::invalid_auth_mgmt());
    if (roles_.erase(name) == 0) return refused(errors::role_not_found());
    erase_table(Table::kAuthRoles, name);
    for (auto& [user_name, user] : users_) {
      if (without(user, name)) store_user(user);
    }
  } else if (request.has_auth_role_grant_permission()) {
    const auto& grant = request.auth_role_grant_permission();
    const auto role = roles_.find(grant.name());
    if (role == roles_.end()) return refused(errors::role_not_found());
    auto* const held = role->second.mutable_keypermission();
    // Only the first one with the key is looked at.
    bool found = false;
    for (authpb::Permission& permission : *held) {
      if (permission.key() != grant.perm().key()) continue;
      found = permission.range_end() == grant.perm().range_end();
      if (found) permission.set_permtype(grant.perm().permtype());
      break;
    }
    if (!found) {
      *held->Add() = grant.perm();
      std::stable_sort(held->begin(), held->end(), [](const auto& a, const auto& b) { return a.key() < b.key(); });
    }
    store_role(role->second);
  } else if (request.has_auth_role_revoke_permission()) {
    const auto& revoke = request.auth_role_revoke_permission();
    const auto role = roles_.find(revoke.role());
    if (role == roles_.end()) return refused(errors::role_not_found());
    auto* const held = role->second.mutable_keypermission();
    bool found = false;
    for (int i = held->size(); i-- > 0;) {
      if (held->at(i).key() != revoke.key() || held->at(i).range_end() != revoke.range_end()) continue;
      held->erase(held->begin() + i);
      found = true;
    }
    if (!found) return refused(errors::permission_not_granted());
    store_role(role->second);
  } else if (request.has_auth_disable()) {
    if (!auth_enabled_) return done;
    enable_auth(false);
  } else if (request.has_auth_enable()) {
    const auto root = users_.find("root");
    if (auth_enabled_) return done;
    if (root == users_.end()) return refused(errors::root_user_not_exist());
    const auto& roles = root->second.roles();
    if (std::find(roles.begin(), roles.end(), "root") == roles.end()) return refused(errors::root_role_not_exist());
    enable_auth(true);
    return done;
  } else {
    return answer_auth(request, handled);
  }
  bump_auth();
  return done;
}

void Model::enable_auth(bool enabled) {
  auth_enabled_ = enabled;
  put_table(Table::kAuth, "authEnabled", std::string(1, enabled ? '\1' : '\0'));
}

// Questions.
Reply Model::answer_auth(const etcdserverpb::InternalRaftRequest& request, bool& handled) const {
  const auto answer = [&](auto response) {
    header(response.mutable_header(), revision_);
    return ok(response);
  };
  if (request.has_auth_status()) {
    etcdserverpb::AuthStatusResponse response;
    response.set_enabled(auth_enabled_);
    response.set_authrevision(auth_revision_);
    return answer(response);
  }
  if (request.has_auth_user_list()) {
    etcdserverpb::AuthUserListResponse response;
    for (const auto& [name, user] : users_) response.add_users(name);
    return answer(response);
  }
  if (request.has_auth_role_list()) {
    etcdserverpb::AuthRoleListResponse response;
    for (const auto& [name, role] : roles_) response.add_roles(name);
    return answer(response);
  }
  if (request.has_auth_user_get()) {
    const std::string& name = request.auth_user_get().name();
    if (const auto error = not_root(); error && sender_ != name) return refused(*error);
    const auto user = users_.find(name);
    if (user == users_.end()) return refused(errors::user_not_found());
    etcdserverpb::AuthUserGetResponse response;
    *response.mutable_roles() = user->second.roles();
    return answer(response);
  }
  if (request.has_auth_role_get()) {
    const std::string& name = request.auth_role_get().role();
    const auto sender = users_.find(sender_);
    const bool holds =
        sender != users_.end() && std::count(sender->second.roles().begin(), sender->second.roles().end(), name) > 0;
    if (const auto error = not_root(); error && !holds) return refused(*error);
    const auto role = roles_.find(name);
    if (role == roles_.end()) return refused(errors::role_not_found());
    etcdserverpb::AuthRoleGetResponse response;
    if (name == "root") {
      auto* const all = response.add_perm();
      all->set_permtype(authpb::Permission::READWRITE);
      all->set_range_end(std::string(1, '\0'));
    } else {
      *response.mutable_perm() = role->second.keypermission();
    }
    return answer(response);
  }
  handled = false;
  return {};
}

// --- who may

std::optional<Error> Model::not_root() const {
  if (!auth_enabled_) return std::nullopt;
  if (sender_.empty()) return errors::user_empty();
  const auto user = users_.find(sender_);
  if (user == users_.end()) return errors::user_not_found();
  if (std::count(user->second.roles().begin(), user->second.roles().end(), "root") > 0) return std::nullopt;
  return errors::permission_denied();
}

// Step by step over what is granted, from the first key that is asked for to the last.
bool Model::is_granted(const authpb::User& user, bool write, const std::string& key,
                       const std::string& range_end) const {
  const std::string open(1, '\0');
  const auto end_of = [&](const std::string& low, const std::string& end) {
    return end.empty() ? std::optional(low + '\0') : end == open ? std::nullopt : std::optional(end);
  };
  const std::optional<std::string> goal = end_of(key, range_end);
  std::string at = key;
  bool began = false;
  while (true) {
    if (began && goal && at >= *goal) return true;
    std::optional<std::string> reached;
    for (const std::string& name : user.roles()) {
      const auto role = roles_.find(name);
      if (role == roles_.end()) continue;
      for (const authpb::Permission& held : role->second.keypermission()) {
        const auto unwanted = write ? authpb::Permission::READ : authpb::Permission::WRITE;
        if (held.permtype() == unwanted || held.key().empty() || held.key() > at) continue;
        const auto end = end_of(held.key(), held.range_end());
        if (!end) return true;
        if (*end > at && (!reached || *end > *reached)) reached = end;
      }
    }
    if (!reached) return false;
    began = true;
    at = *reached;
  }
}

std::optional<Error> Model::denied(bool write, const std::string& key, const std::string& range_end) const {
  if (!auth_enabled_) return std::nullopt;
  if (sender_revision_ == 0) return errors::user_empty();
  if (sender_revision_ < auth_revision_) return errors::auth_old_revision();
  const auto user = users_.find(sender_);
  if (user == users_.end()) return errors::permission_denied();
  if (!not_root()) return std::nullopt;
  return is_granted(user->second, write, key, range_end) ? std::nullopt : std::optional(errors::permission_denied());
}

std::optional<Error> Model::denied_lease(int64_t lease) const {
  if (!auth_enabled_ || !leases_.contains(lease) || !not_root()) return std::nullopt;
  for (const auto& [key, versions] : keys_) {
    const Version* const version = find(key, revision_);
    if (version == nullptr || version->lease != lease) continue;
    if (auto error = denied(true, key, "")) return error;
  }
  return std::nullopt;
}

std::optional<Error> Model::denied(const etcdserverpb::PutRequest& request) const {
  if (auto error = denied(true, request.key(), "")) return error;
  if (auto error = denied_lease(request.lease())) return error;
  return request.prev_kv() ? denied(false, request.key(), "") : std::nullopt;
}

std::optional<Error> Model::denied(const etcdserverpb::DeleteRangeRequest& request) const {
  if (auto error = denied(true, request.key(), request.range_end())) return error;
  return request.prev_kv() ? denied(false, request.key(), request.range_end()) : std::nullopt;
}

std::optional<Error> Model::denied(const etcdserverpb::TxnRequest& request) const {
  for (const auto& compare : request.compare()) {
    if (auto error = denied(false, compare.key(), compare.range_end())) return error;
  }
  for (const auto* const branch : {&request.success(), &request.failure()}) {
    for (const auto& op : *branch) {
      std::optional<Error> error;
      if (op.has_request_range()) error = denied(false, op.request_range().key(), op.request_range().range_end());
      if (op.has_request_put()) error = denied(op.request_put());
      if (op.has_request_delete_range()) error = denied(op.request_delete_range());
      if (op.has_request_txn()) error = denied(op.request_txn());
      if (error) return error;
    }
  }
  return std::nullopt;
}

}  // namespace cairn::sim
