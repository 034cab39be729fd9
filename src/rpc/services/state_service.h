// rpc/services/state_service.h: the methods of etcdserverpb.Maintenance that go through the whole state: HashKV, Hash,
// Snapshot.
//
// The background worker does their work, a slice of each call in turn, so that none holds up the others or an io
// thread. A call that has ended is not worked for any more.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include <google/protobuf/message_lite.h>

#include "mvcc/kv/txn.h"
#include "net/http2/grpc.h"
#include "rpc/context.h"

namespace cairn::rpc {

// Null when it is none of them.
[[nodiscard]] std::unique_ptr<net::CallHandler> make_state_handler(std::string_view method, Context& context);

// An answer: the header, and `message` without one.
[[nodiscard]] std::string with_header(const mvcc::HeaderValues& header, const google::protobuf::MessageLite& message);

}  // namespace cairn::rpc
