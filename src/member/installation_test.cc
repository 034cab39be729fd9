// A leader's snapshot takes the place of log and state: in which order, what stays readable, and what a crash leaves.
//
// The snapshots come from a member that was founded as the receiver was, and has lived longer: so one that is alone,
// and can be started again, has reason to take them.
#include "member/installation.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/fault.h"
#include "cluster/v2_store.h"
#include "member/requests.h"
#include "member/testing/inline_member.h"
#include "mvcc/kv/hash.h"
#include "mvcc/watch/hub.h"
#include "proto/raft_internal.pb.h"
#include "sim/disk/sim_fs.h"
#include "storage/bolt/engine.h"
#include "storage/write_buffer.h"

namespace cairn::member {
namespace {

constexpr int64_t kSecond = 1'000'000'000;
constexpr NodeId kLeader{99};
constexpr const char* kSnap = "/srv/data/member/snap";

raft::SnapshotPtr snapshot_at(uint64_t index) {
  auto out = std::make_shared<raft::Snapshot>();
  out->index = Index(index);
  return out;
}

WalDone done(uint64_t number) {
  WalDone out;
  out.number = number;
  return out;
}

std::vector<uint64_t> numbers(const std::vector<WalDone>& dones) {
  std::vector<uint64_t> out;
  for (const WalDone& one : dones) out.push_back(one.number);
  return out;
}

bool holds(Installation& installation, uint64_t number) {
  WalDone one = done(number);
  return installation.hold(one);
}

TEST(Installation, WaitsForTheLogAndTheCommitUnderWay) {
  Installation installation;
  EXPECT_FALSE(holds(installation, 1));
  installation.begin(snapshot_at(100), 3);
  EXPECT_FALSE(holds(installation, 2)) << "it was written before";
  EXPECT_FALSE(installation.order(false));
  EXPECT_TRUE(holds(installation, 3));
  EXPECT_FALSE(installation.order(true));
  const auto order = installation.order(false);
  ASSERT_TRUE(order);
  EXPECT_EQ(order->snapshot->index, Index(100));
  EXPECT_FALSE(installation.order(false)) << "once";
  EXPECT_TRUE(holds(installation, 4));
  EXPECT_TRUE(holds(installation, 0));
  EXPECT_EQ(numbers(installation.installed()), (std::vector<uint64_t>{3, 4, 0}));
  EXPECT_FALSE(installation.is_under_way());
  EXPECT_FALSE(holds(installation, 5));
}

TEST(Installation, AnotherSnapshotWaitsForItsTurn) {
  Installation installation;
  installation.begin(snapshot_at(100), 3);
  EXPECT_TRUE(holds(installation, 3));
  ASSERT_TRUE(installation.order(false));
  installation.begin(snapshot_at(200), 5);
  EXPECT_TRUE(holds(installation, 4));
  EXPECT_TRUE(holds(installation, 5));
  EXPECT_TRUE(holds(installation, 6));
  EXPECT_FALSE(installation.order(false));
  EXPECT_EQ(numbers(installation.installed()), (std::vector<uint64_t>{3, 4}));
  EXPECT_TRUE(installation.is_under_way());
  const auto order = installation.order(false);
  ASSERT_TRUE(order);
  EXPECT_EQ(order->snapshot->index, Index(200));
  EXPECT_EQ(numbers(installation.installed()), (std::vector<uint64_t>{5, 6}));
}

// --- with a member

struct Delivery {
  raft::SnapshotPtr snapshot;
  std::string image;
};

class InstallationTest : public ::testing::Test {
 protected:
  InstallationTest() {
    bootstrap_.data_dir = "/srv/data";
    bootstrap_.initial_cluster = {{"default", {"http://127.0.0.1:2380"}}};
    bootstrap_.mapping_reserved_bytes = 16 << 20;
    bootstrap_.wal.segment_bytes = 64 << 10;
    bootstrap_.opening = 1;
    options_.apply.commit_interval_ns = 3600 * kSecond;
    options_.announcement = {.name = "default", .client_urls = {"http://127.0.0.1:2379"}};
    for (sim::SimFileSystem* const fs : {&source_fs_, &fs_}) fs->make_durable_directories("/srv");
    source_ = std::make_unique<testing::InlineMember>(source_fs_, bootstrap_, options_);
    member_ = std::make_unique<testing::InlineMember>(fs_, bootstrap_, options_);
  }

