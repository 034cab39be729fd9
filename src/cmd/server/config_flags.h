// cmd/server/config_flags.h: the table of flags: all that is known of each is its row.
//
// From the row follow the command line, ETCD_* variables, --help, the lists of docs/compatibility.md (a test compares),
// the field of Config and the log line "starting an etcd server".
#pragma once

#include <span>
#include <string_view>

#include "cmd/server/config_field.h"
#include "cmd/server/flag_values.h"

namespace cairn::cmd {

struct FlagSpec {
  std::string_view name;
  FlagType type;
  FlagClass kind;
  std::string_view default_text;
  std::string_view help;
  Binding binding = {};
};

// Sorted by name.
[[nodiscard]] std::span<const FlagSpec> all_flags();
[[nodiscard]] const FlagSpec* find_flag(std::string_view name);

}  // namespace cairn::cmd
