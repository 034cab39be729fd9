// sim/cluster/membership_check.h: whom members take for the cluster's members, against the model.
//
//   - After each entry that says something of members: who is one, with which URLs, name and role, who was removed, and
//     the configuration that raft counts by.
//   - Whether a change may be proposed at all (--strict-reconfig-check, a learner that is not ready), as etcd decides
//   it.
//
// Threads: one.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "cluster/membership.h"
#include "member/stages.h"
#include "raft/types.h"
#include "sim/model.h"

namespace cairn::sim {

class MembershipCheck {
 public:
  // This entry is the model's newest.
  void note(Index index, const Model& model);
  // "" or how what a member shows differs from the model after this entry, the last one that says something of members.
  [[nodiscard]] std::string compare(Index last, const cluster::Membership& members, const raft::ConfState& conf) const;

 private:
  struct State {
    std::map<uint64_t, Model::Member> members;
    std::set<uint64_t> removed;
    std::string version;
  };
  std::map<Index, State> states_;
};

// What a proposer that sees these members has to say of a change, but for what is decided when it is applied. nullopt:
// it may be proposed. Of a promotion: this member leads.
struct Admission {
  bool is_strict = true;
  NodeId self;
  std::set<NodeId> connected{};  // to whom it is, now
  std::set<NodeId> active{};     // and has been for long enough
  std::vector<member::PeerProgress> progress{};
};
[[nodiscard]] std::optional<Error> refusal_of(const cluster::Membership& members, const cluster::MemberChange& change,
                                              const Admission& admission);

}  // namespace cairn::sim
