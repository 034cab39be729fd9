// Leases in a member of its own, over a simulated disk: whose time is counted, who is renewed, who ends and when.
#include "member/lease_duty.h"

#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <cstring>

#include "base/errors.h"
#include "cluster/membership.h"
#include "member/requests.h"
#include "member/testing/inline_member.h"
#include "proto/raft_internal.pb.h"
#include "raft/conf_change.h"
#include "sim/disk/sim_fs.h"

namespace cairn::member {
namespace {

constexpr int64_t kMs = 1'000'000;
constexpr int64_t kSecond = 1000 * kMs;
constexpr int64_t kExtension = kSecond;  // LeaseOptions::extension_ns
constexpr int64_t kLate = lease::Deadlines::kBucketNs;
constexpr Tag kTag = 7;

class LeaseDutyTest : public ::testing::Test {
 protected:
  LeaseDutyTest() {
    fs_.make_durable_directories("/srv");
    bootstrap_.data_dir = "/srv/data";
    bootstrap_.initial_cluster = {{"default", {"http://127.0.0.1:2380"}}};
    bootstrap_.mapping_reserved_bytes = 64 << 20;
    options_.apply.commit_interval_ns = 3600 * kSecond;
    options_.rest_after_ns = 3600 * kSecond;
  }

  void start() {
    const int64_t now_ns = member_ == nullptr ? kSecond : member_->now_ns_;
    member_.reset();
    member_ = std::make_unique<testing::InlineMember>(fs_, bootstrap_, options_, now_ns);
    ASSERT_FALSE(member_->failed_);
  }
  void start_again() {
    ASSERT_EQ(member_->stop(), Ending::kSaved);
    ASSERT_TRUE(member_->commit_->close());
    start();
  }
  void propose(RequestKind kind, std::string_view body) {
    member_->propose({std::make_shared<const raft::Payload>(
        raft::Payload{.bytes = join_request(kind, body, ++request_id_), .tag = kTag})});
  }
  void grant(int64_t id, int64_t ttl) { propose(RequestKind::kLeaseGrant, encode_lease_grant({id, ttl})); }
  void put(const std::string& key, int64_t lease) {
    etcdserverpb::PutRequest request;
    request.set_key(key);
    request.set_lease(lease);
    propose(RequestKind::kPut, request.SerializeAsString());
  }
  void change_members(const cluster::MemberChange& change) {
    const raft::ConfChangeV1 entry{.id = ++request_id_,
                                   .type = static_cast<raft::ConfChangeType>(change.raft_type()),
                                   .node = change.member.id,
                                   .context = cluster::change_context(change)};
    member_->events_.conf_changes.push_back(
        std::make_shared<const raft::Payload>(raft::Payload{.bytes = raft::encode(entry), .tag = kTag}));
    member_->pump();
  }
  void start_where_another_was_removed() {
    start();
    cluster::Member other{.id = NodeId(77), .peer_urls = {"http://127.0.0.1:2"}};
    other.is_learner = true;
    change_members({.kind = cluster::ChangeKind::kAdd, .member = other, .learner_count_max = 1});
    change_members({.kind = cluster::ChangeKind::kRemove, .member = other});
    ASSERT_TRUE(member_->apply().members().removed.contains(other.id));
  }
  // As a leader before this one would have.
  void checkpoint(int64_t id, int64_t remaining) {
    etcdserverpb::InternalRaftRequest request;
    auto* const point = request.mutable_lease_checkpoint()->add_checkpoints();
    point->set_id(id);
    point->set_remaining_ttl(remaining);
    member_->propose({std::make_shared<const raft::Payload>(raft::Payload{.bytes = request.SerializeAsString()})});
  }
  void propose_as(const std::string& user, const std::string& text) {
    etcdserverpb::InternalRaftRequest request;
    ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &request)) << text;
    request.mutable_header()->set_id(++request_id_);
    request.mutable_header()->set_username(user);
    request.mutable_header()->set_auth_revision(member_->apply().auth().revision());
    member_->propose(
        {std::make_shared<const raft::Payload>(raft::Payload{.bytes = request.SerializeAsString(), .tag = kTag})});
  }
  // Lease 5 of 10 s with a rest of 5 and a key, and auth is on: alice may renew it.
  void start_with_alice() {
    start();
    grant(5, 10);
    put("a", 5);
    checkpoint(5, 5);
    for (const char* const text :
         {R"(auth_user_add { name: "root" options { no_password: true } })",
          R"(auth_user_grant_role { user: "root" role: "root" })", R"(auth_role_add { name: "r" })",
          R"(auth_role_grant_permission { name: "r" perm { permType: WRITE key: "a" } })",
          R"(auth_user_add { name: "alice" options { no_password: true } })",
          R"(auth_user_grant_role { user: "alice" role: "r" })", "auth_enable {}"}) {
      propose_as("", text);
    }
    start_again();
    ASSERT_TRUE(member_->apply().auth().enabled());
  }
  void renew_as_alice() {
    const auth::Identity alice{true, "alice", member_->apply().auth().revision()};
    member_->ask({.kind = LeaseRequest::Kind::kRenew,
                  .id = 5,
                  .tag = kTag,
                  .who = std::make_shared<const auth::Identity>(alice)});
  }
  // The TTL of the answer; nullopt: none yet.
  std::optional<int64_t> renew(int64_t id) {
    member_->answered_.clear();
    member_->ask({.kind = LeaseRequest::Kind::kRenew, .id = id, .tag = kTag});
    return renewed();
  }
  [[nodiscard]] std::optional<int64_t> renewed() const {
    if (member_->answered_.empty()) return std::nullopt;
    etcdserverpb::LeaseKeepAliveResponse response;
    EXPECT_EQ(member_->answered_.back().code, Code::kOk) << member_->answered_.back().message;
    EXPECT_TRUE(response.ParseFromString(member_->answered_.back().message));
    return response.ttl();
  }
  etcdserverpb::LeaseTimeToLiveResponse time_to_live(int64_t id, LeaseKeysToCome* to_come = nullptr) {
    member_->answered_.clear();
    member_->ask({.kind = LeaseRequest::Kind::kTimeToLive, .wants_keys = true, .id = id, .tag = kTag});
    etcdserverpb::LeaseTimeToLiveResponse response;
    EXPECT_EQ(member_->answered_.size(), 1u);
    const std::string& text = member_->answered_.front().message;
    if (to_come != nullptr) *to_come = static_cast<LeaseKeysToCome>(text.front());
    EXPECT_TRUE(response.ParseFromString(text.substr(1)));
    return response;
  }
  [[nodiscard]] bool lives(int64_t id) const { return member_->apply().lessor().exists(id); }
  // In steps as the member asks for them.
  void wait(int64_t ns) {
    const int64_t until_ns = member_->now_ns_ + ns;
    while (member_->wake_at_ns_ && *member_->wake_at_ns_ < until_ns) {
      member_->wait(std::max<int64_t>(0, *member_->wake_at_ns_ - member_->now_ns_));
    }
    member_->wait(until_ns - member_->now_ns_);
  }

