#include "base/humane_bytes.h"

#include <cmath>
#include <iterator>
#include <string_view>

#include <fmt/format.h>

namespace cairn {

std::string humane_bytes(uint64_t bytes) {
  static constexpr std::string_view kUnits[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
  auto value = static_cast<double>(bytes);
  size_t unit = 0;
  for (; value >= 1000 && unit + 1 < std::size(kUnits); ++unit) value /= 1000;
  value = std::floor(value * 10 + 0.5) / 10;
  return fmt::format("{:.{}f} {}", value, unit > 0 && value < 10 ? 1 : 0, kUnits[unit]);
}

}  // namespace cairn
