#include "lease/lessor.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "base/bytes.h"
#include "base/errors.h"
#include "base/random.h"

namespace cairn::lease {
namespace {

using storage::Table;
using storage::WriteBuffer;

std::string stored(WriteBuffer& buffer) {
  buffer.freeze();
  std::string text;
  const auto changes = buffer.changes()[static_cast<size_t>(Table::kLease)];
  for (const auto& change : changes) {
    text += to_hex(change.key()) + (change.erase ? " erased\n" : " " + to_hex(change.value()) + "\n");
  }
  return text;
}

TEST(Lessor, GrantWritesTheRecordEtcdWrites) {
  Lessor lessor(2);
  WriteBuffer buffer;
  EXPECT_EQ(*lessor.grant(255, 7200, buffer), 7200);
  EXPECT_EQ(*lessor.grant(0x1122334455667788, 3600, buffer), 3600);
  EXPECT_EQ(stored(buffer),
            "00000000000000ff 08ff0110a038\n"
            "1122334455667788 0888ef99abc5e88c9111"
            "10901c\n");
}

TEST(Lessor, SmallWishesAreRaisedAndBadOnesRefused) {
  Lessor lessor(2);
  WriteBuffer buffer;
  EXPECT_EQ(*lessor.grant(-7, 0, buffer), 2);
  EXPECT_EQ(lessor.grant(-7, 10, buffer).error(), errors::lease_exist());
  EXPECT_EQ(lessor.grant(8, kTtlMax + 1, buffer).error(), errors::lease_ttl_too_large());
  EXPECT_EQ(lessor.revoke(9, buffer).error(), errors::lease_not_found());
}

TEST(Lessor, RevokeHandsOverKeysInByteOrder) {
  Lessor lessor(2);
  WriteBuffer buffer;
  ASSERT_TRUE(lessor.grant(1, 10, buffer));
  ASSERT_TRUE(lessor.grant(2, 10, buffer));
  lessor.move_key("b", 0, 1);
  lessor.move_key("a", 0, 1);
  lessor.move_key("\xff", 0, 1);
  lessor.move_key("a", 1, 2);
  EXPECT_EQ(*lessor.revoke(1, buffer), (std::vector<std::string>{"b", "\xff"}));
  EXPECT_EQ(*lessor.revoke(2, buffer), (std::vector<std::string>{"a"}));
  EXPECT_EQ(stored(buffer), "0000000000000001 erased\n0000000000000002 erased\n");
}

TEST(Lessor, ACheckpointWithoutTablesIsKnownAndNotStored) {
  Lessor lessor(2);
  WriteBuffer buffer;
  ASSERT_TRUE(lessor.grant(3, 100, buffer));
  lessor.checkpoint(3, 40, nullptr);
  EXPECT_EQ(lessor.find(3)->remaining_ttl, 40);
  EXPECT_EQ(stored(buffer), "0000000000000003 08031064\n");
}

TEST(Lessor, LoadsWhatItStored) {
  Lessor lessor(2);
  WriteBuffer buffer;
  ASSERT_TRUE(lessor.grant(-5, 100, buffer));
  lessor.checkpoint(-5, 40, &buffer);
  buffer.freeze();
  const auto change = buffer.changes()[static_cast<size_t>(Table::kLease)][0];
  Lessor other(2);
  ASSERT_TRUE(other.load(change.key(), change.value()));
  EXPECT_EQ(other.find(-5)->ttl, 100);
  EXPECT_EQ(other.find(-5)->remaining_ttl, 40);
  EXPECT_EQ(other.load("12345678", "\x08").error().code, Code::kDataLoss);
}

TEST(Lessor, ARowWithLessThanTheLeastTimeCountsAsTheLeast) {
  Lessor small(1);
  WriteBuffer buffer;
  ASSERT_TRUE(small.grant(6, 1, buffer));
  buffer.freeze();
  const auto change = buffer.changes()[static_cast<size_t>(Table::kLease)][0];
  Lessor lessor(5);
  ASSERT_TRUE(lessor.load(change.key(), change.value()));
  EXPECT_EQ(lessor.find(6)->ttl, 5);
}

// Grants, revokes and moves of keys, beside a map of sets.
TEST(Lessor, HoldsWhatTheModelHolds) {
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    Random random(seed);
    Lessor lessor(2);
    WriteBuffer buffer;
    std::map<LeaseId, std::set<std::string>> model;
    const auto some_id = [&] { return static_cast<LeaseId>(random.between(1, 40)) * 0x1234567; };
    for (int i = 0; i < 20'000; ++i) {
      const LeaseId id = some_id();
      if (random.one_in(3)) {
        const bool is_new = lessor.grant(id, 10, buffer).has_value();
        ASSERT_EQ(is_new, model.try_emplace(id).second);
      } else if (random.one_in(8)) {
        const auto keys = lessor.revoke(id, buffer);
        ASSERT_EQ(keys.has_value(), model.contains(id));
        if (!keys) continue;
        ASSERT_EQ(std::set<std::string>(keys->begin(), keys->end()), model[id]);
        ASSERT_TRUE(std::is_sorted(keys->begin(), keys->end()));
        model.erase(id);
      } else {
        const std::string key(random.below(6), static_cast<char>('a' + random.below(5)));
        const LeaseId to = random.one_in(3) ? 0 : some_id();
        lessor.move_key(key, id, to);
        if (id == to) continue;
        if (const auto at = model.find(id); at != model.end()) at->second.erase(key);
        if (const auto at = model.find(to); at != model.end()) at->second.insert(key);
      }
    }
    ASSERT_EQ(lessor.size(), model.size());
    size_t seen = 0;
    for (Slot slot = 0; slot < lessor.table().end(); ++slot) {
      const Lease* const lease = lessor.table().in(slot);
      if (lease == nullptr) continue;
      ++seen;
      std::set<std::string> keys;
      lease->keys.for_each([&](std::string_view key) { keys.emplace(key); });
      EXPECT_EQ(keys, model.at(lease->id));
      uint64_t bytes = 0;
      for (const std::string& key : keys) bytes += key.size();
      EXPECT_EQ(lease->keys.key_bytes(), bytes);
      EXPECT_EQ(lease->keys.size(), keys.size());
    }
    EXPECT_EQ(seen, model.size());
    EXPECT_LE(lessor.table().end(), 40u);
    while (!model.empty()) {
      ASSERT_TRUE(lessor.revoke(model.begin()->first, buffer));
      model.erase(model.begin());
    }
    EXPECT_EQ(lessor.table().end(), 0u) << "its memory is given back";
  }
}

}  // namespace
}  // namespace cairn::lease
