// Unit tests of the small pieces in base.
#include <set>

#include <gtest/gtest.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/keyed_hash.h"
#include "base/random.h"
#include "base/release.h"
#include "base/strong.h"
#include "base/utf8.h"
#include "base/wire.h"

namespace cairn {
namespace {

TEST(Crc32c, HasTheCastagnoliCheckValueAndChains) {
  EXPECT_EQ(crc32c(0, "123456789"), 0xe3069283u);
  EXPECT_EQ(crc32c(crc32c(0, "1234"), "56789"), 0xe3069283u);
  EXPECT_EQ(crc32c(0, ""), 0u);
  EXPECT_EQ(crc32c(0, "key"), 0x40a4756du);
}

TEST(Utf8, IsTheWholeText) {
  EXPECT_TRUE(is_utf8(""));
  EXPECT_TRUE(is_utf8("3.7 gr\xc3\xbc\xc3\x9f"));
  EXPECT_FALSE(is_utf8("3.7\xff"));
  EXPECT_FALSE(is_utf8("3.7\xc3")) << "cut";
}

TEST(Bytes, HexIdsHaveNoPaddingAndFileNamesHave) {
  EXPECT_EQ(hex_id(0x006d74b5aeb5386b), "6d74b5aeb5386b");
  EXPECT_EQ(hex16(0x45), "0000000000000045");
  EXPECT_EQ(*parse_hex("6d74b5aeb5386b"), 0x006d74b5aeb5386bu);
  EXPECT_FALSE(parse_hex(""));
  EXPECT_FALSE(parse_hex("12345678123456789"));
  EXPECT_FALSE(parse_hex("xyz"));
}

TEST(Release, LeavesNoCapacity) {
  std::string text(1 << 20, 'a');
  release(text);
  EXPECT_TRUE(text.empty());
  EXPECT_EQ(text.capacity(), std::string().capacity());
}

TEST(Wire, ReadsWhatItWrote) {
  std::string bytes;
  wire::append_varint_field(bytes, 1, 300);
  wire::append_bytes_field(bytes, 2, "value");
  wire::append_varint_field(bytes, 9900, static_cast<uint64_t>(int64_t{-1}));
  wire::Reader in(bytes);
  ASSERT_TRUE(in.next());
  EXPECT_EQ(in.field(), 1u);
  EXPECT_EQ(in.varint(), 300u);
  ASSERT_TRUE(in.next());
  EXPECT_EQ(in.bytes(), "value");
  ASSERT_TRUE(in.next());
  EXPECT_EQ(in.field(), 9900u);
  EXPECT_EQ(in.int64(), -1);
  EXPECT_FALSE(in.next());
  EXPECT_TRUE(in.ok());
}

TEST(Wire, RefusesTruncatedAndMistypedFields) {
  std::string bytes;
  wire::append_bytes_field(bytes, 2, "value");
  for (size_t size = 1; size < bytes.size(); ++size) {
    wire::Reader in(std::string_view(bytes).substr(0, size));
    EXPECT_FALSE(in.next());
    EXPECT_FALSE(in.ok()) << size;
  }
  wire::Reader mistyped(bytes);
  ASSERT_TRUE(mistyped.next());
  EXPECT_EQ(mistyped.varint(), 0u);
  EXPECT_FALSE(mistyped.ok());
}

TEST(Wire, PassesOverGroupsAsAWhole) {
  // Group 5 with a varint, bytes, both fixed types and another group inside; then field 1.
  const std::string bytes =
      std::string("\x2b\x08\x01\x12\x02zz\x1d", 8) + "1234" + "\x19" + "12345678" + "\x33\x34\x2c\x08\x07";
  wire::Reader in(bytes);
  ASSERT_TRUE(in.next());
  EXPECT_EQ(in.field(), 5u);
  ASSERT_TRUE(in.next());
  EXPECT_EQ(in.field(), 1u);
  EXPECT_EQ(in.varint(), 7u);
  EXPECT_FALSE(in.next());
  EXPECT_TRUE(in.ok());
}

TEST(Wire, RefusesBrokenGroups) {
  for (const std::string bytes : {"\x2b", "\x2b\x08", "\x2b\x34", "\x2c", "\x2b\x12\x09",
                                  "\x2b\x1d"
                                  "123",
                                  "\x2b\x2b\x2c"}) {
    wire::Reader in(bytes);
    EXPECT_FALSE(in.next()) << to_hex(bytes);
    EXPECT_FALSE(in.ok()) << to_hex(bytes);
  }
}

TEST(Wire, RefusesNumbersBeyond64Bits) {
  const std::string most = "\x08" + std::string(9, '\xff');
  std::string text = most + "\x02";
  EXPECT_FALSE(wire::Reader(text).next());
  text.back() = '\x01';
  wire::Reader in(text);
  ASSERT_TRUE(in.next());
  EXPECT_EQ(in.varint(), UINT64_MAX);
}

TEST(Wire, TakesOnlyWhatHasTheType) {
  std::string bytes;
  wire::append_varint_field(bytes, 1, 7);
  wire::Reader in(bytes);
  ASSERT_TRUE(in.next());
  std::string_view text = "before";
  int64_t number = 1;
  bool flag = false;
  in.take(text);
  in.take(number);
  in.take(flag);
  EXPECT_EQ(text, "before");
  EXPECT_EQ(number, 7);
  EXPECT_TRUE(flag);
  EXPECT_TRUE(in.ok());
}

TEST(Random, SameSeedSameSequence) {
  Random a(7);
  Random b(7);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(a.next(), b.next());
}

TEST(Strong, IsOrderedAndCounts) {
  EXPECT_LT(Index(1), Index(2));
  EXPECT_EQ(Index(5) - Index(2), 3u);
  EXPECT_LT((Revision{2, 9}), (Revision{3, 0}));
}

TEST(KeyedHash, SpreadsKeysAndDependsOnTheSecret) {
  const auto used_buckets = [](uint64_t secret) {
    const KeyedHash hash(secret);
    std::set<size_t> buckets;
    for (int i = 0; i < 1000; ++i) buckets.insert(hash("key/" + std::to_string(i)) % 1000);
    return buckets.size();
  };
  for (const uint64_t secret : {0ul, 1ul, 0x9e3779b97f4a7c15ul}) {
    EXPECT_GT(used_buckets(secret), 550u);  // of a random one: 632
  }
  EXPECT_NE(KeyedHash(1)("key"), KeyedHash(2)("key"));
  EXPECT_EQ(KeyedHash(1)("a key of some length"), KeyedHash(1)("a key of some length"));
  EXPECT_NE(KeyedHash(1)(std::string_view("a\0", 2)), KeyedHash(1)("a"));
  EXPECT_NE(KeyedHash(1)(""), KeyedHash(1)(std::string_view("\0", 1)));
}

}  // namespace
}  // namespace cairn
