// member/apply/membership_applier.h: members, their attributes, the configuration, and versions.
//
// Threads: the core thread's.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cluster/membership.h"
#include "member/apply/workbench.h"
#include "raft/types.h"

namespace etcdserverpb {
class InternalRaftRequest;
}  // namespace etcdserverpb

namespace cairn::member {

class MembershipApplier {
 public:
  MembershipApplier(Workbench& bench, AppliedState& state);

  // What a start has to bring into the tables: the entries of a new directory, or members found elsewhere.
  void store_first();
  void rewrite(const cluster::Membership& old);

  // Refused is an outcome: the entry is without effect then.
  //   errors: kDataLoss
  Result<ConfVerdict> apply_conf_change(const raft::Entry& entry);
  // Whoever has proposed one that is accepted gets an empty answer: the published state shows the rest.
  // False: the request is not about members or versions.
  bool apply(const etcdserverpb::InternalRaftRequest& request);
  //   errors: kDataLoss
  Status apply_v2(std::string_view bytes);

  [[nodiscard]] const std::shared_ptr<const cluster::Membership>& members() const { return members_; }
  [[nodiscard]] const raft::ConfState& conf() const { return conf_; }
  [[nodiscard]] const std::string& storage_version() const { return storage_version_; }
  [[nodiscard]] Schema schema() const { return schema_; }
  // The cluster version has fallen since the last call: the older etcd is to find a snapshot.
  [[nodiscard]] bool take_fall() { return std::exchange(has_fallen_, false); }

 private:
  void set_version(const std::string& version);
  void become_older(Schema schema);
  void set_storage_version(const std::string& version);
  void set_attributes(NodeId id, std::string name, std::vector<std::string> client_urls);
  void set_downgrade(bool enabled, const std::string& version);
  void store_member(NodeId id);
  void store_conf_state();

  Workbench& bench_;
  std::shared_ptr<const cluster::Membership> members_;
  raft::ConfState conf_;
  std::string storage_version_;
  Schema schema_;
  const bool version_is_open_;
  bool has_fallen_ = false;
};

}  // namespace cairn::member
