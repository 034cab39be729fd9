#include "sim/cluster/judge.h"

#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include <gtest/gtest.h>

#include "base/errors.h"
#include "base/log.h"
#include "base/random.h"
#include "sim/cluster/cluster_life.h"
#include "sim/history/judge.h"
#include "sim/history/mutations.h"

namespace cairn::sim {
namespace {

// Each check finds the lie that it is there for.
class JudgeTest : public ::testing::Test {
 protected:
  JudgeTest() { judge_.begin({.member_id = 1, .cluster_id = 1, .founders = 1}, 2); }

  ClusterCall& put(const std::string& key) {
    ClusterCall& call = judge_.begin_call(0, 0, 1);
    etcdserverpb::InternalRaftRequest request;
    request.mutable_header()->set_id(call.number);
    request.mutable_put()->set_key(key);
    judge_.begin_write(call, request.SerializeAsString());
    return call;
  }
  void commit(size_t member, const std::string& payload, int64_t now_ns = 1) {
    const Index index = Index(++committed_);
    judge_.on_committed(
        member,
        {{.term = Term(1), .index = index, .data = std::make_shared<raft::Payload>(raft::Payload{.bytes = payload})}},
        now_ns);
  }
  static void answer(Judge& judge, ClusterCall& call) {
    const std::string text = call.reply->text;
    judge.on_answer(call, 1, Code::kOk, text, 2);
  }
  ClusterCall& read() {
    ClusterCall& call = judge_.begin_call(0, 0, 1);
    call.range.set_key("a");
    return call;
  }

