// rpc/services/kv_service.h: etcdserverpb.KV: Range, RangeStream, Put, DeleteRange, Txn, Compact.
#pragma once

#include <memory>
#include <string_view>

#include "net/http2/grpc.h"
#include "rpc/context.h"

namespace cairn::rpc {

// Null when there is no such method.
[[nodiscard]] std::unique_ptr<net::CallHandler> make_kv_handler(std::string_view method, Context& context);

// The header of an answer at `revision`.
[[nodiscard]] mvcc::HeaderValues response_header(const member::Published& state, const member::Node& node,
                                                 int64_t revision);

}  // namespace cairn::rpc
