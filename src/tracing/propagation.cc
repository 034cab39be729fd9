#include "tracing/propagation.h"

#include <algorithm>
#include <vector>

namespace cairn::tracing {
namespace {

constexpr size_t kMembersMax = 32;
constexpr uint8_t kFlagsKnown = SpanContext::kSampled | SpanContext::kRandom;

// What stands before the next `delimiter`, which is taken away with it.
std::string_view cut(std::string_view& text, char delimiter) {
  const size_t at = text.find(delimiter);
  const std::string_view part = text.substr(0, at);
  text = at == std::string_view::npos ? std::string_view() : text.substr(at + 1);
  return part;
}

// `digits` hexadecimal ones in lower case.
std::optional<uint64_t> hex(std::string_view text, size_t digits) {
  if (text.size() != digits) return std::nullopt;
  uint64_t value = 0;
  for (const char c : text) {
    const bool is_digit = c >= '0' && c <= '9';
    if (!is_digit && (c < 'a' || c > 'f')) return std::nullopt;
    value = value << 4 | static_cast<uint64_t>(is_digit ? c - '0' : c - 'a' + 10);
  }
  return value;
}

bool is_letter(char c) { return c >= 'a' && c <= 'z'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

bool is_key_tail(std::string_view text, size_t size_max) {
  return text.size() <= size_max && std::all_of(text.begin(), text.end(), [](char c) {
           return is_letter(c) || is_digit(c) || c == '_' || c == '-' || c == '*' || c == '/';
         });
}

bool is_key(std::string_view key) {
  const size_t at = key.find('@');
  if (at == std::string_view::npos) return !key.empty() && is_letter(key[0]) && is_key_tail(key.substr(1), 255);
  const std::string_view tenant = key.substr(0, at);
  const std::string_view system = key.substr(at + 1);
  return !tenant.empty() && (is_letter(tenant[0]) || is_digit(tenant[0])) && is_key_tail(tenant.substr(1), 240) &&
         !system.empty() && is_letter(system[0]) && is_key_tail(system.substr(1), 13);
}

bool is_value(std::string_view value) {
  return !value.empty() && value.size() <= 256 && value.back() != ' ' &&
         std::all_of(value.begin(), value.end(), [](char c) { return c >= ' ' && c <= '~' && c != ',' && c != '='; });
}

}  // namespace

std::optional<SpanContext> parse_traceparent(std::string_view text) {
  const auto version = hex(cut(text, '-'), 2);
  if (!version || *version == 0xff) return std::nullopt;
  const std::string_view trace = cut(text, '-');
  if (trace.size() != 32) return std::nullopt;
  const auto high = hex(trace.substr(0, 16), 16);
  const auto low = hex(trace.substr(16), 16);
  const auto span = hex(cut(text, '-'), 16);
  const auto flags = hex(cut(text, '-'), 2);
  if (!high || !low || !span || !flags) return std::nullopt;
  if (*version == 0 && (!text.empty() || *flags > kFlagsKnown)) return std::nullopt;
  SpanContext context{.trace = {*high, *low}, .span = *span, .flags = static_cast<uint8_t>(*flags & kFlagsKnown)};
  if (!context.valid()) return std::nullopt;
  return context;
}

std::string parse_tracestate(std::string_view text) {
  std::string out;
  std::vector<std::string_view> keys;
  while (!text.empty()) {
    std::string_view value = cut(text, ',');
    if (value.empty()) continue;
    if (value.find('=') == std::string_view::npos) return {};
    std::string_view key = cut(value, '=');
    key.remove_prefix(std::min(key.find_first_not_of(" \t"), key.size()));
    value = value.substr(0, value.find_last_not_of(" \t") + 1);
    if (!is_key(key) || !is_value(value) || std::find(keys.begin(), keys.end(), key) != keys.end()) return {};
    keys.push_back(key);
    if (keys.size() > kMembersMax) return {};
    if (!out.empty()) out += ',';
    out.append(key).append("=").append(value);
  }
  return out;
}

}  // namespace cairn::tracing