  sim::SimFileSystem fs_{{.mapping_bytes_max = 64 << 20}};
  BootstrapOptions bootstrap_;
  MemberOptions options_;
  uint64_t request_id_ = 0;
  std::unique_ptr<testing::InlineMember> member_;
};

TEST_F(LeaseDutyTest, ALeaseEndsWithItsKeysWhenItsTimeIsOverAndNotBefore) {
  start();
  grant(5, 10);
  put("a", 5);
  put("b", 5);
  const int64_t revision = member_->apply().store().revision();
  wait(10 * kSecond - 1);
  EXPECT_TRUE(lives(5));
  wait(kLate + 1);
  EXPECT_FALSE(lives(5));
  EXPECT_EQ(member_->apply().store().revision(), revision + 1) << "one transaction";
  EXPECT_EQ(member_->core_->leases().expired(), 1u);
  EXPECT_GT(member_->wake_at_ns_.value(), member_->now_ns_ + 1000 * kSecond) << "nothing is left to wait for";
}

TEST_F(LeaseDutyTest, ARenewalCountsFromWhenItCame) {
  start();
  grant(5, 10);
  wait(9 * kSecond);
  EXPECT_EQ(renew(5), 10);
  wait(10 * kSecond - 1);
  EXPECT_TRUE(lives(5));
  wait(kLate + 1);
  EXPECT_FALSE(lives(5));
  EXPECT_EQ(renew(5), 0) << "an answer, and no error";
}

