// A leader and members that are behind: they get the log from its segments, or its db where that is shorter.
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "member/requests.h"
#include "member/testing/inline_member.h"
#include "proto/kv.pb.h"
#include "proto/raft_internal.pb.h"
#include "proto/rpc.pb.h"
#include "sim/disk/sim_fs.h"

namespace cairn::member {
namespace {

constexpr int64_t kTick = 10'000'000;

// Nobody runs yet: each member founds the cluster.
class NoPeers final : public PeerProbe {
 public:
  Result<PeerAnswer> get(const std::string&, int64_t) override { return fail(Code::kUnavailable, "refused"); }
};

// Members whose messages arrive at once and in order, or not at all.
class FollowersTest : public ::testing::Test {
 protected:
  FollowersTest() {
    bootstrap_.data_dir = "/srv/data";
    bootstrap_.probe = &probe_;
    bootstrap_.mapping_reserved_bytes = 16 << 20;
    bootstrap_.wal.segment_bytes = 64 << 10;
    bootstrap_.raft_log.memory_bytes_max = 10'000;
    bootstrap_.raft_log.windows.read_bytes = 20'000;
    options_.apply.commit_interval_ns = kTick;
    options_.apply.snapshot_entries = 20;
    options_.apply.snapshot_interval_ns = 0;
    options_.replication.raft.election_ticks = 10;
    options_.replication.raft.heartbeat_ticks = 1;
  }
  void start(int count = 3) {
    count_ = count;
    for (int i = 0; i < count_; ++i) {
      bootstrap_.initial_cluster["m" + std::to_string(i)] = {"http://127.0.0.1:" + std::to_string(2380 + i)};
    }
    for (int i = 0; i < count_; ++i) {
      fs_.push_back(std::make_unique<sim::SimFileSystem>(sim::Options{.mapping_bytes_max = 16 << 20}));
      fs_.back()->make_durable_directories("/srv");
      bootstrap_.name = "m" + std::to_string(i);
      bootstrap_.opening = static_cast<uint64_t>(i) + 1;
      options_.announcement = {.name = bootstrap_.name, .client_urls = {"http://127.0.0.1:1"}};
      options_.replication.raft.seed = static_cast<uint64_t>(i) + 1;
      members_.push_back(std::make_unique<testing::InlineMember>(*fs_.back(), bootstrap_, options_));
    }
    for (int turns = 0; leader() < 0; ++turns) {
      ASSERT_LT(turns, 1000);
      tick();
    }
  }

  [[nodiscard]] int leader() const {
    for (int i = 0; i < count_; ++i) {
      if (members_[static_cast<size_t>(i)]->core_->replication().raft().is_leader()) return i;
    }
    return -1;
  }
  testing::InlineMember& member(int i) { return *members_[static_cast<size_t>(i)]; }
  int number_of(NodeId id) {
    for (int i = 0; i < count_; ++i) {
      if (member(i).id_ == id) return i;
    }
    return -1;
  }

