// rpc/services/maintenance_service.h: etcdserverpb.Maintenance: Status, Alarm, Defragment, MoveLeader and Downgrade.
#pragma once

#include "rpc/methods.h"

namespace cairn::rpc {

Maker make_status;
Maker make_alarm;
Maker make_defragment;
Maker make_move_leader;
Maker make_downgrade;

}  // namespace cairn::rpc
