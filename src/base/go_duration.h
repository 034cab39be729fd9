// base/go_duration.h: durations as Go writes and reads them: "1h15m30.918s", "300ms", "1.5µs", "0s".
#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include "base/error.h"

namespace cairn {

[[nodiscard]] std::string go_duration(std::chrono::nanoseconds duration);

// errors: kInvalidArgument, Go's text: time: invalid duration "x"
[[nodiscard]] Result<std::chrono::nanoseconds> parse_go_duration(std::string_view text);

}  // namespace cairn
