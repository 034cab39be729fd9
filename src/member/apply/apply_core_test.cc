// What entries of the log do to keys, alarms and answers, over the memory engine.
#include "member/apply/apply_core.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include "base/errors.h"
#include "member/quota.h"
#include "member/requests.h"
#include "mvcc/kv/range.h"
#include "proto/raft_internal.pb.h"
#include "storage/memory/engine.h"

namespace cairn::member {
namespace {

using etcdserverpb::AlarmResponse;
using etcdserverpb::CompactionResponse;
using etcdserverpb::DeleteRangeResponse;
using etcdserverpb::PutResponse;
using etcdserverpb::TxnResponse;

constexpr uint64_t kMember = 77;
constexpr Tag kTag = 5;

class ApplyCoreTest : public ::testing::Test {
 protected:
  void SetUp() override { open({.member_id = kMember}); }

  void open(const ApplyOptions& options) {
    reader_.reset();
    engine_ = *storage::open_memory();
    AppliedState state;
    state.index = std::make_unique<mvcc::Index>();
    state.file = engine_->view();
    state.members.cluster_id = 9;
    core_ = std::make_unique<ApplyCore>(options, std::move(state), all_answers_, now_ns_);
    reader_ = core_->published().register_thread();
    ApplyBatch first;
    first.leader_state =
        LeaderState{.term = Term(3), .leader = NodeId(kMember), .is_leader = true, .sole_member = true};
    take(std::move(first));
    index_ = 0;
  }

  void take(ApplyBatch batch) {
    ASSERT_TRUE(core_->apply(std::move(batch), now_ns_));
    output_ = core_->take_output();
    answers_ = {};
    all_answers_.hand_out([this](unsigned, AnswerBatch one) { answers_ = std::move(one); });
  }

  // Applies one entry; the answer's error, or what it says in `out`.
  template <class Response>
  std::string apply(RequestKind kind, const std::string& bytes, Response* out) {
    ApplyBatch batch;
    batch.entries.push_back(
        {.term = Term(3),
         .index = Index(++index_),
         .data = std::make_shared<const raft::Payload>(
             raft::Payload{.bytes = kind == RequestKind::kOther ? bytes : join_request(kind, bytes, 1), .tag = kTag})});
    take(std::move(batch));
    const AnswerBatch& answers = answers_;
    EXPECT_EQ(answers.answers.size(), 1u);
    if (answers.answers.size() != 1) return "no answer";
    const std::string text(answers.text(answers.answers[0]));
    if (answers.answers[0].code != Code::kOk) return text;
    google::protobuf::io::CodedInputStream in(reinterpret_cast<const uint8_t*>(text.data()),
                                              static_cast<int>(text.size()));
    in.SetRecursionLimit(1000);
    EXPECT_TRUE(out->ParseFromCodedStream(&in));
    return "";
  }
  template <class Request>
  static std::string bytes_of(const std::string& text) {
    Request request;
    EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &request)) << text;
    return request.SerializeAsString();
  }
  std::string put(const std::string& text) {
    return apply(RequestKind::kPut, bytes_of<etcdserverpb::PutRequest>(text), &put_);
  }
  std::string remove(const std::string& text) {
    return apply(RequestKind::kDeleteRange, bytes_of<etcdserverpb::DeleteRangeRequest>(text), &removed_);
  }
  std::string txn(const std::string& text) {
    return apply(RequestKind::kTxn, bytes_of<etcdserverpb::TxnRequest>(text), &txn_);
  }
  std::string compact(const std::string& text) {
    return apply(RequestKind::kCompaction, bytes_of<etcdserverpb::CompactionRequest>(text), &compaction_);
  }
  std::string other(const std::string& text, google::protobuf::Message& out) {
    return apply(RequestKind::kOther, bytes_of<etcdserverpb::InternalRaftRequest>(text), &out);
  }
  std::string alarm(const std::string& text) { return other("header { ID: 1 } alarm {" + text + "}", alarms_); }

