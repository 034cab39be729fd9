#include "cluster/membership.h"

#include <algorithm>

#include <gtest/gtest.h>

#include "base/random.h"
#include "cluster/codec.h"

namespace cairn::cluster {
namespace {

Member member(uint64_t id, std::string url, std::string name = "", bool is_learner = false) {
  return Member{.id = NodeId(id),
                .peer_urls = {std::move(url)},
                .is_learner = is_learner,
                .name = std::move(name),
                .client_urls = {}};
}

Membership cluster_of(std::initializer_list<Member> members) {
  Membership cluster;
  for (const Member& each : members) cluster.members.emplace(each.id, each);
  return cluster;
}

MemberChange change(ChangeKind kind, Member who) { return MemberChange{kind, std::move(who)}; }

std::string refusal(const Status& status) { return status ? "" : status.error().message; }

TEST(MemberId, IsTheOneEtcdComputes) {
  const NodeId m1 = compute_member_id({"http://127.0.0.1:32101"}, "fixtok");
  EXPECT_EQ(m1, NodeId(0xb01c7f285a70202e));
  EXPECT_EQ(compute_cluster_id(std::array{m1}), 0xf18d1db612e96aa1u);

  const NodeId n1 = compute_member_id({"http://127.0.0.1:32211"}, "captok");
  const NodeId n2 = compute_member_id({"http://127.0.0.1:32212"}, "captok");
  EXPECT_EQ(n1, NodeId(0x494560839c463357));
  EXPECT_EQ(n2, NodeId(0x20a9f295c3588abf));
  EXPECT_EQ(compute_cluster_id(std::array{n1, n2}), 0x006d74b5aeb5386bu);
  EXPECT_EQ(compute_cluster_id(std::array{n2, n1}), 0x006d74b5aeb5386bu) << "the order given does not matter";

  EXPECT_EQ(compute_member_id({"http://127.0.0.1:32213"}, "", 1795224911), NodeId(0xaa6af4b64397dbc2));
  EXPECT_EQ(compute_member_id({"http://b:1", "http://a:1"}, "t"), compute_member_id({"http://a:1", "http://b:1"}, "t"));
}

TEST(FoundCluster, OfTwoGivesTheFixturesIds) {
  const auto cluster =
      found_cluster({{"n1", {"http://127.0.0.1:32211"}}, {"n2", {"http://127.0.0.1:32212"}}}, "captok");
  ASSERT_TRUE(cluster);
  EXPECT_EQ(cluster->cluster_id, 0x006d74b5aeb5386bu);
  EXPECT_EQ(cluster->find_name("n2")->id, NodeId(0x20a9f295c3588abf));
  EXPECT_EQ(cluster->voter_count(), 2u);
  EXPECT_FALSE(found_cluster({{"a", {"http://h:1"}}, {"b", {"http://h:1"}}}, "t")) << "one id for two names";
}

TEST(ChangeContext, IsWhatEtcdWrites) {
  EXPECT_EQ(change_context(change(ChangeKind::kAdd, member(0xaa6af4b64397dbc2, "http://127.0.0.1:32213", "", true))),
            R"({"id":12279896397634329538,"peerURLs":["http://127.0.0.1:32213"],"isLearner":true})");
  EXPECT_EQ(change_context(change(ChangeKind::kPromote, member(0xaa6af4b64397dbc2, "http://x:1", "n"))),
            R"({"id":12279896397634329538,"peerURLs":null,"isPromote":true})");
  EXPECT_EQ(change_context(change(ChangeKind::kRemove, member(7, "http://x:1"))), "");
}

TEST(ChangeContext, ComesBackAsTheSameChange) {
  for (const MemberChange& each :
       {change(ChangeKind::kAdd, member(UINT64_MAX, "http://a:1", "a")),
        change(ChangeKind::kAdd, member(1, "http://a:1", "", true)),
        change(ChangeKind::kUpdate, member(3, "http://b:2")),
        change(ChangeKind::kPromote, Member{.id = NodeId(9), .peer_urls = {}, .name = {}, .client_urls = {}}),
        change(ChangeKind::kRemove, Member{.id = NodeId(9), .peer_urls = {}, .name = {}, .client_urls = {}})}) {
    const auto back = decode_change(each.raft_type(), each.member.id, change_context(each));
    ASSERT_TRUE(back) << back.error().message;
    EXPECT_EQ(*back, each);
  }
}

TEST(ChangeContext, OfAnotherMemberIsDataLoss) {
  const auto wrong_id = decode_change(ConfChangeType::kAddNode, NodeId(2), R"({"id":1,"peerURLs":null})");
  ASSERT_FALSE(wrong_id);
  EXPECT_EQ(wrong_id.error().code, Code::kDataLoss);
  EXPECT_FALSE(decode_change(ConfChangeType::kAddNode, NodeId(2), ""));
  EXPECT_FALSE(decode_change(ConfChangeType::kUpdateNode, NodeId(2), "[]"));
}

TEST(CheckChange, SaysWhatEtcdSays) {
  Membership cluster =
      cluster_of({member(1, "http://a:1", "a"), member(2, "http://b:1", "b"), member(3, "http://c:1", "c", true)});
  cluster.removed.insert(NodeId(9));
  const auto check = [&](ChangeKind kind, const Member& who) {
    return refusal(check_change(cluster, change(kind, who), 1));
  };

  EXPECT_EQ(check(ChangeKind::kAdd, member(4, "http://d:1")), "");
  EXPECT_EQ(check(ChangeKind::kAdd, member(1, "http://d:1")), "etcdserver: member ID already exist");
  EXPECT_EQ(check(ChangeKind::kAdd, member(4, "http://b:1")), "etcdserver: Peer URLs already exists");
  EXPECT_EQ(check(ChangeKind::kAdd, member(4, "http://d:1", "", true)),
            "etcdserver: too many learner members in cluster");
  EXPECT_EQ(check(ChangeKind::kAdd, member(9, "http://d:1")), "etcdserver: member not found") << "removed for good";

  EXPECT_EQ(check(ChangeKind::kPromote, member(3, "")), "");
  EXPECT_EQ(check(ChangeKind::kPromote, member(1, "")), "etcdserver: can only promote a learner member");
  EXPECT_EQ(check(ChangeKind::kPromote, member(123, "")), "etcdserver: member not found");

  EXPECT_EQ(check(ChangeKind::kUpdate, member(1, "http://a:1")), "") << "its own URL is free to it";
  EXPECT_EQ(check(ChangeKind::kUpdate, member(1, "http://c:1")), "etcdserver: Peer URLs already exists");
  EXPECT_EQ(check(ChangeKind::kUpdate, member(9, "http://z:1")), "etcdserver: member not found");

  EXPECT_EQ(check(ChangeKind::kRemove, member(2, "")), "");
  EXPECT_EQ(check(ChangeKind::kRemove, member(9, "")), "etcdserver: member not found");
  EXPECT_EQ(check(ChangeKind::kRemove, member(10, "")), "etcdserver: member not found");

  EXPECT_EQ(check_change(cluster, change(ChangeKind::kPromote, member(123, "")), 1).error().code, Code::kNotFound);
  EXPECT_EQ(check_change(cluster, change(ChangeKind::kAdd, member(1, "")), 1).error().code, Code::kFailedPrecondition);
  EXPECT_TRUE(check_change(cluster, change(ChangeKind::kAdd, member(4, "http://d:1", "", true)), 2));
}

// The log of the fixture datadir-joined from its snapshot on.
TEST(ApplyChange, FollowsARecordedLog) {
  Membership cluster = cluster_of({member(0x494560839c463357, "http://127.0.0.1:32211", "n1"),
                                   member(0x20a9f295c3588abf, "http://127.0.0.1:32212", "n2"),
                                   member(0xaa6af4b64397dbc2, "http://127.0.0.1:32213", "", true)});
  const auto step = [&](ConfChangeType type, uint64_t node, std::string_view context) {
    const auto decoded = decode_change(type, NodeId(node), context);
    EXPECT_TRUE(decoded) << decoded.error().message;
    const Status allowed = check_change(cluster, *decoded, 1);
    if (allowed) apply_change(cluster, *decoded);
    return allowed.has_value();
  };
  EXPECT_TRUE(step(ConfChangeType::kAddNode, 0xaa6af4b64397dbc2,
                   R"({"id":12279896397634329538,"peerURLs":null,"isPromote":true})"));
  EXPECT_EQ(cluster.find(NodeId(0xaa6af4b64397dbc2))->peer_urls.size(), 1u) << "a promotion keeps the URLs";
  EXPECT_TRUE(set_attributes(cluster, NodeId(0xaa6af4b64397dbc2), "n3", {"http://127.0.0.1:32223"}));
  EXPECT_FALSE(step(ConfChangeType::kAddNode, 123, R"({"id":123,"peerURLs":null,"isPromote":true})"));
  EXPECT_TRUE(step(ConfChangeType::kRemoveNode, 0x494560839c463357, ""));
  EXPECT_FALSE(step(ConfChangeType::kRemoveNode, 0x494560839c463357, ""));

  EXPECT_EQ(cluster.voters(), (std::vector<NodeId>{NodeId(0x20a9f295c3588abf), NodeId(0xaa6af4b64397dbc2)}));
  EXPECT_TRUE(cluster.learners().empty());
  EXPECT_EQ(cluster.removed, (std::set<NodeId>{NodeId(0x494560839c463357)}));
  EXPECT_EQ(cluster.find_name("n3")->client_urls, (std::vector<std::string>{"http://127.0.0.1:32223"}));
  EXPECT_FALSE(set_attributes(cluster, NodeId(0x494560839c463357), "n1", {})) << "published after its removal";
}

TEST(ApplyChange, UpdateOfALearnerKeepsItALearner) {
  Membership cluster = cluster_of({member(1, "http://a:1", "a"), member(3, "http://c:1", "c", true)});
  apply_change(cluster, change(ChangeKind::kUpdate, member(3, "http://d:1")));
  EXPECT_TRUE(cluster.find(NodeId(3))->is_learner);
  EXPECT_EQ(cluster.find(NodeId(3))->peer_urls[0], "http://d:1");
  EXPECT_EQ(cluster.find(NodeId(3))->name, "c");
}

// Whatever is asked for, what was allowed keeps the promises of the header.
TEST(ApplyChange, RandomChangesKeepTheInvariants) {
  constexpr uint64_t kSeed = 0x5eed1;
  SCOPED_TRACE(kSeed);
  Random random(kSeed);
  Membership cluster = cluster_of({member(1, "http://h:1", "m1")});
  size_t applied_count = 0;
  for (int i = 0; i < 20'000; ++i) {
    const auto kind = static_cast<ChangeKind>(random.below(4));
    const uint64_t id = random.between(1, 40);
    const MemberChange wanted =
        change(kind, member(id, fmt::format("http://h:{}", random.between(1, 12)), "", random.one_in(3)));
    const Membership before = cluster;
    if (!check_change(cluster, wanted, 2)) continue;
    apply_change(cluster, wanted);
    ++applied_count;
    std::set<std::string> urls;
    for (const auto& [key, each] : cluster.members) {
      ASSERT_EQ(key, each.id);
      ASSERT_FALSE(cluster.removed.contains(key));
      for (const std::string& url : each.peer_urls) ASSERT_TRUE(urls.insert(url).second) << url;
    }
    ASSERT_LE(cluster.learners().size(), 2u);
    ASSERT_TRUE(std::ranges::includes(cluster.removed, before.removed));
    ASSERT_LE(cluster.members.size(), before.members.size() + 1);
  }
  EXPECT_GT(applied_count, 80u);
}

TEST(QuorumAfter, CountsStartedVoters) {
  const Membership three =
      cluster_of({member(1, "http://a:1", "a"), member(2, "http://b:1", "b"), member(3, "http://c:1")});
  const Membership one = cluster_of({member(1, "http://a:1", "a")});
  const Membership two = cluster_of({member(1, "http://a:1", "a"), member(2, "http://b:1")});
  const std::string too_few = "etcdserver: re-configuration failed due to not enough started members";
  const auto check = [](const Membership& in, ChangeKind kind, const Member& who) {
    return refusal(check_quorum_after(in, change(kind, who)));
  };
  EXPECT_EQ(check(one, ChangeKind::kAdd, member(4, "")), "") << "one may grow to two";
  EXPECT_EQ(check(two, ChangeKind::kAdd, member(4, "")), too_few) << "1 started of 3";
  EXPECT_EQ(check(two, ChangeKind::kAdd, member(4, "", "", true)), "") << "a learner has no vote";
  EXPECT_EQ(check(three, ChangeKind::kAdd, member(4, "")), too_few) << "2 started of 4";
  EXPECT_EQ(check(three, ChangeKind::kRemove, member(3, "")), "");
  EXPECT_EQ(check(three, ChangeKind::kRemove, member(1, "")), too_few) << "1 started of 2";
  EXPECT_EQ(check(one, ChangeKind::kRemove, member(1, "")), too_few) << "nobody left";
  EXPECT_EQ(check(two, ChangeKind::kPromote, member(5, "")), "") << "2 started of 3";
  EXPECT_EQ(check(three, ChangeKind::kUpdate, member(3, "")), "");
}

// Members 1 (this one) to `voters`, of which those in `since` are connected, for so many seconds.
std::string active_after(uint64_t voters, const std::map<uint64_t, int64_t>& seconds, ChangeKind kind, Member who) {
  Membership cluster;
  for (uint64_t id = 1; id <= voters; ++id)
    cluster.members.emplace(NodeId(id), member(id, "http://" + std::to_string(id) + ":1"));
  cluster.members.emplace(NodeId(9), member(9, "http://l:1", "", true));
  constexpr int64_t kSecondNs = 1'000'000'000;
  const Connections connections{.self = NodeId(1), .now_ns = 100 * kSecondNs, .active_since_ns = [&](NodeId id) {
                                  const auto it = seconds.find(id.value);
                                  return it == seconds.end() ? std::nullopt
                                                             : std::optional((100 - it->second) * kSecondNs);
                                }};
  return refusal(check_active_after(cluster, change(kind, std::move(who)), connections));
}

TEST(CheckActive, AnAdditionNeedsAMajorityWithTheNewOneDown) {
  const std::string unhealthy = "etcdserver: unhealthy cluster";
  const Member added = member(20, "http://n:1");
  EXPECT_EQ(active_after(1, {}, ChangeKind::kAdd, added), "") << "there is no other way to begin";
  EXPECT_EQ(active_after(2, {}, ChangeKind::kAdd, added), unhealthy);
  EXPECT_EQ(active_after(2, {{2, 6}}, ChangeKind::kAdd, added), "") << "2 of 3";
  EXPECT_EQ(active_after(2, {{2, 5}}, ChangeKind::kAdd, added), unhealthy) << "not for more than 5 s";
  EXPECT_EQ(active_after(3, {{2, 6}}, ChangeKind::kAdd, added), unhealthy) << "2 of 4";
  EXPECT_EQ(active_after(3, {{2, 6}, {3, 60}}, ChangeKind::kAdd, added), "");
  EXPECT_EQ(active_after(3, {{2, 6}, {9, 60}}, ChangeKind::kAdd, added), unhealthy) << "a learner is no voter";
  EXPECT_EQ(active_after(3, {}, ChangeKind::kAdd, member(20, "http://n:1", "", true)), unhealthy) << "nor is it let in";
}

TEST(CheckActive, ARemovalLeavesAMajorityAtWork) {
  const std::string unhealthy = "etcdserver: unhealthy cluster";
  EXPECT_EQ(active_after(3, {{2, 6}, {3, 6}}, ChangeKind::kRemove, member(3, "")), "");
  EXPECT_EQ(active_after(3, {{3, 6}}, ChangeKind::kRemove, member(2, "")), "") << "who is down may go";
  EXPECT_EQ(active_after(3, {{3, 6}}, ChangeKind::kRemove, member(3, "")), unhealthy) << "1 of 2 would be left";
  EXPECT_EQ(active_after(3, {{2, 6}, {3, 1}}, ChangeKind::kRemove, member(3, "")), unhealthy) << "connected just now";
  EXPECT_EQ(active_after(3, {}, ChangeKind::kRemove, member(9, "")), "") << "a learner may go";
  EXPECT_EQ(active_after(3, {{3, 6}}, ChangeKind::kRemove, member(1, "")), unhealthy) << "this one is at work";
  EXPECT_EQ(active_after(3, {{2, 6}, {3, 6}}, ChangeKind::kRemove, member(1, "")), "");
  EXPECT_EQ(active_after(3, {}, ChangeKind::kRemove, member(77, "")), "") << "found out when it is applied";
  EXPECT_EQ(active_after(5, {{2, 6}, {3, 6}}, ChangeKind::kRemove, member(2, "")), unhealthy) << "2 of 4";
  EXPECT_EQ(active_after(5, {{2, 6}, {3, 6}, {4, 6}}, ChangeKind::kRemove, member(2, "")), "");
}

TEST(CheckActive, OtherChangesAreNotAskedForIt) {
  EXPECT_EQ(active_after(3, {}, ChangeKind::kUpdate, member(2, "http://n:1")), "");
  EXPECT_EQ(active_after(3, {}, ChangeKind::kPromote, member(9, "")), "");
}

// Members with other flags come to the same verdict.
TEST(ChangeContext, OfALearnerMaySayHowManyThereMayBe) {
  MemberChange added = change(ChangeKind::kAdd, member(5, "http://l:1", "", true));
  added.learner_count_max = 3;
  const std::string context = change_context(added);
  EXPECT_EQ(context, R"({"id":5,"peerURLs":["http://l:1"],"isLearner":true,"cairnMaxLearners":3})");
  const auto read = decode_change(ConfChangeType::kAddLearnerNode, NodeId(5), context);
  ASSERT_TRUE(read);
  EXPECT_EQ(*read, added);
  EXPECT_FALSE(decode_change(ConfChangeType::kAddLearnerNode, NodeId(5), R"({"id":5,"cairnMaxLearners":-1})"));
  const auto etcds = decode_change(ConfChangeType::kAddLearnerNode, NodeId(5), R"({"id":5,"isLearner":true})");
  ASSERT_TRUE(etcds);
  EXPECT_EQ(etcds->learner_count_max, std::nullopt);
}

TEST(PeerUrls, OfAMemberToAddAreCheckedAndSorted) {
  EXPECT_EQ(*check_peer_urls({"http://b:1", " http://a:1"}), (std::vector<std::string>{"http://a:1", "http://b:1"}));
  for (const char* bad : {"", "a:1", "ftp://a:1", "http://a", "http://a:1/", "http://a:x"}) {
    const auto checked = check_peer_urls({bad});
    ASSERT_FALSE(checked) << bad;
    EXPECT_EQ(checked.error(), (Error{Code::kInvalidArgument, "etcdserver: given member URLs are invalid"}));
  }
  EXPECT_FALSE(check_peer_urls({}));
}

}  // namespace
}  // namespace cairn::cluster
