#include "mvcc/kv/txn.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/errors.h"
#include "mvcc/kv/test_store.h"

namespace cairn::mvcc {
namespace {

using test::DecodedTxn;
using test::TestStore;

class TxnTest : public ::testing::Test {
 protected:
  TestStore store_;
};

// --- compares ---------------------------------------------------------------------------------------------------

TEST_F(TxnTest, NestedComparesSeeTheStateBeforeTheTransaction) {
  store_.put("a", "old");
  const auto response = store_.txn(R"(
    success { request_put { key: "a" value: "new" } }
    success { request_txn {
      compare { target: VALUE key: "a" value: "old" }
      success { request_range { key: "a" } }
    } })");
  const auto& nested = response.responses(1).response_txn();
  EXPECT_TRUE(nested.succeeded()) << "compared with what was there before";
  EXPECT_EQ(nested.responses(0).response_range().kvs(0).value(), "new") << "read with what the transaction wrote";
}

TEST_F(TxnTest, AnEmptyIntervalComparesAgainstZerosButNeverByValue) {
  const auto succeeds = [&](const std::string& compare) { return store_.txn("compare {" + compare + "}").succeeded(); };
  EXPECT_TRUE(succeeds(R"(target: VERSION key: "a" range_end: "z")"));
  EXPECT_TRUE(succeeds(R"(target: CREATE key: "a")"));
  EXPECT_TRUE(succeeds(R"(target: MOD key: "a" result: LESS mod_revision: 1)"));
  EXPECT_FALSE(succeeds(R"(target: VALUE key: "a" value: "")"));
  EXPECT_FALSE(succeeds(R"(target: VALUE key: "a" result: NOT_EQUAL value: "x")"));
}

TEST_F(TxnTest, EveryKeyOfAnIntervalMustCompare) {
  store_.put("a", "x");
  store_.put("b", "x");
  const char* const both = R"(compare { target: VALUE key: "a" range_end: "\000" value: "x" })";
  EXPECT_TRUE(store_.txn(both).succeeded());
  store_.put("c", "y");
  EXPECT_FALSE(store_.txn(both).succeeded());
}

TEST_F(TxnTest, UnknownResultIsTrueAndUnknownTargetIsEqual) {
  etcdserverpb::TxnRequest request;
  auto* const compare = request.add_compare();
  compare->set_key("a");
  compare->set_version(77);
  compare->set_result(static_cast<etcdserverpb::Compare::CompareResult>(9));
  std::string bytes;
  ASSERT_TRUE(test::run_read_txn(store_.view(), DecodedTxn(request).request, bytes));
  EXPECT_NE(bytes.find(std::string("\x10\x01", 2)), std::string::npos) << "succeeded";
  compare->set_result(etcdserverpb::Compare::GREATER);
  compare->set_target(static_cast<etcdserverpb::Compare::CompareTarget>(9));
  bytes.clear();
  ASSERT_TRUE(test::run_read_txn(store_.view(), DecodedTxn(request).request, bytes));
  EXPECT_EQ(bytes.find(std::string("\x10\x01", 2)), std::string::npos) << "equal is not greater";
}

TEST_F(TxnTest, AMissingOperandCountsAsZero) {
  EXPECT_TRUE(store_.txn(R"(compare { target: VERSION key: "a" value: "not a version" })").succeeded());
}

// Each range is short; what is long is what the messages around them hold. The lengths of all levels must agree, also
// where the inner ones need fewer bytes than the outer ones.
TEST_F(TxnTest, LengthsOfNestedAnswersAgreeAtEveryDepth) {
  store_.put("a", "1");
  store_.put("large", std::string(70'000, 'v'));
  for (const int depth : {1, 2, 11, 40}) {
    etcdserverpb::TxnRequest request;
    auto* at = &request;
    for (int i = 0; i < depth; ++i) {
      at->add_success()->mutable_request_range()->set_key(i % 3 == 0 ? "large" : "a");
      at->add_success()->mutable_request_put()->set_key("key" + std::to_string(i));
      at = at->add_success()->mutable_request_txn();
    }
    at->add_success()->mutable_request_range()->set_key("large");
    std::string bytes;
    store_.store().begin();
    ASSERT_TRUE(run_write_txn(store_.store(), DecodedTxn(request).request, [](int64_t) { return true; }, {}, &bytes));
    store_.store().end();
    etcdserverpb::TxnResponse response;
    ASSERT_TRUE(response.ParseFromString(bytes));
    EXPECT_EQ(response.ByteSizeLong(), bytes.size()) << "canonical";
    const auto* in = &response;
    for (int i = 0; i < depth; ++i) {
      ASSERT_EQ(in->responses_size(), 3);
      ASSERT_EQ(in->responses(0).response_range().kvs_size(), 1);
      EXPECT_EQ(in->responses(0).response_range().kvs(0).key(), i % 3 == 0 ? "large" : "a");
      EXPECT_TRUE(in->responses(1).has_response_put());
      in = &in->responses(2).response_txn();
    }
    EXPECT_EQ(in->responses(0).response_range().kvs(0).value().size(), 70'000u);
  }
}

// --- which way it goes --------------------------------------------------------------------------------------------

TEST_F(TxnTest, WithoutOperationsItIsReadOnlyAndSerializable) {
  const TxnRequest empty;
  EXPECT_TRUE(is_read_only(empty));
  EXPECT_TRUE(is_serializable(empty));
  EXPECT_TRUE(store_.txn("").succeeded());
  EXPECT_EQ(store_.revision(), 1);
}

TEST_F(TxnTest, NestedRangesMakeItAWrite) {
  const DecodedTxn nested(R"(success { request_txn { success { request_range { key: "a" } } } })");
  EXPECT_FALSE(is_read_only(nested.request));
  const DecodedTxn ranges(R"(success { request_range { key: "a" serializable: true } }
                             failure { request_range { key: "a" } })");
  EXPECT_TRUE(is_read_only(ranges.request));
  EXPECT_FALSE(is_serializable(ranges.request));
}

// --- revisions ----------------------------------------------------------------------------------------------------

TEST_F(TxnTest, OneRevisionForAllItsChanges) {
  const auto response = store_.txn(R"(success { request_put { key: "a" } } success { request_put { key: "b" } })");
  EXPECT_EQ(response.header().revision(), 2);
  EXPECT_EQ(store_.revision(), 2);
  EXPECT_EQ(store_.range(R"(key: "b")").kvs(0).mod_revision(), 2);
}

TEST_F(TxnTest, WithoutAChangeTheRevisionStays) {
  EXPECT_EQ(store_.txn(R"(success { request_delete_range { key: "none" } })").header().revision(), 1);
  EXPECT_EQ(store_.revision(), 1);
}

TEST_F(TxnTest, SubResponsesHaveAHeaderWithTheRevisionOnly) {
  const auto response = store_.txn(R"(success { request_range { key: "a" } } success { request_put { key: "a" } })");
  EXPECT_EQ(response.responses(0).response_range().header().ShortDebugString(), "revision: 1");
  EXPECT_EQ(response.responses(1).response_put().header().ShortDebugString(), "revision: 2");
}

TEST_F(TxnTest, ARangeMayNotAskBeyondTheBeginning) {
  store_.put("a", "v");
  EXPECT_EQ(
      store_.txn_error(R"(success { request_put { key: "a" } } success { request_range { key: "a" revision: 3 } })"),
      errors::future_rev().message);
  EXPECT_EQ(store_.revision(), 2) << "nothing was written";
}

TEST_F(TxnTest, ANegativeRevisionIsBelowTheCompaction) {
  store_.put("a", "v");
  const char* const range = R"(success { request_range { key: "a" revision: -1 } })";
  EXPECT_EQ(store_.txn_error(range), "") << "nothing was compacted yet";
  store_.compact(1);
  EXPECT_EQ(store_.txn_error(range), errors::compacted().message);
}

// --- all or nothing -----------------------------------------------------------------------------------------------

TEST_F(TxnTest, AFailureWritesNothing) {
  store_.put("a", "before");
  EXPECT_EQ(store_.txn_error(R"(success { request_put { key: "a" value: "after" } }
                                success { request_put { key: "b" lease: 99 } })"),
            errors::lease_not_found().message);
  EXPECT_EQ(store_.txn_error(R"(success { request_put { key: "a" value: "after" } }
                                success { request_put { key: "b" ignore_value: true } })"),
            errors::key_not_found().message);
  EXPECT_EQ(store_.dump(), "a=before");
  EXPECT_EQ(store_.revision(), 2);
}

TEST_F(TxnTest, ThePathNotTakenIsNotValidated) {
  EXPECT_EQ(store_.txn_error(R"(failure { request_put { key: "b" lease: 99 } })"), "");
}

TEST_F(TxnTest, IgnoredPartsComeFromTheKeyBefore) {
  store_.put("a", "kept", 3);
  store_.txn(R"(success { request_put { key: "a" ignore_value: true ignore_lease: true prev_kv: true } })");
  EXPECT_EQ(store_.range(R"(key: "a")").kvs(0).ShortDebugString(),
            R"(key: "a" create_revision: 2 mod_revision: 3 version: 2 value: "kept" lease: 3)");
}

// A delete to the last key is not seen by the check for duplicates, so that a put may follow it.
TEST_F(TxnTest, AKeyDeletedByTheTransactionItselfIsNotThereToBeKept) {
  store_.put("a", "v");
  const std::string delete_all = R"(success { request_delete_range { key: "\000" range_end: "\000" } } )";
  EXPECT_EQ(store_.txn_error(delete_all + R"(success { request_put { key: "a" ignore_value: true } })"),
            errors::key_not_found().message);
  EXPECT_EQ(store_.txn_error(delete_all + R"(success { request_txn { success {
                             request_put { key: "a" ignore_lease: true } } } })"),
            errors::key_not_found().message);
  EXPECT_EQ(store_.dump(), "a=v") << "refused before its first write";
  EXPECT_EQ(store_.txn_error(R"(success { request_put { key: "a" ignore_value: true } } )" + delete_all), "")
      << "the other way round nothing is missing";
  EXPECT_EQ(store_.dump(), "");
}

TEST_F(TxnTest, DeleteAllAndPutInOneTransaction) {
  store_.put("a", "v");
  store_.put("b", "v");
  store_.txn(R"(success { request_delete_range { key: "\000" range_end: "\000" } }
                success { request_put { key: "b" value: "new" } })");
  EXPECT_EQ(store_.dump(), "b=new");
  EXPECT_EQ(store_.range(R"(key: "b")").kvs(0).version(), 1) << "a new life of the key";
  EXPECT_EQ(store_.range(R"(key: "b" revision: 3)").kvs(0).value(), "v");
}

// --- refused before the log ---------------------------------------------------------------------------------------

std::string check(const std::string& text) {
  const Status checked = check_txn(DecodedTxn(text).request, 128);
  return checked ? "" : checked.error().message;
}

TEST(CheckTxn, KeysMayBeTouchedOnce) {
  const std::string duplicate = errors::duplicate_key().message;
  EXPECT_EQ(check(R"(success { request_put { key: "a" } } success { request_put { key: "a" } })"), duplicate);
  EXPECT_EQ(check(R"(success { request_put { key: "a" } } success { request_delete_range { key: "a" } })"), duplicate);
  EXPECT_EQ(check(R"(success { request_delete_range { key: "a" range_end: "c" } }
                     success { request_txn { failure { request_put { key: "b" } } } })"),
            duplicate);
  EXPECT_EQ(check(R"(success { request_txn { success { request_put { key: "a" } } } }
                     success { request_txn { failure { request_put { key: "a" } } } })"),
            duplicate);
}

TEST(CheckTxn, WhatIsNoDuplicate) {
  EXPECT_EQ(check(R"(success { request_put { key: "a" } } failure { request_put { key: "a" } })"), "");
  EXPECT_EQ(check(R"(success { request_txn { success { request_put { key: "a" } }
                                             failure { request_put { key: "a" } } } })"),
            "");
  EXPECT_EQ(check(R"(success { request_delete_range { key: "a" } } success { request_delete_range { key: "a" } })"),
            "");
  EXPECT_EQ(check(R"(success { request_txn { success { request_put { key: "a" } } } }
                     success { request_txn { success { request_delete_range { key: "a" } } } })"),
            "")
      << "a put before the delete of a nested transaction";
  EXPECT_EQ(check(R"(success { request_delete_range { key: "a" range_end: "\000" } }
                     success { request_put { key: "b" } })"),
            "")
      << "to the last key is not looked at";
}

