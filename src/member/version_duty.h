// member/version_duty.h: the cluster version: what a leader proposes when a downgrade is enabled, cancelled or done.
//
// Once a downgrade is enabled the leader sets the cluster version to the target. The storage version follows when that
// is applied (MembershipApplier), and a snapshot is made, so that the older etcd can open the directory. A downgrade
// that is cancelled after that raises the version again. A cluster that has come to this version by a downgrade has no
// use for the job any more: the leader cancels it. etcd looks every 4 s and, for the last, every
// --downgrade-check-time; so does this, but only while there is something to do.
//
// Among other members the lowest version of them counts, and nothing is changed while one of them does not answer.
//
// compat: etcd raises any version below its own. Here found directories keep their version, so that their etcd can open
// them again; what is raised is what this process has seen being lowered, or found with the downgrade still enabled,
// and the version of a cluster in which etcd members are, whose leader would raise it, too.
//
// No clock here: each step brings its time. Threads: the core thread's; part of MemberCore.
// Source:  etcd 3.7.1, server/etcdserver/version/monitor.go.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/strong.h"
#include "cluster/membership.h"
#include "member/known_versions.h"

namespace cairn::member {

struct VersionOptions {
  int64_t look_interval_ns = 4'000'000'000;
  int64_t downgrade_check_ns = 5'000'000'000;  // 0: a downgrade that is done stays enabled
};

class VersionDuty {
 public:
  struct Scene {
    const std::shared_ptr<const cluster::Membership>& members;
    MembersVersions versions = {};
    Index applied;
    Term term;  // in which this member leads; 0: it does not
    int64_t now_ns = 0;
  };
  // Appends an entry as leader of the scene's term: its index, or nullopt when the log takes none now.
  using Propose = std::function<std::optional<Index>(std::vector<std::string> entries)>;
  using NextRequestId = std::function<uint64_t()>;

  VersionDuty(const VersionOptions& options, NextRequestId next_request_id)
      : options_(options), next_request_id_(std::move(next_request_id)) {}

  // True: something was appended.
  bool act(const Scene& scene, const Propose& propose);
  // When act() has something to do although nothing else happens.
  [[nodiscard]] std::optional<int64_t> next_ns() const { return due_ns_; }

 private:
  enum class Change : uint8_t { kNone, kSetVersion, kCancelDowngrade };
  struct Wish {
    Change change = Change::kNone;
    std::string version;
    friend bool operator==(const Wish&, const Wish&) = default;
  };

  void plan(const Scene& scene, bool is_new_term);
  [[nodiscard]] Wish wish(const cluster::Membership& members, const MembersVersions& versions);
  [[nodiscard]] Wish raise(const cluster::Membership& members, const MembersVersions& versions) const;
  [[nodiscard]] std::string entry_of(const Wish& wish, const cluster::Membership& members) const;

  const VersionOptions options_;
  const NextRequestId next_request_id_;
  bool has_seen_downgrade_ = false;
  bool is_told_ = false;                             // of a downgrade that cannot be
  Term term_;                                        // the last one that was led
  int64_t began_ns_ = 0;                             // the term: looks are counted from here
  std::shared_ptr<const cluster::Membership> seen_;  // from which the wish comes, and from these
  MembersVersions seen_versions_;
  Wish wish_;
  std::optional<int64_t> due_ns_;  // empty: nothing is wished
  Index asked_;                    // an entry on its way; 0: none
};

}  // namespace cairn::member
