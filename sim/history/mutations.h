// sim/history/mutations.h: lies. Each makes a history that no correct cluster can give out of one that it can; tests
// demand that judge() finds them all.
#pragma once

#include <span>
#include <string_view>

#include "base/random.h"
#include "sim/history/history.h"

namespace cairn::sim {

struct Mutation {
  std::string_view name;
  // False: the history has no place for it, and is unchanged.
  bool (*apply)(History& history, Random& chance);
  bool needs_log;         // it is a lie about the log
  bool is_in_watch;       // it is a lie of a watch, which etcd's validate looks at only after all else
  bool is_known_to_etcd;  // etcd's validate can see it
};

[[nodiscard]] std::span<const Mutation> mutations();

}  // namespace cairn::sim
