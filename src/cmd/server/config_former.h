// cmd/server/config_former.h: flags of etcd 3.3 to 3.6 that 3.7 no longer has.
//
// Each is accepted with a warning that names today's flag, and has today's effect: on the command line, as a variable
// and in a configuration file. What is gone for good is accepted without effect, or refused when the member would
// otherwise not do what it is told to.
// compat: etcd 3.7 ends at such a flag with a usage error, so that an upgrade needs new scripts first.
#pragma once

#include <span>
#include <string_view>

#include "cmd/server/flag_values.h"

namespace cairn::cmd {

enum class FormerKind : uint8_t {
  kRenamed,  // `today` is a flag
  kGate,     // `today` is a feature gate
  kGone,     // without effect
  kRefused,  // refused unless empty or `today`, the value that asks for nothing
};

struct FormerFlag {
  std::string_view name;
  FormerKind kind;
  FlagType type;
  std::string_view today;
};

// Sorted by name.
[[nodiscard]] std::span<const FormerFlag> former_flags();
[[nodiscard]] const FormerFlag* find_former(std::string_view name);

}  // namespace cairn::cmd
