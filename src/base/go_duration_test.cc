#include "base/go_duration.h"

#include <gtest/gtest.h>

#include "base/random.h"

namespace cairn {
namespace {

using std::chrono::nanoseconds;

TEST(GoDuration, IsWrittenAsGoDoes) {
  EXPECT_EQ(go_duration(nanoseconds(0)), "0s");
  EXPECT_EQ(go_duration(nanoseconds(1)), "1ns");
  EXPECT_EQ(go_duration(nanoseconds(1'100)), "1.1\xc2\xb5s");
  EXPECT_EQ(go_duration(nanoseconds(2'200'000)), "2.2ms");
  EXPECT_EQ(go_duration(nanoseconds(100'000'000)), "100ms");
  EXPECT_EQ(go_duration(nanoseconds(3'300'000'000)), "3.3s");
  EXPECT_EQ(go_duration(nanoseconds(245'000'000'001)), "4m5.000000001s");
  EXPECT_EQ(go_duration(std::chrono::hours(2)), "2h0m0s");
  EXPECT_EQ(go_duration(std::chrono::minutes(1)), "1m0s");
  EXPECT_EQ(go_duration(nanoseconds(-1'500'000'000)), "-1.5s");
  EXPECT_EQ(go_duration(nanoseconds(INT64_MAX)), "2562047h47m16.854775807s");
  EXPECT_EQ(go_duration(nanoseconds(INT64_MIN)), "-2562047h47m16.854775808s");
}

TEST(GoDuration, IsReadAsGoDoes) {
  EXPECT_EQ(*parse_go_duration("1h15m30.918s"), nanoseconds(4'530'918'000'000));
  EXPECT_EQ(*parse_go_duration("0"), nanoseconds(0));
  EXPECT_EQ(*parse_go_duration(".5s"), nanoseconds(500'000'000));
  EXPECT_EQ(*parse_go_duration("+1.s"), nanoseconds(1'000'000'000));
  EXPECT_EQ(*parse_go_duration("-1m1ms"), nanoseconds(-60'001'000'000));
  EXPECT_EQ(*parse_go_duration("1us"), *parse_go_duration("1\xc2\xb5s"));
  EXPECT_EQ(*parse_go_duration("-2562047h47m16.854775808s"), nanoseconds(INT64_MIN));
}

TEST(GoDuration, RefusesWithGosTexts) {
  EXPECT_EQ(parse_go_duration("").error().message, R"(time: invalid duration "")");
  EXPECT_EQ(parse_go_duration("5").error().message, R"(time: missing unit in duration "5")");
  EXPECT_EQ(parse_go_duration("5x").error().message, R"(time: unknown unit "x" in duration "5x")");
  EXPECT_EQ(parse_go_duration(".s").error().message, R"(time: invalid duration ".s")");
  EXPECT_EQ(parse_go_duration("-").error().message, R"(time: invalid duration "-")");
  EXPECT_FALSE(parse_go_duration("9223372036854775808ns"));
  EXPECT_FALSE(parse_go_duration("99999999999999999999h"));
  EXPECT_FALSE(parse_go_duration("2562048h"));
}

TEST(GoDuration, WhatIsWrittenIsReadBack) {
  constexpr uint64_t kSeed = 0xd0;
  SCOPED_TRACE(kSeed);
  Random random(kSeed);
  for (int i = 0; i < 20'000; ++i) {
    const auto duration = nanoseconds(static_cast<int64_t>(random.next() >> random.below(64)));
    EXPECT_EQ(*parse_go_duration(go_duration(duration)), duration) << go_duration(duration);
  }
}

}  // namespace
}  // namespace cairn
