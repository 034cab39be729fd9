// What a member decides between its stages, effect by effect: over a simulated disk, in one thread.
#include "member/member_core.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/errors.h"
#include "member/requests.h"
#include "member/testing/inline_member.h"
#include "mvcc/kv/requests.h"
#include "proto/raft_internal.pb.h"
#include "sim/disk/sim_fs.h"
#include "storage/memory/engine.h"

namespace cairn::member {
namespace {

constexpr int64_t kMs = 1'000'000;
constexpr int64_t kSecond = 1000 * kMs;

class MemberCoreTest : public ::testing::Test {
 protected:
  MemberCoreTest() {
    fs_.make_durable_directories("/srv");
    fs_.set_hook([this](const sim::Operation& operation) {
      const bool takes_room = operation.op == sim::Op::kWrite || operation.op == sim::Op::kAllocate;
      return db_is_full_ && takes_room && operation.path.ends_with("/db") ? sim::Fault::kNoSpace : sim::Fault::kNone;
    });
    bootstrap_.data_dir = "/srv/data";
    bootstrap_.initial_cluster = {{"default", {"http://127.0.0.1:2380"}}};
    bootstrap_.mapping_reserved_bytes = 64 << 20;
    bootstrap_.wal.segment_bytes = 64 << 10;
    options_.apply.commit_interval_ns = 3600 * kSecond;
  }

  void start() {
    member_.reset();
    member_ = std::make_unique<testing::InlineMember>(fs_, bootstrap_, options_);
    ASSERT_FALSE(member_->failed_);
  }
  static Proposal put(uint64_t number, size_t value_bytes = 1) {
    etcdserverpb::PutRequest request;
    request.set_key(std::to_string(number));
    request.set_value(std::string(value_bytes, 'v'));
    return std::make_shared<const raft::Payload>(
        raft::Payload{.bytes = join_request(RequestKind::kPut, request.SerializeAsString(), number), .tag = number});
  }
  // One by one, as different turns of an io thread bring them.
  void put_many(uint64_t first, uint64_t count, size_t value_bytes = 1) {
    for (uint64_t i = first; i < first + count; ++i) member_->propose({put(i, value_bytes)});
  }
  [[nodiscard]] size_t ok_count() const {
    return static_cast<size_t>(std::count_if(member_->answered_.begin(), member_->answered_.end(),
                                             [](const Error& answer) { return answer.code == Code::kOk; }));
  }
  [[nodiscard]] bool has_alarm() const { return member_->core_->published().newest().has_alarm(kAlarmNoSpace); }
  // Two buffers of two entries are full, and the commit of one is under way and does not end.
  void stall() {
    member_->commits_wait_ = true;
    put_many(1, 4);
    ASSERT_EQ(ok_count(), 4u);
  }

