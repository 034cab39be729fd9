#include "storage/bolt/format.h"

#include <gtest/gtest.h>

#include "base/bytes.h"
#include "storage/bolt/page.h"
#include "storage/bolt/plan.h"

namespace cairn::storage::bolt {
namespace {

std::string from_hex(std::string_view text) {
  std::string bytes;
  for (size_t i = 0; i + 1 < text.size(); i += 2) {
    bytes += static_cast<char>(std::stoi(std::string(text.substr(i, 2)), nullptr, 16));
  }
  return bytes;
}

// The body of page 0 of a database that etcd 3.4.23 wrote.
const std::string kEtcdMeta = from_hex(
    "edda0ced020000000010000000000000"
    "08000000000000000000000000000000"
    "ffffffffffffffff0900000000000000"
    "0c00000000000000beaafd6cd79d81d4");

TEST(BoltFormat, ReadsAndWritesTheMetaOfEtcd) {
  const auto meta = decode_meta(kEtcdMeta);
  ASSERT_TRUE(meta);
  EXPECT_EQ(*meta, (Meta{.page_bytes = 4096, .root = 8, .freelist = kNoFreelist, .high_water = 9, .txid = 12}));
  std::string body(kMetaBytes, '\0');
  encode_meta(*meta, body.data());
  EXPECT_EQ(to_hex(body), to_hex(kEtcdMeta));
}

TEST(BoltFormat, RefusesAMetaWithAnyBitChanged) {
  for (size_t bit = 0; bit < kEtcdMeta.size() * 8; ++bit) {
    std::string body = kEtcdMeta;
    body[bit / 8] = static_cast<char>(body[bit / 8] ^ (1 << (bit % 8)));
    EXPECT_FALSE(decode_meta(body)) << bit;
  }
}

TEST(BoltFormat, ASealIsOfOneMetaAndWhole) {
  const Meta meta = *decode_meta(kEtcdMeta);
  const Lineage lineage{.opening = 3, .ancestor = {.opening = 4, .txid = 5}};
  const auto sealed = [](const std::string& page) { return page.substr(kHeaderBytes, kMetaBytes + kMetaSealBytes); };
  const std::string good = sealed(meta_page(meta, 0, 1024, lineage));
  EXPECT_EQ(decode_seal(good), lineage);
  EXPECT_EQ(decode_meta(good), meta);
  for (size_t bit = 0; bit < good.size() * 8; ++bit) {
    std::string bytes = good;
    bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ (1 << (bit % 8)));
    EXPECT_EQ(decode_seal(bytes), Lineage{}) << bit;
  }
  const std::string unsealed = meta_page(meta, 0, 1024);
  EXPECT_EQ(decode_seal(sealed(unsealed)), Lineage{});
  EXPECT_EQ(unsealed.find_first_not_of('\0', kHeaderBytes + kMetaBytes), std::string::npos);
}

TEST(BoltFormat, RefusesAMetaThatContradictsItself) {
  const Meta good = *decode_meta(kEtcdMeta);
  for (const Meta& bad : {Meta{.page_bytes = 4095, .root = 8, .high_water = 9, .txid = 1},
                          Meta{.page_bytes = 512, .root = 8, .high_water = 9, .txid = 1},
                          Meta{.page_bytes = 1 << 20, .root = 8, .high_water = 9, .txid = 1},
                          Meta{.page_bytes = 4096, .root = 9, .high_water = 9, .txid = 1},
                          Meta{.page_bytes = 4096, .root = 1, .high_water = 9, .txid = 1},
                          Meta{.page_bytes = 4096, .root = 8, .freelist = 9, .high_water = 9, .txid = 1}}) {
    std::string body(kMetaBytes, '\0');
    encode_meta(bad, body.data());
    EXPECT_FALSE(decode_meta(body));
  }
  std::string body(kMetaBytes, '\0');
  encode_meta(good, body.data());
  EXPECT_TRUE(decode_meta(body));
}

// Of the bucket "meta" in the same database.
TEST(BoltFormat, WritesTheInlinePageOfEtcd) {
  const std::string key = "consistent_index";
  const std::string value = from_hex("0000000000000039");
  const std::vector<Item> items = {Item::leaf(key, value)};
  std::string page(kHeaderBytes + items[0].bytes(), '\0');
  serialize_page(items, {.flags = kLeafFlag, .count = 1}, 0, page.data(), page.size());
  EXPECT_EQ(to_hex(page),
            "00000000000000000200010000000000"
            "00000000100000001000000008000000" +
                to_hex(key) + "0000000000000039");
}

// The branch page 5 of the same database.
TEST(BoltFormat, WritesTheBranchOfEtcd) {
  const std::string first = from_hex("00000000000000025f0000000000000000");
  const std::string second = from_hex("000000000000002b5f0000000000000000");
  const std::vector<Item> items = {Item::branch(first, 2), Item::branch(second, 3)};
  std::string page(kHeaderBytes + items[0].bytes() + items[1].bytes(), '\0');
  serialize_page(items, {.id = 5, .flags = kBranchFlag, .count = 2}, 0, page.data(), page.size());
  EXPECT_EQ(to_hex(page),
            "05000000000000000100020000000000"
            "20000000110000000200000000000000"
            "21000000110000000300000000000000" +
                to_hex(first) + to_hex(second));
  const Page read{.data = page.data(), .bytes = page.size(), .id = 5, .count = 2, .overflow = 0, .leaf = false};
  Entry entry;
  ASSERT_TRUE(read.layout_ok() && read.entry(1, entry));
  EXPECT_EQ(entry.key, second);
  EXPECT_EQ(entry.child, 3);
}

TEST(BoltFormat, NoticesEachChangedElementThatHasANeighbour) {
  const std::vector<Item> items = {Item::leaf("a", "first"), Item::leaf("bb", "second"), Item::leaf("ccc", "third")};
  std::string page(256, '\0');
  serialize_page(items, {.id = 7, .flags = kLeafFlag, .count = 3}, 0, page.data(), page.size());
  const auto readable = [](const std::string& bytes) {
    const Page read{.data = bytes.data(),
                    .bytes = bytes.size(),
                    .id = 7,
                    .count = load_header(bytes.data()).count,
                    .overflow = 0,
                    .leaf = true};
    if (!read.layout_ok()) return false;
    Entry entry;
    for (uint32_t i = 0; i < read.count; ++i) {
      if (!read.entry(i, entry)) return false;
    }
    return true;
  };
  ASSERT_TRUE(readable(page));
  for (size_t element = 0; element < items.size(); ++element) {
    const bool last = element + 1 == items.size();
    // pos, key size, value size; the last element's sizes have nothing to disagree with.
    for (size_t bit = 32; bit < (last ? 64 : 128); ++bit) {
      std::string bad = page;
      const size_t at = kHeaderBytes + element * kElementBytes + bit / 8;
      bad[at] = static_cast<char>(bad[at] ^ (1 << (bit % 8)));
      EXPECT_FALSE(readable(bad)) << "element " << element << " bit " << bit;
    }
  }
  for (size_t bit = 0; bit < 16; ++bit) {
    std::string bad = page;
    bad[10 + bit / 8] = static_cast<char>(bad[10 + bit / 8] ^ (1 << (bit % 8)));
    EXPECT_FALSE(readable(bad)) << "count bit " << bit;
  }
}

}  // namespace
}  // namespace cairn::storage::bolt
