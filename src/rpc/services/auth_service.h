// rpc/services/auth_service.h: who may do what: users, roles, tokens.
#pragma once

#include "rpc/methods.h"

namespace cairn::rpc {

Maker make_auth_enable, make_auth_disable, make_auth_status, make_authenticate;
Maker make_user_add, make_user_get, make_user_list, make_user_delete, make_user_change_password;
Maker make_user_grant_role, make_user_revoke_role;
Maker make_role_add, make_role_get, make_role_list, make_role_delete;
Maker make_role_grant_permission, make_role_revoke_permission;

}  // namespace cairn::rpc
