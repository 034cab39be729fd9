// Clusters of MemberCores in virtual time (member/cluster_world_test.h).
#include "member/cluster_world_test.h"

namespace cairn::member {
namespace {

using namespace world;

bool is_ok(const Request& request) { return request.outcome && request.outcome->code == Code::kOk; }

// It may take a second: so the others take it at the same time, and hear from the leader before.
TEST(ClusterCore, WhatMayTakeLongIsAppliedByAllAtOnce) {
  World world({.members = 3});
  ASSERT_TRUE(
      world.run_until([&] { return world.is_ready(1) && world.is_ready(2) && world.is_ready(3); }, 5 * kSecond));
  for (int i = 0; i < 20; ++i) {
    world.run(500 * kMs, i % 2 == 1);
    const uint64_t leads = world.leader();
    ASSERT_NE(leads, 0u);
    const Index before = world.core(leads).replication().raft().last_index();
    world.delete_all(1 + i % 3);
    world.run(500 * kMs, i % 2 == 1);
    const auto entry = world.entry_behind(leads, before, RequestKind::kDeleteRange);
    ASSERT_NE(entry, Index{});
    EXPECT_GE(world.told_before(leads, entry), entry) << i;
  }
}

TEST(ClusterCore, EveryMemberIsReadyAndTakesRequests) {
  World world({.members = 3});
  ASSERT_TRUE(
      world.run_until([&] { return world.is_ready(1) && world.is_ready(2) && world.is_ready(3); }, 5 * kSecond));
  world.run(500 * kMs, false);
  EXPECT_EQ(world.core(1).apply().members().version, "3.7.0");
  for (uint64_t id = 1; id <= 3; ++id) {
    const Tag put = world.put(id);
    const Tag read = world.read(id);
    world.run(100 * kMs, false);
    EXPECT_TRUE(is_ok(world.request(put))) << id;
    EXPECT_TRUE(is_ok(world.request(read))) << id;
  }
  world.check_end();
}

// Clients of the members that are left see nothing of it but a delay.
TEST(ClusterCore, NoRequestFailsWhenTheLeaderDies) {
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    World world({.seed = seed, .members = seed % 2 == 0 ? 3u : 5u});
    ASSERT_TRUE(world.run_until([&] { return world.leader() != 0; }, 5 * kSecond));
    world.run(2 * kSecond, true);
    const uint64_t dead = world.leader();
    ASSERT_NE(dead, 0u);
    const int64_t died_ns = world.now_ns();
    world.crash(dead);
    ASSERT_TRUE(world.run_until([&] { return world.leader() != 0; }, kSecond)) << "seed " << seed;
    EXPECT_LT(world.now_ns() - died_ns, 300 * kMs) << "seed " << seed;
    world.run(3 * kSecond, true);
    world.restart(dead);
    world.run(kSecond, true);
    world.run(kSecond, false);
    EXPECT_EQ(world.count([](const Request& one) { return !is_ok(one) && !one.is_orphan; }), 0u) << "seed " << seed;
    world.check_end();
  }
}

// Survivors that hear of it at the wrong times campaign at the same time, and each votes for itself. Without further
// tries the next leader would come with the election timeout, 1 s or more later.
TEST(ClusterCore, SplitVotesAreDecidedSoon) {
  int most_terms = 0;
  for (uint64_t seed = 1; seed <= 600; ++seed) {
    World world({.seed = seed, .members = seed % 3 == 0 ? 5u : 3u});
    ASSERT_TRUE(world.run_until([&] { return world.leader() != 0; }, 5 * kSecond));
    world.run(500 * kMs, false);
    const uint64_t dead = world.leader();
    ASSERT_NE(dead, 0u);
    const int term = static_cast<int>(world.core(dead).replication().raft().term().value);
    const int64_t died_ns = world.now_ns();
    world.deaths_are_heard_for_ns_ = 40 * kMs;
    world.crash(dead);
    ASSERT_TRUE(world.run_until([&] { return world.leader() != 0; }, 3 * kSecond)) << "seed " << seed;
    EXPECT_LT(world.now_ns() - died_ns, 300 * kMs) << "seed " << seed;
    most_terms =
        std::max(most_terms, static_cast<int>(world.core(world.leader()).replication().raft().term().value) - term);
  }
  EXPECT_GT(most_terms, 1);  // else no vote was split, and this test shows nothing
}

TEST(ClusterCore, NoRequestFailsWhenTheLeaderStops) {
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    World world({.seed = seed, .members = 3});
    ASSERT_TRUE(world.run_until([&] { return world.leader() != 0; }, 5 * kSecond));
    world.run(kSecond, true);
    const uint64_t old = world.leader();
    const int64_t stopped_ns = world.now_ns();
    world.stop(old);
    world.run(2 * kSecond, true);
    EXPECT_FALSE(world.runs(old));
    EXPECT_LT(world.now_ns() - stopped_ns, 3 * kSecond);
    world.restart(old);
    world.run(kSecond, true);
    world.run(kSecond, false);
    EXPECT_EQ(world.count([](const Request& one) { return !is_ok(one); }), 0u) << "seed " << seed;
    world.check_end();
  }
}