TEST(CheckTxn, TheBudgetIsSharedWithNestedTransactions) {
  etcdserverpb::TxnRequest request;
  for (int i = 0; i < 100; ++i) request.add_success()->mutable_request_range()->set_key("a");
  etcdserverpb::TxnRequest* nested = request.mutable_success(0)->mutable_request_txn();
  for (int i = 0; i < 28; ++i) nested->add_failure()->mutable_request_range()->set_key("a");
  EXPECT_TRUE(check_txn(DecodedTxn(request).request, 128));
  nested->add_failure()->mutable_request_range()->set_key("a");
  EXPECT_EQ(check_txn(DecodedTxn(request).request, 128).error().message, errors::too_many_ops().message);
}

TEST(CheckTxn, AnOperationWithNothingInItHasNoKey) {
  EXPECT_EQ(check("success {}"), errors::key_not_found().message);
  EXPECT_EQ(check(R"(compare { target: VALUE })"), errors::empty_key().message);
}

// --- without an answer ------------------------------------------------------------------------------------------

// What a transaction does to the store does not depend on whether somebody waits for its answer; and when nobody does,
// not even a range of everything that the transaction has just written is read.
TEST_F(TxnTest, AnAnswerThatNobodyWaitsForIsNotMadeButTheEffectsAreTheSame) {
  const auto run = [](TestStore& on, const std::string& text, std::string* out) {
    on.store().begin();
    EXPECT_TRUE(run_write_txn(on.store(), DecodedTxn(text).request, [](int64_t) { return true; }, {}, out)) << text;
    on.store().end();
  };
  TestStore replayed;
  for (
      const char* const text : {
          R"(success { request_put { key: "a" value: "1" lease: 3 } } success { request_put { key: "b" value: "2" } })",
          R"(success { request_range { key: "\000" range_end: "\000" } }
              success { request_put { key: "a" ignore_value: true prev_kv: true } }
              success { request_delete_range { key: "b" range_end: "c" prev_kv: true } }
              success { request_txn {
                compare { target: VERSION key: "a" version: 7 }
                success { request_put { key: "never" } }
                failure { request_put { key: "c" value: "3" prev_kv: true } }
                failure { request_range { key: "a" sort_target: VALUE range_end: "z" } }
              } })",
          R"(compare { target: VALUE key: "c" value: "3" }
              success { request_delete_range { key: "nothing" prev_kv: true } })",
      }) {
    std::string answer;
    run(store_, text, &answer);
    run(replayed, text, nullptr);
    EXPECT_FALSE(answer.empty());
    EXPECT_EQ(replayed.revision(), store_.revision()) << text;
    EXPECT_EQ(replayed.dump(), store_.dump()) << text;
    const auto hash = [](TestStore& of) {
      KvHasher hasher(of.view().root, of.revision(), kNeverCompacted);
      EXPECT_TRUE(hasher.step(of.view().records, 1000));
      return hasher.hash();
    };
    EXPECT_EQ(hash(replayed), hash(store_)) << text;
  }
  EXPECT_EQ(store_.dump(), "a=1 c=3");
}

