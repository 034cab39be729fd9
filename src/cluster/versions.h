// cluster/versions.h: the versions that this build reports to clients and peers and writes to disk, and versions in
// general: "3.7.0" as clusters and storages have them, which change with the minor version only.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace cairn::cluster {

inline constexpr std::string_view kEtcdVersion = "3.7.1";     // the release whose surface this is
inline constexpr std::string_view kClusterVersion = "3.7.0";  // what we bring into a cluster
inline constexpr std::string_view kCairnVersion = "0.1.0";

// A version without its patch.
struct MinorVersion {
  int64_t major = 0;
  int64_t minor = 0;

  [[nodiscard]] std::string text() const;        // "3.7.0"
  [[nodiscard]] std::string short_text() const;  // "3.7"
  [[nodiscard]] MinorVersion one_lower() const { return {major, minor - 1}; }
  friend auto operator<=>(const MinorVersion&, const MinorVersion&) = default;
};

inline constexpr MinorVersion kOwnVersion{3, 7};
// What an etcd leader sets that cannot ask all others yet: no version either.
inline constexpr MinorVersion kPlaceholderVersion{3, 0};

// "3.7.1", "3.7.0-rc.1+build"; read as etcd's semver library does. nullopt: it is none.
[[nodiscard]] std::optional<MinorVersion> parse_version(std::string_view text);
// The same, or "3.7": what a client may name as the target of a downgrade.
[[nodiscard]] std::optional<MinorVersion> parse_target_version(std::string_view text);
// "3.7" of "3.7.0". What is no version stays as it is.
[[nodiscard]] std::string short_version(std::string_view text);
// "3.6.0" and newer, "3.10" too: etcd from this one on keeps membership in the db, and reads no v2 requests.
[[nodiscard]] bool at_least_3_6(std::string_view version);

}  // namespace cairn::cluster