TEST_F(LeaseDutyTest, AfterARestartTimeCountsAnewWithAnElectionTimeoutMore) {
  start();
  grant(5, 10);
  wait(9 * kSecond);
  start_again();
  wait(10 * kSecond + kExtension - 1);
  EXPECT_TRUE(lives(5));
  wait(kLate + 1);
  EXPECT_FALSE(lives(5));
}

// Another one may have led, and may renew leases until it notices that nobody listens to it.
TEST_F(LeaseDutyTest, AfterARestartOfTheLastMemberThatIsLeftTimeCountsWithTwoElectionTimeoutsMore) {
  start_where_another_was_removed();
  grant(5, 10);
  wait(9 * kSecond);
  start_again();
  wait(10 * kSecond + 2 * kExtension - 1);
  EXPECT_TRUE(lives(5));
  wait(kLate + 1);
  EXPECT_FALSE(lives(5));
}

TEST_F(LeaseDutyTest, ARenewalTakesNothingFromWhatTheLeaderBeforeMayPromiseStill) {
  start_where_another_was_removed();
  grant(5, 10);
  start_again();
  wait(kSecond / 2);
  EXPECT_EQ(renew(5), 10) << "and afterwards the client asks the other one, which believes that it leads";
  wait(2 * kExtension - kSecond / 2 + 10 * kSecond - 1);
  EXPECT_TRUE(lives(5));
  wait(kLate + 1);
  EXPECT_FALSE(lives(5));
}

TEST_F(LeaseDutyTest, ACheckpointedRestIsUsedAfterARestartAndClearedByARenewal) {
  start();
  grant(5, 100);
  checkpoint(5, 20);
  EXPECT_EQ(time_to_live(5).ttl(), 100) << "for this leader nothing changes";
  start_again();
  EXPECT_EQ(time_to_live(5).ttl(), 21);
  const Index before = member_->apply().applied();
  EXPECT_EQ(renew(5), 100);
  EXPECT_EQ(member_->apply().applied(), before + 1) << "by an entry";
  EXPECT_EQ(member_->apply().lessor().find(5)->remaining_ttl, 0);
  EXPECT_EQ(renew(5), 100);
  EXPECT_EQ(member_->apply().applied(), before + 1) << "once";
  start_again();
  EXPECT_EQ(time_to_live(5).ttl(), 101);
}

TEST_F(LeaseDutyTest, LeasesWithMuchTimeAreCheckpointedWhereThatIsWanted) {
  options_.leases.checkpoints = true;
  start();
  grant(5, 1000);
  grant(6, 300);  // not more than the interval
  wait(300 * kSecond - kMs);
  EXPECT_EQ(member_->apply().lessor().find(5)->remaining_ttl, 0);
  wait(kLate + kMs);
  EXPECT_EQ(member_->apply().lessor().find(5)->remaining_ttl, 700);
  EXPECT_EQ(member_->apply().lessor().find(6), nullptr);
  EXPECT_EQ(renew(5), 1000);
  wait(301 * kSecond);
  EXPECT_EQ(member_->apply().lessor().find(5)->remaining_ttl, 700) << "again after the renewal";
  start_again();
  EXPECT_EQ(time_to_live(5).ttl(), 701);
}

// The checkpoint was made before the renewal, and would take it back at a restart.
TEST_F(LeaseDutyTest, ARenewalIsNotLostToACheckpointThatIsUnderWay) {
  options_.leases.checkpoints = true;
  start();
  grant(5, 1000);
  member_->log_waits_ = true;
  wait(300 * kSecond + kLate);
  EXPECT_EQ(renew(5), std::nullopt) << "it waits for the log";
  member_->log_waits_ = false;
  member_->pump();
  EXPECT_EQ(renewed(), 1000);
  EXPECT_EQ(member_->apply().lessor().find(5)->remaining_ttl, 0);
}

