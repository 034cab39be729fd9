// sim/history/generator.h: random histories of a correct cluster: what tests of judge() begin with.
//
// Clients run concurrently in virtual time. Each request takes effect at one moment between its call and its return, in
// the model; requests of unknown outcome take effect at any time after the call, or never. The entries are in the log,
// watches show the events.
#pragma once

#include <cstdint>

#include "sim/history/history.h"

namespace cairn::sim {

struct GeneratorOptions {
  uint64_t seed = 1;
  uint64_t clients = 4;
  uint64_t operations = 60;
  uint64_t keys = 4;
  uint64_t watches = 4;
  uint64_t unknown_one_in = 10;
  bool has_leases = true;
  bool has_compactions = true;
  // Only requests that etcd's model of linearizability knows.
  bool is_for_etcd = false;
  // Without a log: the witness is the first watch, of all keys from revision 1.
  bool has_log = true;
  // Operations and entries have ids.
  bool has_ids = true;
};

[[nodiscard]] History generate(const GeneratorOptions& options);

}  // namespace cairn::sim
