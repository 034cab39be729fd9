#include "member/log_race.h"

#include <vector>

#include <gtest/gtest.h>

namespace cairn::member {
namespace {

constexpr int64_t kMs = 1'000'000;
constexpr int64_t kStallNs = 500 * kMs;
constexpr NodeId kNone = raft::kNoNode;

// Acknowledgements of two members: (when, the first's index, the second's).
struct Look {
  int64_t at_ms;
  uint64_t first;
  uint64_t second;
};

NodeId first_of(const std::vector<Look>& looks, bool second_learns = false) {
  LogRace race;
  for (const Look& look : looks) {
    const std::vector<raft::PeerStatus> peers{
        {.id = NodeId(1), .match = Index(look.first)},
        {.id = NodeId(2), .match = Index(look.second), .is_learner = second_learns}};
    race.look(peers, kStallNs, look.at_ms * kMs);
  }
  return race.first();
}

TEST(LogRace, WhoHasGrownTwiceGoesOn) {
  EXPECT_EQ(first_of({}), kNone);
  EXPECT_EQ(first_of({{0, 5, 5}, {100, 5, 5}, {500, 5, 5}}), kNone);
  EXPECT_EQ(first_of({{0, 5, 5}, {100, 9, 5}, {500, 9, 5}}), kNone);
  EXPECT_EQ(first_of({{0, 5, 5}, {100, 9, 5}, {400, 10, 5}}), NodeId(1));
  EXPECT_EQ(first_of({{0, 5, 5}, {100, 6, 9}, {400, 7, 10}}), NodeId(2));
  EXPECT_EQ(first_of({{0, 5, 5}, {100, 6, 9}, {400, 7, 10}}, /*second_learns=*/true), NodeId(1));
}

// The phases of two slow disks differ, and what one write brought comes in several messages.
TEST(LogRace, SlowDisksDoNot) {
  EXPECT_EQ(first_of({{0, 5, 5}, {100, 9, 5}, {400, 9, 10}, {800, 12, 10}, {1100, 12, 15}}), kNone);
  EXPECT_EQ(first_of({{0, 5, 5}, {100, 7, 5}, {110, 8, 5}, {120, 9, 5}, {810, 10, 5}, {820, 11, 5}}), kNone);
}

TEST(LogRace, BeginsAnew) {
  LogRace race;
  const auto look = [&](uint64_t index, int64_t at_ms) {
    const std::vector<raft::PeerStatus> peers{{.id = NodeId(1), .match = Index(index)}};
    race.look(peers, kStallNs, at_ms * kMs);
  };
  look(5, 0), look(6, 100), look(7, 300);
  EXPECT_EQ(race.first(), NodeId(1));
  race.end();
  EXPECT_EQ(race.first(), kNone);
  look(8, 400), look(9, 450);
  EXPECT_EQ(race.first(), kNone);
}

}  // namespace
}  // namespace cairn::member