// A transaction from the log that cannot be answered, of a member that catches up, is refused as it was everywhere.
TEST_F(TxnTest, WithoutAnAnswerTheSameTransactionsFail) {
  store_.put("a", "1");
  for (const char* const text :
       {R"(success { request_range { key: "a" revision: 99 } } success { request_put { key: "b" } })",
        R"(success { request_put { key: "b" } } success { request_put { key: "b2" ignore_value: true } })"}) {
    store_.store().begin();
    EXPECT_FALSE(run_write_txn(store_.store(), DecodedTxn(text).request, [](int64_t) { return true; }, {}, nullptr));
    store_.store().end();
    EXPECT_EQ(store_.dump(), "a=1");
    EXPECT_EQ(store_.revision(), 2);
  }
}

// --- counts -----------------------------------------------------------------------------------------------------

TEST_F(TxnTest, OperationsAreCountedByViewsAsInEtcd) {
  const auto counted = [&](const std::string& text) {
    const OpCounts before = store_.store().counts();
    (void)store_.try_txn(text);
    const OpCounts& now = store_.store().counts();
    return std::vector<uint64_t>{now.ranges - before.ranges, now.puts - before.puts, now.deletes - before.deletes,
                                 now.put_bytes - before.put_bytes, now.txns - before.txns};
  };
  using Counts = std::vector<uint64_t>;
  EXPECT_EQ(counted(R"(success { request_put { key: "a" value: "bcd" } })"), (Counts{0, 1, 0, 4, 0}));
  // A compare has the first view to itself; two of them are a transaction.
  EXPECT_EQ(counted(R"(compare { key: "a" result: GREATER }
                       success { request_put { key: "b" value: "1" } })"),
            (Counts{1, 1, 0, 2, 0}));
  EXPECT_EQ(counted(R"(compare { key: "a" result: GREATER } compare { key: "b" result: GREATER }
                       success { request_range { key: "b" } } success { request_put { key: "b" value: "1" } })"),
            (Counts{3, 1, 0, 2, 2}));
  // Up to the first compare that does not hold.
  EXPECT_EQ(counted(R"(compare { key: "a" } compare { key: "b" } compare { key: "c" }
                       failure { request_put { key: "b" } })"),
            (Counts{1, 1, 0, 1, 0}));
  // Previous values are looked for by the check and by the operation.
  EXPECT_EQ(counted(R"(success { request_put { key: "a" value: "2" prev_kv: true } })"), (Counts{2, 1, 0, 2, 1}));
  // Operations, not keys.
  EXPECT_EQ(counted(R"(success { request_delete_range { key: "a" range_end: "z" } })"), (Counts{0, 0, 1, 0, 0}));
  EXPECT_EQ(counted(R"(success { request_delete_range { key: "a" } })"), (Counts{0, 0, 1, 0, 0}));
  // One that fails has only looked.
  EXPECT_EQ(counted(R"(compare { key: "a" }
                       success { request_put { key: "a" } }
                       success { request_put { key: "none" ignore_value: true } })"),
            (Counts{2, 0, 0, 0, 1}));
}

}  // namespace
}  // namespace cairn::mvcc
