// cmd/server/flag_values.h: values of flags as Go's flag package reads them, and the table of feature gates.
//
// Why not a library: Go takes -x and --x alike, booleans only as --b or --b=v, stops at the first positional argument,
// and reads integers in any base; CLI11 can be bent to none of these, and the messages are part of the surface.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/error.h"

namespace cairn::cmd {

enum class FlagType : uint8_t {
  kBool,
  kInt,   // 64 bits, as on every target
  kUint,  // likewise
  kUint32,
  kDuration,
  kText,
  kUrls,         // comma separated, sorted
  kUrlsOrStar,   // likewise, or "*"
  kSet,          // comma separated texts, sorted, each once
  kState,        // new, existing
  kFallback,     // exit, proxy
  kDeprecation,  // stages of the v2 store's end
  kGates,        // Name=bool,...
  kAnything,     // of no effect for years; takes a value only after '='
};

enum class FlagClass : uint8_t {
  kSupported,
  kChecked,   // its value is checked; there is nothing for it to say here yet
  kComfort,   // accepted, named once in the log
  kProtects,  // refuses the start unless at its default
  kIgnored,   // of no effect in etcd either
};

// A feature gate: supported, or of one of the two classes of what is not built.
struct GateSpec {
  std::string_view name;
  bool is_on;  // by default
  std::string_view stage;
  FlagClass kind;
};
[[nodiscard]] std::span<const GateSpec> all_gates();

// `text` in the one form that equal values share: "0x10" and "16" both give "16".
//   errors: kInvalidArgument, Go's text
[[nodiscard]] Result<std::string> canonical_value(FlagType type, std::string_view text);

// The value of `gate` in a canonical kGates text.
[[nodiscard]] bool gate_is_on(std::string_view gates, std::string_view gate);

// Go's %q for what command lines hold.
[[nodiscard]] std::string quoted(std::string_view text);

}  // namespace cairn::cmd