  std::string value(const std::string& key) {
    const auto state = reader_->enter();
    const auto record = mvcc::find_record(state->kv, key, state->kv.revision);
    EXPECT_TRUE(record);
    return !record || !*record ? "none" : std::string(mvcc::decode_key_value(**record)->value);
  }

  int64_t now_ns_ = 1;
  uint64_t index_ = 0;
  std::unique_ptr<storage::Engine> engine_;
  Answers all_answers_;
  AnswerBatch answers_;  // of loop 0
  std::unique_ptr<ApplyCore> core_;
  std::unique_ptr<PublishedDomain::Reader> reader_;
  ApplyOutput output_;
  PutResponse put_;
  DeleteRangeResponse removed_;
  TxnResponse txn_;
  CompactionResponse compaction_;
  AlarmResponse alarms_;
};

TEST_F(ApplyCoreTest, HeadersNameClusterMemberRevisionAndTerm) {
  ASSERT_EQ(put(R"(key: "a" value: "1")"), "");
  EXPECT_EQ(put_.header().ShortDebugString(), "cluster_id: 9 member_id: 77 revision: 2 raft_term: 3");
}

TEST_F(ApplyCoreTest, ALeaseIsLookedForBeforeTheKey) {
  EXPECT_EQ(put(R"(key: "a" lease: 5 ignore_value: true)"), errors::lease_not_found().message);
  EXPECT_EQ(put(R"(key: "a" ignore_value: true)"), errors::key_not_found().message);
  EXPECT_EQ(put(R"(key: "a" ignore_lease: true)"), errors::key_not_found().message);
  EXPECT_EQ(core_->store().revision(), 1);
}

TEST_F(ApplyCoreTest, PutAlwaysCountsAsAChangeAndDeleteOnlyWhenItFinds) {
  ASSERT_EQ(put(R"(key: "a" value: "same")"), "");
  ASSERT_EQ(put(R"(key: "a" value: "same" prev_kv: true)"), "");
  EXPECT_EQ(put_.header().revision(), 3);
  EXPECT_EQ(put_.prev_kv().mod_revision(), 2);
  ASSERT_EQ(remove(R"(key: "b")"), "");
  EXPECT_EQ(removed_.ShortDebugString(), "header { cluster_id: 9 member_id: 77 revision: 3 raft_term: 3 }");
  ASSERT_EQ(remove(R"(key: "a" range_end: "\000" prev_kv: true)"), "");
  EXPECT_EQ(removed_.deleted(), 1);
  EXPECT_EQ(removed_.prev_kvs(0).version(), 2);
  EXPECT_EQ(removed_.header().revision(), 4);
}

TEST_F(ApplyCoreTest, AFailedTransactionLeavesNothing) {
  ASSERT_EQ(put(R"(key: "a" value: "before")"), "");
  EXPECT_EQ(txn(R"(success { request_put { key: "a" value: "after" } } success { request_put { key: "b" lease: 4 } })"),
            errors::lease_not_found().message);
  EXPECT_EQ(value("a"), "before");
  ASSERT_EQ(put(R"(key: "c")"), "");
  EXPECT_EQ(put_.header().revision(), 3);
}

TEST_F(ApplyCoreTest, ATransactionMayNestDeeperThanTheParserLikes) {
  etcdserverpb::TxnRequest request;
  auto* at = &request;
  for (int i = 0; i < 120; ++i) at = at->add_success()->mutable_request_txn();
  at->add_success()->mutable_request_put()->set_key("deep");
  ASSERT_EQ(apply(RequestKind::kTxn, request.SerializeAsString(), &txn_), "");
  EXPECT_EQ(value("deep"), "");
}

TEST_F(ApplyCoreTest, CompactionIsRefusedBelowTheLastAndAboveNow) {
  ASSERT_EQ(put(R"(key: "a")"), "");
  ASSERT_EQ(put(R"(key: "a")"), "");
  EXPECT_EQ(compact("revision: 4"), errors::future_rev().message);
  ASSERT_EQ(compact("revision: 0"), "") << "nothing was compacted before";
  ASSERT_EQ(compact("revision: 3"), "") << "the current revision may be";
  EXPECT_EQ(compaction_.header().revision(), 3);
  EXPECT_EQ(compact("revision: 3"), errors::compacted().message);
}

