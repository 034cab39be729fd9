// rpc/services/maintenance_service.h: etcdserverpb.Maintenance: Status and Alarm.
#pragma once

#include "rpc/methods.h"

namespace cairn::rpc {

Maker make_status;
Maker make_alarm;

}  // namespace cairn::rpc
