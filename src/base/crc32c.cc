#include "base/crc32c.h"

#include <array>

#include "base/bytes.h"

#ifdef __SSE4_2__
#include <nmmintrin.h>
#endif

namespace cairn {

#ifdef __SSE4_2__

uint32_t crc32c(uint32_t previous, std::string_view data) {
  uint64_t crc = static_cast<uint32_t>(~previous);
  const char* at = data.data();
  size_t left = data.size();
  while (left >= 8) {
    crc = _mm_crc32_u64(crc, load_le<uint64_t>(at));
    at += 8;
    left -= 8;
  }
  auto crc32 = static_cast<uint32_t>(crc);
  while (left-- > 0) crc32 = _mm_crc32_u8(crc32, static_cast<uint8_t>(*at++));
  return ~crc32;
}

#else

namespace {
constexpr std::array<uint32_t, 256> make_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82F63B78u : 0u);
    table[i] = crc;
  }
  return table;
}
constexpr auto kTable = make_table();
}  // namespace

uint32_t crc32c(uint32_t previous, std::string_view data) {
  uint32_t crc = ~previous;
  for (const char c : data) crc = kTable[(crc ^ static_cast<uint8_t>(c)) & 0xff] ^ (crc >> 8);
  return ~crc;
}

#endif

}  // namespace cairn
