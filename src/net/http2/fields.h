// net/http2/fields.h: header fields as nghttp2 takes them, and the numbers of gRPC's codes as text.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include <nghttp2/nghttp2.h>

#include "base/error.h"
#include "net/stats.h"

namespace cairn::net {

inline uint8_t* field_bytes(std::string_view text) {
  return const_cast<uint8_t*>(reinterpret_cast<const uint8_t*>(text.data()));  // nghttp2 only reads them
}

// Its texts outlive the session.
inline nghttp2_nv fixed_field(std::string_view name, std::string_view value) {
  return {field_bytes(name), field_bytes(value), name.size(), value.size(),
          NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE};
}

// Is copied, and not kept in the header table.
inline nghttp2_nv own_field(std::string_view name, std::string_view value) {
  return {field_bytes(name), field_bytes(value), name.size(), value.size(), NGHTTP2_NV_FLAG_NO_INDEX};
}

inline std::string_view code_text(Code code) {
  static constexpr std::array<std::string_view, kCodeCount> kTexts = {"0", "1",  "2",  "3",  "4",  "5",  "6",  "7", "8",
                                                                      "9", "10", "11", "12", "13", "14", "15", "16"};
  return kTexts[static_cast<size_t>(code)];
}

}  // namespace cairn::net