TEST_F(ApplyCoreTest, AnOldRangeEntryIsAnsweredAtTheRevisionOfItsPlace) {
  ASSERT_EQ(put(R"(key: "a" value: "1")"), "");
  etcdserverpb::RangeResponse response;
  const auto range = [&](const std::string& text) {
    return apply(RequestKind::kRange, bytes_of<etcdserverpb::RangeRequest>(text), &response);
  };
  ASSERT_EQ(range(R"(key: "a")"), "");
  EXPECT_EQ(response.header().revision(), 2);
  EXPECT_EQ(response.kvs(0).value(), "1");
  EXPECT_EQ(range(R"(key: "a" revision: 3)"), errors::future_rev().message) << "a write before it counts once";
}

// --- alarms -------------------------------------------------------------------------------------------------------

TEST_F(ApplyCoreTest, NoSpaceStopsPutsAndNothingElse) {
  ASSERT_EQ(put(R"(key: "a" value: "1")"), "");
  ASSERT_EQ(alarm("action: ACTIVATE memberID: 77 alarm: NOSPACE"), "");
  EXPECT_EQ(put(R"(key: "a" value: "2")"), errors::no_space().message);
  EXPECT_EQ(txn(R"(failure { request_put { key: "b" } })"), errors::no_space().message) << "whatever the path";
  EXPECT_EQ(txn(R"(success { request_delete_range { key: "none" } })"), "");
  EXPECT_EQ(compact("revision: 1"), "");
  EXPECT_EQ(remove(R"(key: "a")"), "");
  EXPECT_EQ(value("a"), "none");
  EXPECT_EQ(put(R"(key: "a")"), errors::no_space().message) << "room alone does not end an alarm";
  ASSERT_EQ(alarm("action: DEACTIVATE memberID: 77 alarm: NOSPACE"), "");
  EXPECT_EQ(put(R"(key: "a")"), "");
}

TEST_F(ApplyCoreTest, CorruptStopsEverythingAndGoesFirst) {
  ASSERT_EQ(alarm("action: ACTIVATE memberID: 1 alarm: NOSPACE"), "");
  ASSERT_EQ(alarm("action: ACTIVATE memberID: 1 alarm: CORRUPT"), "");
  EXPECT_EQ(put(R"(key: "a")"), errors::corrupt().message);
  EXPECT_EQ(remove(R"(key: "a")"), errors::corrupt().message);
  EXPECT_EQ(txn(R"(success { request_delete_range { key: "a" } })"), errors::corrupt().message);
  EXPECT_EQ(compact("revision: 1"), errors::corrupt().message);
}

TEST_F(ApplyCoreTest, AlarmsAreListedByTypeAndChangedOnce) {
  ASSERT_EQ(alarm("action: ACTIVATE memberID: 1 alarm: NOSPACE"), "");
  EXPECT_EQ(alarms_.alarms_size(), 1);
  EXPECT_EQ(alarms_.header().revision(), 1);
  ASSERT_EQ(alarm("action: ACTIVATE memberID: 2 alarm: CORRUPT"), "");
  ASSERT_EQ(alarm("action: ACTIVATE memberID: 2"), "");
  EXPECT_EQ(alarms_.alarms_size(), 0) << "there is no alarm NONE";
  ASSERT_EQ(alarm("memberID: 99"), "");
  EXPECT_EQ(alarms_.alarms_size(), 2) << "the member is not looked at";
  ASSERT_EQ(alarm("alarm: CORRUPT"), "");
  EXPECT_EQ(alarms_.alarms_size(), 1);
  ASSERT_EQ(alarm("action: DEACTIVATE memberID: 1 alarm: CORRUPT"), "");
  EXPECT_EQ(alarms_.alarms_size(), 0) << "that member has no such alarm";
}

// --- quota --------------------------------------------------------------------------------------------------------

