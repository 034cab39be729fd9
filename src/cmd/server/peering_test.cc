// Members that are Peerings only, on loopback: what a node sends and hears.
#include "cmd/server/peering.h"

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/mutex.h"
#include "member/recovery/image.h"
#include "net/client/http1_channel.h"
#include "storage/bolt/engine.h"
#include "storage/test_support.h"
#include "testing/temp_dir.h"
#include "testing/wait.h"

namespace cairn::cmd {
namespace {

using cairn::testing::TempDir;
using cairn::testing::wait_until;

constexpr uint64_t kCluster = 0xc1a5;
constexpr int64_t kTimeoutNs = 5'000'000'000;

cluster::Member member_of(uint64_t id, const std::string& url) { return {.id = NodeId(id), .peer_urls = {url}}; }

cluster::Membership membership(const std::vector<cluster::Member>& members, const std::set<NodeId>& removed = {}) {
  cluster::Membership out;
  out.cluster_id = kCluster;
  for (const cluster::Member& member : members) out.members[member.id] = member;
  out.removed = removed;
  return out;
}

std::string text(const PeerList& list) {
  std::string out;
  for (const peer::Peer& peer : list.others) out += std::to_string(peer.id.value) + "=" + peer.urls.at(0) + " ";
  for (const NodeId id : list.removed) out += "-" + std::to_string(id.value) + " ";
  return out;
}

TEST(PeerListTest, IsTheOtherMembersAndWhoWasRemoved) {
  const auto members = membership({member_of(1, "a"), member_of(2, "b"), member_of(3, "c")}, {NodeId(9)});
  EXPECT_EQ(text(peer_list(NodeId(2), members, {})), "1=a 3=c -9 ");
}

TEST(PeerListTest, WhoJoinsTalksToThoseThatItWasToldOf) {
  const std::vector<cluster::Member> told = {member_of(1, "a"), member_of(2, "b"), member_of(3, "me"),
                                             member_of(4, "gone")};
  EXPECT_EQ(text(peer_list(NodeId(3), membership({}), told)), "1=a 2=b 4=gone ");
  // The log knows better as far as it goes.
  EXPECT_EQ(text(peer_list(NodeId(3), membership({member_of(1, "a2")}, {NodeId(4)}), told)), "1=a2 2=b -4 ");
  EXPECT_EQ(text(peer_list(NodeId(3), membership({member_of(1, "a"), member_of(3, "me")}), told)), "1=a ");
}

TEST(PeerListTest, AFounderKnowsTheOthersBeforeItsFirstEntriesAreApplied) {
  const std::vector<cluster::Member> told = {member_of(2, "b"), member_of(3, "c")};
  EXPECT_EQ(text(peer_list(NodeId(1), membership({}), told)), "2=b 3=c ");
}

// A member's Peering with what its node hears.
class Side {
 public:
  explicit Side(uint64_t id) : id_(id) {
    auto bound = net::listen_on("127.0.0.1:0");
    CAIRN_ASSERT(bound.has_value());
    address_ = bound->address;
    peering_ = std::make_unique<Peering>(Peering::Options{.fs = env::posix_fs(),
                                                          .registry = registry_,
                                                          .listen = {{.address = address_, .fd = bound->fd}},
                                                          .tls = nullptr,
                                                          .urls = {url()},
                                                          .dial_timeout_ns = kTimeoutNs,
                                                          .read_timeout_ns = kTimeoutNs,
                                                          .write_timeout_ns = kTimeoutNs});
  }
  ~Side() { peering_->stop(); }
  Side(const Side&) = delete;
  Side& operator=(const Side&) = delete;

  void start(const cluster::Membership& members, std::vector<cluster::Member> remotes = {}) {
    CAIRN_ASSERT(peering_->start(
        {.self = id_,
         .cluster_id = kCluster,
         .members = std::make_shared<cluster::Membership>(members),
         .remotes = std::move(remotes),
         .snap_directory = folder_.path(),
         .receive =
             [this](std::vector<raft::Message> messages) {
               const MutexLock lock(mutex_);
               std::ranges::move(messages, std::back_inserter(heard_));
             },
         .report =
             [this](const member::PeerReport& report) {
               const MutexLock lock(mutex_);
               reports_.push_back(report);
             },
         .answer = [](const net::HttpRequest& request,
                      const net::HttpRespond& respond) { respond({.body = "asked for " + request.path}); }}));
  }

