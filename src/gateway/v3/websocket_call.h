// gateway/v3/websocket_call.h: a call in JSON over a WebSocket, as etcd's grpc-websocket-proxy has it: the payloads of
// the client's messages are the body of a POST, and each line of the answer is a message.
//
// The token is in the subprotocols ("Bearer, <token>") or in the cookie "token". There are no pings of our own, the
// client's are answered. When the call has ended the connection is closed.
//
// Threads: one loop.
// Source:  github.com/tmc/grpc-websocket-proxy, as etcd 3.7.1 sets it up.
#pragma once

#include <cstdint>
#include <memory>

#include "gateway/v3/paths.h"
#include "net/http.h"
#include "net/http2/grpc.h"

namespace cairn::gateway::v3 {

// As HttpHandler::begin(), for a request with is_websocket_upgrade() and without websocket_refusal(). `method`: null:
// there is none under the path, which the client is told in a message.
[[nodiscard]] std::unique_ptr<net::ExchangeHandler> begin_websocket(net::Exchange& exchange, const Method* method,
                                                                    net::Router& router, uint64_t message_bytes_max);

}  // namespace cairn::gateway::v3
