#include "base/json_text.h"

#include <algorithm>

#include <fmt/format.h>

namespace cairn {
namespace {

constexpr std::string_view kReplacement = "\\ufffd";

// The length of the UTF-8 sequence at `at`, 0 when it is none (overlong, surrogate, beyond U+10FFFF or cut).
size_t utf8_size(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[at + i]); };
  const auto tail = [&](size_t i, unsigned low, unsigned high) {
    return at + i < text.size() && byte(i) >= low && byte(i) <= high;
  };
  const unsigned first = byte(0);
  if (first < 0x80) return 1;
  if (first >= 0xc2 && first <= 0xdf) return tail(1, 0x80, 0xbf) ? 2 : 0;
  if (first >= 0xe0 && first <= 0xef) {
    const unsigned low = first == 0xe0 ? 0xa0 : 0x80;
    const unsigned high = first == 0xed ? 0x9f : 0xbf;
    return tail(1, low, high) && tail(2, 0x80, 0xbf) ? 3 : 0;
  }
  if (first >= 0xf0 && first <= 0xf4) {
    const unsigned low = first == 0xf0 ? 0x90 : 0x80;
    const unsigned high = first == 0xf4 ? 0x8f : 0xbf;
    return tail(1, low, high) && tail(2, 0x80, 0xbf) && tail(3, 0x80, 0xbf) ? 4 : 0;
  }
  return 0;
}

void append_ascii(std::string& out, char c, JsonEscape escape) {
  switch (c) {
    case '"': out += "\\\""; return;
    case '\\': out += "\\\\"; return;
    case '\n': out += "\\n"; return;
    case '\r': out += "\\r"; return;
    case '\t': out += "\\t"; return;
    case '\b': out += "\\b"; return;
    case '\f': out += "\\f"; return;
    default: break;
  }
  const bool is_markup = escape == JsonEscape::kHtmlSafe && (c == '<' || c == '>' || c == '&');
  if (static_cast<unsigned char>(c) < 0x20 || is_markup) {
    fmt::format_to(std::back_inserter(out), "\\u{:04x}", static_cast<unsigned>(c));
  } else {
    out += c;
  }
}

}  // namespace

void append_json_text(std::string& out, std::string_view text, JsonEscape escape) {
  out += '"';
  for (size_t at = 0; at < text.size();) {
    const size_t size = utf8_size(text, at);
    const std::string_view rune = text.substr(at, size);
    const bool is_line_end = rune == "\xe2\x80\xa8" || rune == "\xe2\x80\xa9";
    if (size == 0) {
      out += kReplacement;
    } else if (size == 1) {
      append_ascii(out, text[at], escape);
    } else if (is_line_end && escape == JsonEscape::kHtmlSafe) {
      out += rune.back() == '\xa8' ? "\\u2028" : "\\u2029";
    } else {
      out += rune;
    }
    at += std::max<size_t>(size, 1);
  }
  out += '"';
}

}  // namespace cairn