  static void propose(testing::InlineMember& member, const etcdserverpb::InternalRaftRequest& request) {
    member.propose(
        {std::make_shared<const raft::Payload>(raft::Payload{.bytes = request.SerializeAsString(), .tag = 1})});
  }
  etcdserverpb::InternalRaftRequest request() {
    etcdserverpb::InternalRaftRequest out;
    out.mutable_header()->set_id(++last_id_);
    return out;
  }
  void put(testing::InlineMember& member, const std::string& key, const std::string& value, int64_t lease = 0) {
    auto one = request();
    one.mutable_put()->set_key(key);
    one.mutable_put()->set_value(value);
    one.mutable_put()->set_lease(lease);
    propose(member, one);
  }
  void put_many(testing::InlineMember& member, int count) {
    for (int i = 0; i < count; ++i) put(member, "key" + std::to_string(i % 10), "value" + std::to_string(i));
  }
  void compact(testing::InlineMember& member, int64_t revision) {
    auto one = request();
    one.mutable_compaction()->set_revision(revision);
    propose(member, one);
  }
  // Something in every table.
  void live_longer(testing::InlineMember& member) {
    put_many(member, 60);
    auto grant = request();
    grant.mutable_lease_grant()->set_id(77);
    grant.mutable_lease_grant()->set_ttl(1000);
    propose(member, grant);
    put(member, "leased", "x", 77);
    auto role = request();
    role.mutable_auth_role_add()->set_name("reader");
    propose(member, role);
    compact(member, 20);
  }

  // What the leader sends.
  static Delivery snapshot_of(testing::InlineMember& member) {
    member.events_.controls.push_back({.kind = Control::kCommit, .tag = 9});
    member.pump();
    CAIRN_ASSERT(member.apply().is_clean());
    const Published& state = member.core_->published().newest();
    auto snapshot = std::make_shared<raft::Snapshot>();
    snapshot->index = state.applied;
    snapshot->term = state.applied_term;
    snapshot->conf.voters = {member.id_};
    snapshot->data = cluster::write_v2_store(*state.members, state.applied.value);
    const auto reader = storage::open_image(state.file);
    CAIRN_ASSERT(reader);
    std::string image((*reader)->size(), '\0');
    const auto size = (*reader)->read(image.data(), image.size());
    CAIRN_ASSERT(size && *size == image.size());
    return {std::move(snapshot), std::move(image)};
  }

  // The same of a cluster that has no version yet.
  static Delivery without_version(const Delivery& of, cluster::Membership members) {
    sim::SimFileSystem scratch{{.mapping_bytes_max = 16 << 20}};
    scratch.make_durable_directories("/x");
    CAIRN_ASSERT(env::write_file(scratch, "/x/db", of.image));
    {
      const auto engine = storage::open_bolt(scratch, "/x/db", {.reserved_bytes = 16 << 20});
      CAIRN_ASSERT(engine);
      storage::WriteBuffer buffer;
      buffer.erase(storage::Table::kMeta, "storageVersion");
      buffer.erase(storage::Table::kCluster, "clusterVersion");
      buffer.freeze();
      storage::Commit commit;
      commit.changes = buffer.changes();
      CAIRN_ASSERT((*engine)->commit(commit));
    }
    members.version.clear();
    auto snapshot = std::make_shared<raft::Snapshot>(*of.snapshot);
    snapshot->data = cluster::write_v2_store(members, snapshot->index.value);
    auto image = env::read_file(scratch, "/x/db");
    CAIRN_ASSERT(image);
    return {std::move(snapshot), *std::move(image)};
  }