// An entry names the id alone: behind the two in the log, it would be about the second lease.
TEST_F(LeaseDutyTest, ALeaseWhoseRevokeIsInTheLogIsNotCheckpointed) {
  options_.leases.checkpoints = true;
  start();
  grant(5, 1000);
  grant(6, 1000);
  member_->log_waits_ = true;
  propose(RequestKind::kLeaseRevoke, encode_lease_revoke(5));
  grant(5, 2000);
  wait(300 * kSecond + kLate);
  ASSERT_EQ(member_->apply().lessor().find(5)->ttl, 1000) << "nothing of it is applied";
  member_->log_waits_ = false;
  member_->pump();
  ASSERT_EQ(member_->apply().lessor().find(5)->ttl, 2000);
  EXPECT_EQ(member_->apply().lessor().find(5)->remaining_ttl, 0);
  EXPECT_EQ(member_->apply().lessor().find(6)->remaining_ttl, 700) << "another one is, at the same time";
  start_again();
  EXPECT_EQ(time_to_live(5).ttl(), 2001);
}

TEST_F(LeaseDutyTest, WithoutTheGateNothingIsCheckpointed) {
  start();
  grant(5, 1000);
  wait(700 * kSecond);
  EXPECT_EQ(member_->apply().lessor().find(5)->remaining_ttl, 0);
}

TEST_F(LeaseDutyTest, AfterAPauseWhatWaitedInTheSocketsStillRenews) {
  start();
  grant(5, 10);
  wait(9 * kSecond);
  member_->wait(20 * kSecond);  // the process was stopped: no step in between
  EXPECT_TRUE(lives(5)) << "not at once";
  EXPECT_EQ(renew(5), 10);
  wait(10 * kSecond - 1);
  EXPECT_TRUE(lives(5));
  wait(kLate + 1);
  EXPECT_FALSE(lives(5));
}

TEST_F(LeaseDutyTest, AfterAPauseALeaseThatNobodyRenewsEndsAnElectionTimeoutLater) {
  start();
  grant(5, 10);
  wait(9 * kSecond);
  member_->wait(20 * kSecond);
  wait(kExtension - 1);
  EXPECT_TRUE(lives(5));
  wait(1);
  EXPECT_FALSE(lives(5));
}

// Nothing was to be done meanwhile, so the member is hardly late.
TEST_F(LeaseDutyTest, APauseThatEndsWhenALeaseIsDueIsNoticed) {
  start();
  grant(5, 10);
  member_->wait(10 * kSecond + kLate);
  EXPECT_TRUE(lives(5));
  EXPECT_EQ(renew(5), 10);
  wait(10 * kSecond - 1);
  EXPECT_TRUE(lives(5));
}

TEST_F(LeaseDutyTest, WithoutAPauseALeaseEndsOnTimeHoweverLongTheMemberRested) {
  start();
  grant(5, 3600);
  wait(3600 * kSecond + kLate);
  EXPECT_FALSE(lives(5));
}

TEST_F(LeaseDutyTest, AMemberWhoseStepsAllTakeLongEndsLeases) {
  start();
  grant(5, 10);
  for (int i = 0; i < 12; ++i) member_->wait(2 * kSecond);
  EXPECT_FALSE(lives(5));
}

TEST_F(LeaseDutyTest, ALeaseDoesNotEndWhileItsRenewalWaitsForTheLog) {
  start();
  grant(5, 10);
  checkpoint(5, 5);
  start_again();
  EXPECT_EQ(renew(5), 10);
  checkpoint(5, 5);
  member_->log_waits_ = true;
  EXPECT_EQ(renew(5), std::nullopt) << "the rest is to be cleared first";
  wait(kSecond);
  EXPECT_EQ(renew(5), std::nullopt);
  EXPECT_EQ(time_to_live(5).ttl(), 10);
  wait(60 * kSecond);
  member_->log_waits_ = false;
  member_->pump();
  EXPECT_EQ(renewed(), 10);
  wait(10 * kSecond - 1);
  EXPECT_TRUE(lives(5));
}

