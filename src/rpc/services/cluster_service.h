// rpc/services/cluster_service.h: etcdserverpb.Cluster: MemberList.
#pragma once

#include "rpc/methods.h"

namespace cairn::rpc {

Maker make_member_list;

}  // namespace cairn::rpc
