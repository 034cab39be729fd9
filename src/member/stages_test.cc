// A lone member in one thread, over the real file system: what its stages do together.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "base/bytes.h"
#include "base/errors.h"
#include "member/requests.h"
#include "member/testing/inline_member.h"
#include "mvcc/kv/range.h"
#include "proto/raft_internal.pb.h"
#include "testing/temp_dir.h"

namespace cairn::member {
namespace {

constexpr Tag kTag = 7;

class Member : public testing::InlineMember {
 public:
  explicit Member(const std::string& data_dir, uint64_t buffer_entries_max = 50'000)
      : InlineMember(env::posix_fs(), bootstrap_options(data_dir), options(buffer_entries_max)) {}

  static BootstrapOptions bootstrap_options(const std::string& data_dir) {
    BootstrapOptions options;
    options.data_dir = data_dir;
    options.initial_cluster = {{"default", {"http://127.0.0.1:2380"}}};
    return options;
  }
  static MemberOptions options(uint64_t buffer_entries_max) {
    MemberOptions options;
    options.apply.snapshot_entries = 50;
    options.apply.snapshot_interval_ns = 0;
    options.apply.buffer_entries_max = buffer_entries_max;
    return options;
  }

  Proposal proposal(RequestKind kind, const google::protobuf::MessageLite& body) {
    return std::make_shared<const raft::Payload>(
        raft::Payload{.bytes = join_request(kind, body.SerializeAsString(), ++id_), .tag = kTag});
  }
  Error propose(RequestKind kind, const google::protobuf::MessageLite& body) {
    answered_.clear();
    InlineMember::propose({proposal(kind, body)});
    EXPECT_EQ(answered_.size(), 1u);
    return answered_.empty() ? Error{} : answered_.front();
  }
  void propose(const etcdserverpb::InternalRaftRequest& request) {
    InlineMember::propose({std::make_shared<const raft::Payload>(raft::Payload{.bytes = request.SerializeAsString()})});
  }
  int64_t put(std::string_view key, std::string_view value) {
    etcdserverpb::PutRequest request;
    request.set_key(std::string(key));
    request.set_value(std::string(value));
    const Error answer = propose(RequestKind::kPut, request);
    EXPECT_EQ(answer.code, Code::kOk) << answer.message;
    etcdserverpb::PutResponse response;
    EXPECT_TRUE(response.ParseFromString(answer.message));
    return response.header().revision();
  }
  std::optional<std::string> get(std::string_view key) {
    const auto state = reader_->enter();
    const auto record = mvcc::find_record(state->kv, key, state->kv.revision);
    EXPECT_TRUE(record);
    if (!record || !*record) return std::nullopt;
    return std::string(mvcc::decode_key_value(**record)->value);
  }
  void stop() {
    EXPECT_EQ(InlineMember::stop(), Ending::kSaved);
    EXPECT_TRUE(commit_->close());
  }

  uint64_t id_ = 0;
};

class StagesTest : public ::testing::Test {
 protected:
  const cairn::testing::TempDir folder_;
  const std::string path_ = folder_.path();
};

TEST_F(StagesTest, AloneItLeadsAfterOneVoteAndReadsNeedNoRound) {
  Member member(path_);
  const auto state = member.reader_->enter();
  EXPECT_TRUE(state->leader.is_leader);
  EXPECT_TRUE(state->leader.sole_member);
  EXPECT_TRUE(state->reads_alone);
  EXPECT_EQ(state->kv.revision, 1);
  EXPECT_EQ(state->members->members.size(), 1u);
}

TEST_F(StagesTest, AnsweredBeforeTheFileKnowsAndStillThereAfterARestart) {
  {
    Member member(path_);
    EXPECT_EQ(member.put("a", "1"), 2);
    EXPECT_EQ(member.put("a", "2"), 3);
    EXPECT_EQ(member.commits_, 0);
    EXPECT_EQ(member.get("a"), "2");
  }  // never committed to the db: only the WAL has it
  Member member(path_);
  EXPECT_EQ(member.get("a"), "2");
  EXPECT_EQ(member.put("b", "3"), 4);
  member.stop();
  EXPECT_GE(member.commits_, 1);
}

TEST_F(StagesTest, AfterARestartTheRaftLogReachesBackToTheOldestSegment) {
  std::vector<Term> terms;  // of the entries, as they were written
  for (int start = 0; start < 3; ++start) {
    Member member(path_);
    for (int i = 0; i < 5; ++i) member.put("k" + std::to_string(i), "v");
    const raft::Core& core = member.core_->replication().raft();
    while (terms.size() < core.last_index().value) terms.push_back(core.term());
    member.stop();
  }
  terms[0] = Term(1);  // the founder's
  BootstrapOptions options;
  options.data_dir = path_;
  auto opened = bootstrap(env::posix_fs(), options);
  ASSERT_TRUE(opened) << opened.error().message;
  const RaftLog& log = opened->raft_log;
  EXPECT_EQ(log.first_index(), Index(1));
  EXPECT_EQ(log.last_index(), Index(terms.size()));
  for (size_t i = 0; i < terms.size(); ++i) EXPECT_EQ(*log.term(Index(i + 1)), terms[i]) << i + 1;
  EXPECT_EQ(*log.term(Index(0)), Term(0));
}

TEST_F(StagesTest, ChangesGoToTheFileAfterASecondAndNothingHappensWhenIdle) {
  Member member(path_);
  member.wait(2'000'000'000);  // the first tables
  const int before = member.commits_;
  member.put("a", "1");
  member.wait(500'000'000);
  EXPECT_EQ(member.commits_, before);
  member.wait(600'000'000);
  EXPECT_EQ(member.commits_, before + 1);
  EXPECT_EQ(member.get("a"), "1");
  member.wait(60'000'000'000);
  EXPECT_EQ(member.commits_, before + 1);
  EXPECT_FALSE(member.apply().next_tick_ns());
}

TEST_F(StagesTest, TheFileIsNeverAheadOfTheHardState) {
  Member member(path_);
  for (int i = 0; i < 20; ++i) {
    member.put("k" + std::to_string(i), "v");
    member.wait(1'100'000'000);
    const auto index = member.commit_->engine().view()->get(storage::Table::kMeta, "consistent_index");
    ASSERT_TRUE(index && *index);
    EXPECT_LE(load_be64((*index)->data()), member.wal_->log().hard_state().commit.value);
  }
}

TEST_F(StagesTest, SnapshotPointsFollowTheOlderMetaPage) {
  Member member(path_);
  for (int i = 0; i < 400; ++i) {
    member.put("k", std::to_string(i));
    if (i % 40 == 0) member.wait(1'100'000'000);
  }
  EXPECT_GE(member.snapshots_, 2);
  const auto index = member.commit_->engine().view()->get(storage::Table::kMeta, "consistent_index");
  ASSERT_TRUE(index && *index);
  EXPECT_LT(member.wal_->log().newest_snapshot_index().value, load_be64((*index)->data()));
}

TEST_F(StagesTest, ARestartDoesNotBringTheNextSnapshotPointForward) {
  {
    Member member(path_);
    for (int i = 0; i < 110; ++i) {
      member.put("k", std::to_string(i));
      member.wait(1'100'000'000);
    }
    EXPECT_EQ(member.snapshots_, 2);
    member.stop();
  }
  Member member(path_);
  const Index newest = member.wal_->log().newest_snapshot_index();
  EXPECT_GE(newest.value, 100u);
  while (member.wal_->log().last_index() < newest + 50) {
    EXPECT_EQ(member.snapshots_, 0);
    member.put("k", "v");
    member.wait(1'100'000'000);
  }
  for (int i = 0; i < 5; ++i) {
    member.put("k", "v");
    member.wait(1'100'000'000);
  }
  EXPECT_EQ(member.snapshots_, 1);
}

TEST_F(StagesTest, ACompactionAtRevisionZeroIsRememberedAsEtcdRemembersIt) {
  etcdserverpb::CompactionRequest request;
  {
    Member member(path_);
    EXPECT_EQ(member.reader_->enter()->kv.compact_revision, mvcc::kNeverCompacted);
    EXPECT_EQ(member.propose(RequestKind::kCompaction, request).code, Code::kOk);
    EXPECT_EQ(member.propose(RequestKind::kCompaction, request), errors::compacted());
    for (int i = 0; i < 4; ++i) member.wait(1'100'000'000);
    EXPECT_EQ(member.apply().compaction_in_progress(), 0);
    member.stop();
  }
  Member member(path_);
  EXPECT_EQ(member.reader_->enter()->kv.compact_revision, 0);
  EXPECT_EQ(member.propose(RequestKind::kCompaction, request), errors::compacted());
}

TEST_F(StagesTest, AnOldGuardKeepsTheBuffersOfItsOwnStateAndNoOthers) {
  Member member(path_);
  member.put("a", "before");
  for (int i = 0; i < 3; ++i) member.wait(1'100'000'000);
  member.put("a", "buffered");
  const auto reader = member.core_->published().register_thread();
  const auto old = reader->enter();
  const auto read = [](const auto& state) {
    const auto record = mvcc::find_record(state->kv, "a", state->kv.revision);
    return record && *record ? std::string(mvcc::decode_key_value(**record)->value) : "";
  };
  for (int i = 0; i < 50; ++i) {
    member.put("a", std::to_string(i) + std::string(1000, 'x'));
    // One that sees a buffer while it is written, too: the states between are read by others.
    const auto other = member.core_->published().register_thread();
    const auto young = other->enter();
    member.wait(1'100'000'000);
    EXPECT_TRUE(read(young).starts_with(std::to_string(i) + "x"));
    EXPECT_LE(member.apply().retired_buffer_count(), 4u) << i;
  }
  member.wait(1'100'000'000);
  EXPECT_EQ(member.apply().retired_buffer_count(), 1u) << "what it reads is in no file of its own";
  EXPECT_EQ(read(old), "buffered");
  EXPECT_TRUE(member.get("a")->starts_with("49x"));
}

TEST_F(StagesTest, AFailedRequestChangesNothingAndTakesNoRevision) {
  Member member(path_);
  member.put("a", "1");
  etcdserverpb::PutRequest put;
  put.set_key("a");
  put.set_lease(99);
  EXPECT_EQ(member.propose(RequestKind::kPut, put), errors::lease_not_found());
  etcdserverpb::TxnRequest txn;
  txn.add_success()->mutable_request_put()->set_key("b");
  auto* const bad = txn.add_success()->mutable_request_put();
  bad->set_key("c");
  bad->set_ignore_value(true);
  EXPECT_EQ(member.propose(RequestKind::kTxn, txn), errors::key_not_found());
  EXPECT_EQ(member.get("b"), std::nullopt);
  EXPECT_EQ(member.put("a", "2"), 3);
}

TEST_F(StagesTest, ACompactionIsRefusedBelowAndAboveAndItsPassFreesRecords) {
  Member member(path_);
  for (int i = 0; i < 100; ++i) member.put("k", std::to_string(i));
  etcdserverpb::CompactionRequest compaction;
  compaction.set_revision(500);
  EXPECT_EQ(member.propose(RequestKind::kCompaction, compaction), errors::future_rev());
  compaction.set_revision(90);
  EXPECT_EQ(member.propose(RequestKind::kCompaction, compaction).code, Code::kOk);
  EXPECT_EQ(member.propose(RequestKind::kCompaction, compaction), errors::compacted());
  for (int i = 0; i < 10; ++i) member.wait(1'100'000'000);
  EXPECT_EQ(member.apply().compaction_in_progress(), 0);
  EXPECT_EQ(member.apply().counters().compacted_records, 88u);  // 2 .. 89
  const auto finished = member.commit_->engine().view()->get(storage::Table::kMeta, "finishedCompactRev");
  ASSERT_TRUE(finished && *finished);
  EXPECT_EQ(storage::decode_record_key(**finished)->revision.main, 90);
  EXPECT_EQ(member.get("k"), "99");
}

// The second compaction is in no commit yet when the first one's pass runs: after a crash the log tells it again, and
// the puts before it need the versions that were there.
TEST_F(StagesTest, APassRemovesNothingThatOnlyALaterCompactionMakesSuperfluous) {
  etcdserverpb::CompactionRequest compaction;
  {
    Member member(path_);
    member.put("k", "1");
    member.put("k", "2");
    member.wait(1'100'000'000);
    member.before_commit_ = [&] {
      member.put("k", "3");
      compaction.set_revision(4);
      EXPECT_EQ(member.propose(RequestKind::kCompaction, compaction).code, Code::kOk);
      member.put("other", "");  // what was trimmed is seen from the next published state on
    };
    compaction.set_revision(3);
    EXPECT_EQ(member.propose(RequestKind::kCompaction, compaction).code, Code::kOk);
    member.wait(100'000'000);
    EXPECT_FALSE(member.before_commit_);
    EXPECT_EQ(member.apply().counters().compacted_records, 1u);
  }  // a crash
  Member member(path_);
  const auto state = member.reader_->enter();
  const auto record = mvcc::find_record(state->kv, "k", state->kv.revision);
  ASSERT_TRUE(record && *record);
  const auto kv = mvcc::decode_key_value(**record);
  EXPECT_EQ(kv->value, "3");
  EXPECT_EQ(kv->create_revision, 2);
  EXPECT_EQ(kv->version, 3);
}

TEST_F(StagesTest, APassWaitsForReadersThatDoNotKnowOfTheCompaction) {
  Member member(path_, 3);
  member.put("k", "1");
  member.put("k", "2");
  member.wait(1'100'000'000);
  PublishedDomain::Pin pin;
  {
    const auto state = member.reader_->enter();
    etcdserverpb::CompactionRequest compaction;
    compaction.set_revision(3);
    etcdserverpb::PutRequest put;
    put.set_key("other");
    // One batch, and in the middle of it the buffer is full.
    member.InlineMember::propose({member.proposal(RequestKind::kCompaction, compaction),
                                  member.proposal(RequestKind::kPut, put), member.proposal(RequestKind::kPut, put)});
    pin = state.pin(2);
  }
  for (int i = 0; i < 10; ++i) member.wait(1'100'000'000);
  EXPECT_TRUE(member.reader_->enter()->kv.records.record({2, 0}));
  EXPECT_EQ(member.apply().compaction_in_progress(), 3);
  pin.release();
  for (int i = 0; i < 10; ++i) member.wait(1'100'000'000);
  EXPECT_EQ(member.apply().compaction_in_progress(), 0);
}

// The pages that a snapshot reads and the ones that a pass writes for them would lie in the file beside each other.
TEST_F(StagesTest, APassWaitsForASnapshotAndTheFileDoesNotGrowMeanwhile) {
  Member member(path_);
  const auto wait = [&] {
    for (int i = 0; i < 10; ++i) member.wait(1'100'000'000);
  };
  for (int i = 0; i < 400; ++i) member.put("k", std::string(10'000, 'v'));
  wait();
  std::shared_ptr<const storage::View> snapshot = member.reader_->enter()->file;
  const uint64_t in_use = member.apply().space().in_use_bytes;
  for (int i = 0; i < 3; ++i) {  // now and then there is a commit
    member.put("other", std::to_string(i));
    member.wait(1'100'000'000);
  }
  etcdserverpb::CompactionRequest compaction;
  compaction.set_revision(400);
  EXPECT_EQ(member.propose(RequestKind::kCompaction, compaction).code, Code::kOk);
  for (int i = 0; i < 30; ++i) {
    member.put("other", std::to_string(i));
    member.wait(1'100'000'000);
  }
  EXPECT_EQ(member.apply().compaction_in_progress(), 400);
  EXPECT_LT(member.apply().space().in_use_bytes, in_use + in_use / 10) << "what other commits replace comes free";
  snapshot.reset();
  wait();
  EXPECT_EQ(member.apply().compaction_in_progress(), 0);
  EXPECT_LT(member.apply().space().in_use_bytes, in_use / 5);
}

// A put that a quota allows, it allows after a restart as well, and space that a pass has freed is free then.
TEST_F(StagesTest, AfterARestartTheSpaceInUseIsWhatItWas) {
  uint64_t in_use = 0;
  uint64_t total = 0;
  {
    Member member(path_);
    for (int i = 0; i < 400; ++i) member.put("k", std::string(10'000, 'v'));
    etcdserverpb::CompactionRequest compaction;
    compaction.set_revision(401);
    EXPECT_EQ(member.propose(RequestKind::kCompaction, compaction).code, Code::kOk);
    for (int i = 0; i < 10; ++i) member.wait(1'100'000'000);
    EXPECT_EQ(member.apply().compaction_in_progress(), 0);
    in_use = member.apply().space().in_use_bytes;
    total = member.apply().space().total_bytes;
    EXPECT_LT(in_use, total / 4);
  }  // killed
  for (int i = 0; i < 6; ++i) {
    Member member(path_);
    EXPECT_LE(member.reader_->enter()->db_in_use_bytes, in_use + 20'000);
    member.put("k", std::string(10'000, 'v'));
    member.wait(1'100'000'000);
    EXPECT_LE(member.apply().space().total_bytes, total);
    in_use = member.apply().space().in_use_bytes;
  }
}

TEST_F(StagesTest, WhatIsBeingCommittedCountsAgainstTheQuota) {
  Member member(path_);
  member.put("k", std::string(1 << 20, 'v'));
  const auto in_use = [&] { return member.reader_->enter()->db_in_use_bytes; };
  const uint64_t before = in_use();
  uint64_t during = 0;
  member.before_commit_ = [&] { during = in_use(); };
  member.wait(1'100'000'000);
  EXPECT_GE(during, before);
  EXPECT_GE(in_use(), uint64_t{1} << 20);
}

TEST_F(StagesTest, LeasesOfTheLogHoldAndReleaseTheirKeys) {
  Member member(path_);
  etcdserverpb::InternalRaftRequest grant;
  grant.mutable_lease_grant()->set_id(5);
  grant.mutable_lease_grant()->set_ttl(100);
  member.propose(grant);
  etcdserverpb::PutRequest put;
  put.set_key("leased");
  put.set_lease(5);
  EXPECT_EQ(member.propose(RequestKind::kPut, put).code, Code::kOk);
  EXPECT_EQ(member.apply().lessor().find(5)->keys.size(), 1u);
  etcdserverpb::InternalRaftRequest revoke;
  revoke.mutable_lease_revoke()->set_id(5);
  member.propose(revoke);
  EXPECT_EQ(member.get("leased"), std::nullopt);
  EXPECT_EQ(member.apply().store().revision(), 3);
}

TEST_F(StagesTest, EnabledAuthIsPublishedAlsoAfterARestart) {
  {
    Member member(path_);
    etcdserverpb::InternalRaftRequest add;
    add.mutable_auth_user_add()->set_name("root");
    add.mutable_auth_user_add()->mutable_options()->set_no_password(true);
    member.propose(add);
    etcdserverpb::InternalRaftRequest grant;
    grant.mutable_auth_user_grant_role()->set_user("root");
    grant.mutable_auth_user_grant_role()->set_role("root");
    member.propose(grant);
    EXPECT_FALSE(member.reader_->enter()->auth->enabled());
    etcdserverpb::InternalRaftRequest enable;
    enable.mutable_auth_enable();
    member.propose(enable);
    EXPECT_TRUE(member.reader_->enter()->auth->enabled());
    EXPECT_EQ(member.commits_, 0);
  }  // only the log has it
  Member member(path_);
  const auto state = member.reader_->enter();
  EXPECT_TRUE(state->auth->enabled());
  ASSERT_NE(state->auth->find("root"), nullptr);
  EXPECT_TRUE(state->auth->find("root")->is_root);
}

}  // namespace
}  // namespace cairn::member
