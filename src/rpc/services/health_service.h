// rpc/services/health_service.h: grpc.health.v1.Health: Check, List, Watch.
#pragma once

#include "rpc/methods.h"

namespace cairn::rpc {

Maker make_health_check;
Maker make_health_list;
Maker make_health_watch;

}  // namespace cairn::rpc