  // What all have said arrives, and what they say to that.
  void exchange() {
    for (bool is_quiet = false; !is_quiet;) {
      is_quiet = true;
      for (int from = 0; from < count_; ++from) {
        for (raft::Message& message : std::exchange(member(from).outbox_, {})) {
          const int to = number_of(message.to);
          if (to < 0 || cut_off_.contains(from) || cut_off_.contains(to)) continue;
          is_quiet = false;
          if (message.type == raft::MessageType::kSnap && transfers_last_) {
            under_way_.push_back(std::move(message));
            continue;
          }
          if (message.type == raft::MessageType::kSnap) transfer(to, message);
          ++sent_[message.type];
          member(to).events_.messages.push_back(std::move(message));
          member(to).pump();
        }
      }
    }
  }
  void transfer(int to, raft::Message& message) {
    const auto reader = storage::open_image(std::static_pointer_cast<const storage::View>(message.snapshot->source));
    ASSERT_TRUE(reader);
    std::string bytes((*reader)->size(), '\0');
    ASSERT_TRUE((*reader)->read(bytes.data(), bytes.size()));
    sim::SimFileSystem& fs = *fs_[static_cast<size_t>(to)];
    const std::string path = image_path("/srv/data/member/snap", message.snapshot->index);
    const auto file = fs.open(path, env::OpenMode::kCreateEmpty);
    ASSERT_TRUE(file && (*file)->pwrite(bytes, 0) && (*file)->fdatasync());
    ASSERT_TRUE(fs.sync_directory("/srv/data/member/snap"));
    auto received = std::make_shared<raft::Snapshot>(*message.snapshot);
    received->source = nullptr;
    message.snapshot = received;
  }
  void tick() {
    for (int i = 0; i < count_; ++i) member(i).wait(kTick);
    exchange();
  }
  void put(size_t value_bytes = 1000) {
    etcdserverpb::PutRequest request;
    request.set_key("key" + std::to_string(++puts_ % 20));
    request.set_value(std::to_string(puts_) + std::string(value_bytes, 'v'));
    member(leader()).propose({std::make_shared<const raft::Payload>(
        raft::Payload{.bytes = join_request(RequestKind::kPut, request.SerializeAsString(), puts_), .tag = puts_})});
    exchange();
  }
  void put_many(int count) {
    for (int i = 0; i < count; ++i) {
      put();
      if (i % 10 == 0) tick();
      if (compacts_ && i % 20 == 0) compact();
    }
  }
  // So that the db stays short, however much is put.
  void compact() {
    etcdserverpb::InternalRaftRequest request;
    request.mutable_header()->set_id(++puts_);
    request.mutable_compaction()->set_revision(member(leader()).apply().store().revision());
    member(leader()).propose(
        {std::make_shared<const raft::Payload>(raft::Payload{.bytes = request.SerializeAsString(), .tag = puts_})});
    exchange();
  }
  [[nodiscard]] int follower() const { return leader() == 0 ? 1 : 0; }
  // Starts them, with so short a log that a follower which was away is sent a snapshot. It is under way; returns to
  // whom.
  int send_snapshot() {
    options_.replication.log.entries = 10;
    start();
    put_many(20);
    const int away = follower();
    cut_off_ = {away};
    put_many(100);
    transfers_last_ = true;
    cut_off_.clear();
    while (under_way_.empty()) tick();
    return away;
  }
  // Of the member that was away.
  void comes_back(int i) {
    cut_off_.clear();
    const auto is_there = [&] {
      return member(i).apply().applied() == member(leader()).apply().applied() &&
             member(i).apply().store().revision() == member(leader()).apply().store().revision();
    };
    for (int turns = 0; !is_there(); ++turns) {
      ASSERT_LT(turns, 1000) << member(i).core_->describe();
      tick();
      ASSERT_FALSE(member(i).failed_) << member(i).failed_->message;
    }
    const auto state = member(i).reader_->enter();
    EXPECT_EQ(state->kv.root.tally({}), member(leader()).core_->published().newest().kv.root.tally({}));
  }

