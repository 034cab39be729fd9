#include "lease/lessor.h"

#include <gtest/gtest.h>

#include "base/bytes.h"
#include "base/errors.h"

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
  EXPECT_EQ(lessor.leases().at(3).remaining_ttl, 40);
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
  EXPECT_EQ(other.leases().at(-5).ttl, 100);
  EXPECT_EQ(other.leases().at(-5).remaining_ttl, 40);
  EXPECT_EQ(other.load("12345678", "\x08").error().code, Code::kDataLoss);
}

}  // namespace
}  // namespace cairn::lease
