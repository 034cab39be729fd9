#include "sim/cluster/patience.h"

#include <gtest/gtest.h>

namespace cairn::sim {
namespace {

TEST(Patience, LastsAsLongAsAMemberComesNearer) {
  Patience patience(0, 10);
  patience.note(1, 100, 3);
  EXPECT_FALSE(patience.is_over(9));
  EXPECT_TRUE(patience.is_over(10)) << "it was seen, and came no nearer";
  patience.note(1, 99, 9);
  EXPECT_FALSE(patience.is_over(18));
  EXPECT_TRUE(patience.is_over(19));
}

TEST(Patience, IsNotProlongedByWhoFallsBackAndFollowsAgain) {
  Patience patience(0, 10);
  for (int64_t now = 0; now < 20; ++now) {
    patience.note(1, now % 2 == 0 ? 0 : 5, now);
    patience.note(2, 7, now);
  }
  EXPECT_TRUE(patience.is_over(10));
}

}  // namespace
}  // namespace cairn::sim
