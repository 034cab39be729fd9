#include "mvcc/kv/wanted.h"

#include <gtest/gtest.h>

#include "base/random.h"

namespace cairn::mvcc {
namespace {

struct Item {
  uint64_t key = 0;
  size_t place = 0;
  friend bool operator==(const Item&, const Item&) = default;
};
bool is_less(const Item& a, const Item& b) { return a.key < b.key; }

TEST(StableSortWhile, SortsAsTheStandardDoes) {
  Random random(7);
  for (const size_t count : {0, 1, 2, 63, 64, 65, 127, 128, 129, 1000, 5000}) {
    std::vector<Item> items;
    for (size_t i = 0; i < count; ++i) items.push_back({random.below(1 + count / 4), i});
    std::vector<Item> expected = items;
    std::stable_sort(expected.begin(), expected.end(), is_less);
    ASSERT_TRUE(stable_sort_while({}, items, is_less));
    ASSERT_EQ(items, expected) << count;
  }
}

TEST(StableSortWhile, IsGivenUpSoonAfterNobodyWaits) {
  std::vector<Item> items;
  for (size_t i = 0; i < 100'000; ++i) items.push_back({100'000 - i, i});
  for (const uint64_t wanted_for : {0, 50'000, 300'000}) {
    uint64_t compares = 0;
    const auto counting = [&](const Item& a, const Item& b) {
      ++compares;
      return is_less(a, b);
    };
    const auto sorted = stable_sort_while([&] { return compares < wanted_for; }, items, counting);
    ASSERT_FALSE(sorted);
    EXPECT_EQ(sorted.error().code, Code::kCancelled);
    EXPECT_LE(compares, wanted_for + 20'000);
  }
}

}  // namespace
}  // namespace cairn::mvcc
