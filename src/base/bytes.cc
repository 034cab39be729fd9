#include "base/bytes.h"

#include <charconv>

namespace cairn {

std::string hex_id(uint64_t id) { return fmt::format("{:x}", id); }
std::string hex16(uint64_t value) { return fmt::format("{:016x}", value); }

std::string to_hex(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size() * 2);
  for (const char c : bytes) fmt::format_to(std::back_inserter(out), "{:02x}", static_cast<unsigned char>(c));
  return out;
}

Result<uint64_t> parse_hex(std::string_view text) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, 16);
  if (text.empty() || text.size() > 16 || error != std::errc{} || end != text.data() + text.size()) {
    return fail(Code::kInvalidArgument, "not a hex number: \"{}\"", text);
  }
  return value;
}

}  // namespace cairn
