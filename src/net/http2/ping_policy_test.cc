#include "net/http2/ping_policy.h"

#include <gtest/gtest.h>

namespace cairn::net {
namespace {

constexpr int64_t kSecond = 1'000'000'000;

TEST(PingPolicy, TheThirdStrikeIsTooMany) {
  PingPolicy policy(5 * kSecond);
  EXPECT_FALSE(policy.on_ping(0, true));
  EXPECT_FALSE(policy.on_ping(1 * kSecond, true));
  EXPECT_FALSE(policy.on_ping(2 * kSecond, true));
  EXPECT_TRUE(policy.on_ping(3 * kSecond, true));
}

TEST(PingPolicy, SlowPingsWithCallsNeverOffend) {
  PingPolicy policy(5 * kSecond);
  for (int i = 0; i < 100; ++i) EXPECT_FALSE(policy.on_ping(i * 5 * kSecond, true));
}

TEST(PingPolicy, WithoutCallsTwoHoursAreTheMeasure) {
  PingPolicy policy(5 * kSecond);
  EXPECT_FALSE(policy.on_ping(0, false));
  EXPECT_FALSE(policy.on_ping(60 * kSecond, false));
  EXPECT_FALSE(policy.on_ping(120 * kSecond, false));
  EXPECT_TRUE(policy.on_ping(180 * kSecond, false));
}

TEST(PingPolicy, SendingForgives) {
  PingPolicy policy(5 * kSecond);
  for (int i = 0; i < 100; ++i) {
    EXPECT_FALSE(policy.on_ping(i, true));
    if (i % 3 == 2) policy.on_sent();
  }
}

}  // namespace
}  // namespace cairn::net