TEST(ClusterCore, ARemovedLeaderIsSucceededAtOnce) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    World world({.seed = seed, .members = 3});
    ASSERT_TRUE(world.run_until([&] { return world.leader() != 0; }, 5 * kSecond));
    world.run(kSecond, true);
    const uint64_t old = world.leader();
    const Tag removal = world.remove(old, old);
    const int64_t asked_ns = world.now_ns();
    while (world.leader() == old || world.leader() == 0) {
      world.run(kMs, true);
      ASSERT_LT(world.now_ns() - asked_ns, 100 * kMs) << "seed " << seed;
    }
    world.run(kSecond, true);
    ASSERT_TRUE(world.transfer_outcome(removal));
    EXPECT_EQ(world.transfer_outcome(removal)->code, Code::kOk);
    world.stop(old);
    world.run(kSecond, true);
    world.run(kSecond, false);
    // Who asks the removed one hears that it has stopped, and knows that nothing has come of the request.
    for (const auto& [tag, request] : world.requests()) {
      if (is_ok(request)) continue;
      EXPECT_EQ(request.member, old) << "seed " << seed;
      EXPECT_EQ(request.outcome, errors::stopped()) << "seed " << seed;
    }
    EXPECT_TRUE(world.lacks_refused_puts(old % 3 + 1)) << "seed " << seed;
  }
}

// It was removed because its disk was full, say: nobody else could say that there is room.
TEST(ClusterCore, TheAlarmOfARemovedMemberDoesNotKeepTheOthersFromWriting) {
  World world({.members = 3});
  ASSERT_TRUE(world.run_until([&] { return world.leader() != 0; }, 5 * kSecond));
  const uint64_t leader = world.leader();
  const uint64_t full = leader % 3 + 1;
  const auto has_alarm = [&] { return world.core(leader).published().newest().has_alarm(kAlarmNoSpace); };
  world.raise_no_space(full);
  ASSERT_TRUE(world.run_until(has_alarm, kSecond));
  const Tag removal = world.remove(leader, full);
  ASSERT_TRUE(world.run_until([&] { return world.transfer_outcome(removal).has_value(); }, kSecond));
  world.stop(full);
  EXPECT_TRUE(has_alarm());
  EXPECT_TRUE(world.run_until([&] { return !has_alarm(); }, 12 * kSecond));
  const Tag put = world.put(leader);
  world.run(kSecond, false);
  EXPECT_TRUE(is_ok(world.request(put)));
}

// Its successor counts the time of leases from when it began to lead.
TEST(ClusterCore, ARemovedLeaderRenewsNoLease) {
  World world({.members = 3});
  ASSERT_TRUE(world.run_until([&] { return world.leader() != 0; }, 5 * kSecond));
  world.run(kSecond, false);
  const uint64_t old = world.leader();
  const Tag before = world.renew(old, 5);
  world.remove(old, old);
  ASSERT_TRUE(
      world.run_until([&] { return world.core(old).apply().members().removed.contains(NodeId(old)); }, kSecond));
  EXPECT_TRUE(world.core(old).replication().raft().is_leader());
  const Tag after = world.renew(old, 5);
  world.run(5 * kMs, false);
  ASSERT_TRUE(world.transfer_outcome(before));
  EXPECT_EQ(world.transfer_outcome(before)->code, Code::kOk);
  EXPECT_TRUE(world.core(old).replication().raft().is_leader());
  EXPECT_EQ(world.transfer_outcome(after), errors::stopped());
}

// It stays for a while, for the sake of its vote. Its clients need not wait for that.
TEST(ClusterCore, WhoIsToldThatItWasRemovedTakesNoRequests) {
  World world({.members = 5});
  ASSERT_TRUE(world.run_until([&] { return world.leader() != 0; }, 5 * kSecond));
  world.run(kSecond, false);
  const uint64_t away = world.leader() % 5 + 1;
  const uint64_t other = away % 5 + 1;
  world.cut(away, true);
  world.remove(world.leader(), away);
  world.run(kSecond, false);
  const std::vector<Tag> before = {world.put(away), world.read(away), world.remove(away, other)};
  world.run(100 * kMs, false);
  world.tell_removal(away, other);
  world.run(10 * kMs, false);
  const std::vector<Tag> after = {world.put(away), world.read(away), world.remove(away, other)};
  world.run(10 * kMs, false);
  for (const auto& tags : {before, after}) {
    EXPECT_EQ(world.request(tags[0]).outcome, errors::stopped());
    EXPECT_EQ(world.request(tags[1]).outcome, errors::stopped());
    EXPECT_EQ(world.transfer_outcome(tags[2]), errors::stopped());
  }
  EXPECT_FALSE(world.core(away).is_stopping());
}

