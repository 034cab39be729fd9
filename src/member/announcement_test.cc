// What a member says of itself at its start is in a form that all members of the cluster read.
#include "member/announcement.h"

#include <gtest/gtest.h>

#include "proto/raft_internal.pb.h"

namespace cairn::member {
namespace {

constexpr NodeId kSelf{1};

class AnnouncementTest : public ::testing::Test {
 protected:
  AnnouncementTest() {
    for (const uint64_t id : {1, 2, 3}) members_.members[NodeId(id)] = {.id = NodeId(id)};
  }
  // The member's own attributes are in the members from here on.
  void apply_attributes() { members_.members[kSelf].name = "me"; }

  // "", or the entry: "v2" or "v3", and the version that it sets.
  std::string next(bool leads = true) {
    const auto bytes =
        announcement_.next({.members = members_,
                            .self = kSelf,
                            .schema = schema_,
                            .versions = known_.of(members_, kSelf, [this](NodeId id) { return cairn_(id); }),
                            .leads = leads},
                           7);
    if (!bytes) return "";
    if (bytes->find("/0/version") != std::string::npos) return "v2 3.4.0";
    if (bytes->find("/0/") != std::string::npos) return "v2";
    etcdserverpb::InternalRaftRequest request;
    EXPECT_TRUE(request.ParseFromString(*bytes));
    if (request.has_cluster_member_attr_set()) return "v3";
    return "v3 " + request.cluster_version_set().ver();
  }
  void say(std::optional<cluster::MinorVersion> second, std::optional<cluster::MinorVersion> third) {
    known_.take({.term = Term(2), .others = {{NodeId(2), second}, {NodeId(3), third}}}, Term(2));
  }

  cluster::Membership members_;
  Schema schema_ = Schema::k3_7;
  std::function<bool(NodeId)> cairn_ = [](NodeId) { return false; };
  KnownVersions known_;
  Announcement announcement_{{.name = "me", .client_urls = {}}};
};

TEST_F(AnnouncementTest, AmongCairnsNothingIsWaitedFor) {
  cairn_ = [](NodeId) { return true; };
  EXPECT_EQ(next(), "v3");
  EXPECT_EQ(next(), "") << "it is on its way";
  apply_attributes();
  EXPECT_EQ(next(), "v3 3.7.0");
  EXPECT_EQ(next(), "");
  EXPECT_FALSE(announcement_.is_done());
  announcement_.say_again();
  EXPECT_EQ(next(), "v3 3.7.0");
  members_.version = "3.7.0";
  EXPECT_EQ(next(), "");
  EXPECT_TRUE(announcement_.is_done());
}

TEST_F(AnnouncementTest, WithoutAVersionItFirstLearnsWhatTheOthersRead) {
  EXPECT_EQ(next(), "");
  say({{3, 6}}, {{3, 7}});
  EXPECT_EQ(next(), "v3");
  apply_attributes();
  EXPECT_EQ(next(false), "") << "the leader decides the version";
  EXPECT_EQ(next(), "v3 3.6.0");
}

TEST_F(AnnouncementTest, AmongFoundersOf34TheOldFormIsRead) {
  say({{3, 4}}, std::nullopt);
  EXPECT_EQ(next(), "v2");
  apply_attributes();
  EXPECT_EQ(next(), "") << "who does not answer may be older still";
  say({{3, 4}}, {{3, 5}});
  EXPECT_EQ(next(), "v2 3.4.0");
}

TEST_F(AnnouncementTest, WhoHasNotBeenStartedHoldsUpNobody) {
  cairn_ = [](NodeId id) { return id == NodeId(2); };
  EXPECT_EQ(next(), "");
  say({{3, 7}}, std::nullopt);
  EXPECT_EQ(next(), "v3");
  apply_attributes();
  EXPECT_EQ(next(), "v3 3.7.0");
}

TEST_F(AnnouncementTest, TheVersionOfTheClusterSaysWhichFormItIs) {
  members_.version = "3.4.0";
  schema_ = Schema::k3_4;
  EXPECT_EQ(next(), "v2");
  announcement_ = Announcement({.name = "me", .client_urls = {}});
  members_.version = "3.5.0";
  schema_ = Schema::k3_5;
  EXPECT_EQ(next(), "v3");
}

TEST_F(AnnouncementTest, APlaceholderIsNoVersion) {
  members_.version = "3.0.0";
  EXPECT_EQ(next(), "");
  say({{3, 7}}, {{3, 5}});
  EXPECT_EQ(next(), "v3");
  apply_attributes();
  EXPECT_EQ(next(), "") << "it is raised by the leader's duty";
  EXPECT_TRUE(announcement_.is_done());
}

TEST_F(AnnouncementTest, WhoSaysThatItIsCairnsIsTakenForNoEtcd) {
  const auto versions = [&] { return known_.of(members_, kSelf, cairn_); };
  say({{3, 7}}, {{3, 7}});
  EXPECT_TRUE(versions().has_etcd);
  known_.take({.term = Term(2), .others = {{NodeId(2), {{3, 7}}, true}, {NodeId(3), {{3, 7}}, true}}}, Term(2));
  EXPECT_FALSE(versions().has_etcd) << "its streams are not there yet; found directories keep their version";
  EXPECT_TRUE(versions().are_known);
}

TEST_F(AnnouncementTest, AReportOfAnotherTermSaysNothing) {
  known_.take({.term = Term(1), .others = {}}, Term(2));
  EXPECT_EQ(next(), "");
  say({{3, 7}}, {{3, 7}});
  known_.begin_term(Term(3));
  EXPECT_EQ(next(), "");
}

}  // namespace
}  // namespace cairn::member
