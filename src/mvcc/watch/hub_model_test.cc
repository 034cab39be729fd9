#include <gtest/gtest.h>

#include "mvcc/watch/test_hub_life.h"

namespace cairn::mvcc {
namespace {

TEST(WatchHubModel, KeepsEtcdsGuarantees) {
  uint64_t sent = 0;
  uint64_t compacted = 0;
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    test::HubLife life(seed);
    for (int i = 0; i < 400 && life.failure().empty(); ++i) life.step(life.chance().below(test::HubLife::kChoices));
    life.heal();
    ASSERT_EQ(life.failure(), "") << "seed " << seed;
    sent += life.sent();
    compacted += life.compacted();
  }
  EXPECT_GT(sent, 10'000u);
  EXPECT_GT(compacted, 50u);
}

}  // namespace
}  // namespace cairn::mvcc
