#include "member/known_versions.h"

#include <algorithm>

namespace cairn::member {
namespace {

bool is_of_use(const KnownVersions::Scene& scene) {
  const auto version = cluster::parse_version(scene.members->version);
  if (!version || *version == cluster::kPlaceholderVersion) return true;
  return scene.leads && (*version < cluster::kOwnVersion || scene.members->downgrade.enabled);
}

}  // namespace

std::optional<VersionQuestion> KnownVersions::ask(const Scene& scene) {
  const bool is_new = asked_ != scene.members || asked_term_ != scene.term || asked_as_leader_ != scene.leads;
  if (!is_new && scene.now_ns - asked_ns_ < kIntervalNs) return std::nullopt;
  asked_ = scene.members;
  asked_term_ = scene.term;
  asked_as_leader_ = scene.leads;
  asked_ns_ = scene.now_ns;
  if (!is_of_use(scene)) return std::nullopt;
  VersionQuestion out{.term = scene.term, .members = {}};
  for (const auto& [id, member] : scene.members->members) {
    if (id != scene.self) out.members.push_back(id);
  }
  return out.members.empty() ? std::nullopt : std::optional(std::move(out));
}

MembersVersions KnownVersions::of(const cluster::Membership& members, NodeId self,
                                  const std::function<bool(NodeId)>& speaks_cairn) const {
  MembersVersions out{.has_asked = report_.has_value(), .report = count_};
  for (const auto& [id, member] : members.members) {
    if (id == self) continue;
    bool is_cairn = speaks_cairn(id);
    std::optional<cluster::MinorVersion> version;
    if (report_) {
      const auto said = std::ranges::find(report_->others, id, &VersionReport::One::member);
      if (said != report_->others.end()) {
        version = said->server;
        is_cairn = is_cairn || said->is_cairn;  // its streams may not be there yet
      }
    }
    if (!is_cairn && version) out.has_etcd = true;
    if (is_cairn && !version) version = cluster::kOwnVersion;
    if (!version) {
      out.are_known = false;
      continue;
    }
    out.lowest = std::min(out.lowest, *version);
    out.highest = std::max(out.highest, *version);
  }
  return out;
}

}  // namespace cairn::member
