#include "cluster/versions.h"

#include <algorithm>
#include <charconv>

#include <fmt/format.h>

namespace cairn::cluster {
namespace {

// Cuts `text` at the first `mark`; what is behind it.
std::string_view split_off(std::string_view& text, char mark) {
  const size_t at = text.find(mark);
  if (at == std::string_view::npos) return {};
  const std::string_view rest = text.substr(at + 1);
  text = text.substr(0, at);
  return rest;
}

// Parts of letters, digits and hyphens with dots between them, or nothing at all.
bool is_identifier(std::string_view text) {
  if (text.empty()) return true;
  if (text.front() == '.' || text.back() == '.' || text.find("..") != std::string_view::npos) return false;
  return std::ranges::all_of(text, [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '-' || c == '.';
  });
}

bool read_number(std::string_view text, int64_t& out) {
  if (text.empty() || text.front() == '-') return false;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc() && end == text.data() + text.size();
}

}  // namespace

std::string MinorVersion::text() const { return fmt::format("{}.{}.0", major, minor); }
std::string MinorVersion::short_text() const { return fmt::format("{}.{}", major, minor); }

std::optional<MinorVersion> parse_version(std::string_view text) {
  const std::string_view metadata = split_off(text, '+');
  const std::string_view pre_release = split_off(text, '-');
  if (!is_identifier(metadata) || !is_identifier(pre_release)) return std::nullopt;
  const size_t first = text.find('.');
  const size_t second = first == std::string_view::npos ? first : text.find('.', first + 1);
  if (second == std::string_view::npos) return std::nullopt;
  MinorVersion version;
  int64_t patch = 0;
  if (!read_number(text.substr(0, first), version.major) ||
      !read_number(text.substr(first + 1, second - first - 1), version.minor) ||
      !read_number(text.substr(second + 1), patch)) {
    return std::nullopt;
  }
  return version;
}

std::optional<MinorVersion> parse_target_version(std::string_view text) {
  if (const auto version = parse_version(text)) return version;
  return parse_version(std::string(text) + ".0");
}

// Also "3.6", and what comes behind the minor version does not matter: it may be of an old directory.
bool at_least_3_6(std::string_view version) {
  MinorVersion found;
  const size_t first = version.find('.');
  if (first == std::string_view::npos || !read_number(version.substr(0, first), found.major)) return false;
  const std::string_view rest = version.substr(first + 1);
  if (!read_number(rest.substr(0, rest.find_first_not_of("0123456789")), found.minor)) return false;
  return found >= MinorVersion{3, 6};
}

std::string short_version(std::string_view text) {
  const auto version = parse_version(text);
  return version ? version->short_text() : std::string(text);
}

}  // namespace cairn::cluster
