// base/humane_bytes.h: a number of bytes as etcd's log has it.
#pragma once

#include <cstdint>
#include <string>

namespace cairn {

// "2.1 GB": a digit behind the point below ten, powers of 1000.
[[nodiscard]] std::string humane_bytes(uint64_t bytes);

}  // namespace cairn
