// member/removal.h: when a member that was removed from its cluster may go.
//
// The others may still count its vote: who has not applied the removal does. If it went at once, they might never learn
// that the removal is committed: of two members the one that is left cannot find that out alone. So it stays until a
// majority of those who are left have refused to talk to it, which they do when they know, or for a minute. It takes no
// requests meanwhile: nobody would listen.
//
// compat: etcd's goes a second after it has applied its removal, but starts again as before when it is started, until
// somebody refuses to talk to it.
//
// Threads: the core thread's; part of MemberCore.
#pragma once

#include <cstdint>
#include <optional>
#include <set>

#include "base/strong.h"
#include "cluster/membership.h"

namespace cairn::member {

class Removal {
 public:
  static constexpr int64_t kPatienceNs = int64_t{60} * 1'000'000'000;

  explicit Removal(NodeId self) : self_(self) {}

  // `peer` says that this member was removed.
  void told_by(NodeId peer) { told_.insert(peer); }
  // It was removed, and knows. What one of the others knows of that is certain.
  [[nodiscard]] bool is_known(const cluster::Membership& members) const {
    return !told_.empty() || members.removed.contains(self_);
  }
  // In each step, with the members as they are applied here. True: it may go.
  [[nodiscard]] bool is_over(const cluster::Membership& members, int64_t now_ns);
  // When is_over() may turn true although nothing else happens.
  [[nodiscard]] std::optional<int64_t> next_ns() const;

 private:
  const NodeId self_;
  std::set<NodeId> told_;
  std::optional<int64_t> known_since_ns_;
  bool is_over_ = false;
};

}  // namespace cairn::member
