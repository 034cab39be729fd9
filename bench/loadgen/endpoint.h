// loadgen/endpoint.h: whom the options ask, and how.
#pragma once

#include <memory>
#include <string>

#include "base/error.h"
#include "loadgen/options.h"
#include "net/client/client_socket.h"

namespace cairn::bench {

// "127.0.0.1:2379", "[::1]:2379"
[[nodiscard]] std::string address_of(const LoadOptions& options);

// `protocol`: that is spoken over TLS, "h2" or "http/1.1". Null without --tls.
//   errors: kInvalidArgument when --cert and --key cannot be used
[[nodiscard]] Result<std::unique_ptr<net::ClientTls>> client_tls(const LoadOptions& options,
                                                                 const std::string& protocol);

}  // namespace cairn::bench
