#include "member/apply/auth_applier.h"

#include "proto/raft_internal.pb.h"

namespace cairn::member {

Result<bool> AuthApplier::apply(const etcdserverpb::InternalRaftRequest& request, Tag tag) {
  storage::WriteBuffer& tables = bench_.tables();
  Status status;
  if (request.has_auth_enable()) {
    status = store_.enable(tables);
    if (store_.enabled()) {
      return fail(Code::kFailedPrecondition, "auth is enabled; this build cannot check it");
    }
  } else if (request.has_auth_disable()) {
    status = store_.disable(tables);
  } else if (request.has_auth_user_add()) {
    status = store_.user_add(request.auth_user_add(), tables);
  } else if (request.has_auth_user_delete()) {
    status = store_.user_delete(request.auth_user_delete().name(), tables);
  } else if (request.has_auth_user_change_password()) {
    status = store_.user_change_password(request.auth_user_change_password(), tables);
  } else if (request.has_auth_user_grant_role()) {
    const auto& grant = request.auth_user_grant_role();
    status = store_.user_grant_role(grant.user(), grant.role(), tables);
  } else if (request.has_auth_user_revoke_role()) {
    const auto& revoke = request.auth_user_revoke_role();
    status = store_.user_revoke_role(revoke.name(), revoke.role(), tables);
  } else if (request.has_auth_role_add()) {
    status = store_.role_add(request.auth_role_add().name(), tables);
  } else if (request.has_auth_role_delete()) {
    status = store_.role_delete(request.auth_role_delete().role(), tables);
  } else if (request.has_auth_role_grant_permission()) {
    status = store_.role_grant_permission(request.auth_role_grant_permission(), tables);
  } else if (request.has_auth_role_revoke_permission()) {
    status = store_.role_revoke_permission(request.auth_role_revoke_permission(), tables);
  } else {
    // No table changes: tokens are not kept across a restart, and reads are answered by whoever asked.
    return request.has_authenticate() || request.has_auth_status() || request.has_auth_user_get() ||
           request.has_auth_user_list() || request.has_auth_role_get() || request.has_auth_role_list();
  }
  if (!status) bench_.answer_error(tag, status.error());
  return true;
}

}  // namespace cairn::member
