#include "sim/cluster/mixed_versions.h"

#include <gtest/gtest.h>

#include "base/log.h"
#include "sim/cluster/cluster_life.h"

namespace cairn::sim {
namespace {

constexpr size_t kFounders = 3;

// The first life of its kind, from a seed on.
MixedVersions mixed(Coverage& coverage) {
  for (uint64_t seed = 1;; ++seed) {
    MixedVersions out(coverage);
    MemberOptions options;
    out.choose(Random(seed), kFounders, options);
    if (coverage.count("lives of mixed versions") > 0) return out;
  }
}

TEST(MixedVersions, TwoAreOlderAndSoIsWhatIsReported) {
  Coverage coverage;
  const MixedVersions versions = mixed(coverage);
  size_t older = 0;
  for (size_t place = 0; place < kFounders; ++place) {
    EXPECT_EQ(versions.is_etcd(place), versions.version_of(place) < cluster::kOwnVersion);
    older += versions.is_etcd(place) ? 1 : 0;
  }
  EXPECT_GE(older, 2u);
  EXPECT_FALSE(versions.is_etcd(kFounders)) << "who joins is new";
  const auto report = versions.report({.term = Term(7), .members = {NodeId(1), NodeId(2)}}, [](NodeId id) {
    return id == NodeId(1) ? std::optional<size_t>(0) : std::nullopt;
  });
  EXPECT_EQ(report.term, Term(7));
  ASSERT_EQ(report.others.size(), 2u);
  EXPECT_EQ(report.others[0].server, versions.version_of(0));
  EXPECT_EQ(report.others[0].is_cairn, !versions.is_etcd(0));
  EXPECT_EQ(report.others[1].server, std::nullopt);
}

TEST(MixedVersions, WhoStartsAgainMayBeNew) {
  Coverage coverage;
  MixedVersions versions = mixed(coverage);
  for (int i = 0; i < 100; ++i) {
    for (size_t place = 0; place < kFounders; ++place) versions.note_restart(place);
  }
  for (size_t place = 0; place < kFounders; ++place) EXPECT_EQ(versions.version_of(place), cluster::kOwnVersion);
}

// Lives until the cluster was one of 3.4.
TEST(MixedVersions, AClusterOf3_4HoldsItsTables) {
  log::set_sink([](const log::Entry&) {}, log::Level::kFatal);
  Coverage coverage;
  for (uint64_t seed = 2000; coverage.count("cluster version 3.4.0") == 0; ++seed) {
    ClusterLife life({.seed = seed, .members = 3});
    ASSERT_EQ(life.run(), "") << cluster_replay_command(seed) << " --members 3";
    coverage.add(life.coverage());
    ASSERT_LT(seed, 2100u);
  }
  EXPECT_GT(coverage.count("lives of mixed versions"), 0u);
}

}  // namespace
}  // namespace cairn::sim
