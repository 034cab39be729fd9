// Raft's promises under trouble: one leader a term, equal logs, nothing committed is lost, no read is stale, and
// progress once the trouble ends.
#include <gtest/gtest.h>

#include <cstdlib>

#include "base/check.h"
#include "raft/world_test.h"

namespace cairn::raft::test {
namespace {

constexpr int kSteps = 15'000;

WorldOptions options_for(uint64_t seed) {
  WorldOptions options;
  options.seed = seed;
  options.voters = seed % 5 == 0 ? 1 : seed % 5 == 1 ? 5 : 3;
  options.pre_vote = seed % 4 != 3;
  options.check_quorum = seed % 8 != 5;
  options.conf_changes = seed % 3 != 0;
  options.loss_one_in = seed % 7 == 0 ? 3 : 15;
  options.crash_one_in = seed % 2 == 0 ? 250 : 1500;
  return options;
}

// "" when the life of this seed is sound.
std::string live(uint64_t seed, int steps, World::Counts* sum = nullptr) {
  World world(options_for(seed));
  try {
    for (int i = 0; i < steps; ++i) world.step();
    world.heal_and_converge();
  } catch (const Violation& violation) {
    return violation.what + "\n" + world.describe();
  }
  if (sum != nullptr) {
    const World::Counts counts = world.counts();
    sum->leaders += counts.leaders;
    sum->committed += counts.committed;
    sum->reads += counts.reads;
    sum->conf_changes += counts.conf_changes;
    sum->snapshots += counts.snapshots;
    sum->crashes += counts.crashes;
    sum->transfers += counts.transfers;
  }
  return "";
}

// CAIRN_RAFT_SEED=n runs that one; CAIRN_RAFT_SEEDS=n runs as many from 1 on.
uint64_t from_environment(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text != nullptr ? std::strtoull(text, nullptr, 10) : otherwise;
}

TEST(RaftNetwork, IsSafeUnderTroubleAndLiveAfterIt) {
  const uint64_t only = from_environment("CAIRN_RAFT_SEED", 0);
  const uint64_t count = from_environment("CAIRN_RAFT_SEEDS", 600);
  World::Counts sum;
  for (uint64_t seed = only != 0 ? only : 1; seed <= (only != 0 ? only : count); ++seed) {
    ASSERT_EQ(live(seed, kSteps, &sum), "") << "replay with CAIRN_RAFT_SEED=" << seed;
  }
  if (only != 0) return;
  // The lives were lives: each kind of event happened, and not seldom.
  EXPECT_GT(sum.leaders, count * 3);
  EXPECT_GT(sum.committed, count * 50);
  EXPECT_GT(sum.reads, count);
  EXPECT_GT(sum.conf_changes, count);
  EXPECT_GT(sum.snapshots, count / 4);
  EXPECT_GT(sum.crashes, count * 5);
  EXPECT_GT(sum.transfers, count);
  std::printf("leaders %lu committed %lu reads %lu conf changes %lu snapshots %lu crashes %lu transfers %lu\n",
              sum.leaders, sum.committed, sum.reads, sum.conf_changes, sum.snapshots, sum.crashes, sum.transfers);
}

TEST(RaftNetwork, SameSeedSameLife) {
  World a(options_for(77));
  World b(options_for(77));
  for (int i = 0; i < 3000; ++i) {
    a.step();
    b.step();
  }
  EXPECT_EQ(a.describe(), b.describe());
}

#ifdef CAIRN_MUTANTS
// Each deliberate bug is found: else this test would not find one that is not deliberate.
TEST(RaftNetwork, FindsEveryMutant) {
  set_assertion_hook([](std::string_view text) { throw Violation{std::string(text)}; });
  for (const char* mutant : {"raft.vote_forgotten_on_restart", "raft.read_without_quorum",
                             "raft.conf_change_counted_early", "raft.commit_older_term_by_count",
                             "raft.learner_counted", "raft.removed_member_counted", "raft.snapshot_conf_ignored"}) {
    set_mutant(mutant);
    uint64_t seed = 1;
    std::string found;
    for (; found.empty() && seed <= 20'000; ++seed) found = live(seed, kSteps);
    set_mutant("");
    EXPECT_NE(found, "") << mutant;
    std::printf("%s: seed %lu: %s\n", mutant, seed - 1, found.substr(0, found.find('\n')).c_str());
  }
}
#endif

}  // namespace
}  // namespace cairn::raft::test