  [[nodiscard]] cluster::Member as_member() const { return member_of(id_.value, url()); }
  [[nodiscard]] std::string url() const { return "http://" + address_; }
  [[nodiscard]] const std::string& address() const { return address_; }
  [[nodiscard]] NodeId id() const { return id_; }
  [[nodiscard]] const std::string& folder() const { return folder_.path(); }
  Peering& peering() { return *peering_; }

  void set_members(const cluster::Membership& members) {
    peering_->set_members(std::make_shared<cluster::Membership>(members));
  }
  // The commit indexes of the heartbeats, or a snapshot's index, in order.
  [[nodiscard]] std::vector<raft::Message> heard() const {
    const MutexLock lock(mutex_);
    return heard_;
  }
  [[nodiscard]] bool heard_heartbeat(uint64_t number) const {
    return std::ranges::any_of(heard(), [&](const auto& message) {
      return message.type == raft::MessageType::kHeartbeat && message.commit.value == number;
    });
  }
  [[nodiscard]] bool was_told(member::PeerReport::Kind kind, NodeId of) const {
    const MutexLock lock(mutex_);
    return std::ranges::any_of(reports_, [&](const auto& each) { return each.kind == kind && each.peer == of; });
  }
  void beat(NodeId to, uint64_t number) {
    raft::Message out;
    out.type = raft::MessageType::kHeartbeat;
    out.from = id_;
    out.to = to;
    out.term = Term(7);
    out.commit = Index(number);
    std::vector<raft::Message> one;
    one.push_back(std::move(out));
    peering_->send(std::move(one));
  }

