#include "metrics/identity.h"

#include <memory>
#include <set>
#include <utility>

#include "base/mutex.h"

namespace cairn::metrics {

void add_identity(Registry& registry, const Identity& identity) {
  registry.gauge("etcd_server_version", "The server's version.", {{"server_version", identity.server_version}}).set(1);
  registry.gauge("etcd_server_id", "This member's id.", {{"server_id", identity.member_id}}).set(1);
  registry
      .gauge("etcd_server_go_version", "What the server is built with.",
             {{"server_go_version", identity.runtime_version}})
      .set(1);
  for (const auto& [name, stage, is_on] : identity.features) {
    registry.gauge("etcd_server_feature_enabled", "Feature gates.", {{"name", name}, {"stage", stage}})
        .set(is_on ? 1 : 0);
  }
}

void add_cluster_version(Registry& registry, std::function<std::string()> version) {
  struct Seen {
    Mutex mutex;
    std::set<std::string> labels CAIRN_GUARDED_BY(mutex);
  };
  registry.collect("etcd_cluster_version", "The cluster's version.", Kind::kGauge,
                   [version = std::move(version), seen = std::make_shared<Seen>()] {
                     // As etcd: "3.7" of "3.7.0", and 0 for what it was before.
                     const std::string now = version();
                     const std::string current = now.substr(0, now.find('.', now.find('.') + 1));
                     const MutexLock lock(seen->mutex);
                     if (!current.empty()) seen->labels.insert(current);
                     std::vector<Sample> out;
                     for (const std::string& label : seen->labels) {
                       out.push_back({{{"cluster_version", label}}, label == current ? 1.0 : 0.0});
                     }
                     return out;
                   });
}

}  // namespace cairn::metrics
