#include "base/json_text.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/utf8.h"

namespace cairn {
namespace {

constexpr std::string_view kReplacement = "\\ufffd";

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
    const size_t size = utf8_size(text.substr(at));
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