// Whoever has lost the permission while the renewal waited has not kept the lease alive.
TEST_F(LeaseDutyTest, ARenewalThatIsRefusedInTheEndLeavesItsLeaseTheEndItHad) {
  start_with_alice();
  EXPECT_EQ(time_to_live(5).ttl(), 6) << "the rest, and an election timeout";
  member_->log_takes_ = 0;
  propose_as("root", R"(auth_role_revoke_permission { role: "r" key: "a" })");
  member_->answered_.clear();
  renew_as_alice();
  EXPECT_TRUE(member_->answered_.empty()) << "she may, and the rest is to be cleared first";
  EXPECT_EQ(time_to_live(5).ttl(), 10);
  wait(2 * kSecond);
  member_->log_takes_ = UINT64_MAX;
  member_->pump();
  ASSERT_FALSE(member_->answered_.empty());
  EXPECT_EQ(member_->answered_.back().message, errors::auth_old_revision().message);
  EXPECT_EQ(time_to_live(5).ttl(), 4);
  wait(4 * kSecond - 1);
  EXPECT_TRUE(lives(5));
  wait(kLate + 1);
  EXPECT_FALSE(lives(5));
}

// etcd 3.4 asks even root for a revision of the rules that is not 0, nor older than those at hand: a member of it must
// come to the verdict to which this one comes.
TEST_F(LeaseDutyTest, TheRevokeOfAnExpiredLeaseHasARevisionOfTheRulesThatNeverIsOld) {
  start_with_alice();
  wait(5 * kSecond);
  member_->log_takes_ = 0;
  propose_as("root", R"(auth_role_revoke_permission { role: "r" key: "a" })");
  wait(5 * kSecond);  // the revoke comes behind it
  member_->log_takes_ = UINT64_MAX;
  member_->pump();
  ASSERT_FALSE(lives(5));
  std::vector<uint64_t> revisions;
  const Index end = member_->wal_->log().last_index() + 1;
  ASSERT_TRUE(member_->wal_->log().index()->read(Index(1), end, UINT64_MAX, [&](const wal::Entry& entry) {
    if (static_cast<raft::EntryType>(entry.type) != raft::EntryType::kNormal) return;
    const auto request = split_request(entry.data);
    if (!request || request->kind != RequestKind::kLeaseRevoke) return;
    const auto header = decode_header(request->header);
    ASSERT_TRUE(header);
    EXPECT_EQ(header->user, "root");
    revisions.push_back(header->auth_revision);
  }));
  ASSERT_EQ(revisions.size(), 1U);
  EXPECT_NE(revisions.front(), 0U);
  EXPECT_GE(revisions.front(), member_->apply().auth().revision());
}

TEST_F(LeaseDutyTest, ARenewalThatIsRefusedTakesNothingFromTheOneBefore) {
  start_with_alice();
  member_->log_takes_ = 0;
  renew_as_alice();
  propose_as("root", R"(auth_role_revoke_permission { role: "r" key: "a" })");
  renew_as_alice();
  wait(2 * kSecond);
  member_->answered_.clear();
  member_->log_takes_ = 1;
  member_->pump();
  ASSERT_EQ(member_->answered_.size(), 1U);
  EXPECT_EQ(member_->answered_.back().code, Code::kOk);
  wait(kSecond);
  member_->log_takes_ = UINT64_MAX;
  member_->pump();
  EXPECT_EQ(member_->answered_.back().message, errors::auth_old_revision().message);
  EXPECT_EQ(time_to_live(5).ttl(), 9);
}

TEST_F(LeaseDutyTest, ARenewalCountsThoughOneOfALeaseWithTheSameIdWaits) {
  start();
  grant(5, 10);
  checkpoint(5, 5);
  start_again();
  member_->log_takes_ = 0;
  propose(RequestKind::kLeaseRevoke, encode_lease_revoke(5));
  grant(5, 20);
  EXPECT_EQ(renew(5), std::nullopt) << "the rest of the first lease is to be cleared";
  member_->log_takes_ = 2;
  member_->pump();
  ASSERT_EQ(time_to_live(5).grantedttl(), 20) << "the second lease, and the entry that clears is not written";
  wait(15 * kSecond);
  ASSERT_TRUE(lives(5));
  EXPECT_EQ(renew(5), 20);
  EXPECT_EQ(time_to_live(5).ttl(), 20);
}

