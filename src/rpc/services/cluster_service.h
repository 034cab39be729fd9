// rpc/services/cluster_service.h: etcdserverpb.Cluster: who belongs to it, and changes of that.
#pragma once

#include "rpc/methods.h"

namespace cairn::rpc {

Maker make_member_list;
Maker make_member_add;
Maker make_member_remove;
Maker make_member_update;
Maker make_member_promote;

}  // namespace cairn::rpc
