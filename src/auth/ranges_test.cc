#include "auth/ranges.h"

#include <algorithm>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/random.h"
#include "testing/seeds.h"

namespace cairn::auth {
namespace {

constexpr std::string_view kOpen("\0", 1);

Ranges ranges(std::initializer_list<KeyRange> all) {
  Ranges out;
  for (const KeyRange& one : all) out.add(one);
  out.finish();
  return out;
}

TEST(Ranges, ASingleKeyCoversItselfAlone) {
  const Ranges held = ranges({{"k", ""}});
  EXPECT_TRUE(held.cover({"k", ""}));
  EXPECT_FALSE(held.cover({"k", "l"}));
  EXPECT_FALSE(held.cover({"ka", ""}));
  EXPECT_FALSE(held.cover({"j", ""}));
  EXPECT_TRUE(held.cover({"k", std::string_view("k\0", 2)})) << "the same interval, written otherwise";
}

// GHSA-xg4h-6gfc-h4m8: an open end was taken for a single key.
TEST(Ranges, OneKeyDoesNotCoverEverythingFromItOn) {
  EXPECT_FALSE(ranges({{"k", ""}}).cover({"k", kOpen}));
  EXPECT_FALSE(ranges({{"k", "z"}}).cover({"k", kOpen}));
  EXPECT_TRUE(ranges({{"k", kOpen}}).cover({"k", kOpen}));
  EXPECT_TRUE(ranges({{"k", kOpen}}).cover({"kk", kOpen}));
  EXPECT_FALSE(ranges({{"k", kOpen}}).cover({"j", kOpen}));
}

TEST(Ranges, IntervalsThatTouchAreOne) {
  const Ranges held = ranges({{"c", "e"}, {"a", "c"}, {"f", "g"}});
  EXPECT_TRUE(held.cover({"a", "e"}));
  EXPECT_TRUE(held.cover({"b", "d"}));
  EXPECT_FALSE(held.cover({"a", "f"}));
  EXPECT_FALSE(held.cover({"e", ""}));
  EXPECT_TRUE(ranges({{"a", ""}, {std::string_view("a\0", 2), "b"}}).cover({"a", "b"}));
}

TEST(Ranges, AnIntervalWithNothingInItCountsAsItsKey) {
  const Ranges held = ranges({{"k", "m"}});
  EXPECT_TRUE(held.cover({"l", "a"}));
  EXPECT_TRUE(held.cover({"l", "l"}));
  EXPECT_FALSE(held.cover({"m", "a"}));
}

TEST(Ranges, WhatGrantsNothingIsLeftOut) {
  EXPECT_TRUE(ranges({{"m", "k"}, {"m", "m"}, {"", kOpen}, {"", ""}, {"", "z"}}).empty());
  EXPECT_FALSE(ranges({}).cover({"", kOpen}));
}

// Beside the keys themselves, of a small alphabet.
TEST(Ranges, AgreeWithTheKeysOneByOne) {
  const uint64_t first = testing::first_seed(1);
  for (uint64_t seed = first; seed < first + 300; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    const auto key = [&] {
      std::string out;
      for (uint64_t n = random.between(1, 2); n > 0; --n) out += static_cast<char>('a' + random.below(4));
      return out;
    };
    std::vector<std::pair<std::string, std::string>> granted;
    Ranges held;
    for (uint64_t n = random.below(5); n > 0; --n) {
      std::string end = random.one_in(3) ? "" : random.one_in(6) ? std::string(kOpen) : key();
      granted.emplace_back(key(), std::move(end));
    }
    for (const auto& [low, end] : granted) held.add({low, end});
    held.finish();
    const auto within = [](std::string_view one, const KeyRange& range) {
      if (range.is_single()) return one == range.key;
      return one >= range.key && (range.is_open() || one < range.range_end);
    };
    // All keys up to three letters, and one behind all that are asked for.
    std::vector<std::string> keys = {"zz"};
    for (size_t i = 0; i < 5 * 5 * 5; ++i) {
      std::string one;
      for (size_t rest = i; rest > 0; rest /= 5) {
        if (rest % 5 > 0) one += static_cast<char>('a' + rest % 5 - 1);
      }
      if (!one.empty()) keys.push_back(one);
    }
    for (int i = 0; i < 40; ++i) {
      const std::string low = key();
      const std::string end = random.one_in(3) ? "" : random.one_in(6) ? std::string(kOpen) : key();
      const KeyRange asked{low, end};
      bool all = true;
      bool any = false;
      for (const std::string& one : keys) {
        if (!within(one, asked)) continue;
        any = true;
        const bool is_granted = std::any_of(granted.begin(), granted.end(), [&](const auto& grant) {
          return within(one, {grant.first, grant.second});
        });
        all = all && is_granted;
      }
      if (held.cover(asked)) {  // never too much
        EXPECT_TRUE(all) << low << " to " << end;
      }
      // Too little only between the keys looked at: single keys leave what lies behind them.
      if (asked.is_single() && any) {
        EXPECT_EQ(held.cover(asked), all) << low;
      }
    }
  }
}

}  // namespace
}  // namespace cairn::auth
