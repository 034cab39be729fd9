#include "lease/deadlines.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "base/random.h"

namespace cairn::lease {
namespace {

constexpr int64_t kSecond = 1'000'000'000;

TEST(Deadlines, ALeaseIsDueAtTheEndOfItsBucketAndNotBefore) {
  Deadlines deadlines;
  deadlines.set(7, 10 * kSecond + 1);
  EXPECT_EQ(deadlines.next_due_ns(), 10 * kSecond + Deadlines::kBucketNs);
  EXPECT_EQ(deadlines.take_due(10 * kSecond + Deadlines::kBucketNs - 1), std::nullopt);
  EXPECT_EQ(deadlines.take_due(10 * kSecond + Deadlines::kBucketNs), 7);
  EXPECT_EQ(deadlines.next_due_ns(), std::nullopt);
}

TEST(Deadlines, OneOnTheBoundaryIsDueThere) {
  Deadlines deadlines;
  deadlines.set(7, 10 * kSecond);
  EXPECT_EQ(deadlines.next_due_ns(), 10 * kSecond);
}

TEST(Deadlines, WhatWasTakenIsKnownAndNotDueBeforeItIsSetAgain) {
  Deadlines deadlines;
  deadlines.set(7, kSecond);
  ASSERT_EQ(deadlines.take_due(kSecond), 7);
  EXPECT_TRUE(deadlines.is_taken(7));
  EXPECT_EQ(deadlines.find(7), kSecond);
  EXPECT_EQ(deadlines.take_due(5 * kSecond), std::nullopt);
  deadlines.set(7, kSecond);
  EXPECT_FALSE(deadlines.is_taken(7));
  EXPECT_EQ(deadlines.take_due(kSecond), 7);
  deadlines.put_back(7);
  EXPECT_FALSE(deadlines.is_taken(7));
  EXPECT_EQ(deadlines.take_due(kSecond), 7);
  deadlines.erase(7);
  EXPECT_EQ(deadlines.size(), 0u);
}

// Beside a map from id to deadline, and a set of those that were taken.
TEST(Deadlines, AreThoseOfTheModel) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    Random random(seed);
    Deadlines deadlines;
    std::map<LeaseId, int64_t> model;
    std::set<LeaseId> taken;
    int64_t now_ns = 0;
    const auto due = [](int64_t at) {
      return (at + Deadlines::kBucketNs - 1) / Deadlines::kBucketNs * Deadlines::kBucketNs;
    };
    for (int i = 0; i < 5000; ++i) {
      const auto id = static_cast<LeaseId>(random.between(1, 200)) - 100;
      if (id == 0) continue;
      const uint64_t kind = random.below(10);
      if (kind < 5) {
        const int64_t at = now_ns + static_cast<int64_t>(random.below(2 * kSecond));
        deadlines.set(id, at);
        model[id] = at;
        taken.erase(id);
      } else if (taken.contains(id) && kind == 5) {
        deadlines.put_back(id);
        taken.erase(id);
      } else if (kind < 7) {
        deadlines.erase(id);
        model.erase(id);
        taken.erase(id);
      } else {
        now_ns += static_cast<int64_t>(random.below(kSecond / 10));
        while (const auto one = deadlines.take_due(now_ns)) {
          ASSERT_TRUE(model.contains(*one) && !taken.contains(*one)) << seed;
          ASSERT_LE(due(model[*one]), now_ns);
          taken.insert(*one);
        }
      }
      std::optional<int64_t> next;
      for (const auto& [key, at] : model) {
        if (!taken.contains(key)) next = std::min(next.value_or(INT64_MAX), due(at));
        ASSERT_EQ(deadlines.find(key), at);
        ASSERT_EQ(deadlines.is_taken(key), taken.contains(key));
      }
      ASSERT_EQ(deadlines.next_due_ns(), next) << seed;
      ASSERT_EQ(deadlines.size(), model.size());
    }
  }
}

}  // namespace
}  // namespace cairn::lease
