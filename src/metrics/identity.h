// metrics/identity.h: families that describe the process: its versions, its features, and the kernel's figures for it.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "metrics/metrics.h"

namespace cairn::metrics {

// Facts that never change, as gauges of value 1: versions, ids, feature gates.
struct Identity {
  std::string server_version;   // "3.7.1"
  std::string member_id;        // hex
  std::string runtime_version;  // in the place of Go's
  struct Feature {
    std::string name;
    std::string stage;  // "ALPHA", "BETA", ""
    bool is_on = false;
  };
  std::vector<Feature> features = {};
};
void add_identity(Registry& registry, const Identity& identity);
// etcd_cluster_version, called at each render. Empty: the family is absent.
void add_cluster_version(Registry& registry, std::function<std::string()> version);
// process_* and os_fd_*, read from /proc/self at each render.
void add_process(Registry& registry);

}  // namespace cairn::metrics
