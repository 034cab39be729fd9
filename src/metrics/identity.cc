#include "metrics/identity.h"

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
  registry.collect("etcd_cluster_version", "The cluster's version.", Kind::kGauge,
                   [version = std::move(version)]() -> std::vector<Sample> {
                     const std::string now = version();
                     if (now.empty()) return {};
                     // As etcd: "3.7" of "3.7.0".
                     const std::string label = now.substr(0, now.find('.', now.find('.') + 1));
                     return {Sample{{{"cluster_version", label}}, 1}};
                   });
}

}  // namespace cairn::metrics
