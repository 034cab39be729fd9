// rpc/services/maintenance_service.h: etcdserverpb.Maintenance: Status, Alarm and Defragment.
#pragma once

#include "rpc/methods.h"

namespace cairn::rpc {

Maker make_status;
Maker make_alarm;
Maker make_defragment;

}  // namespace cairn::rpc
