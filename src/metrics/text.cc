#include "metrics/text.h"

#include <array>
#include <charconv>
#include <cmath>
#include <utility>

namespace cairn::metrics {
namespace {

constexpr int kExponentMin = -4;
constexpr int kExponentLimit = 6;

void append_escaped(std::string& out, std::string_view text, bool quotes) {
  for (const char c : text) {
    if (c == '\n') {
      out += "\\n";
    } else if (c == '\\' || (c == '"' && quotes)) {
      out += '\\';
      out += c;
    } else {
      out += c;
    }
  }
}

void append_label(std::string& out, std::string_view name, std::string_view value) {
  out += name;
  out += "=\"";
  append_escaped(out, value, true);
  out += '"';
}

}  // namespace

std::string number_text(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "+Inf" : "-Inf";
  std::array<char, 64> digits;
  const auto write = [&](std::chars_format format) {
    const auto written = std::to_chars(digits.data(), digits.data() + digits.size(), value, format);
    return std::string_view(digits.data(), written.ptr);
  };
  const std::string_view scientific = write(std::chars_format::scientific);
  const size_t mark = scientific.find('e');
  int exponent = 0;
  const size_t sign = scientific[mark + 1] == '+' ? 1 : 0;  // from_chars() reads a minus only
  std::from_chars(scientific.data() + mark + 1 + sign, scientific.data() + scientific.size(), exponent);
  const bool is_plain = exponent >= kExponentMin && exponent < kExponentLimit;
  return std::string(is_plain ? write(std::chars_format::fixed) : scientific);
}

void append_head(std::string& out, std::string_view name, std::string_view help, std::string_view type) {
  out.append("# HELP ").append(name).append(" ");
  append_escaped(out, help, false);
  out.append("\n# TYPE ").append(name).append(" ").append(type).append("\n");
}

void append_sample(std::string& out, std::string_view name, const Labels& labels, std::optional<double> bound,
                   double value) {
  out += name;
  char before = '{';
  for (const auto& [label, text] : labels) {
    out += std::exchange(before, ',');
    append_label(out, label, text);
  }
  if (bound) {
    out += std::exchange(before, ',');
    append_label(out, "le", number_text(*bound));
  }
  if (before == ',') out += '}';
  out.append(" ").append(number_text(value)).append("\n");
}

}  // namespace cairn::metrics
