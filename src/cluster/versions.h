// cluster/versions.h: the versions that this build reports to clients and peers and writes to disk.
#pragma once

#include <string_view>

namespace cairn::cluster {

inline constexpr std::string_view kEtcdVersion = "3.7.1";     // the release whose surface this is
inline constexpr std::string_view kClusterVersion = "3.7.0";  // what we bring into a cluster
inline constexpr std::string_view kCairnVersion = "0.1.0";

}  // namespace cairn::cluster
