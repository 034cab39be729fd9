// member/announcement.h: what a member proposes at its start, so that the cluster knows it: its name and client URLs,
// and, if it leads, a new cluster's version. As etcd does it, in a form that all members read: 3.4 ends at an entry of
// the new form, and 3.6 and newer at one of the old. So in a cluster without a version a member first learns which
// versions the others run (known_versions.h).
//
// Threads: those of its owner; a value.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cluster/membership.h"
#include "cluster/versions.h"
#include "member/apply/applied_state.h"
#include "member/known_versions.h"

namespace cairn::member {

class Announcement {
 public:
  struct Options {
    std::string name;
    std::vector<std::string> client_urls;
    std::string cluster_version = std::string(cluster::kClusterVersion);  // what a new cluster gets
  };
  // As of everything that is committed.
  struct Scene {
    const cluster::Membership& members;
    NodeId self;
    Schema schema = Schema::k3_7;
    MembersVersions versions = {};
    bool leads = true;
  };

  explicit Announcement(Options options) : options_(std::move(options)) {}

  // What is to be proposed now, if anything; nothing while the last one is on its way.
  std::optional<std::string> next(const Scene& scene, uint64_t request_id);
  // This member decides what a new cluster's version is, and can.
  [[nodiscard]] static bool sets_version(const Scene& scene) { return scene.leads && scene.versions.initial(); }
  // What is on its way may be lost: next() says it again.
  void say_again();
  // The member's name and URLs are in the members.
  [[nodiscard]] bool is_known() const { return phase_ >= Phase::kVersion; }
  // Everything that was to be said is there.
  [[nodiscard]] bool is_done() const { return phase_ == Phase::kDone; }

 private:
  enum class Phase : uint8_t { kAttributes, kAttributesProposed, kVersion, kVersionProposed, kDone };
  enum class Form : uint8_t { kV2, kV3 };

  // nullopt: it is not known yet which one all members read.
  [[nodiscard]] static std::optional<Form> form(const Scene& scene);
  [[nodiscard]] std::string attributes(const Scene& scene, Form form, uint64_t request_id) const;
  [[nodiscard]] std::string version(const Scene& scene, Form form, uint64_t request_id) const;

  Options options_;
  Phase phase_ = Phase::kAttributes;
};

}  // namespace cairn::member
