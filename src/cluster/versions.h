// cluster/versions.h: the versions that this build reports to clients and peers and writes to disk.
#pragma once

#include <charconv>
#include <string_view>
#include <utility>

namespace cairn::cluster {

inline constexpr std::string_view kEtcdVersion = "3.7.1";     // the release whose surface this is
inline constexpr std::string_view kClusterVersion = "3.7.0";  // what we bring into a cluster
inline constexpr std::string_view kCairnVersion = "0.1.0";

// "3.6.0" and newer, "3.10" too: etcd from this one on keeps membership in the db, and reads no v2 requests.
[[nodiscard]] inline bool at_least_3_6(std::string_view version) {
  int parts[2] = {};
  const char* at = version.data();
  const char* const end = at + version.size();
  for (int& part : parts) {
    const auto [rest, error] = std::from_chars(at, end, part);
    if (error != std::errc()) return false;
    at = rest + (rest != end);
  }
  return std::pair(parts[0], parts[1]) >= std::pair(3, 6);
}

}  // namespace cairn::cluster