  // As the transport does it.
  static void put_down(sim::SimFileSystem& fs, const Delivery& delivery) {
    const std::string temporary = std::string(kSnap) + "/tmp1";
    {
      const auto file = fs.open(temporary, env::OpenMode::kCreateEmpty);
      CAIRN_ASSERT(file && (*file)->pwrite(delivery.image, 0) && (*file)->fdatasync());
    }
    CAIRN_ASSERT(fs.rename(temporary, image_path(kSnap, delivery.snapshot->index)));
    CAIRN_ASSERT(fs.sync_directory(kSnap));
  }
  static void tell(testing::InlineMember& member, const Delivery& delivery, uint64_t term = 50) {
    raft::Message message;
    message.type = raft::MessageType::kSnap;
    message.from = kLeader;
    message.to = member.id_;
    message.term = Term(term);
    message.snapshot = delivery.snapshot;
    member.events_.messages.push_back(std::move(message));
    member.pump();
  }
  void deliver(const Delivery& delivery) {
    put_down(fs_, delivery);
    tell(*member_, delivery);
  }
  void restart() {
    member_.reset();
    fs_.kill();
    fs_.restart();
    member_ = std::make_unique<testing::InlineMember>(fs_, bootstrap_, options_);
  }

  // All keys at the newest revision.
  static uint32_t hash_of(testing::InlineMember& member, int64_t revision = 0) {
    const auto state = member.reader_->enter();
    mvcc::KvHasher hasher(state->kv.root, revision == 0 ? state->kv.revision : revision, state->kv.compact_revision);
    const auto hashed = hasher.step(state->kv.records, UINT64_MAX);
    CAIRN_ASSERT(hashed && *hashed);
    return hasher.hash();
  }
  static bool has_acknowledged(const testing::InlineMember& member, Index index) {
    return std::ranges::any_of(member.outbox_, [&](const raft::Message& message) {
      return message.type == raft::MessageType::kAppResp && !message.reject && message.to == kLeader &&
             message.index >= index;
    });
  }
  static std::vector<std::string> images_left(sim::SimFileSystem& fs) {
    std::vector<std::string> out;
    const auto names = fs.list(kSnap);
    CAIRN_ASSERT(names);
    for (const std::string& name : *names) {
      if (name.ends_with(".snap.db") || name.starts_with("tmp")) out.push_back(name);
    }
    return out;
  }

