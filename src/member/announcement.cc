#include "member/announcement.h"

#include "base/fault.h"
#include "cluster/codec.h"
#include "proto/raft_internal.pb.h"

namespace cairn::member {

std::optional<std::string> Announcement::next(const cluster::Membership& members, NodeId self, Schema schema,
                                              uint64_t request_id, bool with_version) {
  const cluster::Member* const member = members.find(self);
  if (member == nullptr) return std::nullopt;
  if (phase_ == Phase::kAttributes) CAIRN_FAULT("beforePublishing");
  if (phase_ <= Phase::kAttributesProposed) {
    if (member->name == options_.name && member->client_urls == options_.client_urls) {
      phase_ = Phase::kVersion;
    } else if (phase_ == Phase::kAttributesProposed) {
      return std::nullopt;
    } else {
      phase_ = Phase::kAttributesProposed;
      // 3.5 reads either form. A newer etcd, whose tool may have restored the directory, panics at v2 requests.
      if (schema == Schema::k3_4) {
        return cluster::encode_v2_attributes(request_id, {self, options_.name, options_.client_urls});
      }
      etcdserverpb::InternalRaftRequest request;
      request.mutable_header()->set_id(request_id);
      auto* const set = request.mutable_cluster_member_attr_set();
      set->set_member_id(self.value);
      set->mutable_member_attributes()->set_name(options_.name);
      for (const std::string& url : options_.client_urls) set->mutable_member_attributes()->add_client_urls(url);
      return request.SerializeAsString();
    }
  }
  if (!members.version.empty()) {
    phase_ = Phase::kDone;
    return std::nullopt;
  }
  if (phase_ == Phase::kVersionProposed || !with_version) return std::nullopt;
  phase_ = Phase::kVersionProposed;
  if (schema == Schema::k3_4) return cluster::encode_v2_version(request_id, "3.4.0");
  etcdserverpb::InternalRaftRequest request;
  request.mutable_header()->set_id(request_id);
  request.mutable_cluster_version_set()->set_ver(schema == Schema::k3_5 ? "3.5.0" : options_.cluster_version);
  return request.SerializeAsString();
}

void Announcement::say_again() {
  if (phase_ == Phase::kAttributesProposed) phase_ = Phase::kAttributes;
  if (phase_ == Phase::kVersionProposed) phase_ = Phase::kVersion;
}

}  // namespace cairn::member
