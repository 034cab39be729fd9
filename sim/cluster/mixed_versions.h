// sim/cluster/mixed_versions.h: lives of clusters in which not all members are of this version.
//
// In one life in eight two or more founders are of an etcd's version of 3.4 to 3.6, as far as others can tell: they say
// so when they are asked, and speak no dialect but etcd's. So the cluster gets an older version, and all members write
// their tables and entries as that one would. At a later start of its process such a member may be of this version.
//
// Threads: one.
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <optional>

#include "base/random.h"
#include "base/strong.h"
#include "cluster/versions.h"
#include "member/stages.h"
#include "sim/coverage.h"
#include "sim/member.h"

namespace cairn::sim {

class MixedVersions {
 public:
  explicit MixedVersions(Coverage& coverage) : coverage_(coverage) {}

  // The options of all members, before the first of them is made.
  void choose(Random chance, size_t founders, MemberOptions& options);
  // Its process starts, not for the first time.
  void note_restart(size_t place);

  [[nodiscard]] cluster::MinorVersion version_of(size_t place) const;
  [[nodiscard]] bool is_etcd(size_t place) const { return older_.contains(place); }
  // What the members answer: `place_of` says where one is that can be reached.
  [[nodiscard]] member::VersionReport report(const member::VersionQuestion& question,
                                             const std::function<std::optional<size_t>(NodeId)>& place_of) const;

 private:
  Coverage& coverage_;
  Random chance_{0};
  std::map<size_t, cluster::MinorVersion> older_;  // by place
};

}  // namespace cairn::sim
