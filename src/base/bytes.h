// base/bytes.h: integers to and from bytes at any alignment, and a reader that checks its bounds.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "base/error.h"

namespace cairn {

static_assert(std::endian::native == std::endian::little, "the file formats are little-endian, as is every target");

template <class Int>
[[nodiscard]] inline Int load_le(const void* from) {
  Int value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

template <class Int>
inline void store_le(void* to, Int value) {
  std::memcpy(to, &value, sizeof value);
}

[[nodiscard]] inline uint64_t load_be64(const void* from) { return __builtin_bswap64(load_le<uint64_t>(from)); }
inline void store_be64(void* to, uint64_t value) { store_le(to, __builtin_bswap64(value)); }
[[nodiscard]] inline uint32_t load_be32(const void* from) { return __builtin_bswap32(load_le<uint32_t>(from)); }
inline void store_be32(void* to, uint32_t value) { store_le(to, __builtin_bswap32(value)); }

// Lower-case hex of an id, without padding: how etcd writes ids in texts, file content and headers.
[[nodiscard]] std::string hex_id(uint64_t id);
// 16 digits, as in the names of WAL and snapshot files.
[[nodiscard]] std::string hex16(uint64_t value);
[[nodiscard]] std::string to_hex(std::string_view bytes);
// errors: kInvalidArgument when `text` is empty, longer than 16 digits or not hex
[[nodiscard]] Result<uint64_t> parse_hex(std::string_view text);

}  // namespace cairn
