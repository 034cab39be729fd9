// A leader follows a downgrade as the monitor of etcd does.
#include "member/version_duty.h"

#include <gtest/gtest.h>

#include "proto/raft_internal.pb.h"

namespace cairn::member {
namespace {

constexpr int64_t kSecondNs = 1'000'000'000;

class VersionDutyTest : public ::testing::Test {
 protected:
  void set(const std::string& version, bool enabled = false, const std::string& target = "") {
    auto members = std::make_shared<cluster::Membership>();
    members->version = version;
    members->downgrade = {.target_version = target, .enabled = enabled};
    members_ = std::move(members);
  }

  void act() {
    const VersionDuty::Scene scene{
        .members = members_, .versions = versions_, .applied = applied_, .term = term_, .now_ns = now_ns_};
    duty_.act(scene, [this](std::vector<std::string> entries) -> std::optional<Index> {
      if (is_refused_) return std::nullopt;
      EXPECT_EQ(entries.size(), 1u);
      etcdserverpb::InternalRaftRequest request;
      EXPECT_TRUE(request.ParseFromString(entries.at(0)));
      if (request.has_cluster_version_set()) proposed_.push_back(request.cluster_version_set().ver());
      if (request.has_downgrade_info_set()) {
        EXPECT_FALSE(request.downgrade_info_set().enabled());
        proposed_.emplace_back("cancel");
      }
      return ++last_;
    });
  }

  // Steps when the duty wants to.
  void pass(int64_t duration_ns) {
    const int64_t end_ns = now_ns_ + duration_ns;
    act();
    while (duty_.next_ns() && *duty_.next_ns() <= end_ns) {
      now_ns_ = std::max(now_ns_, *duty_.next_ns());
      act();
    }
    now_ns_ = end_ns;
    act();
  }
  void apply_all() { applied_ = last_; }
  std::vector<std::string> take() { return std::exchange(proposed_, {}); }

  VersionDuty duty_{{}, [] { return 7; }};
  // The lowest and the highest of all members.
  void others(cluster::MinorVersion lowest, cluster::MinorVersion highest, bool are_known = true) {
    versions_ = {.are_known = are_known,
                 .has_asked = true,
                 .has_etcd = true,
                 .lowest = lowest,
                 .highest = highest,
                 .report = versions_.report + 1};
  }
  std::shared_ptr<const cluster::Membership> members_;
  MembersVersions versions_;
  Index applied_{10};
  Index last_{10};
  Term term_{2};
  int64_t now_ns_ = 1000;
  bool is_refused_ = false;
  std::vector<std::string> proposed_;
};

using Texts = std::vector<std::string>;

TEST_F(VersionDutyTest, AnEnabledDowngradeLowersTheVersionAtTheNextLook) {
  set("3.7.0");
  pass(kSecondNs);
  EXPECT_FALSE(duty_.next_ns()) << "an idle member is not woken";
  set("3.7.0", true, "3.6.0");
  pass(2 * kSecondNs);
  EXPECT_EQ(take(), Texts());
  pass(kSecondNs);
  EXPECT_EQ(take(), Texts{"3.6.0"});
  pass(60 * kSecondNs);
  EXPECT_EQ(take(), Texts()) << "one is on its way";
  apply_all();
  set("3.6.0", true, "3.6.0");
  pass(60 * kSecondNs);
  EXPECT_EQ(take(), Texts());
}

TEST_F(VersionDutyTest, ANewLeaderLooksAtOnce) {
  set("3.7.0", true, "3.6.0");
  act();
  EXPECT_EQ(take(), Texts{"3.6.0"});
  term_ = Term{};
  act();
  EXPECT_FALSE(duty_.next_ns());
  term_ = Term{4};
  act();
  EXPECT_EQ(take(), Texts{"3.6.0"}) << "what another term proposed may be lost";
}

TEST_F(VersionDutyTest, WhatTheLogDoesNotTakeIsProposedAgain) {
  set("3.7.0", true, "3.6.0");
  is_refused_ = true;
  act();
  is_refused_ = false;
  pass(4 * kSecondNs);
  EXPECT_EQ(take(), Texts{"3.6.0"});
}

TEST_F(VersionDutyTest, ACancelledDowngradeRaisesTheVersionAgain) {
  set("3.6.0", true, "3.6.0");
  act();
  set("3.6.0");
  pass(4 * kSecondNs);
  EXPECT_EQ(take(), Texts{"3.7.0"});
  apply_all();
  set("3.7.0");
  pass(60 * kSecondNs);
  EXPECT_EQ(take(), Texts());
}

TEST_F(VersionDutyTest, TheVersionOfAFoundDirectoryStays) {
  for (const char* const version : {"3.4.0", "3.6.0", "", "nothing"}) {
    set(version);
    pass(60 * kSecondNs);
    EXPECT_EQ(take(), Texts()) << version;
  }
}

TEST_F(VersionDutyTest, WhatCannotBeReachedIsLeftAlone) {
  set("3.6.0", true, "3.5.0");  // begun by an etcd 3.6: this server is too new
  pass(60 * kSecondNs);
  set("3.7.0", true, "3.5.0");
  pass(60 * kSecondNs);
  set("3.7.0", true, "nothing");
  pass(60 * kSecondNs);
  EXPECT_EQ(take(), Texts());
}

TEST_F(VersionDutyTest, ADowngradeToThisVersionIsDone) {
  set("3.7.0", true, "3.7.0");  // from a 3.8
  pass(4 * kSecondNs);
  EXPECT_EQ(take(), Texts());
  pass(kSecondNs);
  EXPECT_EQ(take(), Texts{"cancel"});
}

TEST_F(VersionDutyTest, BesideEtcdsTheLowestServerCounts) {
  set("3.5.0");
  others({3, 5}, {3, 7});
  pass(60 * kSecondNs);
  EXPECT_EQ(take(), Texts());
  others({3, 6}, {3, 7}, /*are_known=*/false);
  pass(60 * kSecondNs);
  EXPECT_EQ(take(), Texts()) << "one has not answered";
  others({3, 6}, {3, 7});
  pass(4 * kSecondNs);
  EXPECT_EQ(take(), Texts{"3.6.0"});
}

TEST_F(VersionDutyTest, APlaceholderIsReplacedByTheLowestServer) {
  set("3.0.0");
  others({3, 6}, {3, 7}, /*are_known=*/false);
  pass(60 * kSecondNs);
  EXPECT_EQ(take(), Texts());
  others({3, 6}, {3, 7});
  pass(4 * kSecondNs);
  EXPECT_EQ(take(), Texts{"3.6.0"});
}

TEST_F(VersionDutyTest, ADowngradeIsDoneWhenAllMembersAre) {
  set("3.7.0", true, "3.6.0");
  others({3, 7}, {3, 7}, /*are_known=*/false);
  pass(60 * kSecondNs);
  EXPECT_EQ(take(), Texts());
  others({3, 7}, {3, 7});
  pass(4 * kSecondNs);
  EXPECT_EQ(take(), Texts{"3.6.0"});
  apply_all();
  set("3.6.0", true, "3.6.0");
  others({3, 6}, {3, 7});
  pass(60 * kSecondNs);
  EXPECT_EQ(take(), Texts()) << "one is left";
  others({3, 6}, {3, 6});
  pass(5 * kSecondNs);
  EXPECT_EQ(take(), Texts{"cancel"});
}

}  // namespace
}  // namespace cairn::member
