// member/recovery/joining.h: what a member without data asks the others before it writes anything: whether it has been
// a member before, and who the members are of a cluster that it joins.
//
// Source: etcd 3.7.1, package etcdserver, bootstrap and cluster_util, with their texts.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "cluster/join.h"
#include "cluster/membership.h"
#include "cluster/urls.h"
#include "member/recovery/peer_probe.h"

namespace cairn::member {

struct JoinRequest {
  std::string name;
  cluster::Membership configured;  // the flags' members, with the ids that founders would have
  size_t learner_count_max = 1;
  int64_t request_timeout_ns = 7'000'000'000;
  cluster::Resolver resolve;  // may be empty: URLs are compared as texts
};

struct Joined {
  NodeId self;
  cluster::Membership members;    // with the running cluster's ids
  cluster::MinorVersion version;  // of the cluster
};

// Whether a founder has served this cluster before: then its data was lost, and it must not vote again.
//   errors: kFailedPrecondition: it has
[[nodiscard]] Status check_not_bootstrapped(const JoinRequest& request, PeerProbe& probe);

//   errors: kFailedPrecondition: nobody says who the members are, or the cluster's version, or its learners; or this
//           member has served before;
//           kInvalidArgument: the members are not those of the flags
[[nodiscard]] Result<Joined> find_cluster(const JoinRequest& request, PeerProbe& probe);

}  // namespace cairn::member