TEST_F(ApplyCoreTest, BeyondTheQuotaAPutIsWrittenRefusedAndRaisesTheAlarm) {
  open({.member_id = kMember, .quota_bytes = 1000});
  EXPECT_EQ(put(R"(key: "a" value: "1")"), "");
  const std::string big(2000, 'x');
  EXPECT_EQ(put("key: \"big\" value: \"" + big + "\""), errors::no_space().message);
  EXPECT_EQ(value("big"), big) << "every member has written it: it was in the log";
  ASSERT_EQ(output_.proposals.size(), 1u);
  EXPECT_EQ(output_.proposals[0]->bytes, alarm_request(kMember, kAlarmNoSpace, 0));
  EXPECT_EQ(put(R"(key: "b" value: "1")"), errors::no_space().message);
  EXPECT_EQ(output_.proposals.size(), 0u) << "asked for once";
  EXPECT_EQ(remove(R"(key: "big")"), "") << "costs nothing";
}

// As etcd: a lease costs 64 bytes, and is granted all the same.
TEST_F(ApplyCoreTest, ALeaseBeyondTheQuotaIsGrantedAndRefused) {
  etcdserverpb::InternalRaftRequest request;
  request.mutable_lease_grant()->set_id(7);
  request.mutable_lease_grant()->set_ttl(100);
  etcdserverpb::LeaseGrantResponse response;
  open({.member_id = kMember, .quota_bytes = 1000});
  EXPECT_EQ(apply(RequestKind::kOther, request.SerializeAsString(), &response), "");
  EXPECT_EQ(output_.proposals.size(), 0u);
  open({.member_id = kMember, .quota_bytes = 64});
  EXPECT_EQ(apply(RequestKind::kOther, request.SerializeAsString(), &response), errors::no_space().message);
  EXPECT_EQ(output_.proposals.size(), 1u);
  EXPECT_TRUE(core_->lessor().exists(7));
}

TEST_F(ApplyCoreTest, APutThatFailsRaisesNoAlarm) {
  open({.member_id = kMember, .quota_bytes = 100});
  EXPECT_EQ(put(R"(key: "a" ignore_value: true)"), errors::key_not_found().message);
  EXPECT_EQ(output_.proposals.size(), 0u);
  EXPECT_EQ(put(R"(key: "a")"), errors::no_space().message);
  EXPECT_EQ(output_.proposals.size(), 1u);
}

TEST_F(ApplyCoreTest, OfATransactionTheDearerBranchCounts) {
  open({.member_id = kMember, .quota_bytes = 1000});
  const std::string big(2000, 'x');
  EXPECT_EQ(txn("failure { request_txn { success { request_put { key: \"b\" value: \"" + big + "\" } } } }"),
            errors::no_space().message);
  EXPECT_EQ(txn(R"(success { request_range { key: "b" } })"), "");
}

// --- leases in the log --------------------------------------------------------------------------------------------

TEST_F(ApplyCoreTest, ARevokedLeaseTakesItsKeysInOneRevision) {
  etcdserverpb::LeaseGrantResponse granted;
  ASSERT_EQ(other("header { ID: 1 } lease_grant { ID: 4 TTL: 100 }", granted), "");
  EXPECT_EQ(granted.ttl(), 100);
  ASSERT_EQ(put(R"(key: "b" lease: 4)"), "");
  ASSERT_EQ(put(R"(key: "a" lease: 4)"), "");
  ASSERT_EQ(put(R"(key: "c" lease: 4)"), "");
  ASSERT_EQ(put(R"(key: "c")"), "") << "without a lease it is detached";
  etcdserverpb::LeaseRevokeResponse revoked;
  ASSERT_EQ(other("header { ID: 1 } lease_revoke { ID: 4 }", revoked), "");
  EXPECT_EQ(revoked.header().revision(), 6);
  EXPECT_EQ(value("a") + value("b") + value("c"), "nonenone");
  EXPECT_EQ(other("header { ID: 1 } lease_revoke { ID: 4 }", revoked), errors::lease_not_found().message);
}

}  // namespace
}  // namespace cairn::member
