#include "rpc/residency.h"

#include <gtest/gtest.h>

#include "testing/manual_clock.h"

namespace cairn::rpc {
namespace {

TEST(Residency, IsCarefulAtFirstAndForAWhileAfterEachMiss) {
  cairn::testing::ManualClock clock;
  Residency residency(clock);
  EXPECT_TRUE(residency.careful()) << "nothing is known of the file";
  clock.now_ns += Residency::kCarefulNs - 1;
  EXPECT_TRUE(residency.careful());
  clock.now_ns += 1;
  EXPECT_FALSE(residency.careful());
  EXPECT_EQ(residency.misses(), 0U);

  residency.note_miss();
  clock.now_ns += Residency::kCarefulNs / 2;
  residency.note_miss();
  clock.now_ns += Residency::kCarefulNs - 1;
  EXPECT_TRUE(residency.careful()) << "since the last miss";
  clock.now_ns += 1;
  EXPECT_FALSE(residency.careful());
  EXPECT_EQ(residency.misses(), 2U);
}

}  // namespace
}  // namespace cairn::rpc