  NoPeers probe_;
  BootstrapOptions bootstrap_;
  MemberOptions options_;
  std::vector<std::unique_ptr<sim::SimFileSystem>> fs_;
  std::vector<std::unique_ptr<testing::InlineMember>> members_;
  std::map<raft::MessageType, int> sent_;
  int count_ = 0;
  std::set<int> cut_off_;
  bool transfers_last_ = false;
  std::vector<raft::Message> under_way_;  // snapshots, while transfers last
  uint64_t puts_ = 0;
  bool compacts_ = false;
};

TEST_F(FollowersTest, OneThatWasAwayGetsTheLogFromTheSegments) {
  start();
  put_many(20);
  cut_off_ = {follower()};
  put_many(300);
  EXPECT_EQ(member(leader()).log_reads_, 0);
  comes_back(follower());
  EXPECT_GT(member(leader()).log_reads_, 5);
  EXPECT_EQ(sent_[raft::MessageType::kSnap], 0);
}

TEST_F(FollowersTest, OneThatLacksMoreThanTheDbIsLongGetsASnapshotAndThenTheLog) {
  bootstrap_.raft_log.sent_as_log_bytes = 50'000;
  options_.replication.log.bytes = 50'000;
  compacts_ = true;
  start();
  put_many(20);
  const int away = follower();
  cut_off_ = {away};
  put_many(1500);
  EXPECT_GT(member(leader()).wal_->log().first_index(), Index(50)) << "the log is not kept for ever";
  comes_back(away);
  EXPECT_EQ(sent_[raft::MessageType::kSnap], 1);
  put_many(20);
  comes_back(away);
  EXPECT_EQ(sent_[raft::MessageType::kSnap], 1);
}

TEST_F(FollowersTest, WithCatchUpEntriesGivenOneThatIsFurtherBehindGetsASnapshot) {
  options_.replication.log.entries = 10;
  start();
  put_many(20);
  const int away = follower();
  cut_off_ = {away};
  put_many(100);
  comes_back(away);
  EXPECT_EQ(sent_[raft::MessageType::kSnap], 1);
}

// What is written while a snapshot is sent and installed stays in the log: else another one would be needed, and so on.
TEST_F(FollowersTest, WithCatchUpEntriesGivenTheLogBehindASnapshotStays) {
  const int away = send_snapshot();
  put_many(100);
  ASSERT_EQ(under_way_.size(), 1U);
  const NodeId receiver = member(away).id_;
  member(leader()).events_.peer_reports.push_back({PeerReport::Kind::kSnapshotDelivered, receiver});
  member(leader()).pump();
  cut_off_ = {away};  // it is busy
  put_many(100);
  raft::Message snapshot = std::move(under_way_.front());
  transfer(away, snapshot);
  member(away).events_.messages.push_back(std::move(snapshot));
  member(away).pump();
  ++sent_[raft::MessageType::kSnap];
  transfers_last_ = false;
  comes_back(away);
  EXPECT_EQ(sent_[raft::MessageType::kSnap], 1);
}

// As when there is no room for it: every heartbeat would bring the whole db again.
TEST_F(FollowersTest, ASnapshotThatFailedIsSentAgainASecondLater) {
  const int away = send_snapshot();
  member(leader()).events_.peer_reports.push_back({PeerReport::Kind::kSnapshotFailed, member(away).id_});
  member(leader()).pump();
  for (int ticks = 0; ticks < 95; ++ticks) tick();
  EXPECT_EQ(under_way_.size(), 1U);
  for (int ticks = 0; ticks < 100; ++ticks) tick();
  EXPECT_EQ(under_way_.size(), 2U);
}

// Where it takes longer than a heartbeat, and the log is short, it would be sent more of them than it can take in.
TEST_F(FollowersTest, WhoTakesASnapshotInIsNotSentAnotherOne) {
  const int away = send_snapshot();
  member(leader()).events_.peer_reports.push_back({PeerReport::Kind::kSnapshotDelivered, member(away).id_});
  member(leader()).pump();
  put_many(100);
  for (int ticks = 0; ticks < 280; ++ticks) tick();
  EXPECT_EQ(under_way_.size(), 1U);
  for (int ticks = 0; ticks < 100; ++ticks) tick();
  EXPECT_GE(under_way_.size(), 2U) << "it may have lost the first one";
}

TEST_F(FollowersTest, TwoGetTheirSnapshotsAtOnce) {
  bootstrap_.raft_log.sent_as_log_bytes = 50'000;
  options_.replication.log.bytes = 50'000;
  compacts_ = true;
  start(5);
  put_many(20);
  std::vector<int> away;
  for (int i = 0; away.size() < 2; ++i) {
    if (i != leader()) away.push_back(i);
  }
  cut_off_ = {away[0], away[1]};
  put_many(1500);
  for (const int i : away) comes_back(i);
  EXPECT_EQ(sent_[raft::MessageType::kSnap], 2);
}

}  // namespace
}  // namespace cairn::member