TEST(ClusterCore, LeadershipIsHandedToWhomItIsWanted) {
  World world({.members = 3});
  ASSERT_TRUE(world.run_until([&] { return world.leader() != 0; }, 5 * kSecond));
  const uint64_t old = world.leader();
  const uint64_t next = old % 3 + 1;
  world.transfer(next, old);
  const Tag refused = world.last_tag();
  world.transfer(old, 17);
  const Tag bad = world.last_tag();
  world.run(100 * kMs, true);
  world.transfer(old, next);
  const Tag done = world.last_tag();
  world.run(500 * kMs, true);
  EXPECT_EQ(world.leader(), next);
  EXPECT_EQ(world.transfer_outcome(refused), errors::not_leader());
  EXPECT_EQ(world.transfer_outcome(bad), errors::bad_leader_transferee());
  ASSERT_TRUE(world.transfer_outcome(done));
  EXPECT_EQ(world.transfer_outcome(done)->code, Code::kOk);
  world.run(kSecond, false);
  EXPECT_EQ(world.count([](const Request& one) { return !is_ok(one); }), 0u);
  world.check_end();
}

TEST(ClusterCore, ALeaderWhoseLogStandsStillHandsOver) {
  World world({.members = 3});
  ASSERT_TRUE(world.run_until([&] { return world.leader() != 0; }, 5 * kSecond));
  world.run(500 * kMs, true);
  const uint64_t old = world.leader();
  ASSERT_NE(old, 0U);
  for (uint64_t id = 1; id <= 3; ++id) world.stall_log(id, 2 * kSecond);
  world.run(3 * kSecond, true);
  EXPECT_EQ(world.leader(), old) << "no other log goes on";
  world.stall_log(old, 5 * kSecond);
  world.run(kSecond, true);
  EXPECT_NE(world.leader(), old);
  EXPECT_NE(world.leader(), 0U);
  world.run(6 * kSecond, true);
  world.run(kSecond, false);
  EXPECT_EQ(world.count([](const Request& one) { return !is_ok(one); }), 0u);
  world.check_end();
}

// While it stood still its disk did not: that a write was under way for so long says nothing.
TEST(ClusterCore, ALeaderThatStoodStillForLessThanAnElectionGoesOn) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    World world({.seed = seed, .members = 3});
    ASSERT_TRUE(world.run_until([&] { return world.leader() != 0; }, 5 * kSecond));
    world.run(500 * kMs, true);
    const uint64_t old = world.leader();
    ASSERT_NE(old, 0U);
    world.stall_log(old, 720 * kMs);
    world.run(10 * kMs, true);
    world.stand_still(old, 700 * kMs);  // the whole process: a write comes to its end afterwards
    world.run(2 * kSecond, true);
    EXPECT_EQ(world.leader(), old) << seed;
    world.run(kSecond, false);
    world.check_end();
  }
}

TEST(ClusterCore, WhatWaitsForTooLongIsRefusedAsByEtcd) {
  World world({.members = 3});
  ASSERT_TRUE(world.run_until([&] { return world.leader() != 0; }, 5 * kSecond));
  const uint64_t alone = world.leader() % 3 + 1;
  const Tag before = world.put(alone);
  world.run(kSecond, false);
  ASSERT_TRUE(is_ok(world.request(before)));
  world.cut(alone, true);
  world.run(100 * kMs, false);
  const Tag put = world.put(alone);
  const Tag read = world.read(alone);
  world.run(6900 * kMs, false);
  EXPECT_FALSE(world.request(put).outcome);
  EXPECT_FALSE(world.request(read).outcome);
  world.run(200 * kMs, false);
  EXPECT_EQ(world.request(put).outcome, errors::timeout());
  EXPECT_EQ(world.request(read).outcome, errors::timeout());
  world.cut(alone, false);
  world.run(2 * kSecond, true);
  world.run(kSecond, false);
  world.check_end();
}

// Everything at once, and then peace.
TEST(ClusterCore, LivesWithFaults) {
  for (uint64_t seed = 1; seed <= 12; ++seed) {
    World world({.seed = seed, .members = seed % 3 == 0 ? 5u : 3u});
    const uint64_t members = seed % 3 == 0 ? 5 : 3;
    Random& random = world.random();
    world.run_until([&] { return world.leader() != 0; }, 5 * kSecond);
    for (int round = 0; round < 25 && !::testing::Test::HasFailure(); ++round) {
      const uint64_t id = random.one_in(2) && world.leader() != 0 ? world.leader() : 1 + random.below(members);
      world.losses_one_in_ = random.one_in(3) ? 30 : 0;
      world.repeats_one_in_ = random.one_in(3) ? 30 : 0;
      switch (random.below(6)) {
        case 0: world.crash(id); break;
        case 1: world.stop(id); break;
        case 2: world.cut(id, true); break;
        case 3: world.stand_still(id, static_cast<int64_t>(random.below(2500)) * kMs); break;
        case 4: world.transfer(id, 1 + random.below(members)); break;
        default: break;
      }
      world.run(static_cast<int64_t>(random.between(50, 1500)) * kMs, true);
      if (!random.one_in(4)) world.heal();
    }
    world.heal();
    world.run(kSecond, true);
    world.heal();  // one was about to stop
    world.run(8 * kSecond, true);
    world.run(8 * kSecond, false);
    world.check_end();
    EXPECT_GT(world.count(is_ok), 500u) << "seed " << seed;
  }
}

}  // namespace
}  // namespace cairn::member
