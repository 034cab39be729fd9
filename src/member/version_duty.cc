#include "member/version_duty.h"

#include <utility>

#include "base/log.h"
#include "cluster/versions.h"
#include "proto/raft_internal.pb.h"

namespace cairn::member {

VersionDuty::Wish VersionDuty::raise(const cluster::Membership& members, const MembersVersions& versions) const {
  const auto version = cluster::parse_version(members.version);
  const bool is_placeholder = *version == cluster::kPlaceholderVersion;
  if (!is_placeholder && !has_seen_downgrade_ && !versions.has_etcd) return {};
  const auto target = is_placeholder ? versions.initial() : std::optional(versions.lowest);
  if (!target || (!is_placeholder && !versions.are_known)) return {};
  if (target->major != version->major || *target <= *version) return {};
  return {Change::kSetVersion, target->text()};
}

// What is to be changed by an entry. Versions that are no versions are nobody's to change.
VersionDuty::Wish VersionDuty::wish(const cluster::Membership& members, const MembersVersions& versions) {
  const auto version = cluster::parse_version(members.version);
  if (!version) return {};
  if (!members.downgrade.enabled) {
    is_told_ = false;
    return raise(members, versions);
  }
  has_seen_downgrade_ = true;
  if (!versions.are_known) return {};
  const auto target = cluster::parse_version(members.downgrade.target_version);
  const bool is_done = target == versions.lowest && target == versions.highest;
  if (is_done && options_.downgrade_check_ns > 0) return {Change::kCancelDowngrade, {}};
  if (!target || *target == *version) return {};
  if (*target == version->one_lower() && *target == versions.lowest.one_lower()) {
    return {Change::kSetVersion, target->text()};
  }
  if (!std::exchange(is_told_, true)) {
    log::error("Cannot downgrade from cluster-version to downgrade-target",
               {{"downgrade-target", members.downgrade.target_version}, {"cluster-version", members.version}});
  }
  return {};
}

std::string VersionDuty::entry_of(const Wish& wish, const cluster::Membership& members) const {
  etcdserverpb::InternalRaftRequest request;
  request.mutable_header()->set_id(next_request_id_());
  if (wish.change == Change::kCancelDowngrade) {
    log::info("the cluster has been downgraded", {{"cluster-version", members.downgrade.target_version}});
    request.mutable_downgrade_info_set();
  } else {
    log::info("updating cluster version using v3 API",
              {{"from", cluster::short_version(members.version)}, {"to", cluster::short_version(wish.version)}});
    request.mutable_cluster_version_set()->set_ver(wish.version);
  }
  return request.SerializeAsString();
}

bool VersionDuty::act(const Scene& scene, const Propose& propose) {
  if (scene.term == Term{}) {
    term_ = {};
    seen_.reset();
    due_ns_.reset();
    return false;
  }
  const bool is_new = std::exchange(term_, scene.term) != scene.term;
  if (is_new) {
    began_ns_ = scene.now_ns;
    asked_ = {};
  }
  if (scene.applied < asked_) return false;
  const bool is_decided = std::exchange(asked_, {}) != Index{};
  if (is_new || is_decided || seen_ != scene.members || seen_versions_ != scene.versions) plan(scene, is_new);
  if (!due_ns_ || scene.now_ns < *due_ns_) return false;
  due_ns_ = scene.now_ns + options_.look_interval_ns;  // if the log takes nothing now
  const auto index = propose({entry_of(wish_, *scene.members)});
  if (!index) return false;
  asked_ = *index;
  due_ns_.reset();
  return true;
}

// A new leader changes the version at once. Else it does so at its next look, as the looks follow each other from the
// beginning of its term on.
void VersionDuty::plan(const Scene& scene, bool is_new_term) {
  seen_ = scene.members;
  seen_versions_ = scene.versions;
  Wish wanted = wish(*scene.members, scene.versions);
  if (wanted == wish_ && due_ns_ && !is_new_term) return;
  wish_ = std::move(wanted);
  due_ns_.reset();
  if (wish_.change == Change::kNone) return;
  const bool is_version = wish_.change == Change::kSetVersion;
  const int64_t interval_ns = is_version ? options_.look_interval_ns : options_.downgrade_check_ns;
  const int64_t looks = (scene.now_ns - began_ns_) / interval_ns;
  due_ns_ = is_version && is_new_term ? scene.now_ns : began_ns_ + (looks + 1) * interval_ns;
}

}  // namespace cairn::member
