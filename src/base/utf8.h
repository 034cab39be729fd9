// base/utf8.h: whether bytes are UTF-8, as Go's unicode/utf8 has it.
#pragma once

#include <cstddef>
#include <string_view>

namespace cairn {

// The length in bytes of the sequence at the front of `text`, which is not empty. 0: there is none (overlong, a
// surrogate, beyond U+10FFFF, or cut).
[[nodiscard]] size_t utf8_size(std::string_view text);

[[nodiscard]] bool is_utf8(std::string_view text);

}  // namespace cairn
