#include "base/go_duration.h"

#include <cstdint>

namespace cairn {
namespace {

// `value` / 10^digits with the zeros at its end left out: 1500000, 6 -> "1.5".
std::string decimal(uint64_t value, unsigned digits) {
  uint64_t scale = 1;
  for (unsigned i = 0; i < digits; ++i) scale *= 10;
  std::string out = std::to_string(value / scale);
  std::string fraction = fmt::format("{:0{}}", value % scale, digits);
  fraction.erase(fraction.find_last_not_of('0') + 1);
  if (!fraction.empty()) out += "." + fraction;
  return out;
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// Nanoseconds of a unit, 0 when there is none of that name.
uint64_t unit_of(std::string_view name) {
  if (name == "ns") return 1;
  if (name == "us" || name == "\xc2\xb5s" || name == "\xce\xbcs") return 1'000;
  if (name == "ms") return 1'000'000;
  if (name == "s") return 1'000'000'000;
  if (name == "m") return 60'000'000'000;
  if (name == "h") return 3'600'000'000'000;
  return 0;
}

}  // namespace

std::string go_duration(std::chrono::nanoseconds duration) {
  if (duration.count() == 0) return "0s";
  const bool is_negative = duration.count() < 0;
  // The most negative value has no positive twin; unsigned arithmetic has.
  const uint64_t ns =
      is_negative ? 0 - static_cast<uint64_t>(duration.count()) : static_cast<uint64_t>(duration.count());
  std::string out = is_negative ? "-" : "";
  if (ns < 1'000) return out + std::to_string(ns) + "ns";
  if (ns < 1'000'000) return out + decimal(ns, 3) + "\xc2\xb5s";
  if (ns < 1'000'000'000) return out + decimal(ns, 6) + "ms";
  const uint64_t minutes = ns / 60'000'000'000;
  if (minutes >= 60) out += std::to_string(minutes / 60) + "h";
  if (minutes > 0) out += std::to_string(minutes % 60) + "m";
  return out + decimal(ns % 60'000'000'000, 9) + "s";
}

Result<std::chrono::nanoseconds> parse_go_duration(std::string_view text) {
  const auto invalid = [&] { return fail(Code::kInvalidArgument, "time: invalid duration \"{}\"", text); };
  constexpr uint64_t kMax = uint64_t{1} << 63;
  std::string_view rest = text;
  bool is_negative = false;
  if (!rest.empty() && (rest[0] == '-' || rest[0] == '+')) {
    is_negative = rest[0] == '-';
    rest.remove_prefix(1);
  }
  if (rest == "0") return std::chrono::nanoseconds(0);
  if (rest.empty()) return invalid();
  uint64_t total = 0;
  while (!rest.empty()) {
    uint64_t whole = 0;
    size_t digit_count = 0;
    for (; !rest.empty() && is_digit(rest[0]); rest.remove_prefix(1), ++digit_count) {
      if (whole > kMax / 10) return invalid();
      whole = whole * 10 + static_cast<uint64_t>(rest[0] - '0');
      if (whole > kMax) return invalid();
    }
    double fraction = 0;
    double scale = 1;
    if (!rest.empty() && rest[0] == '.') {
      rest.remove_prefix(1);
      for (; !rest.empty() && is_digit(rest[0]); rest.remove_prefix(1), ++digit_count) {
        fraction = fraction * 10 + (rest[0] - '0');
        scale *= 10;
      }
    }
    if (digit_count == 0) return invalid();
    size_t unit_size = 0;
    while (unit_size < rest.size() && rest[unit_size] != '.' && !is_digit(rest[unit_size])) ++unit_size;
    if (unit_size == 0) return fail(Code::kInvalidArgument, "time: missing unit in duration \"{}\"", text);
    const uint64_t unit = unit_of(rest.substr(0, unit_size));
    if (unit == 0) {
      return fail(Code::kInvalidArgument, "time: unknown unit \"{}\" in duration \"{}\"", rest.substr(0, unit_size),
                  text);
    }
    rest.remove_prefix(unit_size);
    if (whole > kMax / unit) return invalid();
    whole = whole * unit + static_cast<uint64_t>(fraction * (static_cast<double>(unit) / scale));
    if (whole > kMax || total + whole > kMax) return invalid();
    total += whole;
  }
  if (is_negative) return std::chrono::nanoseconds(static_cast<int64_t>(0 - total));
  if (total == kMax) return invalid();
  return std::chrono::nanoseconds(static_cast<int64_t>(total));
}

}  // namespace cairn