  sim::SimFileSystem fs_{{.mapping_bytes_max = 64 << 20}};
  bool db_is_full_ = false;
  BootstrapOptions bootstrap_;
  MemberOptions options_;
  std::unique_ptr<testing::InlineMember> member_;
};

TEST_F(MemberCoreTest, IsReadyOnceItLeadsAndWhatItAnnouncesIsApplied) {
  options_.announcement = {.name = "default", .client_urls = {"http://127.0.0.1:2379"}};
  start();
  EXPECT_EQ(member_->ready_, 1);
  const Index first = member_->apply().applied();
  EXPECT_EQ(member_->apply().members().version, "3.7.0");
  EXPECT_EQ(member_->stop(), Ending::kSaved);
  ASSERT_TRUE(member_->commit_->close());
  start();
  EXPECT_EQ(member_->ready_, 1);
  EXPECT_EQ(member_->apply().applied(), first + 1) << "the new term's first entry; nothing is said twice";
  options_.announcement.client_urls = {"http://127.0.0.1:9999"};
  EXPECT_EQ(member_->stop(), Ending::kSaved);
  ASSERT_TRUE(member_->commit_->close());
  start();
  EXPECT_EQ(member_->apply().applied(), first + 3);
}

TEST_F(MemberCoreTest, ProposalsWaitInOrderWhileTheLogHoldsTooMuchThatIsNotApplied) {
  options_.apply.buffer_entries_max = 2;
  bootstrap_.raft_log.memory_bytes_max = 1000;
  options_.unapplied_bytes_max = 8000;
  options_.waiting_bytes_max = 6000;
  start();
  stall();
  put_many(5, 16, 1000);
  EXPECT_TRUE(member_->core_->holds_proposals());
  EXPECT_TRUE(member_->refused_.empty());
  EXPECT_LE(member_->core_->replication().log_bytes(), 10'000u);
  EXPECT_LE(member_->core_->waiting_bytes(), 6000u);
  EXPECT_GT(member_->turned_away_, 0) << "the queue is full";
  const auto taken = 20 - static_cast<size_t>(member_->turned_away_);
  EXPECT_EQ(ok_count(), 4u);
  member_->commits_wait_ = false;
  member_->pump();
  EXPECT_EQ(ok_count(), taken);
  EXPECT_EQ(member_->core_->waiting_bytes(), 0u);
  int64_t revision = 1;
  for (const Error& answer : member_->answered_) {
    etcdserverpb::PutResponse response;
    ASSERT_TRUE(response.ParseFromString(answer.message));
    EXPECT_EQ(response.header().revision(), ++revision);
  }
}

// What is committed and not applied was acknowledged to nobody, so a client's read need not wait for it. A read index
// names it all the same, and is answered when the buffers have room again.
TEST_F(MemberCoreTest, AReadIndexThatIsAskedForDuringAStallIsAnsweredAtItsEnd) {
  options_.apply.buffer_entries_max = 2;
  start();
  stall();
  put_many(5, 3);
  EXPECT_TRUE(member_->core_->is_stalled());
  member_->events_.controls.push_back({.kind = Control::kLinearizable, .tag = 100});
  member_->pump();
  put_many(8, 2);
  EXPECT_EQ(ok_count(), 4u);
  EXPECT_TRUE(member_->core_->published().newest().reads_alone);
  member_->commits_wait_ = false;
  member_->pump();
  EXPECT_FALSE(member_->core_->is_stalled());
  EXPECT_EQ(ok_count(), 4u + 3u + 1u + 2u);
}

TEST_F(MemberCoreTest, ProposalsAreRefusedWhenTooManyEntriesHaveWaitedForTooLong) {
  options_.apply.buffer_entries_max = 2;
  options_.behind_entries_max = 3;
  start();
  stall();
  put_many(5, 10);
  EXPECT_TRUE(member_->refused_.empty()) << "a burst";
  member_->wait(kSecond - 1);
  put_many(15, 1);
  EXPECT_TRUE(member_->refused_.empty());
  member_->wait(1);
  put_many(16, 1);
  EXPECT_EQ(member_->refused_, (std::vector<Error>{errors::request_too_many_requests()}));
  member_->commits_wait_ = false;
  member_->pump();
  EXPECT_EQ(ok_count(), 15u);
  put_many(17, 1);
  EXPECT_EQ(ok_count(), 16u);
  EXPECT_EQ(member_->refused_.size(), 1u);
}

TEST_F(MemberCoreTest, ACommitWithoutRoomIsTriedAgainUntilThereIs) {
  options_.apply.buffer_entries_max = 2;
  start();
  member_->wait(kSecond);
  db_is_full_ = true;
  put_many(1, 6);
  const int before = member_->commits_;
  EXPECT_TRUE(member_->core_->is_stalled());
  ASSERT_TRUE(member_->wake_at_ns_);
  EXPECT_EQ(*member_->wake_at_ns_, member_->now_ns_ + 200 * kMs);
  member_->wait(199 * kMs);
  EXPECT_EQ(member_->commits_, before);
  member_->wait(kMs);
  EXPECT_EQ(member_->commits_, before + 1);
  db_is_full_ = false;
  member_->wait(200 * kMs);
  EXPECT_FALSE(member_->core_->is_stalled());
  EXPECT_EQ(ok_count(), 6u);
}

TEST_F(MemberCoreTest, AStopGivesADbWithoutRoomUpAndTheNextStartHasAll) {
  options_.apply.buffer_entries_max = 2;
  start();
  member_->wait(kSecond);
  db_is_full_ = true;
  put_many(1, 3);
  EXPECT_EQ(ok_count(), 3u);
  const int before = member_->commits_;
  EXPECT_EQ(member_->stop(), Ending::kNoRoom);
  EXPECT_EQ(member_->commits_, before + 1) << "once more, and no longer";
  db_is_full_ = false;
  start();
  EXPECT_EQ(member_->apply().store().revision(), 4);
}

// A start over a db that takes nothing comes to where it can be told to compact.
TEST_F(MemberCoreTest, WhatTheLogHoldsIsAppliedThoughTheDbTakesNothing) {
  start();
  put_many(1, 50);
  member_.reset();  // killed: only the log has them
  options_.apply.buffer_entries_max = 2;
  options_.apply.buffer_bytes_max = 600;
  db_is_full_ = true;
  start();
  EXPECT_EQ(member_->ready_, 1);
  EXPECT_EQ(member_->apply().store().revision(), 51);
  EXPECT_TRUE(member_->core_->is_beyond_buffers());
  put_many(51, 50, 100);
  EXPECT_LT(member_->apply().store().revision(), 70) << "and a little more";
  db_is_full_ = false;
  member_->wait(200 * kMs);
  EXPECT_EQ(member_->apply().store().revision(), 101);
}

TEST_F(MemberCoreTest, ADiskThatIsLowRaisesTheAlarmAndThenTheReserveIsGivenUp) {
  start();
  const auto look = [&] {
    member_->events_.disk_is_low = true;
    member_->pump();
  };
  look();
  EXPECT_TRUE(has_alarm());
  EXPECT_EQ(member_->reserves_, 0);
  look();
  EXPECT_EQ(member_->reserves_, 1);
  const Index applied = member_->apply().applied();
  look();
  EXPECT_EQ(member_->apply().applied(), applied) << "it is raised already";
  member_->events_.disk_is_low = false;
  member_->pump();
  EXPECT_EQ(member_->reserves_, 2);
  EXPECT_TRUE(has_alarm()) << "for a while: no_space_duty.h";
}

TEST_F(MemberCoreTest, AfterAStopHasBegunProposalsAreRefusedAndWhatIsInTheLogIsSaved) {
  start();
  put_many(1, 10);
  member_->commits_wait_ = true;
  EXPECT_EQ(member_->stop(), Ending::kNone) << "the db is not written yet";
  put_many(11, 1);
  EXPECT_EQ(member_->refused_, (std::vector<Error>{errors::stopped()}));
  member_->commits_wait_ = false;
  member_->pump();
  EXPECT_EQ(member_->ending_, Ending::kSaved);
  EXPECT_EQ(ok_count(), 10u);
}

TEST_F(MemberCoreTest, ASpareIsOrderedOnceASegmentAndACheckpointIsConsideredAfterACommit) {
  options_.rest_after_ns = 3 * 3600 * kSecond;
  options_.spare_mark_bytes = 8 << 10;
  start();
  EXPECT_EQ(member_->spares_, 0);
  put_many(1, 30, 1000);
  EXPECT_EQ(member_->spares_, 1);
  put_many(31, 60, 1000);
  EXPECT_EQ(member_->spares_, 2) << "of the next segment";
  const int before = member_->checkpoints_;
  member_->wait(2 * 3600 * kSecond);
  EXPECT_EQ(member_->checkpoints_, before + 1);
  EXPECT_GE(member_->looks_, member_->checkpoints_);
}

// Another one is made after so much more is written, or at once near the segment's end. And a segment's second rest
// leaves it: what comes now and then does not make spare after spare.
TEST_F(MemberCoreTest, AtRestTheSpareIsGivenBackOnceASegmentAndMadeAgainInTime) {
  bootstrap_.wal.segment_bytes = options_.segment_bytes = 256 << 10;
  options_.spare_mark_bytes = 32 << 10;
  start();
  const auto segment = [&] { return member_->wal_->log().segment_sequence(); };
  const auto rest = [&] { member_->wait(10 * kSecond); };
  put_many(1, 5, 10'000);
  EXPECT_EQ(member_->spares_, 1);
  EXPECT_EQ(member_->spares_given_back_, 0);
  rest();
  EXPECT_EQ(member_->spares_given_back_, 1);
  put_many(10, 1, 1000);
  rest();
  EXPECT_EQ(member_->spares_, 1) << "one put is not worth a spare";
  EXPECT_EQ(member_->spares_given_back_, 1) << "there is none";
  put_many(20, 4, 10'000);
  EXPECT_EQ(member_->spares_, 2);
  rest();
  EXPECT_EQ(member_->spares_given_back_, 1) << "once a segment";
  ASSERT_EQ(segment(), 0u);

  put_many(30, 35, 10'000);
  ASSERT_EQ(segment(), 1u);
  ASSERT_GT(member_->wal_->log().segment_used_bytes(), options_.segment_bytes - 3 * options_.spare_mark_bytes);
  EXPECT_EQ(member_->spares_, 3);
  rest();
  EXPECT_EQ(member_->spares_given_back_, 2);
  put_many(70, 1);
  EXPECT_EQ(member_->spares_, 4) << "the segment is soon full";
}

// After the snapshot and the release that rest brings, and once a segment: it has no other blocks then.
TEST_F(MemberCoreTest, AtRestTheSegmentsTailIsGivenBack) {
  options_.apply.commit_interval_ns = kSecond;
  start();
  put_many(1, 40, 10'000);
  member_->wait(2 * kSecond);
  member_->wait(3 * kSecond);
  EXPECT_EQ(member_->snapshots_, 1);
  EXPECT_EQ(member_->tails_given_back_, 0);
  ASSERT_TRUE(member_->wake_at_ns_);
  member_->wait(*member_->wake_at_ns_ - member_->now_ns_);
  EXPECT_EQ(member_->tails_given_back_, 1);
  EXPECT_FALSE(member_->wake_at_ns_);
  put_many(50, 1);
  for (int i = 0; i < 5; ++i) member_->wait(10 * kSecond);
  EXPECT_EQ(member_->rests_, 2);
  EXPECT_EQ(member_->tails_given_back_, 1);
  start();
  EXPECT_EQ(member_->core_->published().newest().kv.revision, 42);
}

// What a start finds used of the segment asks for no spare.
TEST_F(MemberCoreTest, AStartMakesNoSpareBeforeSomethingIsWritten) {
  bootstrap_.wal.segment_bytes = options_.segment_bytes = 256 << 10;
  options_.spare_mark_bytes = 32 << 10;
  start();
  put_many(1, 10, 10'000);
  EXPECT_EQ(member_->spares_, 1);
  start();
  EXPECT_EQ(member_->spares_, 0);
  put_many(20, 4, 10'000);
  EXPECT_EQ(member_->spares_, 1);
}

// A load has left segments behind that a start no longer needs, and then nothing more comes that would release them.
TEST_F(MemberCoreTest, AtRestTheLogIsOneSegmentAndThenNothingIsWritten) {
  options_.apply.commit_interval_ns = kSecond;
  start();
  put_many(1, 40, 10'000);  // of 64 KB each
  member_->wait(2 * kSecond);
  ASSERT_GT(member_->wal_->log().segment_count(), 3u);
  EXPECT_EQ(member_->rests_, 0);
  ASSERT_TRUE(member_->wake_at_ns_);
  EXPECT_LE(*member_->wake_at_ns_, member_->now_ns_ + 5 * kSecond);

  member_->wait(5 * kSecond);
  EXPECT_EQ(member_->rests_, 1);
  EXPECT_EQ(member_->snapshots_, 1);
  EXPECT_EQ(member_->wal_->log().segment_count(), 1u);
  EXPECT_EQ(member_->wal_->log().newest_snapshot_index(), member_->apply().applied());
  const int commits = member_->commits_;
  const uint64_t used_bytes = member_->wal_->log().segment_used_bytes();
  for (int i = 0; i < 20; ++i) member_->wait(60 * kSecond);
  EXPECT_EQ(member_->commits_, commits);
  EXPECT_EQ(member_->wal_->log().segment_used_bytes(), used_bytes);
  EXPECT_EQ(member_->rests_, 1);

  // It starts from there, and what comes later is kept.
  put_many(100, 1);
  start();
  EXPECT_GE(member_->core_->published().newest().kv.revision, 42);
}

// A put now and then is not worth a snapshot each time.
TEST_F(MemberCoreTest, AtRestALogOfOneSegmentIsLeftAlone) {
  options_.apply.commit_interval_ns = kSecond;
  start();
  for (uint64_t i = 1; i <= 5; ++i) {
    put_many(i, 1);
    member_->wait(2 * kSecond);
    member_->wait(10 * kSecond);
  }
  EXPECT_EQ(member_->rests_, 5);
  EXPECT_EQ(member_->snapshots_, 0);
}

// Member 1 of several, with nobody else there.
struct OneOfSeveral {
  explicit OneOfSeveral(raft::ConfState conf, MemberObserver* observer = nullptr)
      : options(own_options()),
        core(options, RaftLog(Index(0), Term(0), {}), {.hard = {}, .conf = std::move(conf), .applied = {}},
             state_over(*engine), 0, observer) {}

  static MemberOptions own_options() {
    MemberOptions out;
    out.replication.raft.id = NodeId(1);
    out.apply.member_id = 1;
    return out;
  }
  static AppliedState state_over(storage::Engine& engine) {
    AppliedState out;
    out.index = std::make_unique<mvcc::Index>();
    out.file = engine.view();
    return out;
  }

  const MemberOptions options;
  const std::unique_ptr<storage::Engine> engine = *storage::open_memory();
  MemberCore core;
};

TEST(MemberCoreWithPeers, ATickThatWasMissedIsNotMadeUpFor) {
  OneOfSeveral member({.voters = {NodeId(1), NodeId(2), NodeId(3)}});
  const MemberOptions& options = member.options;
  MemberCore& core = member.core;
  Events events;
  int64_t now_ns = 0;
  const auto is_follower = [&] { return core.replication().raft().role() == raft::Role::kFollower; };
  for (int pause = 0; pause < 20; ++pause) {
    Effects& effects = core.step(events, now_ns += 3600 * kSecond);
    EXPECT_EQ(effects.wake_at_ns, now_ns + options.raft_tick_ns);
    EXPECT_TRUE(effects.messages.empty());
    ASSERT_TRUE(is_follower()) << pause;
  }
  size_t asked = 0;
  for (uint32_t tick = 0; tick < 2 * options.replication.raft.election_ticks && asked == 0; ++tick) {
    asked = core.step(events, now_ns += options.raft_tick_ns).messages.size();
  }
  EXPECT_EQ(asked, 2u) << "both others, for their pre-votes";
}

struct CountsOwnProposals : MemberObserver {
  void on_committed(const std::vector<raft::Entry>&) override {}
  void on_own_proposal(const Proposal&) override { ++count; }
  int count = 0;
};

TEST(MemberCoreWithPeers, ALearnerWhoseDiskIsLowKeepsNobodyFromWriting) {
  for (const bool votes : {false, true}) {
    raft::ConfState conf;
    conf.voters = {NodeId(2), NodeId(3)};
    (votes ? conf.voters : conf.learners).emplace_back(1);
    std::ranges::sort(conf.voters);
    CountsOwnProposals own;
    OneOfSeveral member(std::move(conf), &own);
    MemberCore& core = member.core;
    Events events;
    core.step(events, kMs);
    own.count = 0;
    events.disk_is_low = true;
    const Effects& effects = core.step(events, 2 * kMs);
    EXPECT_EQ(own.count, votes ? 1 : 0) << "the alarm";
    EXPECT_EQ(effects.give_up_reserve, !votes);
  }
}

}  // namespace
}  // namespace cairn::member