 private:
  const NodeId id_;
  TempDir folder_;
  metrics::Registry registry_;
  std::string address_;
  mutable Mutex mutex_;
  std::vector<raft::Message> heard_ CAIRN_GUARDED_BY(mutex_);
  std::vector<member::PeerReport> reports_ CAIRN_GUARDED_BY(mutex_);
  std::unique_ptr<Peering> peering_;
};

// A db as one has it that has applied `index`.
std::unique_ptr<storage::Engine> make_db(const std::string& path, uint64_t index) {
  auto engine = storage::open_bolt(env::posix_fs(), path);
  CAIRN_ASSERT(engine.has_value());
  const auto number = [](uint64_t value) {
    std::string out(8, '\0');
    store_be64(out.data(), value);
    return out;
  };
  storage::test::Batch batch;
  batch.put(storage::Table::kMeta, "consistent_index", number(index));
  batch.put(storage::Table::kMeta, "term", number(7));
  CAIRN_ASSERT((*engine)->commit(batch.commit()));
  return *std::move(engine);
}

raft::Message snapshot(NodeId from, NodeId to, uint64_t index, std::shared_ptr<const storage::View> view) {
  auto made = std::make_shared<raft::Snapshot>();
  made->index = Index(index);
  made->term = Term(7);
  made->conf.voters = {from, to};
  made->data = "{}";
  made->source = std::move(view);
  raft::Message out;
  out.type = raft::MessageType::kSnap;
  out.from = from;
  out.to = to;
  out.term = Term(7);
  out.snapshot = std::move(made);
  return out;
}

TEST(PeeringTest, MembersHearEachOther) {
  Side a(1);
  Side b(2);
  const auto members = membership({a.as_member(), b.as_member()});
  a.start(members);
  b.start(members);
  EXPECT_TRUE(wait_until([&] {
    a.beat(b.id(), 42);
    return b.heard_heartbeat(42);
  }));
  EXPECT_TRUE(wait_until([&] {
    b.beat(a.id(), 43);
    return a.heard_heartbeat(43);
  }));
  EXPECT_TRUE(wait_until([&] { return a.peering().speaks_cairn(b.id()) && b.peering().speaks_cairn(a.id()); }));
  EXPECT_FALSE(a.peering().speaks_cairn(NodeId(3)));
  b.peering().stop();
  EXPECT_TRUE(wait_until([&] { return a.was_told(member::PeerReport::Kind::kDied, b.id()); }));
}

TEST(PeeringTest, AMemberThatJoinsHearsFromThoseThatItWasToldOf) {
  Side a(1);
  Side b(2);
  a.start(membership({a.as_member(), b.as_member()}));
  b.start(membership({}), {a.as_member()});
  EXPECT_TRUE(wait_until([&] {
    a.beat(b.id(), 42);
    return b.heard_heartbeat(42);
  }));
  EXPECT_TRUE(wait_until([&] {
    b.beat(a.id(), 43);
    return a.heard_heartbeat(43);
  }));
}

TEST(PeeringTest, WhoWasRemovedHearsOfIt) {
  Side a(1);
  Side b(2);
  a.start(membership({a.as_member(), b.as_member()}));
  b.start(membership({a.as_member(), b.as_member()}));
  EXPECT_TRUE(wait_until([&] {
    a.beat(b.id(), 42);
    return b.heard_heartbeat(42);
  }));
  EXPECT_FALSE(b.was_told(member::PeerReport::Kind::kTellsRemoval, a.id()));
  a.set_members(membership({a.as_member()}, {b.id()}));
  EXPECT_TRUE(wait_until([&] { return b.was_told(member::PeerReport::Kind::kTellsRemoval, a.id()); }));
  EXPECT_FALSE(a.was_told(member::PeerReport::Kind::kTellsRemoval, b.id()));
}

TEST(PeeringTest, ASnapshotComesWithItsDb) {
  Side a(1);
  Side b(2);
  const auto members = membership({a.as_member(), b.as_member()});
  a.start(members);
  b.start(members);
  const TempDir folder;
  const auto engine = make_db(folder / "db", 77);
  std::vector<raft::Message> sent;
  sent.push_back(snapshot(a.id(), b.id(), 77, engine->view()));
  a.peering().send(std::move(sent));
  ASSERT_TRUE(wait_until([&] { return !b.heard().empty(); }));
  const raft::Message heard = b.heard().front();
  EXPECT_EQ(heard.type, raft::MessageType::kSnap);
  EXPECT_EQ(heard.snapshot->index, Index(77));
  EXPECT_EQ(heard.snapshot->source, nullptr);
  EXPECT_TRUE(wait_until([&] { return a.was_told(member::PeerReport::Kind::kSnapshotDelivered, b.id()); }));
  const auto image = storage::open_bolt(env::posix_fs(), member::image_path(b.folder(), Index(77)));
  ASSERT_TRUE(image.has_value());
  EXPECT_TRUE(member::check_image(*(*image)->view(), Index(77)));
}

TEST(PeeringTest, ASnapshotWithTheDbOfAnotherIndexIsDropped) {
  Side a(1);
  Side b(2);
  const auto members = membership({a.as_member(), b.as_member()});
  a.start(members);
  b.start(members);
  const TempDir folder;
  const auto engine = make_db(folder / "db", 77);
  const auto send = [&](uint64_t index) {
    std::vector<raft::Message> one;
    one.push_back(snapshot(a.id(), b.id(), index, engine->view()));
    a.peering().send(std::move(one));
  };
  send(78);  // it is one at a time
  ASSERT_TRUE(wait_until([&] { return a.was_told(member::PeerReport::Kind::kSnapshotFailed, b.id()); }));
  send(77);
  ASSERT_TRUE(wait_until([&] { return !b.heard().empty(); }));
  EXPECT_EQ(b.heard().size(), 1U);
  EXPECT_EQ(b.heard().front().snapshot->index, Index(77));
  EXPECT_FALSE(std::filesystem::exists(member::image_path(b.folder(), Index(78))));
}

TEST(PeeringTest, AnswersWhatOthersAsk) {
  Side a(1);
  a.start(membership({a.as_member()}));
  auto channel = net::Http1Channel::connect(a.address());
  ASSERT_TRUE(channel.has_value());
  for (const std::string path : {"/members", "/members/promote/12", "/members/hashkv", "/leases", "/leases/internal",
                                 "/downgrade/enabled", "/version"}) {
    auto answer = (*channel)->ask({.method = "GET", .path = path});
    ASSERT_TRUE(answer.has_value());
    EXPECT_EQ(answer->body, "asked for " + path);
  }
  const auto answer = (*channel)->ask({.method = "GET", .path = "/health"});
  ASSERT_TRUE(answer.has_value());
  EXPECT_EQ(answer->status, 404);
}

}  // namespace
}  // namespace cairn::cmd
