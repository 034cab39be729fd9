#include "member/announcement.h"

#include "base/fault.h"
#include "cluster/codec.h"
#include "proto/raft_internal.pb.h"

namespace cairn::member {

std::optional<Announcement::Form> Announcement::form(const Scene& scene) {
  constexpr cluster::MinorVersion kReadsV3{3, 5};
  const auto version = cluster::parse_version(scene.members.version);
  const bool is_decided = version && *version != cluster::kPlaceholderVersion;
  // What etcd 3.4 has written is no older than its cluster; 3.5 reads either form.
  if (is_decided || scene.schema == Schema::k3_4) return scene.schema == Schema::k3_4 ? Form::kV2 : Form::kV3;
  if (!scene.versions.are_known && !scene.versions.has_asked) return std::nullopt;
  // Who does not answer is taken for one like the others.
  return scene.versions.lowest < kReadsV3 ? Form::kV2 : Form::kV3;
}

std::string Announcement::attributes(const Scene& scene, Form form, uint64_t request_id) const {
  if (form == Form::kV2) {
    return cluster::encode_v2_attributes(request_id, {scene.self, options_.name, options_.client_urls});
  }
  etcdserverpb::InternalRaftRequest request;
  request.mutable_header()->set_id(request_id);
  auto* const set = request.mutable_cluster_member_attr_set();
  set->set_member_id(scene.self.value);
  set->mutable_member_attributes()->set_name(options_.name);
  for (const std::string& url : options_.client_urls) set->mutable_member_attributes()->add_client_urls(url);
  return request.SerializeAsString();
}

std::string Announcement::version(const Scene& scene, Form form, uint64_t request_id) const {
  std::string version = options_.cluster_version;
  if (scene.schema == Schema::k3_5) version = "3.5.0";
  if (scene.schema == Schema::k3_4) version = "3.4.0";
  const auto wanted = cluster::parse_version(version);
  if (wanted && scene.versions.lowest < *wanted) version = scene.versions.lowest.text();
  if (form == Form::kV2) return cluster::encode_v2_version(request_id, version);
  etcdserverpb::InternalRaftRequest request;
  request.mutable_header()->set_id(request_id);
  request.mutable_cluster_version_set()->set_ver(version);
  return request.SerializeAsString();
}

std::optional<std::string> Announcement::next(const Scene& scene, uint64_t request_id) {
  const cluster::Member* const member = scene.members.find(scene.self);
  if (member == nullptr) return std::nullopt;
  if (phase_ == Phase::kAttributes) CAIRN_FAULT("beforePublishing");
  const auto reads = form(scene);
  if (phase_ <= Phase::kAttributesProposed) {
    if (member->name == options_.name && member->client_urls == options_.client_urls) {
      phase_ = Phase::kVersion;
    } else if (phase_ == Phase::kAttributesProposed || !reads) {
      return std::nullopt;
    } else {
      phase_ = Phase::kAttributesProposed;
      return attributes(scene, *reads, request_id);
    }
  }
  if (!scene.members.version.empty()) {
    phase_ = Phase::kDone;
    return std::nullopt;
  }
  if (phase_ == Phase::kVersionProposed || !reads || !sets_version(scene)) return std::nullopt;
  phase_ = Phase::kVersionProposed;
  return version(scene, *reads, request_id);
}

void Announcement::say_again() {
  if (phase_ == Phase::kAttributesProposed) phase_ = Phase::kAttributes;
  if (phase_ == Phase::kVersionProposed) phase_ = Phase::kVersion;
}

}  // namespace cairn::member
