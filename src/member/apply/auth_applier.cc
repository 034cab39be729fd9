#include "member/apply/auth_applier.h"

#include "base/errors.h"
#include "base/log.h"
#include "member/requests.h"
#include "proto/raft_internal.pb.h"

namespace cairn::member {
namespace {

// As etcd's needAdminPermission().
bool needs_root(const etcdserverpb::InternalRaftRequest& request) {
  return request.has_auth_enable() || request.has_auth_disable() || request.has_auth_user_add() ||
         request.has_auth_user_delete() || request.has_auth_user_change_password() ||
         request.has_auth_user_grant_role() || request.has_auth_user_revoke_role() || request.has_auth_role_add() ||
         request.has_auth_role_grant_permission() || request.has_auth_role_revoke_permission() ||
         request.has_auth_role_delete() || request.has_auth_user_list() || request.has_auth_role_list();
}

}  // namespace

AuthApplier::AuthApplier(Workbench& bench, const lease::Lessor& lessor, auth::Store store)
    : bench_(bench), lessor_(lessor), store_(std::move(store)) {
  if (store_.enabled()) bench_.options.tokens->enable();
}

Status AuthApplier::begin(std::string_view header) {
  if (!store_.enabled()) return {};
  CAIRN_TRY(const RequestHeader read, decode_header(header));
  sender_.is_known = !read.user.empty();
  sender_.user = read.user;
  sender_.revision = read.auth_revision;
  return {};
}

Status AuthApplier::check_lease(const auth::Identity& who, int64_t id) const {
  const std::shared_ptr<const auth::Rules>& rules = store_.rules();
  const lease::Lease* const lease = lessor_.find(id);
  if (lease == nullptr || lease->keys.size() == 0 || !rules->enabled() || rules->is_root(who)) return {};
  CAIRN_TRY(const auth::User* const user, rules->admit(who));
  const auto memo = may_write_.find(id);
  if (memo != may_write_.end() && memo->second.rules == rules && memo->second.user == who.user) return {};
  bool may_all = true;
  lease->keys.for_each([&](std::string_view key) { may_all = may_all && user->may(auth::Wants::kWrite, {key, {}}); });
  if (!may_all) return std::unexpected(errors::permission_denied());
  if (lease->keys.size() >= kKeysOfMemo) {
    if (may_write_.size() >= kMemosMax) may_write_.clear();
    may_write_.insert_or_assign(id, Memo{rules, who.user});
  }
  return {};
}

Result<bool> AuthApplier::apply(const etcdserverpb::InternalRaftRequest& request, Tag tag, Schema schema) {
  if (needs_root(request)) {
    if (const Status allowed = store_.rules()->check_root(sender_); !allowed) {
      bench_.answer_error(tag, allowed.error());
      return true;
    }
  }
  if (const auto changed = change(request)) {
    *changed ? bench_.reply(tag) : bench_.answer_error(tag, changed->error());
    return true;
  }
  return answer_question(request, tag, schema);
}

// --- changes

Status AuthApplier::enable(storage::WriteBuffer& tables) {
  const bool was_enabled = store_.enabled();
  CAIRN_CHECK(store_.enable(tables));
  if (was_enabled) return {};
  bench_.options.tokens->enable();
  log::info("enabled authentication");
  return {};
}

Status AuthApplier::disable(storage::WriteBuffer& tables) {
  const bool was_enabled = store_.enabled();
  CAIRN_CHECK(store_.disable(tables));
  if (!was_enabled) return {};
  bench_.options.tokens->disable();
  log::info("disabled authentication");
  return {};
}

std::optional<Status> AuthApplier::change(const etcdserverpb::InternalRaftRequest& request) {
  if (request.has_auth_enable()) return enable(bench_.tables());
  if (request.has_auth_disable()) return disable(bench_.tables());
  if (auto changed = change_users(request)) return changed;
  return change_roles(request);
}

std::optional<Status> AuthApplier::change_users(const etcdserverpb::InternalRaftRequest& request) {
  storage::WriteBuffer& tables = bench_.tables();
  const auto end_sessions = [&](const Status& changed, const std::string& user) {
    if (changed) bench_.options.tokens->invalidate_user(user);
    return changed;
  };
  if (request.has_auth_user_add()) return store_.user_add(request.auth_user_add(), tables);
  if (request.has_auth_user_delete()) {
    const std::string& name = request.auth_user_delete().name();
    return end_sessions(store_.user_delete(name, tables), name);
  }
  if (request.has_auth_user_change_password()) {
    const auto& wanted = request.auth_user_change_password();
    return end_sessions(store_.user_change_password(wanted, tables), wanted.name());
  }
  if (request.has_auth_user_grant_role()) {
    const auto& grant = request.auth_user_grant_role();
    return store_.user_grant_role(grant.user(), grant.role(), tables);
  }
  if (request.has_auth_user_revoke_role()) {
    const auto& revoke = request.auth_user_revoke_role();
    return store_.user_revoke_role(revoke.name(), revoke.role(), tables);
  }
  return std::nullopt;
}

std::optional<Status> AuthApplier::change_roles(const etcdserverpb::InternalRaftRequest& request) {
  storage::WriteBuffer& tables = bench_.tables();
  if (request.has_auth_role_add()) return store_.role_add(request.auth_role_add().name(), tables);
  if (request.has_auth_role_delete()) return store_.role_delete(request.auth_role_delete().role(), tables);
  if (request.has_auth_role_grant_permission()) {
    return store_.role_grant_permission(request.auth_role_grant_permission(), tables);
  }
  if (request.has_auth_role_revoke_permission()) {
    return store_.role_revoke_permission(request.auth_role_revoke_permission(), tables);
  }
  return std::nullopt;
}

// --- questions: nothing changes, and only who asked wants to know

bool AuthApplier::answer_question(const etcdserverpb::InternalRaftRequest& request, Tag tag, Schema schema) {
  const auto answer = [&](const Result<std::string>& made) {
    if (!made) return bench_.answer_error(tag, made.error());
    bench_.reply(tag, [&](std::string& out) { out += *made; });
  };
  if (request.has_authenticate()) {
    answer(authenticate(request.authenticate(), schema));
  } else if (request.has_auth_user_get()) {
    answer(user_get(request.auth_user_get().name()));
  } else if (request.has_auth_role_get()) {
    answer(role_get(request.auth_role_get().role()));
  } else if (request.has_auth_user_list()) {
    etcdserverpb::AuthUserListResponse response;
    for (std::string& name : store_.user_list()) response.add_users(std::move(name));
    answer(response.SerializeAsString());
  } else if (request.has_auth_role_list()) {
    etcdserverpb::AuthRoleListResponse response;
    for (std::string& name : store_.role_list()) response.add_roles(std::move(name));
    answer(response.SerializeAsString());
  } else if (request.has_auth_status()) {
    etcdserverpb::AuthStatusResponse response;
    response.set_enabled(store_.enabled());
    response.set_authrevision(store_.revision());
    answer(response.SerializeAsString());
  } else {
    return false;
  }
  return true;
}

// Users may look at themselves and at their roles.
Result<std::string> AuthApplier::user_get(const std::string& name) const {
  if (const Status allowed = store_.rules()->check_root(sender_); !allowed && name != sender_.user) {
    return std::unexpected(allowed.error());
  }
  CAIRN_TRY(const std::vector<std::string> roles, store_.user_get(name));
  etcdserverpb::AuthUserGetResponse response;
  for (const std::string& role : roles) response.add_roles(role);
  return response.SerializeAsString();
}

Result<std::string> AuthApplier::role_get(const std::string& name) const {
  if (const Status allowed = store_.rules()->check_root(sender_);
      !allowed && !store_.user_has_role(sender_.user, name)) {
    return std::unexpected(allowed.error());
  }
  etcdserverpb::AuthRoleGetResponse response;
  CAIRN_CHECK(store_.role_get(name, response));
  return response.SerializeAsString();
}

// The password was looked at by the member that proposed it. The token is the same text on all members. Since 3.5 etcd
// gives it the index before its entry.
Result<std::string> AuthApplier::authenticate(const etcdserverpb::InternalAuthenticateRequest& request, Schema schema) {
  if (!store_.enabled()) return std::unexpected(errors::auth_not_enabled());
  const auth::User* const user = store_.rules()->find(request.name());
  if (user == nullptr || user->no_password) return std::unexpected(errors::auth_failed());
  const uint64_t index = bench_.applied.value - (schema == Schema::k3_4 ? 0 : 1);
  etcdserverpb::AuthenticateResponse response;
  response.set_token(bench_.options.tokens->assign(request.name(), request.simple_token(), index));
  return response.SerializeAsString();
}

}  // namespace cairn::member
