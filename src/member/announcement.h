// member/announcement.h: what a member proposes at its start, so that the cluster knows it: its name and client URLs,
// and, if it leads, a new cluster's version. As etcd does it, in the form that the directory's version reads.
//
// Threads: those of its owner; a value.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cluster/membership.h"
#include "cluster/versions.h"
#include "member/apply/applied_state.h"

namespace cairn::member {

class Announcement {
 public:
  struct Options {
    std::string name;
    std::vector<std::string> client_urls;
    std::string cluster_version = std::string(cluster::kClusterVersion);  // what a new cluster gets
  };

  explicit Announcement(Options options) : options_(std::move(options)) {}

  // What is to be proposed now, if anything; nothing while the last one is on its way. `members` must be the state of
  // everything that is committed. `with_version`: this member decides what a new cluster's version is.
  std::optional<std::string> next(const cluster::Membership& members, NodeId self, Schema schema, uint64_t request_id,
                                  bool with_version = true);
  // What is on its way may be lost: next() says it again.
  void say_again();
  // The member's name and URLs are in `members`.
  [[nodiscard]] bool is_known() const { return phase_ >= Phase::kVersion; }
  // Everything that was to be said is in `members`.
  [[nodiscard]] bool is_done() const { return phase_ == Phase::kDone; }

 private:
  enum class Phase : uint8_t { kAttributes, kAttributesProposed, kVersion, kVersionProposed, kDone };

  Options options_;
  Phase phase_ = Phase::kAttributes;
};

}  // namespace cairn::member
