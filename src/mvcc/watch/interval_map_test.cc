#include "mvcc/watch/interval_map.h"

#include <set>
#include <vector>

#include <gtest/gtest.h>

namespace cairn::mvcc {
namespace {

OwnedInterval interval(std::string_view low, std::string_view end) { return OwnedInterval(KeyInterval::of(low, end)); }

std::multiset<int> at(IntervalMap<int>& map, std::string_view key) {
  std::multiset<int> found;
  map.at(key, [&](int value) { found.insert(value); });
  return found;
}

TEST(IntervalMap, FindsThoseThatHoldAKey) {
  IntervalMap<int> map(1);
  EXPECT_TRUE(map.empty());
  map[interval("b", "")] = 1;
  map[interval("a", "c")] = 2;
  map[interval("b", std::string_view("\0", 1))] = 3;
  map[interval("b", "b2")] = 4;
  EXPECT_EQ(at(map, "b"), (std::multiset<int>{1, 2, 3, 4}));
  EXPECT_EQ(at(map, "a"), std::multiset<int>{2});
  EXPECT_EQ(at(map, "b1"), (std::multiset<int>{2, 3, 4}));
  EXPECT_EQ(at(map, "c"), std::multiset<int>{3});
  EXPECT_EQ(at(map, ""), std::multiset<int>{});
  map.erase(interval("a", "c"));
  map.erase(interval("b", ""));
  EXPECT_EQ(at(map, "b"), (std::multiset<int>{3, 4}));
}

TEST(IntervalMap, EqualsAListOfIntervals) {
  Random chance(7);
  IntervalMap<int> map(1);
  std::vector<std::pair<OwnedInterval, int>> list;
  const auto key = [&] { return std::to_string(chance.below(40)); };
  for (int step = 0; step < 20'000; ++step) {
    if (!list.empty() && chance.one_in(3)) {
      const size_t at = chance.below(list.size());
      map.erase(list[at].first);
      list.erase(list.begin() + static_cast<std::ptrdiff_t>(at));
      continue;
    }
    const std::string low = key();
    const std::string high = chance.one_in(3) ? "" : chance.one_in(8) ? std::string(1, '\0') : key();
    const OwnedInterval wanted = interval(low, high);
    int& value = map[wanted];
    if (value == 0) list.emplace_back(wanted, value = step + 1);
    const std::string probe = key();
    std::multiset<int> expected;
    for (const auto& [one, number] : list) {
      if (one.view().contains(probe)) expected.insert(number);
    }
    ASSERT_EQ(at(map, probe), expected) << "step " << step;
  }
}

}  // namespace
}  // namespace cairn::mvcc
