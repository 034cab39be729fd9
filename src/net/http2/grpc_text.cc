#include "net/http2/grpc_text.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <limits>

#include "base/utf8.h"

namespace cairn::net {
namespace {

constexpr std::string_view kHexUpper = "0123456789ABCDEF";
constexpr std::string_view kHexLower = "0123456789abcdef";

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

bool passes_unencoded(unsigned char c) { return c >= ' ' && c <= '~' && c != '%'; }

}  // namespace

std::string percent_encode(std::string_view text, size_t bytes_max) {
  std::string out;
  out.reserve(std::min(text.size(), bytes_max));
  while (!text.empty()) {
    const auto c = static_cast<unsigned char>(text.front());
    if (passes_unencoded(c)) {
      if (out.size() == bytes_max) break;
      out.push_back(text.front());
      text.remove_prefix(1);
      continue;
    }
    const size_t length = utf8_size(text);
    const std::string_view bytes = length == 0 ? std::string_view("\xEF\xBF\xBD") : text.substr(0, length);
    if (bytes_max - out.size() < 3 * bytes.size()) break;
    for (const char byte : bytes) {
      const auto b = static_cast<unsigned char>(byte);
      out.push_back('%');
      out.push_back(kHexUpper[b >> 4]);
      out.push_back(kHexUpper[b & 15]);
    }
    text.remove_prefix(std::max<size_t>(length, 1));
  }
  return out;
}

std::string percent_decode(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size()) {
      const int high = hex_value(text[i + 1]);
      const int low = hex_value(text[i + 2]);
      if (high >= 0 && low >= 0) {
        out.push_back(static_cast<char>(high * 16 + low));
        i += 2;
        continue;
      }
    }
    out.push_back(text[i]);
  }
  return out;
}

Result<int64_t> parse_timeout(std::string_view text) {
  constexpr std::string_view kFailure = "malformed grpc-timeout: transport: timeout";
  if (text.size() < 2) return fail(Code::kInternal, "{} string is too short: {}", kFailure, quoted(text));
  if (text.size() > 9) return fail(Code::kInternal, "{} string is too long: {}", kFailure, quoted(text));
  int64_t unit_ns = 0;
  switch (text.back()) {
    case 'H': unit_ns = 3'600'000'000'000; break;
    case 'M': unit_ns = 60'000'000'000; break;
    case 'S': unit_ns = 1'000'000'000; break;
    case 'm': unit_ns = 1'000'000; break;
    case 'u': unit_ns = 1'000; break;
    case 'n': unit_ns = 1; break;
    default: return fail(Code::kInternal, "{} unit is not recognized: {}", kFailure, quoted(text));
  }
  const std::string_view digits = text.substr(0, text.size() - 1);
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error != std::errc() || end != digits.data() + digits.size()) {
    return fail(Code::kInternal, "malformed grpc-timeout: strconv.ParseUint: parsing {}: invalid syntax",
                quoted(digits));
  }
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  if (value > static_cast<uint64_t>(kMax / unit_ns)) return kMax;
  return static_cast<int64_t>(value) * unit_ns;
}

Result<MethodName> parse_path(std::string_view path) {
  const size_t slash = path.rfind('/');
  if (path.empty() || path.front() != '/' || slash == 0) {
    return fail(Code::kUnimplemented, "malformed method name: {}", quoted(path));
  }
  return MethodName{.service = path.substr(1, slash - 1), .method = path.substr(slash + 1)};
}

std::optional<std::string_view> grpc_content_subtype(std::string_view value) {
  constexpr std::string_view kBase = "application/grpc";
  if (!value.starts_with(kBase)) return std::nullopt;
  value.remove_prefix(kBase.size());
  if (value.empty()) return value;
  if (value.front() != '+' && value.front() != ';') return std::nullopt;
  return value.substr(1);
}

std::optional<size_t> base64_fault(std::string_view text) {
  const auto is_digit = [](char c) {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '+' || c == '/';
  };
  const bool padded = text.size() % 4 == 0;
  size_t digits = 0;
  while (digits < text.size() && is_digit(text[digits])) ++digits;
  if (digits == text.size()) return digits % 4 == 1 ? std::optional(digits - 1) : std::nullopt;
  if (!padded || text[digits] != '=' || digits % 4 < 2) return digits;
  if (digits % 4 == 3) return digits + 1 == text.size() ? std::nullopt : std::optional(digits + 1);
  if (text[digits + 1] != '=') return digits;
  return digits + 2 == text.size() ? std::nullopt : std::optional(digits + 2);
}

std::string quoted(std::string_view text) {
  std::string out = "\"";
  while (!text.empty()) {
    const char c = text.front();
    const size_t length = utf8_size(text);
    if (c == '"' || c == '\\') {
      out.push_back('\\');
      out.push_back(c);
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\t') {
      out += "\\t";
    } else if (length == 0 || (length == 1 && (c < ' ' || c > '~'))) {
      const auto b = static_cast<unsigned char>(c);
      out += "\\x";
      out.push_back(kHexLower[b >> 4]);
      out.push_back(kHexLower[b & 15]);
    } else {
      out.append(text.substr(0, length));
    }
    text.remove_prefix(std::max<size_t>(length, 1));
  }
  out.push_back('"');
  return out;
}

}  // namespace cairn::net