  uint64_t last_id_ = 1000;
  sim::SimFileSystem source_fs_{{.mapping_bytes_max = 16 << 20}};
  sim::SimFileSystem fs_{{.mapping_bytes_max = 16 << 20}};
  BootstrapOptions bootstrap_;
  MemberOptions options_;
  std::unique_ptr<testing::InlineMember> source_;
  std::unique_ptr<testing::InlineMember> member_;
};

TEST_F(InstallationTest, TheStateIsThatOfTheSnapshotNowAndAfterAStart) {
  put_many(*member_, 5);
  live_longer(*source_);
  const Delivery delivery = snapshot_of(*source_);
  deliver(delivery);
  for (const bool is_started_again : {false, true}) {
    SCOPED_TRACE(is_started_again);
    ASSERT_FALSE(member_->failed_) << member_->failed_->message;
    const Published& state = member_->core_->published().newest();
    EXPECT_GE(state.applied, delivery.snapshot->index);
    EXPECT_EQ(state.kv.revision, source_->core_->published().newest().kv.revision);
    EXPECT_EQ(state.kv.compact_revision, 20);
    EXPECT_EQ(hash_of(*member_), hash_of(*source_));
    EXPECT_EQ(member_->apply().lessor().size(), 1u);
    ASSERT_NE(member_->apply().lessor().find(77), nullptr);
    EXPECT_EQ(member_->apply().lessor().find(77)->keys.size(), 1u);
    EXPECT_EQ(member_->apply().auth().role_list(), std::vector<std::string>{"reader"});
    EXPECT_EQ(state.members->members.size(), 1u);
    EXPECT_TRUE(images_left(fs_).empty());
    // It goes on, alone as it is.
    put(*member_, "after", std::to_string(is_started_again));
    EXPECT_EQ(member_->answered_.back().code, Code::kOk);
    put(*source_, "after", std::to_string(is_started_again));
    if (!is_started_again) restart();
  }
}

// Who leads a cluster without a version decides on it: a member that took its own tables for those of 3.5 said 3.5.0.
TEST_F(InstallationTest, ADbOfAClusterWithoutAVersionIsOfToday) {
  put_many(*member_, 5);
  live_longer(*source_);
  deliver(without_version(snapshot_of(*source_), *source_->core_->published().newest().members));
  ASSERT_FALSE(member_->failed_) << member_->failed_->message;
  EXPECT_EQ(member_->apply().schema(), Schema::k3_7);
  EXPECT_EQ(member_->apply().auth().role_list(), std::vector<std::string>{"reader"}) << "the snapshot's";
  put_many(*member_, 5);
  restart();
  ASSERT_FALSE(member_->failed_) << member_->failed_->message;
  EXPECT_EQ(member_->apply().schema(), Schema::k3_7);
  EXPECT_EQ(member_->core_->published().newest().members->version, "3.7.0");
}

TEST_F(InstallationTest, TheNextStartTakesWhatWasCommittedBehindIt) {
  live_longer(*source_);
  deliver(snapshot_of(*source_));
  put_many(*member_, 30);
  member_->events_.controls.push_back({.kind = Control::kCommit, .tag = 9});
  member_->pump();
  put_many(*member_, 3);
  const uint32_t hash = hash_of(*member_);
  restart();
  EXPECT_EQ(hash_of(*member_), hash);
}

TEST_F(InstallationTest, NothingIsAcknowledgedBeforeTheStateIsInPlace) {
  live_longer(*source_);
  const Delivery delivery = snapshot_of(*source_);
  member_->installs_wait_ = true;
  deliver(delivery);
  EXPECT_FALSE(has_acknowledged(*member_, delivery.snapshot->index));
  // An entry behind it is written meanwhile.
  raft::Message append;
  append.type = raft::MessageType::kApp;
  append.from = kLeader;
  append.to = member_->id_;
  append.term = Term(50);
  append.index = delivery.snapshot->index;
  append.log_term = delivery.snapshot->term;
  append.commit = append.index;
  append.entries.push_back({Term(50), append.index + 1, raft::EntryType::kNormal, nullptr});
  member_->events_.messages.push_back(append);
  member_->pump();
  EXPECT_EQ(member_->wal_->log().last_index(), append.index + 1);
  EXPECT_FALSE(has_acknowledged(*member_, delivery.snapshot->index));
  EXPECT_LT(member_->apply().applied(), delivery.snapshot->index);
  member_->installs_wait_ = false;
  member_->pump();
  EXPECT_TRUE(has_acknowledged(*member_, append.index + 1));
  EXPECT_GE(member_->apply().applied(), delivery.snapshot->index);
}

TEST_F(InstallationTest, ACommitUnderWayIsWaitedForAndNoOtherBegins) {
  put_many(*member_, 5);
  live_longer(*source_);
  const Delivery delivery = snapshot_of(*source_);
  member_->commits_wait_ = true;
  member_->events_.controls.push_back({.kind = Control::kCommit, .tag = 9});
  member_->pump();
  ASSERT_TRUE(member_->apply().commit_pending());
  deliver(delivery);
  EXPECT_LT(member_->apply().applied(), delivery.snapshot->index);
  const size_t answered = member_->answered_.size();
  member_->commits_wait_ = false;
  member_->pump();
  EXPECT_GE(member_->apply().applied(), delivery.snapshot->index);
  EXPECT_EQ(member_->answered_.size(), answered + 1) << "who waits for a commit is answered";
  EXPECT_EQ(hash_of(*member_), hash_of(*source_));
}

TEST_F(InstallationTest, AnotherSnapshotThatComesMeanwhileFollows) {
  live_longer(*source_);
  const Delivery first = snapshot_of(*source_);
  put_many(*source_, 20);
  const Delivery second = snapshot_of(*source_);
  member_->installs_wait_ = true;
  deliver(first);
  deliver(second);
  deliver(second);  // twice
  EXPECT_LT(member_->apply().applied(), first.snapshot->index);
  member_->installs_wait_ = false;
  member_->pump();
  ASSERT_FALSE(member_->failed_) << member_->failed_->message;
  EXPECT_EQ(hash_of(*member_), hash_of(*source_));
  EXPECT_TRUE(images_left(fs_).empty());
  restart();
  EXPECT_EQ(hash_of(*member_), hash_of(*source_));
}

// The second one's file would be the first one's, which the housekeeper is about to remove.
TEST_F(InstallationTest, AnImageIsNotRemovedWhileAnotherLeaderMaySendTheSame) {
  live_longer(*source_);
  const Delivery delivery = snapshot_of(*source_);
  const Index index = delivery.snapshot->index;
  raft::Message heartbeat;
  heartbeat.type = raft::MessageType::kHeartbeat;
  heartbeat.from = kLeader;
  heartbeat.to = member_->id_;
  heartbeat.term = Term(60);
  member_->events_.messages.push_back(heartbeat);
  member_->pump();
  put_down(fs_, delivery);
  tell(*member_, delivery);  // too late: another one leads
  EXPECT_LT(member_->apply().applied(), index);
  EXPECT_EQ(member_->unused_images_, std::vector<Index>{});
  tell(*member_, delivery, 70);
  ASSERT_FALSE(member_->failed_) << member_->failed_->message;
  EXPECT_EQ(hash_of(*member_), hash_of(*source_));
  EXPECT_EQ(member_->unused_images_, (std::vector<Index>{index, index}));
}

TEST_F(InstallationTest, AStopWaitsForIt) {
  live_longer(*source_);
  member_->installs_wait_ = true;
  deliver(snapshot_of(*source_));
  EXPECT_EQ(member_->stop(), Ending::kNone);
  member_->installs_wait_ = false;
  member_->pump();
  EXPECT_EQ(member_->ending_, Ending::kSaved);
  EXPECT_EQ(hash_of(*member_), hash_of(*source_));
}

TEST_F(InstallationTest, ReadersInFlightFinishOnTheOldFile) {
  put(*member_, "a", "first");
  put_many(*source_, 30);
  put_many(*member_, 30);
  member_->events_.controls.push_back({.kind = Control::kCommit, .tag = 9});
  member_->pump();
  put(*member_, "b", "buffered");
  mvcc::IndexRoot root;
  PublishedDomain::Pin pin;
  std::weak_ptr<const storage::View> file;
  {
    const auto state = member_->reader_->enter();
    root = state->kv.root;
    pin = state.pin(state->kv.revision);
    file = state->file;
  }
  live_longer(*source_);
  compact(*source_, 60);
  deliver(snapshot_of(*source_));
  member_->wait(kSecond);
  EXPECT_EQ(member_->apply().former_count(), 1u);
  {
    const auto state = member_->reader_->enter();
    for (const char* key : {"a", "b", "key3"}) {
      const auto found = root.find(key);
      ASSERT_TRUE(found);
      const auto record = state->records_of(pin.number()).record(found->mod);
      ASSERT_TRUE(record) << key;
      EXPECT_EQ(mvcc::decode_key_value(*record)->key, key);
    }
    EXPECT_FALSE(state->kv.root.find("b"));
  }
  EXPECT_FALSE(file.expired());
  pin.release();
  for (int i = 0; i < 10; ++i) member_->wait(kSecond);
  EXPECT_EQ(member_->apply().former_count(), 0u);
  EXPECT_TRUE(file.expired()) << "the old file takes no room any more";
}

// --- watchers

class Watching final : public mvcc::WatchStream {
 public:
  bool has_room() const override { return true; }
  bool send(const mvcc::Watcher&, const mvcc::SharedBatch& batch, int64_t) override {
    revisions += batch->revisions;
    last = batch->last;
    return true;
  }
  void on_compacted(const mvcc::Watcher&, int64_t revision) override { compacted = revision; }

