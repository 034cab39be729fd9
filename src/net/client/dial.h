// net/client/dial.h: a socket connected to an address.
#pragma once

#include <string_view>

#include "base/error.h"

namespace cairn::net {

struct DialOptions {
  bool blocking = true;          // the socket; dialling itself waits
  int receive_buffer_bytes = 0;  // SO_RCVBUF, before connecting; 0: as the kernel has it
  int timeout_ms = 0;            // to each of the host's addresses; 0: as long as the kernel tries
};

// "127.0.0.1:2379", "[::1]:2379", "localhost:2379". The caller owns the descriptor.
//   errors: kInvalidArgument for an address that is none, kUnavailable when nothing answers there, or not in time
Result<int> dial(std::string_view address, DialOptions options = {});

}  // namespace cairn::net
