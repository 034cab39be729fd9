// sim/history/effects.h: what a request changes when it is applied to the state of a revision.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "proto/raft_internal.pb.h"
#include "sim/model.h"

namespace cairn::sim {

struct Change {
  bool dead = false;
  std::string key;
  std::string value;  // of a put, as is the lease
  int64_t lease = 0;
  friend bool operator==(const Change&, const Change&) = default;
};

// In the order of the events. Leases that a put names are taken to exist.
[[nodiscard]] std::vector<Change> effects_of(const Model& model, const etcdserverpb::InternalRaftRequest& request,
                                             int64_t revision);
// The keys of a lease at `revision`.
[[nodiscard]] std::vector<std::string> keys_of_lease(const Model& model, int64_t lease, int64_t revision);

}  // namespace cairn::sim
