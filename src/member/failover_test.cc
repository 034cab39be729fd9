// When a member campaigns after its leader's process has died, and when it doubts that it lives.
#include "member/failover.h"

#include <gtest/gtest.h>

#include "member/raft_log.h"

namespace cairn::member {
namespace {

using raft::Message;
using raft::MessageType;

constexpr int64_t kMs = 1'000'000;
constexpr int64_t kNow = 1000 * kMs;

// A follower among members 1 to `members`.
struct Follower {
  explicit Follower(uint64_t id, uint64_t members = 5) : core(config(id), log, start(members)) {}
  static raft::Config config(uint64_t id) {
    raft::Config out;
    out.id = NodeId(id);
    return out;
  }
  static raft::StartState start(uint64_t members) {
    raft::StartState out;
    for (uint64_t id = 1; id <= members; ++id) out.conf.voters.emplace_back(id);
    return out;
  }
  [[nodiscard]] Message message(MessageType type, uint64_t from, uint64_t term) const {
    Message out;
    out.type = type;
    out.from = NodeId(from);
    out.to = core.id();
    out.term = Term(term);
    return out;
  }
  void hear(uint64_t leader, uint64_t term) { core.step(message(MessageType::kHeartbeat, leader, term)); }

  RaftLog log{Index(0), Term(0), {}};
  raft::Core core;
};

// Whether it campaigns now, and did not before.
bool asks(Failover& failover, Follower& follower, int64_t now_ns) {
  const bool asked = follower.core.role() != raft::Role::kFollower;
  failover.do_due(follower.core, now_ns);
  return !asked && follower.core.role() != raft::Role::kFollower;
}

TEST(Failover, EachSurvivorWaitsByItsRank) {
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    int64_t before = kNow - 1;
    int64_t rank = 0;
    for (const uint64_t id : {1, 3, 4, 5}) {  // 2 has died
      Follower follower(id);
      Failover failover(seed * 10 + id);
      EXPECT_FALSE(failover.next_ns());
      EXPECT_FALSE(asks(failover, follower, kNow));
      failover.begin(follower.core, NodeId(2), kNow);
      const int64_t due = failover.next_ns().value();
      EXPECT_GE(due, kNow + rank * 15 * kMs);
      EXPECT_LT(due, kNow + rank * 15 * kMs + 5 * kMs);
      EXPECT_GT(due, before) << "whose rank is lower has asked before";
      EXPECT_FALSE(asks(failover, follower, due - 1));
      EXPECT_TRUE(asks(failover, follower, due));
      before = due;
      ++rank;
    }
  }
}

// After votes that were split, here by one who asks in a newer term. Then the ordinary timeouts take over.
TEST(Failover, ItTriesForASecond) {
  Follower follower(1);
  Failover failover(7);
  failover.begin(follower.core, NodeId(2), kNow);
  int64_t at = *failover.next_ns();
  EXPECT_TRUE(asks(failover, follower, at));
  int tries = 0;
  for (uint64_t term = 5; follower.core.step(follower.message(MessageType::kVote, 3, term)), true; ++term) {
    const auto turn = [&] {
      const int64_t next = failover.next_ns().value();
      EXPECT_GE(next, at + 20 * kMs);
      EXPECT_LE(next, at + 60 * kMs);
      EXPECT_FALSE(asks(failover, follower, next - 1));
      return at = next;
    };
    EXPECT_FALSE(asks(failover, follower, turn())) << "the one who asks in a new term has a turn to win";
    if (!failover.next_ns()) break;
    const bool asked = asks(failover, follower, turn());
    if (!failover.next_ns()) break;
    EXPECT_TRUE(asked);
    ++tries;
  }
  EXPECT_GE(at, kNow + 1000 * kMs);
  EXPECT_GE(tries, 1000 / 120 - 1);
  EXPECT_EQ(follower.core.role(), raft::Role::kFollower);
}

// Split among the others: nobody can win while the dead one's vote is waited for.
TEST(Failover, WhatAllSurvivorsHaveAnsweredIsOver) {
  Follower follower(1, 3);
  Failover failover(7);
  follower.hear(2, 4);
  follower.core.forget_leader();
  failover.begin(follower.core, NodeId(2), kNow);
  int64_t at = *failover.next_ns();
  ASSERT_TRUE(asks(failover, follower, at));
  EXPECT_FALSE(asks(failover, follower, at = *failover.next_ns()));
  EXPECT_EQ(follower.core.role(), raft::Role::kPreCandidate) << "3 may answer yet";
  Message refusal = follower.message(MessageType::kPreVoteResp, 3, 4);
  refusal.reject = true;
  follower.core.step(refusal);
  EXPECT_EQ(follower.core.role(), raft::Role::kFollower);
  EXPECT_TRUE(asks(failover, follower, *failover.next_ns()));
}

// One that was elected may be deposed before anybody has heard of it.
TEST(Failover, ALeaderMeansNoTryButIsNotTheEnd) {
  Follower follower(1);
  Failover failover(7);
  failover.begin(follower.core, NodeId(2), kNow);
  follower.hear(3, 9);
  EXPECT_FALSE(asks(failover, follower, *failover.next_ns()));
  follower.core.forget_leader();
  EXPECT_TRUE(asks(failover, follower, *failover.next_ns()));
}

// Who asks for a pre-vote in the next term has lost the leader that this member still has.
TEST(Failover, APreVoteForTheNextTermBringsDoubt) {
  Follower follower(1);
  Failover failover(7);
  const auto suspects = [&](const Message& message, int64_t now_ns = kNow) {
    return failover.suspects_leader(follower.core, message, now_ns);
  };
  EXPECT_FALSE(suspects(follower.message(MessageType::kPreVote, 3, 1))) << "there is none";
  follower.hear(2, 4);
  EXPECT_FALSE(suspects(follower.message(MessageType::kPreVote, 3, 4))) << "of this term: it does not know it yet";
  EXPECT_FALSE(suspects(follower.message(MessageType::kPreVote, 3, 6)));
  EXPECT_FALSE(suspects(follower.message(MessageType::kVote, 3, 5)));
  EXPECT_FALSE(suspects(follower.message(MessageType::kPreVote, 2, 5))) << "the leader itself";
  Message transfer = follower.message(MessageType::kPreVote, 3, 5);
  transfer.context = raft::kCampaignTransfer;
  EXPECT_FALSE(suspects(transfer)) << "the leader wants it so";
  Message elsewhere = follower.message(MessageType::kPreVote, 3, 5);
  elsewhere.to = NodeId(4);
  EXPECT_FALSE(suspects(elsewhere));
  EXPECT_TRUE(failover.take_unanswered().empty());

  EXPECT_TRUE(suspects(follower.message(MessageType::kPreVote, 3, 5)));
  EXPECT_FALSE(suspects(follower.message(MessageType::kPreVote, 4, 5), kNow + 50 * kMs - 1)) << "not so often";
  EXPECT_TRUE(suspects(follower.message(MessageType::kPreVote, 4, 5), kNow + 50 * kMs));
}

TEST(Failover, WhatWasNotAnsweredIsAskedAgainUnlessTheLeaderLives) {
  Follower follower(1);
  Failover failover(7);
  follower.hear(2, 4);
  Message first = follower.message(MessageType::kPreVote, 3, 5);
  Message last = first;
  last.index = Index(8);
  for (const Message& one : {first, follower.message(MessageType::kPreVote, 5, 5), last}) {
    (void)failover.suspects_leader(follower.core, one, kNow);
  }
  const auto unanswered = failover.take_unanswered();
  ASSERT_EQ(unanswered.size(), 2u) << "one of each member";
  EXPECT_EQ(unanswered[0].from, NodeId(5));
  EXPECT_EQ(unanswered[1].from, NodeId(3));
  EXPECT_EQ(unanswered[1].index, Index(8)) << "the last";
  EXPECT_TRUE(failover.take_unanswered().empty());

  (void)failover.suspects_leader(follower.core, first, kNow);
  (void)failover.suspects_leader(follower.core, follower.message(MessageType::kHeartbeat, 2, 4), kNow);
  EXPECT_TRUE(failover.take_unanswered().empty());
}

}  // namespace
}  // namespace cairn::member
