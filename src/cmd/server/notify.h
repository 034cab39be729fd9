// cmd/server/notify.h: tells the init system (systemd, Type=notify) how far the process is.
#pragma once

#include <string_view>

#include "base/error.h"

namespace cairn::cmd {

// Sends `state`, such as "READY=1", to `socket`, the value of NOTIFY_SOCKET: a path, or an abstract name behind an '@'.
// Without one (null or empty) nothing is to be done.
[[nodiscard]] Status notify_init(const char* socket, std::string_view state);

}  // namespace cairn::cmd
