#include "storage/write_buffer.h"

#include <cstring>

#include <gtest/gtest.h>

namespace cairn::storage {
namespace {

void append(WriteBuffer& buffer, Revision revision, std::string_view value, bool tombstone = false) {
  char* const to = buffer.append_record(revision, tombstone, value.size());
  if (!value.empty()) std::memcpy(to, value.data(), value.size());
}

TEST(WriteBuffer, APublishedRunStaysReadableWhileTheBufferGrows) {
  WriteBuffer buffer;
  append(buffer, {2, 0}, "two");
  const RunView early = buffer.run();
  for (int64_t main = 3; main < 5000; ++main) append(buffer, {main, 0}, std::to_string(main));
  EXPECT_EQ(early.find({2, 0}), "two");
  EXPECT_EQ(early.find({3, 0}), std::nullopt);
  const RunView late = buffer.run();
  EXPECT_EQ(late.find({4999, 0}), "4999");
  EXPECT_EQ(late.find({4999, 1}), std::nullopt);
  EXPECT_EQ(late.lower_bound({100, 1}), 99u);
}

TEST(WriteBuffer, TombstonesAreRecordsButNotValues) {
  WriteBuffer buffer;
  append(buffer, {7, 0}, "x");
  append(buffer, {7, 1}, "key", true);
  EXPECT_EQ(buffer.run().find({7, 1}), std::nullopt);
  buffer.freeze();
  const auto records = buffer.changes()[static_cast<size_t>(Table::kKey)];
  ASSERT_EQ(records.size(), 2u);
  EXPECT_EQ(records[1].key().size(), kTombstoneKeyBytes);
  EXPECT_TRUE(decode_record_key(records[1].key())->tombstone);
  EXPECT_EQ(decode_record_key(records[1].key())->revision, (Revision{7, 1}));
}

TEST(WriteBuffer, OtherTablesKeepTheLastChangeInKeyOrder) {
  WriteBuffer buffer;
  buffer.put(Table::kMeta, "term", "1");
  buffer.put(Table::kMeta, "consistent_index", "a");
  buffer.put(Table::kMeta, "consistent_index", "b");
  buffer.put(Table::kLease, "l", "v");
  buffer.erase(Table::kLease, "l");
  buffer.freeze();
  const auto changes = buffer.changes();
  const auto meta = changes[static_cast<size_t>(Table::kMeta)];
  ASSERT_EQ(meta.size(), 2u);
  EXPECT_EQ(meta[0].key(), "consistent_index");
  EXPECT_EQ(meta[0].value(), "b");
  EXPECT_EQ(meta[1].key(), "term");
  const auto lease = changes[static_cast<size_t>(Table::kLease)];
  ASSERT_EQ(lease.size(), 1u);
  EXPECT_TRUE(lease[0].erase);
}

TEST(RecordKey, RefusesOtherBytes) {
  EXPECT_FALSE(decode_record_key("short"));
  EXPECT_FALSE(decode_record_key(std::string(17, 'x')));
  std::string bad = revision_key({1, 2}) + "u";
  EXPECT_FALSE(decode_record_key(bad));
}

}  // namespace
}  // namespace cairn::storage
