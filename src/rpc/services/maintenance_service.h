// rpc/services/maintenance_service.h: etcdserverpb.Maintenance: Status, Alarm, HashKV, Hash, Snapshot.
#pragma once

#include <memory>
#include <string_view>

#include "net/http2/grpc.h"
#include "rpc/context.h"

namespace cairn::rpc {

// Null when there is no such method in this build.
[[nodiscard]] std::unique_ptr<net::CallHandler> make_maintenance_handler(std::string_view method, Context& context);

}  // namespace cairn::rpc
