// cluster/join.h: how a member without data finds its place: what it is told to be, held against what the members that
// run already say. Values only; member/recovery/joining.h asks.
//
// Source: etcd 3.7.1, packages etcdserver and membership (ValidateClusterAndAssignIDs).
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cluster/membership.h"
#include "cluster/urls.h"
#include "cluster/versions.h"

namespace cairn::cluster {

// The peer URLs of all members but `own_name`, sorted.
[[nodiscard]] std::vector<std::string> other_peer_urls(const Membership& cluster, std::string_view own_name);

// `configured` with the ids that the running cluster has given to the members with the same peer URLs.
//   errors: kInvalidArgument, etcd's text: the members are not the same
[[nodiscard]] Result<Membership> assign_ids(const Membership& configured, const Membership& existing,
                                            const Resolver& resolve);

// As Go prints etcd's cluster: "{ClusterID:cdf818194e3a8c32 Members:[&{ID:...}] RemovedMemberIDs:[]}".
[[nodiscard]] std::string describe(const Membership& cluster);

// What a member answers to GET /version on its peer URL.
struct MemberVersions {
  NodeId member;
  std::string server;   // "3.4.23"
  std::string cluster;  // "3.4.0"; "not_decided"
};
//   errors: kDataLoss
[[nodiscard]] Result<MemberVersions> parse_member_versions(NodeId member, std::string_view json);

// The version of a cluster that this build can be a member of: at least one member knows it, and none says one that is
// too low or too high. The lowest one that is said; nullopt, which is logged as by etcd: it cannot.
[[nodiscard]] std::optional<MinorVersion> joinable_version(const std::vector<MemberVersions>& versions,
                                                           bool downgrade_enabled);

}  // namespace cairn::cluster