  uint64_t revisions = 0;
  int64_t last = 0;
  int64_t compacted = 0;
};

class WatchedInstallationTest : public InstallationTest {
 protected:
  WatchedInstallationTest() {
    put_many(*member_, 5);
    put_many(*source_, 5);
    catch_up();
    CAIRN_ASSERT(hub_.add(stream_, {.target = {.interval = mvcc::OwnedInterval({"", "", false, true})}}));
  }
  ~WatchedInstallationTest() override { hub_.remove_all(stream_); }
  void catch_up() {
    const auto state = member_->reader_->enter();
    CAIRN_ASSERT(hub_.advance(state->kv));
    while (auto scan = hub_.take_scan()) {
      const auto found = mvcc::run_scan(*scan, state->kv);
      CAIRN_ASSERT(found);
      hub_.finish_scan(*scan, *found);
    }
  }

  mvcc::WatchHub hub_{7};
  Watching stream_;
};

TEST_F(WatchedInstallationTest, WatchersGetWhatTheyHaveMissedFromTheNewDb) {
  put_many(*source_, 60);
  deliver(snapshot_of(*source_));
  catch_up();
  EXPECT_EQ(stream_.revisions, 60u);
  EXPECT_EQ(stream_.last, source_->core_->published().newest().kv.revision);
  EXPECT_EQ(stream_.compacted, 0);
  put(*member_, "more", "x");
  catch_up();
  EXPECT_EQ(stream_.revisions, 61u);
}

TEST_F(WatchedInstallationTest, WatchersWhoseHistoryIsCompactedThereAreTold) {
  put_many(*source_, 60);
  compact(*source_, 40);
  deliver(snapshot_of(*source_));
  catch_up();
  EXPECT_EQ(stream_.revisions, 0u);
  EXPECT_EQ(stream_.compacted, 40);
}

// --- crashes

TEST_F(InstallationTest, ACrashAtAnyMomentLeavesTheOldStateOrThatOfTheSnapshot) {
  put_many(*member_, 5);
  live_longer(*source_);
  const Delivery delivery = snapshot_of(*source_);
  put_down(fs_, delivery);
  const uint32_t old_hash = hash_of(*member_);
  const uint32_t new_hash = hash_of(*source_);
  ASSERT_NE(old_hash, new_hash);
  member_.reset();
  fs_.crash(sim::Damage::kKeepAll);
  // A start removes what nobody will ask for: so the image goes into each copy.
  uint64_t crashes = 0;
  uint64_t old_states = 0;
  uint64_t new_states = 0;
  bool has_crashed = true;
  for (uint64_t n = 1; has_crashed; ++n) {
    for (const sim::Damage damage : {sim::Damage::kMixed, sim::Damage::kLoseUnsynced, sim::Damage::kKeepAll}) {
      SCOPED_TRACE(fmt::format("operation {}, damage {}", n, static_cast<int>(damage)));
      const auto fs = fs_.clone(n * 10 + static_cast<uint64_t>(damage));
      auto member = std::make_unique<testing::InlineMember>(*fs, bootstrap_, options_);
      put_down(*fs, delivery);
      fs->crash_at(fs->mutations() + n);
      tell(*member, delivery);
      has_crashed = fs->crashed();
      const bool is_acknowledged = has_acknowledged(*member, delivery.snapshot->index);
      member.reset();
      fs->crash(damage);
      crashes += has_crashed ? 1 : 0;
      auto again = std::make_unique<testing::InlineMember>(*fs, bootstrap_, options_);
      ASSERT_FALSE(again->failed_);
      const uint32_t found = hash_of(*again);
      EXPECT_TRUE(found == old_hash || found == new_hash);
      if (is_acknowledged) {
        EXPECT_EQ(found, new_hash);
      }
      (found == old_hash ? old_states : new_states) += 1;
      EXPECT_TRUE(images_left(*fs).empty());
      again.reset();
      if (::testing::Test::HasFailure()) return;
    }
  }
  EXPECT_GT(crashes, 30u);
  EXPECT_GT(old_states, 5u);
  EXPECT_GT(new_states, 5u);
}

// docs/faults.md, "Points".
TEST_F(InstallationTest, ItsFaultPointsStandBetweenItsSteps) {
  live_longer(*source_);
  const Delivery delivery = snapshot_of(*source_);
  put_down(fs_, delivery);
  std::vector<std::string> row;
  const auto note = [&](std::string what) {
    if (row.empty() || row.back() != what) row.push_back(std::move(what));
  };
  fs_.set_observer([&](const sim::Operation& operation) {
    if (operation.op == sim::Op::kSync && operation.path.ends_with(".wal")) note("[sync wal]");
    if (operation.op == sim::Op::kSync && operation.path.find("/snap/") != std::string_view::npos) note("[sync snap]");
    if (operation.op == sim::Op::kRename && operation.target.ends_with("/db")) note("[rename db]");
  });
  fault::set_handler([&](fault::Point point) {
    const std::string_view name = fault::kPoints[point].name;
    if (name.find("Snap") != std::string_view::npos || name == "raftBeforeSave" || name == "raftAfterWALRelease") {
      note(std::string(name));
    }
    return std::optional<std::string>();
  });
  for (auto& one : fault::armed) one = true;
  tell(*member_, delivery);
  for (auto& one : fault::armed) one = false;
  fault::set_handler(nullptr);
  fs_.set_observer({});
  const std::vector<std::string> wanted = {"raftBeforeSaveSnap",
                                           "[sync snap]",
                                           "raftBeforeWALSaveSnaphot",
                                           "[sync wal]",
                                           "raftAfterSaveSnap",
                                           "raftBeforeSave",
                                           "[sync wal]",
                                           "applyBeforeOpenSnapshot",
                                           "[sync snap]",
                                           "applyAfterOpenSnapshot",
                                           "[rename db]",
                                           "raftBeforeApplySnap",
                                           "raftAfterApplySnap",
                                           "raftAfterWALRelease"};
  ASSERT_GE(row.size(), wanted.size());
  row.resize(wanted.size());  // then it leads, as it is alone
  EXPECT_EQ(row, wanted);
}

TEST_F(InstallationTest, AnImageOfAnotherIndexIsRefusedBeforeAnythingIsWritten) {
  live_longer(*source_);
  const Delivery delivery = snapshot_of(*source_);
  const auto& file = source_->core_->published().newest().file;
  EXPECT_TRUE(check_image(*file, delivery.snapshot->index));
  EXPECT_EQ(check_image(*file, delivery.snapshot->index + 1).error().code, Code::kDataLoss);
  EXPECT_EQ(check_image(*file, delivery.snapshot->index - 1).error().code, Code::kDataLoss);
}

TEST_F(InstallationTest, AnImageIsLookedAtAndLeftAsItIs) {
  live_longer(*source_);
  const Delivery delivery = snapshot_of(*source_);
  put_down(fs_, delivery);
  const std::string path = image_path(kSnap, delivery.snapshot->index);
  EXPECT_TRUE(look_at_image(fs_, path, delivery.snapshot->index));
  EXPECT_EQ(look_at_image(fs_, path, delivery.snapshot->index + 1).error().code, Code::kDataLoss);
  const std::string other = std::string(kSnap) + "/tmp1";
  EXPECT_EQ(look_at_image(fs_, other, Index(1)).error().code, Code::kNotFound);
  EXPECT_FALSE(fs_.exists(other)) << "none was made";
  {
    const auto file = fs_.open(other, env::OpenMode::kCreate);
    ASSERT_TRUE(file && (*file)->pwrite(std::string(20'000, 'x'), 0));
  }
  EXPECT_FALSE(look_at_image(fs_, other, Index(1)));
}

}  // namespace
}  // namespace cairn::member
