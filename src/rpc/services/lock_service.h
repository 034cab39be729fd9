// rpc/services/lock_service.h: v3lockpb.Lock: Lock, Unlock.
#pragma once

#include "rpc/methods.h"

namespace cairn::rpc {

Maker make_lock;
Maker make_unlock;

}  // namespace cairn::rpc
