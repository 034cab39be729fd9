// cluster/versions.h: what this build says of itself, to clients, to peers and on disk.
#pragma once

#include <string_view>

namespace cairn::cluster {

inline constexpr std::string_view kEtcdVersion = "3.7.1";     // the release whose surface this is
inline constexpr std::string_view kClusterVersion = "3.7.0";  // what we bring into a cluster
inline constexpr std::string_view kCairnVersion = "0.1.0";

}  // namespace cairn::cluster
