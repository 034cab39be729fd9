// Answers that are produced while they are sent: in any pieces, at any pace, they are the same bytes.
#include "mvcc/kv/answer.h"

#include <gtest/gtest.h>

#include "base/random.h"
#include "mvcc/kv/test_store.h"

namespace cairn::mvcc {
namespace {

using test::DecodedTxn;
using test::TestStore;

// 300 keys, the even ones overwritten, every third deleted; then 2000 newer keys among them.
class AnswerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    for (int i = 0; i < 300; ++i) store_.put(name(i), std::string(static_cast<size_t>(i % 50), 'v'));
    for (int i = 0; i < 300; i += 2) store_.put(name(i), "newer");
    for (int i = 0; i < 300; i += 3) store_.remove(name(i));
    old_revision_ = store_.revision();
    for (int i = 0; i < 2000; ++i) store_.put("k050" + std::to_string(i), "new");
    (void)store_.store().publish();
  }
  static std::string name(int i) { return "k" + std::to_string(1000 + i).substr(1); }

  // Produced with random room and visits; `pauses` counts those.
  std::string in_pieces(RangeAnswer& answer, Random& random, int& pauses) {
    std::string out;
    while (!answer.done()) {
      std::string piece(random.between(1, 400), '\0');
      const auto n = answer.produce(store_.view().records, piece, random.between(1, 50));
      EXPECT_TRUE(n);
      pauses += answer.paused();
      if (!n || (*n == 0 && !answer.paused() && !answer.done())) break;
      out.append(piece, 0, *n);
    }
    return out;
  }

  TestStore store_;
  int64_t old_revision_ = 0;
};

TEST_F(AnswerTest, InPiecesItIsTheSameAsWhole) {
  const DecodedTxn txn(
      "compare { key: 'k001' target: VERSION version: 1 }"
      "success { request_range { key: 'k' range_end: 'l' } }"
      "success { request_range { key: 'k050' } }"
      "success { request_range { key: 'none' } }"
      "success { request_range { key: 'k' range_end: 'l' count_only: true } }"
      "success { request_range { key: 'k' range_end: 'l' keys_only: true revision: " +
      std::to_string(old_revision_) +
      " } }"
      "success { request_range { key: 'k' range_end: 'l' sort_order: DESCEND revision: " +
      std::to_string(old_revision_) +
      " } }"
      "success { request_range { key: 'k' range_end: 'l' sort_target: VALUE sort_order: DESCEND limit: 90 } }"
      "failure { request_range { key: 'k' } }");
  std::string whole;
  ASSERT_TRUE(test::run_read_txn(store_.view(), txn.request, whole));
  etcdserverpb::TxnResponse response;
  ASSERT_TRUE(response.ParseFromString(whole));
  EXPECT_EQ(response.responses_size(), 7);
  EXPECT_EQ(response.responses(4).response_range().kvs_size(), 200);
  Random random(3);
  int pauses = 0;
  for (int round = 0; round < 20; ++round) {
    ReadTxnNotes notes;
    const auto answer = open_read_txn(store_.view(), txn.request, {}, notes);
    ASSERT_TRUE(answer);
    EXPECT_EQ(notes.lowest_revision, old_revision_);
    EXPECT_EQ(notes.ranges, 8u) << "seven and the compare";
    EXPECT_EQ((*answer)->size(), whole.size());
    ASSERT_EQ(in_pieces(**answer, random, pauses), whole);
  }
  EXPECT_GT(pauses, 20);
}

// Between k050 and k051 of the old revision lie 2000 newer keys.
TEST_F(AnswerTest, NewerKeysAreSteppedOverAFewAtATime) {
  const RangeRequest request{.key = "k", .range_end = "l", .revision = old_revision_};
  const auto reader = RangeReader::open(store_.view(), request, old_revision_);
  ASSERT_TRUE(reader);
  std::string out(100'000, '\0');
  size_t used = 0;
  int pauses = 0;
  while (!(*reader)->done()) {
    const auto n = (*reader)->produce(store_.view().records, {out.data() + used, out.size() - used}, UINT64_MAX, 100);
    ASSERT_TRUE(n);
    used += *n;
    pauses += (*reader)->paused();
  }
  EXPECT_GE(pauses, 20) << "2300 entries by a hundred";
  EXPECT_EQ(used, (*reader)->kvs_bytes());
}

TEST_F(AnswerTest, WhatNobodyWaitsForIsGivenUpOnTheWay) {
  for (int i = 0; i < 25'000; ++i) store_.put("m" + std::to_string(i), "");
  (void)store_.store().publish();
  for (const RangeRequest& request : {RangeRequest{.key = "m", .range_end = "n", .sort_target = SortTarget::kValue},
                                      RangeRequest{.key = "m", .range_end = "n", .revision = old_revision_},
                                      RangeRequest{.key = "m", .range_end = "n", .keys_only = true}}) {
    int asked = 0;
    const auto after_one = [&] { return ++asked < 2; };
    const int64_t revision = request.revision > 0 ? request.revision : store_.revision();
    const auto reader = RangeReader::open(store_.view(), request, revision, after_one);
    ASSERT_FALSE(reader);
    EXPECT_EQ(reader.error().code, Code::kCancelled);
    EXPECT_EQ(asked, 2);
    EXPECT_TRUE(RangeReader::open(store_.view(), request, revision));
  }
}

TEST_F(AnswerTest, WhatATransactionTakesIsKnownFromTheIndex) {
  const auto cost = [&](const std::string& text) { return answer_cost(store_.view(), DecodedTxn(text).request); };
  const std::string all = "request_range { key: 'k' range_end: 'l' }";
  std::string bytes;
  ASSERT_TRUE(test::run_read_txn(store_.view(), DecodedTxn("success { " + all + " }").request, bytes));
  const uint64_t one = cost("success { " + all + " }").bytes;
  EXPECT_NEAR(static_cast<double>(one), static_cast<double>(bytes.size()), 100);
  EXPECT_EQ(cost("success { " + all + " } success { " + all + " }").bytes, 2 * one);
  EXPECT_EQ(cost("success { " + all + " } failure { " + all + " }").bytes, one) << "one of them runs";
  EXPECT_EQ(cost("success { request_txn { failure { " + all + " } } }").bytes, one);
  EXPECT_EQ(cost("success { request_delete_range { key: 'k' range_end: 'l' prev_kv: true } }").bytes, one);
  EXPECT_EQ(cost("success { request_delete_range { key: 'k' range_end: 'l' } }").bytes, 0u);
  EXPECT_GT(cost("success { request_range { key: 'k' range_end: 'l' sort_target: MOD } }").sorting_bytes, 2000u);
  EXPECT_GE(cost("compare { key: 'k' range_end: 'l' } " + std::string()).visits, 2000u);
}

}  // namespace
}  // namespace cairn::mvcc
