#include "member/apply/compaction_hashes.h"

#include <gtest/gtest.h>

namespace cairn::member {
namespace {

constexpr int64_t kFree = std::numeric_limits<int64_t>::max();

std::vector<int64_t> revisions(const CompactionHashes& hashes) {
  std::vector<int64_t> out;
  for (const CompactionHash& one : *hashes.list()) out.push_back(one.revision);
  return out;
}

TEST(CompactionHashes, HoldThePassUntilTheHashIsTaken) {
  CompactionHashes hashes(true);
  EXPECT_EQ(hashes.floor(), kFree);
  hashes.want(10, -1);
  EXPECT_EQ(hashes.floor(), 0);
  const auto order = hashes.take_order();
  ASSERT_TRUE(order);
  EXPECT_EQ(order->revision, 10);
  EXPECT_EQ(order->compacted, -1);
  hashes.want(20, 10);
  EXPECT_FALSE(hashes.take_order()) << "one at a time";
  hashes.done({10, 0xabcd});
  EXPECT_EQ(hashes.floor(), 10) << "the pass of 10 may go, the one of 20 may not";
  EXPECT_EQ(*hashes.list(), (CompactionHashes::List{{0xabcd, 10, -1}}));
  EXPECT_EQ(hashes.take_order()->revision, 20);
  hashes.done({20, std::nullopt});
  EXPECT_EQ(hashes.floor(), kFree);
  EXPECT_EQ(revisions(hashes), std::vector<int64_t>{10}) << "what could not be read has no hash";
}

TEST(CompactionHashes, TheNewestTenAreKept) {
  CompactionHashes hashes(true);
  for (int64_t revision = 1; revision <= 15; ++revision) {
    hashes.want(revision, revision - 1);
    hashes.done({hashes.take_order()->revision, 1});
  }
  EXPECT_EQ(revisions(hashes), (std::vector<int64_t>{6, 7, 8, 9, 10, 11, 12, 13, 14, 15}));
}

TEST(CompactionHashes, OfManyThatWaitTheOldestIsDropped) {
  for (const bool under_way : {false, true}) {
    CompactionHashes hashes(true);
    hashes.want(1, -1);
    if (under_way) {
      EXPECT_EQ(hashes.take_order()->revision, 1);
    }
    for (int64_t revision = 2; revision <= 30; ++revision) hashes.want(revision, revision - 1);
    if (under_way) hashes.done({1, 1});
    std::vector<int64_t> done;
    while (const auto order = hashes.take_order()) {
      done.push_back(order->revision);
      hashes.done({order->revision, 1});
    }
    EXPECT_EQ(done.size(), under_way ? 9u : 10u);
    EXPECT_EQ(done.back(), 30);
    EXPECT_EQ(done.front(), under_way ? 22 : 21);
  }
}

TEST(CompactionHashes, MayBeSwitchedOff) {
  CompactionHashes hashes(false);
  hashes.want(10, -1);
  EXPECT_EQ(hashes.floor(), kFree);
  EXPECT_FALSE(hashes.take_order());
}

}  // namespace
}  // namespace cairn::member
