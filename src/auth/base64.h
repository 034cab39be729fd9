// auth/base64.h: base64 as Go's encoding/base64 writes and reads it: newlines are passed over, and the bits that the
// last character has too many are not looked at.
//
// Source:  RFC 4648; Go's StdEncoding and RawURLEncoding.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace cairn::auth {

[[nodiscard]] std::string encode_base64(std::string_view bytes);
[[nodiscard]] std::optional<std::string> decode_base64(std::string_view text);

// With '-' and '_', and without padding.
[[nodiscard]] std::string encode_base64_url(std::string_view bytes);
[[nodiscard]] std::optional<std::string> decode_base64_url(std::string_view text);

}  // namespace cairn::auth
