#include "sim/cluster/cluster_life.h"

#include <vector>

#include <gtest/gtest.h>

#include "base/log.h"
#include "sim/fiber.h"

namespace cairn::sim {
namespace {

void silence_log() {
  log::set_sink([](const log::Entry&) {}, log::Level::kFatal);
}

TEST(Fiber, WaitsInTheMiddleAndGoesOn) {
  std::vector<int> seen;
  Fiber inner([&] {
    seen.push_back(2);
    Fiber::wait();
    seen.push_back(5);
  });
  Fiber outer([&] {
    seen.push_back(1);
    inner.resume();
    seen.push_back(3);
    Fiber::wait();
    seen.push_back(6);
  });
  outer.resume();
  EXPECT_FALSE(inner.done() || outer.done());
  seen.push_back(4);
  inner.resume();  // ends before the one that began it
  EXPECT_TRUE(inner.done());
  outer.resume();
  EXPECT_TRUE(outer.done());
  EXPECT_EQ(seen, (std::vector{1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(Fiber::current(), nullptr);
}

TEST(Worker, TakesItsNextWorkWhenTheFiberBeforeHasEnded) {
  Worker worker;
  worker.use_fiber();
  std::vector<int> seen;
  Fiber* waiting = nullptr;
  worker.run([&] {
    seen.push_back(1);
    waiting = Fiber::current();
    Fiber::wait();
    seen.push_back(2);
  });
  worker.run([&] { seen.push_back(3); });
  EXPECT_EQ(seen, (std::vector{1}));
  waiting->resume();
  EXPECT_EQ(seen, (std::vector{1, 2, 3}));
  EXPECT_TRUE(worker.idle());
  worker.run([&] { seen.push_back(4); });
  EXPECT_EQ(seen.back(), 4);
}

TEST(ClusterLife, IsTheSameForTheSameSeed) {
  silence_log();
  ClusterLife first({.seed = 1, .members = 3});
  ASSERT_EQ(first.run(), "") << cluster_replay_command(1);
  ClusterLife second({.seed = 1, .members = 3});
  ASSERT_EQ(second.run(), "") << cluster_replay_command(1);
  EXPECT_EQ(first.fingerprint(), second.fingerprint());
  EXPECT_EQ(first.coverage().counts(), second.coverage().counts());
  ClusterLife other({.seed = 2, .members = 3});
  ASSERT_EQ(other.run(), "") << cluster_replay_command(2);
  EXPECT_NE(first.fingerprint(), other.fingerprint());
}

TEST(ClusterLife, AnswersEverythingWhereNothingGoesWrong) {
  silence_log();
  ClusterLife life({.seed = 3,
                    .members = 3,
                    .has_faults = false,
                    .changes_members = false,
                    .length_ns = 10'000'000'000,
                    .calls_min = 100});
  ASSERT_EQ(life.run(), "");
  EXPECT_GT(life.coverage().count("answers"), 20);
  EXPECT_LE(life.coverage().count("leaders deposed"), 2);  // a member that stops at the end hands over
}

TEST(ClusterLife, ChangesItsMembersAndIsTheSameForTheSameSeed) {
  silence_log();
  uint64_t added = 0;
  for (uint64_t seed = 5; seed <= 8; ++seed) {
    ClusterLife first({.seed = seed, .members = 3, .changes_members = true});
    ASSERT_EQ(first.run(), "");
    ClusterLife second({.seed = seed, .members = 3, .changes_members = true});
    ASSERT_EQ(second.run(), "");
    EXPECT_EQ(first.fingerprint(), second.fingerprint());
    added += first.coverage().count("member add done");
  }
  EXPECT_GT(added, 0u);
}

}  // namespace
}  // namespace cairn::sim
