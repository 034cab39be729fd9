// base/crc32c.h: CRC-32C (Castagnoli), chainable: crc32c(crc32c(0, a), b) == crc32c(0, a + b).
#pragma once

#include <cstdint>
#include <string_view>

namespace cairn {

[[nodiscard]] uint32_t crc32c(uint32_t previous, std::string_view data);

}  // namespace cairn