  Coverage coverage_;
  std::string violation_;
  Judge judge_{coverage_, [this](std::string text) { violation_ = std::move(text); }};
  uint64_t committed_ = 0;
};

TEST_F(JudgeTest, AWriteHasOneAnswer) {
  ClusterCall& call = put("a");
  commit(0, call.payload);
  answer(judge_, call);
  EXPECT_EQ(violation_, "");
  answer(judge_, call);
  EXPECT_NE(violation_.find("answered twice"), std::string::npos) << violation_;
}

TEST_F(JudgeTest, AReadHasOneAnswer) {
  ClusterCall& call = read();
  EXPECT_TRUE(judge_.takes_answer(call));
  judge_.on_refused(call, errors::timeout(), 2);
  EXPECT_EQ(violation_, "");
  EXPECT_FALSE(judge_.takes_answer(call));
  EXPECT_NE(violation_.find("answered twice"), std::string::npos) << violation_;
}

TEST_F(JudgeTest, WhoGivesUpIsAnsweredOnceToo) {
  ClusterCall& call = read();
  judge_.on_lost(call, 2);
  call.is_late = true;
  EXPECT_FALSE(judge_.takes_answer(call));
  EXPECT_EQ(violation_, "");
  EXPECT_FALSE(judge_.takes_answer(call));
  EXPECT_NE(violation_.find("answered twice"), std::string::npos) << violation_;
}

TEST_F(JudgeTest, EverybodyIsAnswered) {
  ClusterCall& written = put("a");
  commit(0, written.payload);
  answer(judge_, written);
  ClusterCall& lost = put("b");
  judge_.on_gone(0, 2);
  EXPECT_EQ(lost.state, ClusterCall::State::kUnknown);
  judge_.check_answered();
  EXPECT_EQ(violation_, "");
  static_cast<void>(put("c"));
  judge_.check_answered();
  EXPECT_NE(violation_.find("never answered"), std::string::npos) << violation_;
}

TEST_F(JudgeTest, MembersThatHaveAppliedTheSameAreTheSame) {
  const cluster::Membership members{.cluster_id = 1, .members = {{NodeId(1), {.id = NodeId(1), .name = "a"}}}};
  const raft::ConfState conf{.voters = {NodeId(1)}};
  judge_.on_members(0, Index(0), members, conf);
  judge_.on_members(1, Index(0), members, conf);
  EXPECT_EQ(violation_, "");
  cluster::Membership other = members;
  other.members.at(NodeId(1)).client_urls = {"http://a"};
  judge_.on_members(1, Index(0), other, conf);
  EXPECT_NE(violation_.find("http://a"), std::string::npos) << violation_;
  violation_.clear();
  judge_.on_members(1, Index(0), members, {.voters = {NodeId(1)}, .learners = {NodeId(2)}});
  EXPECT_NE(violation_.find("learners 2"), std::string::npos) << violation_;
}

// Each lease has its own time, from its grant or from when somebody leads; also one that is granted late.
TEST_F(JudgeTest, ALeaseThatIsGrantedLateEndsLate) {
  constexpr int64_t kSecond = 1'000'000'000;
  const auto grant = [this](int64_t id, int64_t ttl, int64_t now_ns) {
    ClusterCall& call = judge_.begin_call(0, 0, now_ns);
    etcdserverpb::InternalRaftRequest request;
    request.mutable_header()->set_id(call.number);
    request.mutable_lease_grant()->set_id(id);
    request.mutable_lease_grant()->set_ttl(ttl);
    judge_.begin_write(call, request.SerializeAsString());
    commit(0, call.payload, now_ns);
  };
  EXPECT_EQ(judge_.leases_end_ns(kSecond), 0);
  grant(1, 5, 2 * kSecond);
  EXPECT_EQ(judge_.leases_end_ns(kSecond), 7 * kSecond);
  EXPECT_EQ(judge_.leases_end_ns(3 * kSecond), 8 * kSecond);
  grant(2, 20, 6 * kSecond);
  EXPECT_EQ(judge_.leases_end_ns(3 * kSecond), 26 * kSecond);
  EXPECT_EQ(violation_, "");
}

TEST_F(JudgeTest, HashesAreTheModels) {
  member::Published state;
  state.kv.revision = 1;
  state.kv.compact_revision = -1;
  judge_.on_hash(0, state, judge_.model().hash(1, -1));
  EXPECT_EQ(violation_, "");
  judge_.on_hash(0, state, judge_.model().hash(1, -1) + 1);
  EXPECT_NE(violation_, "");
}

TEST(ClusterLife, LeasesThatNobodyRenewsEnd) {
  log::set_sink([](const log::Entry&) {}, log::Level::kFatal);
  ClusterLife life({.seed = 1, .members = 3, .length_ns = 5'000'000'000, .calls_min = 500, .renews_for_ever = true});
  const std::string& found = life.run();
  EXPECT_NE(found.find("lives on"), std::string::npos) << found;
}

// What a life records is as good as any history: whatever is changed in it is found.
TEST(RecordedHistory, ALieInItIsFound) {
  log::set_sink([](const log::Entry&) {}, log::Level::kFatal);
  ClusterLife life({.seed = 1, .members = 3, .length_ns = 10'000'000'000, .calls_min = 300});
  ASSERT_EQ(life.run(), "") << cluster_replay_command(1);
  ASSERT_TRUE(judge(life.history()).ok());
  size_t told = 0;
  for (const Mutation& lie : mutations()) {
    for (uint64_t seed = 1; seed <= 2; ++seed) {
      History history = life.history();
      Random chance(seed);
      if (!lie.apply(history, chance)) continue;
      ++told;
      EXPECT_FALSE(judge(history).violations.empty()) << lie.name << ", seed " << seed;
    }
  }
  EXPECT_GT(told, mutations().size());
}

TEST(ClusterWatchers, WhatGoesWrongIsFound) {
  log::set_sink([](const log::Entry&) {}, log::Level::kFatal);
  const std::pair<WatchLie, std::string_view> lies[] = {{WatchLie::kLosesResponse, "not reliable"},
                                                        {WatchLie::kIsNotTold, "was told of"},
                                                        {WatchLie::kNeverHasAll, "does not have all"}};
  for (const auto& [lie, text] : lies) {
    ClusterLife life({.seed = 1, .members = 3, .length_ns = 5'000'000'000, .calls_min = 200, .watch_lie = lie});
    const std::string& found = life.run();
    EXPECT_NE(found.find(text), std::string::npos) << found;
  }
}

}  // namespace
}  // namespace cairn::sim