TEST_F(LeaseDutyTest, ARenewalWaitsForTheRevokeThatWasAskedFor) {
  start();
  grant(5, 10);
  member_->log_waits_ = true;
  wait(10 * kSecond + kLate);
  EXPECT_TRUE(lives(5)) << "the entry is not written";
  EXPECT_EQ(renew(5), std::nullopt);
  EXPECT_GE(time_to_live(5).ttl(), 0);
  member_->answered_.clear();
  member_->log_waits_ = false;
  member_->pump();
  EXPECT_FALSE(lives(5));
  EXPECT_EQ(renewed(), 0);
}

TEST_F(LeaseDutyTest, ARefusedRevokeIsTriedAgain) {
  start();
  grant(5, 10);
  etcdserverpb::InternalRaftRequest alarm;
  alarm.mutable_alarm()->set_action(etcdserverpb::AlarmRequest::ACTIVATE);
  alarm.mutable_alarm()->set_memberid(1);
  alarm.mutable_alarm()->set_alarm(etcdserverpb::CORRUPT);
  member_->propose({std::make_shared<const raft::Payload>(raft::Payload{.bytes = alarm.SerializeAsString()})});
  wait(11 * kSecond);
  EXPECT_TRUE(lives(5));
  alarm.mutable_alarm()->set_action(etcdserverpb::AlarmRequest::DEACTIVATE);
  member_->propose({std::make_shared<const raft::Payload>(raft::Payload{.bytes = alarm.SerializeAsString()})});
  wait(options_.leases.retry_ns);
  EXPECT_FALSE(lives(5));
}

