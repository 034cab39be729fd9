// rpc/services/lease_service.h: etcdserverpb.Lease.
#pragma once

#include "rpc/methods.h"

namespace cairn::rpc {

Maker make_lease_grant;
Maker make_lease_revoke;
Maker make_lease_keep_alive;
Maker make_lease_time_to_live;
Maker make_lease_leases;

}  // namespace cairn::rpc
