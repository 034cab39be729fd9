#include "mvcc/kv/range.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/errors.h"
#include "base/random.h"
#include "mvcc/kv/test_store.h"

namespace cairn::mvcc {
namespace {

using test::TestStore;

constexpr const char* kAll = R"(key: "\000" range_end: "\000" )";

std::string all(const std::string& more) { return kAll + more; }

// a to e, created in this order; c is put twice more, and a once: versions 2 1 3 1 1.
class RangeTest : public ::testing::Test {
 protected:
  void SetUp() override {
    for (const char* key : {"a", "b", "c", "d", "e"}) store_.put(key, std::string("v-") + key, 5);  // 2 to 6
    store_.put("c", "second");                                                                      // 7
    store_.put("c", "w");                                                                           // 8
    store_.put("a", "z", 7);                                                                        // 9
  }
  TestStore store_;
};

TEST_F(RangeTest, KeysOnlyLeavesOutValueAndLease) {
  const auto response = store_.range(R"(key: "a" keys_only: true)");
  ASSERT_EQ(response.kvs_size(), 1);
  EXPECT_EQ(response.kvs(0).ShortDebugString(), R"(key: "a" create_revision: 2 mod_revision: 9 version: 2)");
}

TEST_F(RangeTest, WhatADeleteTakesIsReckonedByItsFirstKeys) {
  store_.put("f" + std::string(99, 'x'), "v");
  const auto count = [&](std::string_view key, std::string_view end) {
    const DeleteCount found = count_deletes(store_.view().root, KeyInterval::of(key, end));
    return std::pair(found.keys, found.key_bytes);
  };
  EXPECT_EQ(count("a", "f"), std::pair(uint64_t{5}, uint64_t{5}));
  EXPECT_EQ(count("e", std::string_view("\0", 1)), std::pair(uint64_t{2}, uint64_t{101}));
  EXPECT_EQ(count("x", "y"), std::pair(uint64_t{0}, uint64_t{0}));
}

TEST_F(RangeTest, KeysOnlySortedByValueKeepsTheLease) {
  const auto response = store_.range(R"(key: "a" keys_only: true sort_target: VALUE)");
  ASSERT_EQ(response.kvs_size(), 1);
  EXPECT_EQ(response.kvs(0).ShortDebugString(), R"(key: "a" create_revision: 2 mod_revision: 9 version: 2 lease: 7)");
}

TEST_F(RangeTest, KeysOnlyAtAnOlderRevisionHasThatRevisionsNumbers) {
  const auto response = store_.range(R"(key: "c" keys_only: true revision: 7)");
  ASSERT_EQ(response.kvs_size(), 1);
  EXPECT_EQ(response.kvs(0).ShortDebugString(), R"(key: "c" create_revision: 4 mod_revision: 7 version: 2)");
}

TEST_F(RangeTest, CountIgnoresLimitAndFilters) {
  const auto limited = store_.range(all("limit: 2"));
  EXPECT_EQ(limited.kvs_size(), 2);
  EXPECT_EQ(limited.count(), 5);
  EXPECT_TRUE(limited.more());
  const auto filtered = store_.range(all("min_mod_revision: 1000"));
  EXPECT_EQ(filtered.kvs_size(), 0);
  EXPECT_EQ(filtered.count(), 5);
  EXPECT_FALSE(filtered.more());
}

TEST_F(RangeTest, MoreOnlyWhenFilteredKeysAreLeft) {
  EXPECT_TRUE(store_.range(all("limit: 1 min_mod_revision: 8")).more());
  EXPECT_FALSE(store_.range(all("limit: 2 min_mod_revision: 8")).more());
  EXPECT_FALSE(store_.range(all("limit: 5")).more());
}

TEST_F(RangeTest, CountOnlyIgnoresEverythingElse) {
  const auto response = store_.range(all("count_only: true limit: 1 sort_order: DESCEND min_mod_revision: 1000"));
  EXPECT_EQ(response.kvs_size(), 0);
  EXPECT_EQ(response.count(), 5);
  EXPECT_FALSE(response.more());
}

TEST_F(RangeTest, WithoutAnOrderTheLimitCountsBeforeTheSort) {
  EXPECT_EQ(store_.keys(all("limit: 2 sort_target: MOD")), "b c") << "a, b and c sorted by their mod revision: b c a";
  EXPECT_EQ(store_.keys(all("limit: 2 sort_target: MOD sort_order: ASCEND")), "b d");
  EXPECT_EQ(store_.keys(all("limit: 2 sort_target: MOD sort_order: DESCEND")), "a c");
}

TEST_F(RangeTest, WithFiltersTheLimitCountsAfterwards) {
  EXPECT_EQ(store_.keys(all("limit: 2 sort_target: MOD max_mod_revision: 6")), "b d");
}

TEST_F(RangeTest, SortsByEachTarget) {
  EXPECT_EQ(store_.keys(all("sort_order: DESCEND")), "e d c b a");
  EXPECT_EQ(store_.keys(all("sort_target: CREATE sort_order: DESCEND")), "e d c b a");
  EXPECT_EQ(store_.keys(all("sort_target: VALUE sort_order: ASCEND")), "b d e c a");
  EXPECT_EQ(store_.keys(all("sort_target: VERSION sort_order: DESCEND limit: 2")), "c a");
}

// Few are kept during the walk; one more than kFewMax are sorted. Both give the first of the whole list.
TEST(RangeOfFew, IsTheBeginningOfTheWholeList) {
  TestStore store;
  Random random(0x71);
  for (int i = 0; i < 600; ++i) store.put("k" + std::to_string(random.below(200)), "v");
  const auto list = [&](const std::string& how, int64_t limit) {
    return store.range(kAll + how + (limit > 0 ? " limit: " + std::to_string(limit) : ""));
  };
  for (const std::string target : {"VERSION", "CREATE", "MOD", "KEY"}) {
    for (const std::string more : {" sort_order: ASCEND", " sort_order: DESCEND", " max_create_revision: 90",
                                   " sort_order: DESCEND keys_only: true min_mod_revision: 120"}) {
      const std::string how = "sort_target: " + target + more;
      const auto whole = list(how, 0);
      for (const int64_t limit : {1, 2, 7, 99, 100, 101, 1000}) {
        const auto few = list(how, limit);
        const int64_t wanted = std::min<int64_t>(limit, whole.kvs_size());
        ASSERT_EQ(few.kvs_size(), wanted) << how;
        EXPECT_EQ(few.more(), whole.kvs_size() > limit) << how << " limit " << limit;
        for (int i = 0; i < few.kvs_size(); ++i) {
          ASSERT_EQ(few.kvs(i).SerializeAsString(), whole.kvs(i).SerializeAsString()) << how << " limit " << limit;
        }
      }
    }
  }
}

TEST_F(RangeTest, WhatIsNotSortedTakesNoMemoryForIt) {
  const auto bytes = [&](const std::string& how) {
    etcdserverpb::RangeRequest request;
    EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(all(how), &request));
    const std::string wire = request.SerializeAsString();
    return sorting_bytes(store_.view(), *decode_range(wire));
  };
  EXPECT_EQ(bytes("sort_target: CREATE sort_order: DESCEND limit: 1"), 0u);
  EXPECT_EQ(bytes("sort_target: MOD max_mod_revision: 9 limit: 100"), 0u);
  EXPECT_GT(bytes("sort_target: CREATE sort_order: DESCEND limit: 101"), 0u);
  EXPECT_GT(bytes("sort_target: CREATE sort_order: DESCEND"), 0u);
  EXPECT_GT(bytes("sort_target: VALUE sort_order: DESCEND limit: 1"), 0u) << "values are compared where they are";
}

TEST_F(RangeTest, FiltersAreInclusive) {
  EXPECT_EQ(store_.keys(all("min_mod_revision: 5 max_mod_revision: 8")), "c d e");
  EXPECT_EQ(store_.keys(all("min_create_revision: 3 max_create_revision: 4")), "b c");
  EXPECT_EQ(store_.keys(all("max_create_revision: -1")), "");
}

TEST_F(RangeTest, EndsOfIntervals) {
  EXPECT_EQ(store_.keys(R"(key: "b" range_end: "d")"), "b c");
  EXPECT_EQ(store_.keys(R"(key: "b" range_end: "\000")"), "b c d e");
  EXPECT_EQ(store_.keys(R"(key: "d" range_end: "b")"), "") << "the wrong way round is empty, not an error";
  EXPECT_EQ(store_.keys(R"(key: "b" range_end: "b")"), "");
}

TEST_F(RangeTest, RevisionsAreCheckedAgainstNowAndTheCompaction) {
  EXPECT_EQ(store_.try_range(R"(key: "a" revision: 10)").error().message, errors::future_rev().message);
  store_.compact(7);
  EXPECT_EQ(store_.try_range(R"(key: "a" revision: 6)").error().message, errors::compacted().message);
  EXPECT_EQ(store_.range(R"(key: "c" revision: 7)").kvs(0).value(), "second") << "the compacted revision is readable";
  EXPECT_EQ(store_.range(R"(key: "c" revision: -5)").kvs(0).value(), "w") << "below zero is now";
}

TEST_F(RangeTest, HeaderHasTheCurrentRevisionNotTheOneAskedFor) {
  EXPECT_EQ(store_.range(R"(key: "a" revision: 3)").header().revision(), 9);
}

TEST_F(RangeTest, RefusesWhatIsNoRequest) {
  EXPECT_EQ(store_.try_range("").error().message, errors::empty_key().message);
  EXPECT_EQ(check_range({.key = "a", .sort_order = static_cast<SortOrder>(3)}).error().message,
            errors::invalid_sort_option().message);
  EXPECT_EQ(check_range({.key = "a", .sort_target = static_cast<SortTarget>(-1)}).error().message,
            errors::invalid_sort_option().message);
}

TEST_F(RangeTest, AnswersAreTheSameFromBuffersAndTables) {
  const std::string before = store_.range(all("")).SerializeAsString();
  store_.commit();
  EXPECT_EQ(store_.range(all("")).SerializeAsString(), before);
  store_.put("c", "after");
  EXPECT_EQ(store_.range(all("revision: 9")).kvs_size(), 5);
  EXPECT_EQ(store_.range(R"(key: "c" revision: 9)").kvs(0).value(), "w");
}

TEST_F(RangeTest, PiecesOfAnySizeMakeTheSameAnswer) {
  const RangeRequest request{.key = std::string_view("\0", 1), .range_end = std::string_view("\0", 1)};
  (void)store_.store().publish();
  const StoreView view = store_.view();
  std::string whole;
  for (const size_t piece : {size_t{1}, size_t{3}, size_t{7}, size_t{1000}}) {
    const auto reader = *RangeReader::open(view, request, view.revision);
    std::string bytes;
    while (!reader->done()) {
      std::string part(piece, '\0');
      part.resize(*reader->produce(view.records, {part.data(), part.size()}));
      bytes += part;
    }
    EXPECT_EQ(bytes.size(), reader->kvs_bytes());
    if (whole.empty()) whole = bytes;
    EXPECT_EQ(bytes, whole) << piece;
  }
}

// Records in the table, in the frozen buffer and in the live one; answers in every order, at several revisions, cut
// into pieces of random sizes and numbers of keys: each is what single look-ups of its keys give.
TEST(RangePieces, AreWhatSingleLookUpsGive) {
  const uint64_t seed = 7;
  SCOPED_TRACE("seed " + std::to_string(seed));
  Random random(seed);
  TestStore store;
  std::vector<std::string> names;
  for (int i = 0; i < 300; ++i) names.push_back("k" + std::to_string(1000 + i));
  const auto change = [&](int count) {
    for (int i = 0; i < count; ++i) {
      const std::string& name = names[random.below(names.size())];
      if (random.one_in(8)) {
        store.remove(name);
      } else {
        store.put(name, std::string(random.one_in(20) ? random.below(3000) : random.below(90), 'v'),
                  random.one_in(3) ? 4 : 0);
      }
    }
  };
  change(500);
  const int64_t older = store.revision();
  change(200);
  store.commit();
  change(100);
  store.store().freeze();
  change(100);
  (void)store.store().publish();
  const StoreView view = store.view();

  for (int round = 0; round < 200; ++round) {
    RangeRequest request{.key = "k1050", .range_end = "k1250"};
    request.revision = random.one_in(2) ? 0 : older;
    request.limit = random.one_in(2) ? 0 : static_cast<int64_t>(1 + random.below(250));
    request.keys_only = random.one_in(4);
    if (random.one_in(2)) request.sort_order = random.one_in(2) ? SortOrder::kDescend : SortOrder::kAscend;
    if (random.one_in(3)) request.sort_target = random.one_in(2) ? SortTarget::kMod : SortTarget::kValue;
    if (random.one_in(5)) request.min_mod_revision = older - 100;
    const int64_t revision = *check_range_revision(request.revision, view, false);
    const auto reader = *RangeReader::open(view, request, revision);
    std::string bytes;
    while (!reader->done()) {
      std::string part(1 + random.below(random.one_in(2) ? 100 : 20'000), '\0');
      const auto made = reader->produce(view.records, {part.data(), part.size()}, 1 + random.below(100));
      ASSERT_TRUE(made) << made.error().message;
      bytes.append(part, 0, *made);
    }
    ASSERT_EQ(bytes.size(), reader->kvs_bytes());
    etcdserverpb::RangeResponse response;
    ASSERT_TRUE(response.ParseFromString(bytes));
    ASSERT_EQ(static_cast<uint64_t>(response.kvs_size()), reader->key_count());
    std::string before;
    for (const auto& kv : response.kvs()) {
      const auto record = *find_record(view, kv.key(), revision);
      ASSERT_TRUE(record) << kv.key();
      mvccpb::KeyValue expected;
      ASSERT_TRUE(expected.ParseFromArray(record->data(), static_cast<int>(record->size())));
      if (request.keys_only) {
        expected.clear_value();
        if (request.sort_target != SortTarget::kValue) expected.clear_lease();
      }
      ASSERT_EQ(kv.SerializeAsString(), expected.SerializeAsString());
      if (request.sort_target != SortTarget::kKey) continue;
      const bool descends = request.sort_order == SortOrder::kDescend;
      if (!before.empty()) {
        EXPECT_EQ(descends, kv.key() < before);
      }
      before = kv.key();
    }
    // Nothing is left out.
    uint64_t alive = 0;
    for (const std::string& name : names) {
      if (name < request.key || name >= request.range_end) continue;
      if (*find_record(view, name, revision)) ++alive;
    }
    EXPECT_EQ(static_cast<uint64_t>(reader->count()), alive);
    const uint64_t limit = request.limit > 0 ? static_cast<uint64_t>(request.limit) : alive;
    if (request.min_mod_revision == 0) {
      EXPECT_EQ(reader->key_count(), std::min(alive, limit));
    }
  }
}

// A reader keeps nothing of a record that did not fit: it reads the rest from where the record is by then.
TEST(RangeReader, ReadsTheRestOfARecordFromWhereItHasMoved) {
  TestStore store;
  const std::string value(100'000, 'v');
  store.put("a", value, 3);
  store.put(std::string(100'000, 'k'), "v", 3);
  for (const char* const form : {"", "keys_only: true", "keys_only: true sort_target: VALUE", "sort_target: MOD"}) {
    const std::string text = all(form);
    const std::string request_bytes = test::message<etcdserverpb::RangeRequest>(text).SerializeAsString();
    (void)store.store().publish();
    const auto reader = *RangeReader::open(store.view(), *decode_range(request_bytes), store.revision());
    std::string bytes;
    for (int i = 0; !reader->done(); ++i) {
      std::string part(10'000, '\0');
      const auto made = reader->produce(store.view().records, part);
      ASSERT_TRUE(made) << made.error().message;
      bytes.append(part, 0, *made);
      if (i == 3 || i == 13) {
        store.put("other", "what was in the buffer is in the file");
        store.commit();
      }
    }
    etcdserverpb::RangeResponse response;
    ASSERT_TRUE(response.ParseFromString(bytes));
    ASSERT_GE(response.kvs_size(), 2) << form;
    for (const auto& kv : response.kvs()) {
      mvccpb::KeyValue expected;
      ASSERT_TRUE(expected.ParseFromString(std::string(**find_record(store.view(), kv.key(), reader->revision()))));
      if (text.find("keys_only") != std::string::npos) {
        expected.clear_value();
        if (text.find("VALUE") == std::string::npos) expected.clear_lease();
      }
      EXPECT_EQ(kv.SerializeAsString(), expected.SerializeAsString()) << form;
    }
  }
}

// --- decoding -------------------------------------------------------------------------------------------------

TEST(DecodeRange, PassesOverFieldsOfAnotherType) {
  std::string bytes;
  wire::append_varint_field(bytes, 1, 5);  // the key as a number
  wire::append_bytes_field(bytes, 3, "limit as text");
  wire::append_bytes_field(bytes, 2, "end");
  const auto request = decode_range(bytes);
  ASSERT_TRUE(request);
  EXPECT_EQ(request->key, "");
  EXPECT_EQ(request->range_end, "end");
  EXPECT_EQ(request->limit, 0);
}

TEST(DecodeRange, OfAnEnumTheLowerHalfCounts) {
  std::string bytes;
  wire::append_bytes_field(bytes, 1, "a");
  wire::append_varint_field(bytes, 5, (uint64_t{1} << 32) + 2);
  EXPECT_EQ(decode_range(bytes)->sort_order, SortOrder::kDescend);
}

TEST(DecodeRange, RefusesBrokenBytes) {
  EXPECT_FALSE(
      decode_range("\x0a\x05"
                   "abc"));                                // cut
  EXPECT_FALSE(decode_range(std::string("\x02\x00", 2)));  // field 0
  EXPECT_FALSE(decode_range("\x0b"));                      // a group without an end
  EXPECT_TRUE(decode_range("\x7b\x7c"));                   // an unknown group
}

}  // namespace
}  // namespace cairn::mvcc
