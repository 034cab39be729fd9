#include "cluster/join.h"

#include <gtest/gtest.h>

namespace cairn::cluster {
namespace {

Membership cluster_of(std::vector<Member> members) {
  Membership out;
  out.cluster_id = 0xe9;
  for (Member& member : members) {
    const NodeId id = member.id;
    out.members[id] = std::move(member);
  }
  return out;
}

Member member(uint64_t id, std::vector<std::string> urls, std::string name = {}) {
  return {
      .id = NodeId(id), .peer_urls = std::move(urls), .is_learner = false, .name = std::move(name), .client_urls = {}};
}

std::string error_of(const Result<Membership>& result) { return result ? "" : result.error().message; }

TEST(Join, OthersUrlsAreSortedOverAllMembers) {
  const auto cluster = cluster_of(
      {member(1, {"http://c:1", "http://e:1"}, "x"), member(2, {"http://b:1"}, "own"), member(3, {"http://d:1"}, "y")});
  EXPECT_EQ(other_peer_urls(cluster, "own"), (std::vector<std::string>{"http://c:1", "http://d:1", "http://e:1"}));
}

TEST(Join, IdsComeFromTheRunningClusterAndNamesFromTheFlags) {
  const auto configured = cluster_of({member(7, {"http://a:1"}, "a"), member(8, {"http://b:1", "http://c:1"}, "b")});
  const auto existing = cluster_of({member(1, {"http://c:1", "http://b:1"}, "old"), member(2, {"http://a:1"})});
  const auto assigned = assign_ids(configured, existing, {});
  ASSERT_TRUE(assigned) << assigned.error().message;
  EXPECT_EQ(assigned->cluster_id, 0xe9U);
  EXPECT_EQ(assigned->find(NodeId(1))->name, "b");
  EXPECT_EQ(assigned->find(NodeId(2))->name, "a");
}

TEST(Join, WhatDoesNotFitIsSaid) {
  const auto one = cluster_of({member(1, {"http://a:1"})});
  const auto other = cluster_of({member(1, {"http://b:1"})});
  const auto two = cluster_of({member(1, {"http://a:1"}), member(2, {"http://b:1"})});
  const auto longer = cluster_of({member(1, {"http://a:1", "http://b:1"})});
  EXPECT_EQ(error_of(assign_ids(one, two, {})), "member count is unequal");
  EXPECT_EQ(error_of(assign_ids(other, one, {})),
            "PeerURLs: no match found for existing member (1, [http://a:1]), last resolver error (resolved urls: "
            "\"http://a:1\" != \"http://b:1\")");
  EXPECT_EQ(
      error_of(assign_ids(longer, one, {})),
      "PeerURLs: no match found for existing member (1, [http://a:1]), last resolver error (len([\"http://a:1\"]) "
      "!= len([\"http://a:1\" \"http://b:1\"]))");
}

// Two of the cluster's members with one URL would be one member of the flags.
TEST(Join, NoMemberStandsForTwo) {
  const auto configured = cluster_of({member(7, {"http://a:1"}, "a"), member(8, {"http://b:1"}, "b")});
  const auto existing = cluster_of({member(1, {"http://a:1"}), member(2, {"http://a:1"})});
  EXPECT_NE(error_of(assign_ids(configured, existing, {})), "");
}

TEST(Join, AClusterIsDescribedAsGoPrintsIt) {
  auto cluster = cluster_of({member(0xab, {"http://a:1", "http://b:1"}, "n")});
  cluster.members[NodeId(0xab)].client_urls = {"http://c:1"};
  cluster.members[NodeId(0xab)].is_learner = true;
  cluster.removed = {NodeId(0xcd)};
  EXPECT_EQ(describe(cluster),
            "{ClusterID:e9 Members:[&{ID:ab RaftAttributes:{PeerURLs:[http://a:1 http://b:1] IsLearner:true} "
            "Attributes:{Name:n ClientURLs:[http://c:1]}}] RemovedMemberIDs:[cd]}");
}

TEST(Join, VersionsAreReadAsMembersSayThem) {
  const auto said = parse_member_versions(NodeId(3), R"({"etcdserver":"3.4.23","etcdcluster":"3.4.0"})");
  ASSERT_TRUE(said);
  EXPECT_EQ(said->member, NodeId(3));
  EXPECT_EQ(said->server, "3.4.23");
  EXPECT_EQ(said->cluster, "3.4.0");
  EXPECT_FALSE(parse_member_versions(NodeId(3), "not found"));
}

TEST(Join, OneKnownVersionIsEnoughAndAWrongOneTooMuch) {
  const auto joinable = [](const std::vector<std::string>& versions, bool downgrades = false) -> std::string {
    std::vector<MemberVersions> said;
    for (const std::string& version : versions) said.push_back({NodeId(said.size() + 1), "3.7.0", version});
    const auto found = joinable_version(said, downgrades);
    return found ? found->text() : "";
  };
  EXPECT_EQ(joinable({}), "");
  EXPECT_EQ(joinable({"not_decided", "x"}), "");
  EXPECT_EQ(joinable({"not_decided", "3.6.0"}), "3.6.0");
  EXPECT_EQ(joinable({"3.7.0", "3.6.0"}), "3.6.0");
  EXPECT_EQ(joinable({"3.0.0"}), "3.0.0");
  EXPECT_EQ(joinable({"3.7.0", "3.8.0"}), "");
  EXPECT_EQ(joinable({"2.9.0", "3.7.0"}), "");
  EXPECT_EQ(joinable({"3.7.0"}, /*downgrades=*/true), "");
  EXPECT_EQ(joinable({"3.8.0"}, /*downgrades=*/true), "3.8.0");
}

}  // namespace
}  // namespace cairn::cluster
