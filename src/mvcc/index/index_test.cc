#include "mvcc/index/index.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/random.h"
#include "mvcc/index/index_build.h"
#include "testing/scale.h"

namespace cairn::mvcc {
namespace {

std::string numbered(uint64_t i) {
  char text[24];
  std::snprintf(text, sizeof text, "/key/%09llu", static_cast<unsigned long long>(i));
  return text;
}

void let_go(Index& index) {
  while (index.reclaim({})) {
  }
}

TEST(Index, APutTellsWhatWasThereBefore) {
  Index index;
  EXPECT_EQ(index.put("a", {2, 0}, 10, 0), KeyState{});
  const KeyState first{.live = true, .mod = {2, 0}, .size = 10, .create = 2, .version = 1};
  EXPECT_EQ(index.locate("a"), first);
  EXPECT_EQ(index.put("a", {3, 4}, 12, 77), first);
  const KeyState second{.live = true, .mod = {3, 4}, .size = 12, .create = 2, .version = 2, .lease = 77};
  EXPECT_EQ(index.remove("a", {4, 0}), second);
  const KeyState dead = index.locate("a");
  EXPECT_FALSE(dead.live);
  EXPECT_EQ(dead.mod, (Revision{4, 0}));
  EXPECT_EQ(index.remove("a", {5, 0}), dead);  // nothing to delete
  EXPECT_EQ(index.put("a", {6, 0}, 9, 0), dead);
  EXPECT_EQ(index.locate("a").create, 6);
  EXPECT_EQ(index.locate("a").version, 1);
  const IndexRoot root = index.publish(6);
  EXPECT_EQ(root.find("a", 3)->mod, (Revision{3, 4}));
  EXPECT_EQ(root.find("a", 3)->size, 12u);
  EXPECT_FALSE(root.find("a", 3)->newest);
  EXPECT_FALSE(root.find("a", 4).has_value());
  EXPECT_FALSE(root.find("a", 5).has_value());
  EXPECT_TRUE(root.find("a", 6)->newest);
  EXPECT_FALSE(root.find("a", 1).has_value());
}

TEST(Index, OnlyThePublishedIsSeen) {
  Index index;
  index.put("a", {2, 0}, 1, 0);
  const IndexRoot first = index.publish(2);
  index.put("a", {3, 0}, 1, 0);
  index.put("b", {3, 1}, 1, 0);
  EXPECT_EQ(first.find("a")->mod, (Revision{2, 0}));
  EXPECT_FALSE(first.find("b").has_value());
  EXPECT_EQ(index.working().find("a")->mod, (Revision{3, 0}));
  EXPECT_EQ(index.published().tally({"", {}}).count, 1u);
  EXPECT_EQ(index.publish(3).tally({"", {}}).count, 2u);
  EXPECT_EQ(first.tally({"", {}}).count, 1u);
}

TEST(Index, ATallyIsTheLengthOfTheAnswer) {
  Index index;
  index.put("a", {2, 0}, 5, 0);
  index.put("b", {2, 1}, 127, 0);
  index.put("c", {2, 2}, 128, 0);
  index.put("d", {2, 3}, 1 << 20, 0);
  const IndexRoot root = index.publish(2);
  EXPECT_EQ(root.tally({"a", "b"}), (Tally{1, 7}));
  EXPECT_EQ(root.tally({"a", "d"}), (Tally{3, 7 + 129 + 131}));
  EXPECT_EQ(root.tally({"b", {}}), (Tally{3, 129 + 131 + (1 << 20) + 4}));
  EXPECT_EQ(root.tally({"b", "a"}), Tally{});
  EXPECT_EQ(root.tally({"b", "b"}), Tally{});
}

// A tombstone exactly at the compaction stays, an older one goes.
TEST(Index, ATombstoneAtTheCompactionStaysUntilTheNext) {
  Index index;
  index.put("at", {2, 0}, 1, 0);
  index.put("before", {3, 0}, 1, 0);
  index.remove("before", {4, 0});
  index.remove("at", {5, 0});
  IndexRoot root = index.publish(5);
  EXPECT_TRUE(root.keep_for_compaction("at", {5, 0}, 5));
  EXPECT_FALSE(root.keep_for_compaction("at", {2, 0}, 5));
  EXPECT_TRUE(root.keep_for_compaction("at", {2, 0}, 4));
  EXPECT_FALSE(root.keep_for_compaction("before", {4, 0}, 5));
  EXPECT_FALSE(root.keep_for_hash("at", {5, 0}, 5));
  EXPECT_TRUE(root.keep_for_hash("at", {2, 0}, 4));

  index.compact(5);
  EXPECT_FALSE(index.trim_step(INT64_MAX, 100));
  root = index.publish(5);
  EXPECT_TRUE(root.keep_for_compaction("at", {5, 0}, 5));
  EXPECT_EQ(index.locate("at").mod, (Revision{5, 0}));
  EXPECT_EQ(index.locate("before"), KeyState{});
  index.put("other", {6, 0}, 1, 0);
  index.compact(6);
  EXPECT_FALSE(index.trim_step(INT64_MAX, 100));
  EXPECT_EQ(index.locate("at"), KeyState{});
  root = index.publish(6);
  EXPECT_FALSE(root.keep_for_compaction("at", {5, 0}, 6));
  index.check();
}

TEST(Index, TrimmingStaysAboveTheFloorOfReaders) {
  Index index;
  for (int64_t main = 2; main <= 100; ++main) index.put("k", {main, 0}, static_cast<uint32_t>(main), 0);
  const IndexRoot old = index.publish(100);
  index.compact(100);
  EXPECT_FALSE(index.trim_step(40, 1000));
  const IndexRoot fresh = index.publish(100);
  for (int64_t main = 40; main <= 100; ++main) {
    EXPECT_EQ(old.find("k", main)->size, main);
    EXPECT_EQ(fresh.find("k", main)->size, main);
  }
  EXPECT_FALSE(index.trim_step(INT64_MAX, 1000));
  index.publish(100);
  let_go(index);
  EXPECT_EQ(index.stats().history_chunks, 0u);
  EXPECT_EQ(index.published().find("k")->version, 99);
}

TEST(Index, AStepOfTrimmingIsBounded) {
  Index index;
  for (uint64_t i = 0; i < 20000; ++i) index.put(numbered(i), {2, static_cast<int64_t>(i)}, 1, 0);
  for (uint64_t i = 0; i < 20000; ++i) index.remove(numbered(i), {3, static_cast<int64_t>(i)});
  index.publish(3);
  index.compact(4);
  int steps = 0;
  while (index.trim_step(INT64_MAX, 500)) ++steps;
  EXPECT_GE(steps, 20000 / 500 - 2);
  EXPECT_LE(steps, 200);
  index.publish(3);
  let_go(index);
  EXPECT_EQ(index.stats().nodes, 0u);
  index.check();
}

TEST(Index, NodesLiveExactlyAsLongAsAHeldBatchSeesThem) {
  Index index;
  for (uint64_t i = 0; i < 5000; ++i) index.put(numbered(i), {2, static_cast<int64_t>(i)}, 1, 0);
  const IndexRoot first = index.publish(2);
  let_go(index);
  const uint64_t settled = index.stats().nodes;
  EXPECT_EQ(index.stats().retired_blocks, 0u);

  index.put(numbered(17), {3, 0}, 1, 0);
  const IndexRoot second = index.publish(3);
  index.put(numbered(17), {4, 0}, 1, 0);
  index.publish(4);
  const uint64_t path = index.stats().retired_blocks / 2;  // each put replaced the path of one leaf
  EXPECT_GE(path, 3u);
  const uint64_t both[] = {first.batch(), second.batch()};
  index.reclaim(both);
  EXPECT_EQ(index.stats().retired_blocks, 2 * path);
  index.reclaim(std::span(both).subspan(0, 1));
  EXPECT_EQ(index.stats().retired_blocks, path);  // what only the second saw is gone
  EXPECT_EQ(first.find(numbered(17))->mod.main, 2);
  EXPECT_TRUE(index.reclaim({}, path - 1));
  EXPECT_FALSE(index.reclaim({}, 2));
  EXPECT_EQ(index.stats().retired_blocks, 0u);
  EXPECT_EQ(index.stats().nodes, settled);
}

TEST(Index, NothingIsCopiedTwiceInABatch) {
  Index index;
  for (uint64_t i = 0; i < 100; ++i) index.put(numbered(i), {2, static_cast<int64_t>(i)}, 1, 0);
  index.publish(2);
  for (int64_t i = 0; i < 1000; ++i) index.put(numbered(17), {3 + i, 0}, 1, 0);
  EXPECT_LE(index.stats().retired_blocks, 3u);
}

TEST(Index, AHistoryDoesNotGrowWithTheBatches) {
  Index index;
  constexpr int64_t kPuts = 100'000;
  for (int64_t main = 2; main < kPuts; ++main) {
    index.put("k", {main, 0}, 1, 0);
    index.publish(main);
    index.reclaim({});
  }
  EXPECT_LE(index.stats().block_bytes, kPuts * 16 + (128 << 10));
  EXPECT_LE(index.stats().history_chunks, 60u);
  for (int64_t main = 2; main < kPuts; main += 997) EXPECT_EQ(index.published().find("k", main)->mod.main, main);
  // A hot key lets its front go on touch, without a pass of its own getting there.
  index.compact(kPuts - 2000);
  while (index.trim_step(INT64_MAX, 1)) {
  }
  index.publish(kPuts);
  let_go(index);
  EXPECT_LE(index.stats().block_bytes, uint64_t{200} << 10);
  index.check();
}

TEST(Index, LargeKeysLieOutsideTheirLeaves) {
  Index index;
  std::vector<std::string> keys;
  constexpr int kKeys = cairn::testing::scaled(60);
  for (int i = 0; i < kKeys; ++i) keys.push_back(std::string(1'500'000, 'k') + std::to_string(100 + i));
  for (size_t i = 0; i < keys.size(); ++i) index.put(keys[i], {2, static_cast<int64_t>(i)}, 1, 5);
  const IndexRoot root = index.publish(2);
  index.check();
  EXPECT_LT(index.stats().block_bytes, uint64_t{kKeys + 10} * 1'500'200);
  for (const std::string& key : keys) EXPECT_EQ(root.find(key)->lease, 5);
  EXPECT_FALSE(root.find(std::string(1'500'000, 'k')).has_value());
  IndexCursor cursor(root, {"", {}});
  cursor.seek_last();
  EXPECT_EQ(cursor.key(), keys.back());
  for (size_t i = 0; i < keys.size(); ++i) index.remove(keys[i], {3, static_cast<int64_t>(i)});
  index.compact(4);
  while (index.trim_step(INT64_MAX, 10)) {
  }
  index.publish(4);
  let_go(index);
  EXPECT_EQ(index.stats().block_bytes, 0u);
}

// Ascending keys leave full leaves behind; any order keeps the rules; deleting all leaves nothing.
TEST(Index, AnyOrderOfInsertionAndDeletion) {
  constexpr uint64_t kKeys = 30'000;
  for (int order = 0; order < 4; ++order) {
    SCOPED_TRACE("order " + std::to_string(order));
    Random random(static_cast<uint64_t>(order));
    std::vector<std::string> keys;
    for (uint64_t i = 0; i < kKeys; ++i) keys.push_back(numbered(i));
    if (order == 1) std::reverse(keys.begin(), keys.end());
    if (order >= 2) {
      for (uint64_t i = kKeys - 1; i > 0; --i) std::swap(keys[i], keys[random.below(i + 1)]);
    }
    Index index;
    int64_t main = 1;
    for (const std::string& key : keys) {
      index.put(key, {++main, 0}, 1, 0);
      if (order != 3 && main % 10 == 0) {
        index.publish(main);
        index.reclaim({});
      }
    }
    index.publish(main);
    let_go(index);
    index.check();
    if (order == 0) {
      EXPECT_LE(index.stats().nodes, kKeys / 32 + kKeys / 32 / 40 + 4);
    }
    EXPECT_EQ(index.published().tally({"", {}}).count, kKeys);
    EXPECT_EQ(index.published().tally({numbered(100), numbered(1100)}).count, 1000u);
    if (order >= 2) {
      for (uint64_t i = kKeys - 1; i > 0; --i) std::swap(keys[i], keys[random.below(i + 1)]);
    }
    uint64_t left = kKeys;
    for (const std::string& key : keys) {
      index.remove(key, {++main, 0});
      if (--left % 1000 != 0) continue;
      index.compact(main);
      while (index.trim_step(INT64_MAX, 300)) {
      }
      index.publish(main);
      index.reclaim({});
      index.check();
      EXPECT_EQ(index.published().tally({"", {}}).count, left);
      EXPECT_LE(index.stats().nodes, 3 * (left / 16) + 8);  // space follows the keys
    }
    index.compact(main + 1);
    while (index.trim_step(INT64_MAX, 300)) {
    }
    index.publish(main + 1);
    let_go(index);
    EXPECT_EQ(index.stats().block_bytes, 0u);
  }
}

TEST(Index, ACountAtAnOlderRevisionVisitsOnlyWhatChanged) {
  Index index;
  for (uint64_t i = 0; i < 50'000; ++i) index.put(numbered(i), {2, static_cast<int64_t>(i)}, 1, 0);
  for (int64_t main = 3; main < 23; ++main) index.put(numbered(static_cast<uint64_t>(main) * 2000), {main, 0}, 1, 0);
  const IndexRoot root = index.publish(30);
  const auto part = root.tally_at({"", {}}, 2, 20 * 33);
  EXPECT_FALSE(part.more_from.has_value());
  EXPECT_EQ(part.tally.count, 50'000u);
}

TEST(IndexBuild, TombstonesAndCreateRevisionsComeFromTheRecords) {
  IndexBuilder builder;
  builder.add({.key = "gone", .mod = {5, 0}, .tombstone = true});  // its puts were compacted away
  builder.add({.key = "kept", .mod = {6, 0}, .size = 9, .create = 3, .version = 4, .lease = 8});
  builder.add({.key = "old", .mod = {7, 0}, .tombstone = true});
  builder.add({.key = "kept", .mod = {8, 0}, .size = 10, .create = 3, .version = 5});
  builder.add({.key = "reborn", .mod = {9, 0}, .tombstone = true});
  builder.add({.key = "reborn", .mod = {10, 0}, .size = 11, .create = 10, .version = 1});
  Index index;
  builder.finish(index, 7);
  const IndexRoot root = index.publish(10);
  EXPECT_EQ(index.locate("gone"), KeyState{});
  EXPECT_EQ(index.locate("old").mod, (Revision{7, 0}));
  EXPECT_EQ(root.find("kept")->create, 3);
  EXPECT_EQ(root.find("kept")->version, 5);
  EXPECT_EQ(root.find("kept", 7)->size, 9u);
  EXPECT_EQ(index.put("kept", {11, 0}, 1, 0).version, 5);
  EXPECT_FALSE(root.find("reborn", 9).has_value());
  EXPECT_EQ(root.tally({"", {}}).count, 2u);
  EXPECT_EQ(index.compacted(), 7);
  index.check();
}

TEST(IndexBuild, AnEmptyIndexIsSavedAndLoaded) {
  Index index;
  std::string bytes;
  IndexSaver saver(index.publish(1), 0);
  while (saver.next(bytes)) {
  }
  Index loaded;
  const auto info = load_index(bytes, loaded);
  ASSERT_TRUE(info.has_value());
  EXPECT_EQ(info->revision, 1);
  EXPECT_EQ(info->keys, 0u);
  EXPECT_EQ(loaded.publish(1).tally({"", {}}).count, 0u);
  Index built;
  IndexBuilder().finish(built, 0);
  EXPECT_EQ(built.publish(1).tally({"", {}}).count, 0u);
}

// A checkpoint of a held root does not have what came later, though histories are shared.
TEST(IndexBuild, ACheckpointIsOfItsRoot) {
  Index index;
  for (int64_t main = 2; main < 50; ++main) index.put("k", {main, 0}, static_cast<uint32_t>(main), 0);
  const IndexRoot held = index.publish(49);
  for (int64_t main = 50; main < 90; ++main) index.put("k", {main, 0}, static_cast<uint32_t>(main), 0);
  index.put("later", {90, 0}, 1, 0);
  index.publish(90);
  std::string bytes;
  IndexSaver saver(held, 20);
  while (saver.next(bytes)) {
  }
  Index loaded;
  ASSERT_TRUE(load_index(bytes, loaded).has_value());
  loaded.check();
  const IndexRoot root = loaded.publish(49);
  EXPECT_EQ(root.tally({"", {}}).count, 1u);
  for (int64_t main = 20; main < 50; ++main) EXPECT_EQ(root.find("k", main)->size, main);
  EXPECT_EQ(root.find("k")->mod.main, 49);
  // The records since then are put on top.
  loaded.restore({.key = "k", .mod = {50, 0}, .size = 50, .create = 2, .version = 49});
  EXPECT_EQ(loaded.working().find("k")->version, 49);
}

// Four threads make four rows of leaves; together they are one tree, which goes on like any other.
TEST(IndexBuild, PartsLoadedBesideEachOtherAreOneTree) {
  Index index;
  int64_t revision = 1;
  const auto key_of = [](int i) {
    return "key-" + std::to_string(100'000 + i) + std::string(i % 50 == 0 ? 300 : 0, 'x');
  };
  for (int i = 0; i < 5000; ++i) index.put(key_of(i), {++revision, 0}, 10, 0);
  for (int i = 0; i < 5000; i += 7) index.put(key_of(i), {++revision, 0}, 20, 0);
  std::string bytes;
  IndexSaver saver(index.publish(revision), 0);
  while (saver.next(bytes, 40)) {
  }
  Index loaded;
  const auto info = load_index(bytes, loaded, {.threads = 4, .part_keys_min = 100});
  ASSERT_TRUE(info) << info.error().message;
  EXPECT_EQ(info->keys, 5000u);
  loaded.check();
  EXPECT_EQ(loaded.stats().keys, 5000u);
  for (int i = 0; i < 5000; ++i) ASSERT_TRUE(loaded.working().find(key_of(i))) << i;
  // All of its blocks are its own: they can be freed, and their memory is given again.
  for (int i = 0; i < 5000; i += 2) loaded.remove(key_of(i), {++revision, 0});
  loaded.publish(revision);
  loaded.check();
  EXPECT_EQ(loaded.published().tally({"", {}}).count, 2500u);
}

// Two good parts in the wrong order: what neither of them can see.
TEST(IndexBuild, PartsInTheWrongOrderAreDamage) {
  const auto saved = [](char first) {
    Index index;
    int64_t revision = 1;
    for (int i = 0; i < 200; ++i) index.put(first + std::to_string(1000 + i), {++revision, 0}, 10, 0);
    std::string bytes;
    IndexSaver saver(index.publish(revision), 0);
    while (saver.next(bytes, 50)) {
    }
    return bytes;
  };
  // The blocks of "b" and then those of "a", with checksums that fit: only the order of keys is wrong.
  constexpr size_t kHeaderBytes = 28;
  constexpr size_t kTrailerBytes = 24;
  std::string joined = saved('b').substr(0, kHeaderBytes);
  auto crc = load_le<uint32_t>(joined.data() + 8);
  for (const char first : {'b', 'a'}) {
    const std::string part = saved(first);
    for (size_t at = kHeaderBytes; at + kTrailerBytes < part.size();) {
      const auto size = load_le<uint32_t>(part.data() + at);
      std::string block = part.substr(at, 12 + size);
      crc = crc32c(crc, std::string_view(block).substr(12));
      store_le(block.data() + 8, crc);
      joined += block;
      at += block.size();
    }
  }
  std::string counts(16, '\0');
  store_le(counts.data(), uint64_t{400});
  store_le(counts.data() + 8, uint64_t{400});
  std::string end(4, '\0');
  store_le(end.data(), crc32c(crc, counts));
  joined += std::string(4, '\0') + counts + end;
  for (const unsigned threads : {1u, 2u, 4u}) {
    Index index;
    const auto loaded = load_index(joined, index, {.threads = threads, .part_keys_min = 50});
    ASSERT_FALSE(loaded) << threads;
    EXPECT_EQ(loaded.error().code, Code::kDataLoss);
  }
}

}  // namespace
}  // namespace cairn::mvcc
