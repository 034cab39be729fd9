#include "mvcc/kv/compare.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "base/random.h"
#include "mvcc/kv/test_store.h"

namespace cairn::mvcc {
namespace {

using test::DecodedTxn;

constexpr int kKeys = 200;

std::string key_of(uint64_t n) { return std::to_string(100 + n); }

class ComparerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    for (int i = 0; i < kKeys; ++i) store_.put(key_of(static_cast<uint64_t>(i)), "v" + std::to_string(i % 7));
  }
  test::TestStore store_;
};

std::string not_equal(const std::string& key, const std::string& end, const std::string& value) {
  return "compare { target: VALUE result: NOT_EQUAL key: '" + key + "' range_end: '" + end + "' value: '" + value +
         "' }";
}

TEST_F(ComparerTest, ComparesOfOverlappingIntervalsShareOneWalk) {
  std::string text;
  for (int i = 0; i < 30; ++i) text += not_equal("1", "\\000", "x" + std::to_string(i)) + not_equal("15", "2", "y");
  const DecodedTxn txn(text);
  const StoreView view = store_.view();
  Comparer comparer(view);
  EXPECT_TRUE(*comparer.all_hold(txn.request.compare));
  EXPECT_EQ(comparer.visits(), static_cast<uint64_t>(kKeys));
}

TEST_F(ComparerTest, EqualOnesAreEvaluatedOnceInTheWholeTransaction) {
  const DecodedTxn outer(not_equal("1", "3", "x") + not_equal("1", "3", "x"));
  const DecodedTxn inner(not_equal("1", "3", "x"));
  const DecodedTxn other(not_equal("1", "3", "v3"));
  const StoreView view = store_.view();
  Comparer comparer(view);
  EXPECT_TRUE(*comparer.all_hold(outer.request.compare));
  EXPECT_TRUE(*comparer.all_hold(inner.request.compare));
  EXPECT_EQ(comparer.visits(), static_cast<uint64_t>(kKeys));
  EXPECT_FALSE(*comparer.all_hold(other.request.compare));
  const uint64_t before = comparer.visits();
  EXPECT_FALSE(*comparer.all_hold(other.request.compare));
  EXPECT_EQ(comparer.visits(), before);
}

TEST_F(ComparerTest, AWalkIsGivenUpWhenNobodyWaits) {
  test::TestStore store;
  for (int i = 0; i < 5000; ++i) store.put(fmt::format("k{:04}", i), "v");
  (void)store.store().publish();
  const StoreView view = store.view();
  const DecodedTxn txn(R"(compare { key: "k" range_end: "l" target: VERSION version: 1 })");
  int asked = 0;
  Comparer comparer(view, [&] { return ++asked < 3; });
  const auto outcome = comparer.all_hold(txn.request.compare);
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().code, Code::kCancelled);
  EXPECT_LE(comparer.visits(), 3000U);
}

// Random compares, many of intervals that overlap, touch, repeat, are empty or lie the wrong way round, against one
// after the other by themselves.
TEST_F(ComparerTest, TogetherTheySayWhatEachSaysAlone) {
  Random random(1);
  int held = 0;
  for (int round = 0; round < 3000; ++round) {
    etcdserverpb::TxnRequest request;
    const uint64_t count = random.between(1, 6);
    for (uint64_t i = 0; i < count; ++i) {
      auto* const compare = request.add_compare();
      compare->set_key(key_of(random.below(kKeys + 20)));
      if (!random.one_in(4))
        compare->set_range_end(random.one_in(4) ? std::string(1, '\0') : key_of(random.below(kKeys)));
      compare->set_result(static_cast<etcdserverpb::Compare::CompareResult>(random.below(5)));
      switch (random.below(3)) {
        case 0:
          compare->set_target(etcdserverpb::Compare::VALUE);
          compare->set_value("v" + std::to_string(random.below(9)));
          break;
        case 1:
          compare->set_target(etcdserverpb::Compare::VERSION);
          compare->set_version(static_cast<int64_t>(random.below(3)));
          break;
        default:
          compare->set_target(etcdserverpb::Compare::MOD);
          compare->set_mod_revision(static_cast<int64_t>(random.below(kKeys)));
      }
    }
    const StoreView view = store_.view();
    bool each = true;
    for (const auto& compare : request.compare()) {
      etcdserverpb::TxnRequest alone;
      *alone.add_compare() = compare;
      each = each && *Comparer(view).all_hold(DecodedTxn(alone).request.compare);
    }
    ASSERT_EQ(*Comparer(view).all_hold(DecodedTxn(request).request.compare), each) << request.ShortDebugString();
    held += each;
  }
  EXPECT_GT(held, 100) << "both outcomes were seen";
}

}  // namespace
}  // namespace cairn::mvcc