TEST_F(LeaseDutyTest, ManyThatEndAtOnceAreRevokedAFewAtATimeAndFasterTheLongerItTakes) {
  start();
  for (int64_t id = 1; id <= 20'000; ++id) grant(id, 10);
  wait(10 * kSecond + kMs);
  const auto ended = [&] { return 20'000 - member_->apply().lessor().size(); };
  EXPECT_EQ(ended(), 10u) << "one group";
  wait(kSecond - kMs);
  EXPECT_NEAR(static_cast<double>(ended()), 1000, 20);
  wait(kSecond);
  EXPECT_NEAR(static_cast<double>(ended()), 3000, 40);
  wait(10 * kSecond);
  EXPECT_EQ(ended(), 20'000u);
}

TEST_F(LeaseDutyTest, ALeaseWithManyKeysIsAGroupOfItsOwn) {
  options_.leases.revoked_keys_max = 3;
  start();
  for (int64_t id = 1; id <= 2; ++id) {
    grant(id, 10);
    for (int i = 0; i < 9; ++i) put(std::to_string(id) + std::to_string(i), id);
  }
  wait(10 * kSecond + kMs);
  EXPECT_EQ(member_->apply().lessor().size(), 1u);
  wait(4 * options_.leases.revoke_interval_ns - 2 * kMs);
  EXPECT_EQ(member_->apply().lessor().size(), 1u) << "as long as several groups take";
  wait(2 * kMs);
  EXPECT_EQ(member_->apply().lessor().size(), 0u);
}

TEST_F(LeaseDutyTest, WhileTheDiskIsLowALeaseWithVeryManyKeysIsNotRevoked) {
  options_.leases.keys_on_full_disk_max = 1;
  start();
  grant(1, 10);
  grant(2, 10);
  put("a", 1);
  put("b", 2);
  put("c", 2);
  member_->events_.disk_is_low = true;
  member_->pump();
  wait(11 * kSecond);
  EXPECT_FALSE(lives(1));
  EXPECT_TRUE(lives(2));
  member_->events_.disk_is_low = false;
  member_->pump();
  wait(options_.leases.retry_ns);
  EXPECT_FALSE(lives(2));
}

TEST_F(LeaseDutyTest, AfterARestartLeasesThatWouldEndTogetherAreSpread) {
  options_.leases.slots_per_step = 100;
  start();
  for (int64_t id = 1; id <= 3000; ++id) grant(id, 10);
  grant(4000, 12);
  start_again();
  // 750 in a second.
  wait(10 * kSecond + kExtension + kSecond);
  EXPECT_NEAR(static_cast<double>(3001 - member_->apply().lessor().size()), 750, 60);
  wait(kSecond);
  EXPECT_TRUE(lives(4000)) << "it comes behind those before it";
  wait(2 * kSecond + 100 * kMs);
  EXPECT_FALSE(lives(4000));
  EXPECT_EQ(member_->apply().lessor().size(), 0u);
}

TEST_F(LeaseDutyTest, TimesBeyondAllMeasureNeverEnd) {
  start();
  grant(5, lease::kTtlMax);
  EXPECT_GT(time_to_live(5).ttl(), lease::kTtlMax - 2);
  start_again();
  EXPECT_GT(time_to_live(5).ttl(), lease::kTtlMax - 2);
  EXPECT_TRUE(lives(5));
}

TEST_F(LeaseDutyTest, ManyKeysAreFoundElsewhere) {
  options_.leases.answer_keys_max = 2;
  start();
  grant(5, 10);
  put("b", 5);
  put("a", 5);
  LeaseKeysToCome to_come{};
  const auto few = time_to_live(5, &to_come);
  EXPECT_EQ(to_come, LeaseKeysToCome::kNone);
  ASSERT_EQ(few.keys_size(), 2);
  EXPECT_EQ(few.keys(0), "a");
  put("c", 5);
  const auto many = time_to_live(5, &to_come);
  EXPECT_EQ(to_come, LeaseKeysToCome::kInIndex);
  EXPECT_EQ(many.keys_size(), 0);
  EXPECT_EQ(many.grantedttl(), 10);
  EXPECT_EQ(time_to_live(6).ttl(), -1);
}

TEST_F(LeaseDutyTest, LongKeysAreFoundElsewhere) {
  options_.leases.answer_key_bytes_max = 100;
  start();
  grant(5, 10);
  LeaseKeysToCome to_come{};
  put(std::string(100, 'a'), 5);
  EXPECT_EQ(time_to_live(5, &to_come).keys_size(), 1);
  EXPECT_EQ(to_come, LeaseKeysToCome::kNone);
  put("b", 5);
  EXPECT_EQ(time_to_live(5, &to_come).keys_size(), 0);
  EXPECT_EQ(to_come, LeaseKeysToCome::kInIndex);
}

TEST_F(LeaseDutyTest, AListComesInParts) {
  options_.leases.listed_max = 2;
  start();
  for (int64_t id = 1; id <= 5; ++id) grant(id, 10 * id);
  uint64_t first = 0;
  std::vector<int64_t> found;
  int parts = 0;
  do {
    member_->answered_.clear();
    member_->ask({.kind = LeaseRequest::Kind::kList, .first = first, .tag = kTag});
    std::string_view text = member_->answered_.at(0).message;
    std::memcpy(&first, text.data(), sizeof first);
    for (text.remove_prefix(sizeof first); !text.empty(); text.remove_prefix(sizeof(LeaseListed::One))) {
      LeaseListed::One one;
      std::memcpy(&one, text.data(), sizeof one);
      EXPECT_EQ(one.deadline_ns, member_->now_ns_ + one.id * 10 * kSecond);
      found.push_back(one.id);
    }
    ++parts;
  } while (first != 0);
  EXPECT_EQ(found, (std::vector<int64_t>{1, 2, 3, 4, 5}));
  EXPECT_EQ(parts, 3);
}

TEST_F(LeaseDutyTest, AStopAnswersThoseWhoWait) {
  start();
  grant(5, 10);
  member_->log_waits_ = true;
  wait(11 * kSecond);
  EXPECT_EQ(renew(5), std::nullopt);
  EXPECT_EQ(member_->stop(), Ending::kNone);
  ASSERT_EQ(member_->answered_.size(), 1u);
  EXPECT_EQ(member_->answered_[0].message, errors::stopped().message);
  member_->log_waits_ = false;
  member_->pump();
  EXPECT_EQ(member_->ending_, Ending::kSaved);
}

}  // namespace
}  // namespace cairn::member
