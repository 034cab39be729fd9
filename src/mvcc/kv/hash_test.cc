#include "mvcc/kv/hash.h"

#include <gtest/gtest.h>

#include "base/crc32c.h"
#include "base/random.h"
#include "mvcc/kv/test_store.h"
#include "storage/memory/engine.h"

namespace cairn::mvcc {
namespace {

using test::TestStore;

TEST(HashKv, IsOverTheNameAndCanonicalRecords) {
  TestStore store;
  EXPECT_EQ(store.hash(), crc32c(0, "key"));
  store.put("k", "v", 0);
  const std::string record("\x0a\x01k\x10\x02\x18\x02\x20\x01\x2a\x01v", 12);
  EXPECT_EQ(store.hash(), crc32c(crc32c(crc32c(0, "key"), storage::revision_key({2, 0})), record));
}

TEST(HashKv, IsTheSameBeforeAndAfterAPass) {
  const uint64_t seed = 20261121;
  SCOPED_TRACE(seed);
  Random random(seed);
  for (int life = 0; life < 60; ++life) {
    TestStore store;
    const int64_t changes = 5 + static_cast<int64_t>(random.below(60));
    for (int64_t i = 0; i < changes; ++i) {
      const std::string key(1, static_cast<char>('a' + random.below(5)));
      random.below(3) == 0 ? store.remove(key) : store.put(key, "v" + std::to_string(i));
      if (random.below(10) == 0) store.commit();
    }
    if (life % 3 == 0) store.remove(std::string("\0", 1), std::string("\0", 1));  // no key is alive
    const int64_t now = store.revision();
    const int64_t compact = 1 + static_cast<int64_t>(random.below(static_cast<uint64_t>(now)));
    const int64_t at = compact + static_cast<int64_t>(random.below(static_cast<uint64_t>(now - compact + 1)));
    store.compact(compact);
    const uint32_t before = store.hash();
    const uint32_t before_at = store.hash(at);
    store.commit();
    EXPECT_EQ(store.hash(), before) << "in the tables, not yet reclaimed";
    store.commit(compact);
    EXPECT_EQ(store.hash(), before) << "life " << life << ", revision " << now << ", compacted " << compact;
    EXPECT_EQ(store.hash(at), before_at) << "life " << life << ", at " << at << ", compacted " << compact;
  }
}

// What etcd hashes while it compacts: everything above the compaction before, and of the rest what that one keeps.
TEST(HashKv, OfACompactionIsOverWhatItCovers) {
  TestStore store;
  store.put("a", "1");  // 2
  store.put("b", "1");  // 3
  store.put("a", "2");  // 4
  const uint32_t never_compacted = store.hash(4);
  store.compact(4);
  EXPECT_EQ(store.hash_of_compaction(4, kNeverCompacted), never_compacted);
  const uint32_t question = store.hash(4);
  EXPECT_NE(question, never_compacted);
  store.put("a", "3");  // 5
  store.put("b", "2");  // 6
  store.commit();
  const uint32_t before = store.hash_of_compaction(6, 4);
  EXPECT_EQ(before, store.hash(6)) << "with the one before, a question before the compaction asks for the same";
  EXPECT_EQ(store.hash(4), question);
  store.commit(4);
  EXPECT_EQ(store.hash_of_compaction(6, 4), before) << "however far the pass of the one before has come";
}

// A compaction keeps a deletion at its own revision, so it filters although no key is alive. A question does not.
TEST(HashKv, OfACompactionCountsADeletionAtItsRevision) {
  const std::string all("\0", 1);
  for (const bool committed : {false, true}) {
    TestStore store;
    store.put("a", "1");  // 2
    store.put("b", "1");  // 3
    store.compact(3);
    store.remove(all, all);  // 4
    if (committed) store.commit();
    EXPECT_NE(store.hash_of_compaction(4, 3), store.hash(4));
    uint32_t expected = crc32c(0, "key");
    for (const auto& [sub, key] : {std::pair{0, "a"}, std::pair{1, "b"}}) {
      std::string bytes(encoded_size({.key = key}), '\0');
      encode({.key = key}, bytes.data());
      expected = crc32c(crc32c(expected, storage::revision_key({4, sub}) + "t"), bytes);
    }
    EXPECT_EQ(store.hash_of_compaction(4, 3), expected);
  }
}

// etcd does not see a key that was deleted and put again at the revision itself, and when it sees none, filters none.
TEST(HashKv, AKeyRenewedAtTheRevisionItselfDoesNotCount) {
  TestStore store;
  store.put("a", "1");  // 2
  store.put("a", "2");  // 3
  store.put("b", "1");  // 4
  store.compact(3);
  const uint32_t with_b = store.hash();
  store.txn(R"(success { request_delete_range { key: "\000" range_end: "\000" } }
               success { request_put { key: "a" value: "3" } })");  // 5
  const auto hash_of = [&](bool superfluous) {
    // What etcd's file holds after its compaction at 3: a's newest at 3, then everything.
    uint32_t hash = crc32c(0, "key");
    const auto add = [&](Revision revision, bool tombstone, const KeyValue& kv) {
      std::string bytes(encoded_size(kv), '\0');
      encode(kv, bytes.data());
      hash = crc32c(crc32c(hash, storage::revision_key(revision) + (tombstone ? "t" : "")), bytes);
    };
    if (superfluous) {
      add({3, 0}, false, {.key = "a", .create_revision = 2, .mod_revision = 3, .version = 2, .value = "2"});
    }
    add({4, 0}, false, {.key = "b", .create_revision = 4, .mod_revision = 4, .version = 1, .value = "1"});
    add({5, 0}, true, {.key = "a"});
    add({5, 1}, true, {.key = "b"});
    add({5, 2}, false, {.key = "a", .create_revision = 5, .mod_revision = 5, .version = 1, .value = "3"});
    return hash;
  };
  EXPECT_EQ(store.hash(), hash_of(true));
  store.put("c", "1");
  store.commit(3);
  EXPECT_EQ(store.hash(5), hash_of(true)) << "from the tables as well";
  EXPECT_NE(store.hash(4), store.hash(5));
  EXPECT_EQ(store.hash(4), with_b);
}

// A restore that bumps the revision leaves a record without bytes: for etcd the key "", which is alive for ever.
TEST(HashKv, AJumpOfTheRevisionCountsAndTheNewestOneOnly) {
  const auto engine = *storage::open_memory();
  const std::string first = storage::revision_key({10, 0});
  const std::string second = storage::revision_key({20, 0});
  const std::string old = storage::revision_key({5, 0});
  std::string record(encoded_size({.key = "k", .create_revision = 5, .mod_revision = 5, .version = 1}), '\0');
  encode({.key = "k", .create_revision = 5, .mod_revision = 5, .version = 1}, record.data());
  const std::string bytes = old + record;
  storage::Commit commit;
  const std::vector<storage::Change> changes = {
      {.data = bytes.data(), .key_bytes = 17, .value_bytes = static_cast<uint32_t>(record.size())},
      {.data = first.data(), .key_bytes = 17},
      {.data = second.data(), .key_bytes = 17}};
  commit.changes[static_cast<size_t>(storage::Table::kKey)] = changes;
  const auto file = engine->commit(commit)->view;
  const auto hash_of = [&](int64_t revision, int64_t compacted) {
    const Index index;  // the record of 5 is superfluous: no key is alive
    KvHasher hasher(index.published(), revision, compacted);
    const RecordView records{file.get(), 30, {}, {}};
    while (true) {
      const auto done = hasher.step(records, 2);
      EXPECT_TRUE(done);
      if (!done || *done) return hasher.hash();
    }
  };
  const auto over = [](std::initializer_list<std::string_view> parts) {
    uint32_t hash = crc32c(0, "key");
    for (const std::string_view part : parts) hash = crc32c(hash, part);
    return hash;
  };
  EXPECT_EQ(hash_of(25, 20), over({second}));
  EXPECT_EQ(hash_of(15, 10), over({first})) << "the second is above the revision";
  EXPECT_EQ(hash_of(25, 10), over({second})) << "the first is superseded, and the second above the compaction";
  EXPECT_EQ(hash_of(25, 3), over({old, record, first, second})) << "all are above the compaction";
}

}  // namespace
}  // namespace cairn::mvcc
