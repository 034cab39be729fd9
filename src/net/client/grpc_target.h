// net/client/grpc_target.h: an address as gRPC writes it, and a socket connected to it.
//
//     localhost:4317   10.0.0.1   [::1]:4317   dns:///localhost:4317   passthrough:///localhost:4317
//     unix:relative/path   unix:///absolute/path
//
// Source: the gRPC name resolution description; the port defaults to 443 there.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"
#include "net/client/patience.h"

namespace cairn::net {

struct GrpcTarget {
  std::string host;       // "": `unix_path` is meant
  std::string port;       // digits or a service's name
  std::string unix_path;  // "": `host` is meant
  std::string authority;  // what calls name
};
//   errors: kInvalidArgument for a text that is no such address
Result<GrpcTarget> parse_grpc_target(std::string_view text);

// A non-blocking socket, connected. The caller owns it. Looking up a name may take longer than the patience lasts.
//   errors: kUnavailable
Result<int> connect_to(const GrpcTarget& target, Patience& patience, int64_t deadline_ns);

}  // namespace cairn::net
