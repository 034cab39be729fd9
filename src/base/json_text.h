// base/json_text.h: texts as JSON strings, the way Go's encoders write them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace cairn {

enum class JsonEscape : uint8_t {
  kHtmlSafe,  // encoding/json: also <, >, & and the line ends of JavaScript as \u....
  kPlain,     // log lines: only what JSON asks for
};

// Includes the quotes. Each byte that is not UTF-8 becomes \ufffd.
void append_json_text(std::string& out, std::string_view text, JsonEscape escape = JsonEscape::kHtmlSafe);

}  // namespace cairn
