// Transports of two and three members on loopback: streams, POSTs, members that come and go, networks that fail.
#include "peer/transport.h"

#include <filesystem>
#include <fstream>
#include <future>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/bytes.h"
#include "net/client/http1_channel.h"
#include "net/testing/certificates.h"
#include "net/tls/tls_context.h"
#include "peer/codec.h"
#include "peer/transport_world_test.h"
#include "testing/file_systems.h"

namespace cairn::peer {
namespace {

using cairn::testing::wait_until;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int64_t kMilli = 1'000'000;

// Numbers of the appends and of the heartbeats that a member has heard, in their order.
std::pair<std::vector<uint64_t>, std::vector<uint64_t>> numbers(const Ears& ears) {
  std::pair<std::vector<uint64_t>, std::vector<uint64_t>> out;
  for (const raft::Message& message : ears.messages()) {
    if (message.type == raft::MessageType::kApp) out.first.push_back(message.entries.at(0).index.value);
    if (message.type == raft::MessageType::kHeartbeat) out.second.push_back(message.commit.value);
  }
  return out;
}

std::vector<uint64_t> up_to(uint64_t last) {
  std::vector<uint64_t> out;
  for (uint64_t i = 1; i <= last; ++i) out.push_back(i);
  return out;
}

TEST(Transport, CarriesMessagesInOrderBothWays) {
  TestMember a(1);
  TestMember b(2);
  know_each_other(a, b);
  ASSERT_TRUE(are_connected(a, b));
  constexpr uint64_t kCount = 2000;
  for (TestMember* from : {&a, &b}) {
    TestMember& to = from == &a ? b : a;
    std::vector<raft::Message> batch;
    for (uint64_t i = 1; i <= kCount; ++i) {
      batch.push_back(append(from->id(), to.id(), i, std::string(i % 3000, static_cast<char>('a' + i % 26))));
      batch.push_back(heartbeat(from->id(), to.id(), i));
      if (i % 100 != 0) continue;
      from->transport().send(std::exchange(batch, {}));
    }
  }
  for (TestMember* to : {&a, &b}) {
    ASSERT_TRUE(wait_until([&] { return to->ears.count() >= 2 * kCount; }));
    const auto [appends, heartbeats] = numbers(to->ears);
    EXPECT_EQ(appends, up_to(kCount));
    EXPECT_EQ(heartbeats, up_to(kCount));
    for (const raft::Message& message : to->ears.messages()) {
      if (message.type != raft::MessageType::kApp) continue;
      const uint64_t number = message.entries[0].index.value;
      ASSERT_EQ(message.entries[0].bytes(), std::string(number % 3000, static_cast<char>('a' + number % 26)));
    }
  }
  EXPECT_EQ(a.metric("etcd_network_active_peers{Local=\"1\",Remote=\"2\"}"), 1);
}

TEST(Transport, CarriesAMessageOfManyMegabytes) {
  TestMember a(1);
  TestMember b(2);
  know_each_other(a, b);
  ASSERT_TRUE(are_connected(a, b));
  std::string data;
  data.resize(40'000'000, 'x');
  a.transport().send({append(a.id(), b.id(), 1, data), heartbeat(a.id(), b.id(), 1)});
  ASSERT_TRUE(wait_until([&] { return b.ears.count() == 2; }));
  for (const raft::Message& message : b.ears.messages()) {
    EXPECT_TRUE(message.type != raft::MessageType::kApp || message.entries.at(0).bytes() == data);
  }
}

TEST(Transport, ThreeMembersReachEachOther) {
  TestMember a(1);
  TestMember b(2);
  TestMember c(3);
  a.transport().set_members({b.as_peer(), c.as_peer()}, {});
  b.transport().set_members({a.as_peer(), c.as_peer()}, {});
  c.transport().set_members({a.as_peer(), b.as_peer()}, {});
  ASSERT_TRUE(are_connected(a, b) && are_connected(b, c) && are_connected(a, c));
  a.transport().send({heartbeat(a.id(), b.id(), 1), heartbeat(a.id(), c.id(), 2), heartbeat(a.id(), NodeId{9}, 3)});
  ASSERT_TRUE(wait_until([&] { return b.ears.count() == 1 && c.ears.count() == 1; }));
  EXPECT_EQ(numbers(b.ears).second, std::vector<uint64_t>{1});
  EXPECT_EQ(numbers(c.ears).second, std::vector<uint64_t>{2});
}

// A member that is behind knows nothing of the one that leads: it is told where that is, and answers there.
TEST(Transport, AnswersAMemberThatItDoesNotKnow) {
  TestMember a(1);
  TestMember b(2);
  a.transport().set_members({b.as_peer()}, {});
  EXPECT_TRUE(wait_until([&] {
    a.transport().send({heartbeat(a.id(), b.id(), 1)});
    return b.ears.count() > 0;
  }));
  EXPECT_TRUE(wait_until([&] {
    b.transport().send({heartbeat(b.id(), a.id(), 2)});
    return a.ears.count() > 0;
  }));
  EXPECT_EQ(a.transport().streams(b.id()), Transport::Streams());
  EXPECT_EQ(b.transport().streams(a.id()), Transport::Streams());
}

TEST(Transport, TellsAMemberThatItWasRemoved) {
  TestMember a(1);
  TestMember b(2);
  b.transport().set_members({}, {a.id()});
  a.transport().set_members({b.as_peer()}, {});
  ASSERT_TRUE(wait_until([&] { return !a.ears.removed_by().empty(); }));
  EXPECT_EQ(a.ears.removed_by().front(), b.id());
  EXPECT_EQ(b.ears.count(), 0u);
}

TEST(Transport, EndsTheConnectionsOfAMemberThatLeaves) {
  TestMember a(1);
  TestMember b(2);
  know_each_other(a, b);
  ASSERT_TRUE(are_connected(a, b));
  a.transport().set_members({}, {b.id()});
  EXPECT_TRUE(wait_until([&] { return b.transport().streams(a.id()) == Transport::Streams(); }));
  EXPECT_TRUE(wait_until([&] { return !b.ears.removed_by().empty(); }));
  EXPECT_FALSE(a.transport().active_since_ns(b.id()));
}

TEST(Transport, FindsAMemberAgainThatWasAway) {
  TestMember a(1);
  auto b = std::make_unique<TestMember>(2);
  const std::string address = b->address();
  know_each_other(a, *b);
  ASSERT_TRUE(are_connected(a, *b));
  b.reset();
  ASSERT_TRUE(wait_until([&] { return a.ears.reports(Report::Kind::kDied) == 1; }));
  EXPECT_TRUE(wait_until([&] { return a.ears.reports(Report::Kind::kStreamCut) == 2; }));
  EXPECT_FALSE(a.transport().active_since_ns(NodeId{2}));
  b = std::make_unique<TestMember>(2, TestMember::Change(), address);
  know_each_other(a, *b);
  ASSERT_TRUE(are_connected(a, *b));
  a.transport().send({heartbeat(a.id(), b->id(), 5)});
  ASSERT_TRUE(wait_until([&] { return b->ears.count() == 1; }));
  EXPECT_GE(a.metric("etcd_network_disconnected_peers_total{Local=\"1\",Remote=\"2\"}"), 1);
}

TEST(Transport, LooksAtOnceWhetherAMemberIsThere) {
  // Nothing but the question would notice: the timeouts are hours.
  const auto patient = [](Transport::Options& options) {
    options.limits.read_timeout_ns = options.limits.write_timeout_ns = 3'600'000 * kMilli;
  };
  TestMember a(1, patient);
  TestMember b(2, patient);
  Proxy proxy(b.address());
  a.transport().set_members({{.id = b.id(), .urls = {"http://" + proxy.address()}}}, {});
  b.transport().set_members({a.as_peer()}, {});
  ASSERT_TRUE(are_connected(a, b));
  a.transport().redial(b.id());  // it is there
  a.transport().redial(NodeId{77});
  a.transport().send({heartbeat(a.id(), b.id(), 1)});
  ASSERT_TRUE(wait_until([&] { return b.ears.count() == 1; }));
  EXPECT_EQ(a.ears.reports(Report::Kind::kDied), 0);
}

TEST(Transport, AFrozenNetworkIsNoticedAndLeftBehind) {
  const auto impatient = [](Transport::Options& options) {
    options.limits.read_timeout_ns = options.limits.write_timeout_ns = 1000 * kMilli;
    options.limits.heartbeat_ns = 100 * kMilli;
    options.dial_timeout_ns = 1000 * kMilli;
  };
  TestMember a(1, impatient);
  TestMember b(2, impatient);
  Proxy to_a(a.address());
  Proxy to_b(b.address());
  a.transport().set_members({{.id = b.id(), .urls = {"http://" + to_b.address()}}}, {});
  b.transport().set_members({{.id = a.id(), .urls = {"http://" + to_a.address()}}}, {});
  ASSERT_TRUE(are_connected(a, b));
  to_a.freeze(true);
  to_b.freeze(true);
  EXPECT_TRUE(
      wait_until([&] { return !a.transport().active_since_ns(b.id()) && !b.transport().active_since_ns(a.id()); }));
  to_a.freeze(false);
  to_b.freeze(false);
  EXPECT_TRUE(are_connected(a, b));
  to_a.cut();
  to_b.cut();
  b.ears.forget();
  EXPECT_TRUE(wait_until([&] {
    a.transport().send({heartbeat(a.id(), b.id(), 1)});
    return b.ears.count() > 0;
  }));
  EXPECT_TRUE(are_connected(a, b));
}

// What waits for a member that takes nothing is bounded, and others do not feel it.
TEST(Transport, ASlowMemberHoldsLittle) {
  constexpr uint64_t kMegabyte = 1 << 20;
  const auto small = [](Transport::Options& options) {
    options.limits.queue_bytes_max = 4 * kMegabyte;
    options.send_bytes_max = 8 * kMegabyte;
    options.limits.read_timeout_ns = options.limits.write_timeout_ns = 3'600'000 * kMilli;
    options.connection_write_timeout_ns = 3'600'000 * kMilli;
  };
  TestMember a(1, small);
  TestMember b(2, small);
  TestMember c(3, small);
  Proxy to_a(a.address());  // what b reads of a
  a.transport().set_members({b.as_peer(), c.as_peer()}, {});
  b.transport().set_members({{.id = a.id(), .urls = {"http://" + to_a.address()}}}, {});
  c.transport().set_members({a.as_peer()}, {});
  ASSERT_TRUE(are_connected(a, b) && are_connected(a, c));
  to_a.freeze(true);
  std::vector<std::weak_ptr<const raft::Payload>> payloads;
  constexpr uint64_t kCount = 500;
  for (uint64_t i = 1; i <= kCount; ++i) {
    raft::Message message = append(a.id(), b.id(), i, std::string(kMegabyte / 4, 'x'));
    payloads.push_back(message.entries[0].data);
    a.transport().send({std::move(message)});
    a.transport().send({heartbeat(a.id(), c.id(), i)});
    ASSERT_TRUE(wait_until([&] { return c.ears.count() == i; }));
    const auto alive = std::ranges::count_if(payloads, [](const auto& each) { return !each.expired(); });
    // The queue, the window that is encoded, and the one that was just sent.
    ASSERT_LE(static_cast<uint64_t>(alive) * kMegabyte / 4, 4 * kMegabyte + kMegabyte + kMegabyte / 2) << i;
  }
  EXPECT_GT(a.ears.reports(Report::Kind::kUnreachable), 0);
  EXPECT_TRUE(a.transport().active_since_ns(c.id()));
}

// While the peer thread does not come to it, send() takes so much and no more.
TEST(Transport, WhatIsSentIsBoundedBeforeTheThreadTakesIt) {
  TestMember a(1, [](Transport::Options& options) { options.send_bytes_max = 100'000; });
  TestMember b(2);
  know_each_other(a, b);
  ASSERT_TRUE(are_connected(a, b));
  std::promise<void> release;
  std::promise<void> held;
  a.transport().serve("/hold", [&](const net::HttpRequest&, const net::HttpRespond& respond) {
    held.set_value();
    release.get_future().wait();  // on the peer thread
    respond({});
  });
  b.transport().call(a.id(), {.method = "GET", .path = "/hold"}, 120'000 * kMilli, [](const auto&) {});
  held.get_future().wait();
  for (uint64_t i = 1; i <= 1000; ++i) a.transport().send({heartbeat(a.id(), b.id(), i)});
  a.transport().send({snapshot(a.id(), b.id(), 5)});
  release.set_value();
  ASSERT_TRUE(wait_until([&] { return a.ears.reports(Report::Kind::kSnapshotFailed) == 1; }));
  EXPECT_EQ(a.ears.reports(Report::Kind::kUnreachable), 1);
  a.transport().send({heartbeat(a.id(), b.id(), 5000)});
  ASSERT_TRUE(wait_until([&] {
    const auto heard = numbers(b.ears).second;
    return !heard.empty() && heard.back() == 5000;
  }));
  EXPECT_LT(b.ears.count(), 1000u);
}

// ---- snapshots

void expect_image(const std::string& path, uint64_t bytes) {
  std::ifstream in(path, std::ios::binary);
  ASSERT_TRUE(in.is_open()) << path;
  std::vector<char> piece(1 << 20);
  uint64_t offset = 0;
  while (in.read(piece.data(), static_cast<std::streamsize>(piece.size())), in.gcount() > 0) {
    for (std::streamsize i = 0; i < in.gcount(); ++i, ++offset) {
      if (piece[static_cast<size_t>(i)] != MadeImage::byte_at(offset)) FAIL() << "at " << offset;
    }
  }
  EXPECT_EQ(offset, bytes);
}

std::vector<std::string> files_in(const std::string& folder) {
  std::vector<std::string> out;
  for (const auto& each : std::filesystem::directory_iterator(folder)) out.push_back(each.path().filename());
  std::ranges::sort(out);
  return out;
}

TestMember::Change with_image(uint64_t bytes, uint64_t fails_at = UINT64_MAX) {
  return [=](Transport::Options& options) {
    options.open_image = [=](const raft::Message&) -> Result<std::unique_ptr<ByteSource>> {
      return std::make_unique<MadeImage>(bytes, fails_at);
    };
  };
}

TEST(TransportSnapshot, TheImageIsInPlaceWhenTheMessageComes) {
  constexpr uint64_t kBytes = 5'000'003;
  TestMember a(1, with_image(kBytes));
  TestMember b(2);
  know_each_other(a, b);
  ASSERT_TRUE(are_connected(a, b));
  a.transport().send({snapshot(a.id(), b.id(), 0x1234)});
  ASSERT_TRUE(wait_until([&] { return b.ears.count() == 1; }));
  const raft::Message got = b.ears.messages().front();
  EXPECT_EQ(got.type, raft::MessageType::kSnap);
  ASSERT_NE(got.snapshot, nullptr);
  EXPECT_EQ(got.snapshot->index, Index{0x1234});
  EXPECT_EQ(got.snapshot->data, "{\"root\":{}}");
  EXPECT_EQ(got.snapshot->conf.voters, (std::vector<NodeId>{NodeId{1}, NodeId{2}}));
  EXPECT_THAT(files_in(b.folder()), ElementsAre("0000000000001234.snap.db"));
  expect_image(b.path("0000000000001234.snap.db"), kBytes);
  ASSERT_TRUE(wait_until([&] { return a.ears.reports(Report::Kind::kSnapshotDelivered) == 1; }));
  EXPECT_EQ(a.metric("etcd_network_snapshot_send_success{To=\"2\"}"), 1);
  EXPECT_EQ(a.metric("etcd_network_snapshot_send_inflights_total{To=\"2\"}"), 0);
  EXPECT_EQ(b.metric("etcd_network_snapshot_receive_success{From=\"1\"}"), 1);
}

// A disk that is slow, and counts how much is written at once.
class SlowFs final : public cairn::testing::ForwardingFileSystem {
 public:
  Result<std::unique_ptr<env::File>> open(const std::string& path, env::OpenMode mode) override {
    CAIRN_TRY(auto file, ForwardingFileSystem::open(path, mode));
    return std::make_unique<SlowFile>(std::move(file), *this);
  }
  std::atomic<uint64_t> piece_most{0};
  std::atomic<bool> fails{false};

 private:
  class SlowFile final : public cairn::testing::ForwardingFile {
   public:
    SlowFile(std::unique_ptr<env::File> file, SlowFs& owner) : ForwardingFile(std::move(file)), owner_(owner) {}
    Status pwrite(std::string_view data, uint64_t offset) override {
      if (owner_.fails && offset > 0) return fail(Code::kResourceExhausted, "test: no space left");
      owner_.piece_most = std::max<uint64_t>(owner_.piece_most, data.size());
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
      return ForwardingFile::pwrite(data, offset);
    }

   private:
    SlowFs& owner_;
  };
};

TEST(TransportSnapshot, ALongOneToASlowDiskLeavesTheThreadToOthers) {
  constexpr uint64_t kBytes = 100 << 20;
  SlowFs slow;
  TestMember a(1, with_image(kBytes));
  TestMember b(2, [&](Transport::Options& options) { options.fs = &slow; });
  know_each_other(a, b);
  ASSERT_TRUE(are_connected(a, b));
  a.transport().send({snapshot(a.id(), b.id(), 1)});
  // Messages of the streams go on meanwhile.
  uint64_t sent = 0;
  ASSERT_TRUE(wait_until([&] {
    a.transport().send({heartbeat(a.id(), b.id(), ++sent)});
    return b.ears.heard(raft::MessageType::kSnap);
  }));
  EXPECT_GT(numbers(b.ears).second.size(), 1u);
  expect_image(b.path("0000000000000001.snap.db"), kBytes);
  // What waits for the disk: the bound, and what one turn of the loop brought beyond it.
  EXPECT_LT(slow.piece_most, 4u << 20);
}

TEST(TransportSnapshot, ASourceThatFailsIsReported) {
  TestMember a(1, with_image(10'000'000, 3'000'000));
  TestMember b(2);
  know_each_other(a, b);
  ASSERT_TRUE(are_connected(a, b));
  a.transport().send({snapshot(a.id(), b.id(), 1)});
  ASSERT_TRUE(wait_until([&] { return a.ears.reports(Report::Kind::kSnapshotFailed) == 1; }));
  EXPECT_TRUE(wait_until([&] { return files_in(b.folder()).empty(); }));
  EXPECT_EQ(b.ears.count(), 0u);
  EXPECT_TRUE(wait_until([&] { return b.metric("etcd_network_snapshot_receive_failures{From=\"1\"}") == 1; }));
  TestMember none(3);  // makes no images at all
  none.transport().set_members({b.as_peer()}, {});
  none.transport().send({snapshot(none.id(), b.id(), 1)});
  EXPECT_TRUE(wait_until([&] { return none.ears.reports(Report::Kind::kSnapshotFailed) == 1; }));
}

TEST(TransportSnapshot, ADiskThatFailsIsReported) {
  SlowFs full;
  full.fails = true;
  TestMember a(1, with_image(20'000'000));
  TestMember b(2, [&](Transport::Options& options) { options.fs = &full; });
  know_each_other(a, b);
  ASSERT_TRUE(are_connected(a, b));
  a.transport().send({snapshot(a.id(), b.id(), 1)});
  ASSERT_TRUE(wait_until([&] { return a.ears.reports(Report::Kind::kSnapshotFailed) == 1; }));
  EXPECT_TRUE(wait_until([&] { return files_in(b.folder()).empty(); }));
  EXPECT_EQ(b.ears.count(), 0u);
  full.fails = false;
  a.transport().send({snapshot(a.id(), b.id(), 2)});
  ASSERT_TRUE(wait_until([&] { return a.ears.reports(Report::Kind::kSnapshotDelivered) == 1; }));
}

// Its sender is told, and nobody hears of the snapshot.
TEST(TransportSnapshot, AnImageThatCannotBeUsedIsGivenBack) {
  TestMember a(1, with_image(100'000));
  std::atomic<int> looks = 0;
  TestMember b(2, [&](Transport::Options& options) {
    options.look_at_image = [&](const std::string& path, Index index) -> Status {
      expect_image(path, 100'000);
      ++looks;
      return index == Index(1) ? fail(Code::kDataLoss, "damaged") : Status{};
    };
  });
  know_each_other(a, b);
  ASSERT_TRUE(are_connected(a, b));
  a.transport().send({snapshot(a.id(), b.id(), 1)});
  ASSERT_TRUE(wait_until([&] { return a.ears.reports(Report::Kind::kSnapshotFailed) == 1; }));
  EXPECT_TRUE(files_in(b.folder()).empty());
  EXPECT_EQ(b.ears.count(), 0u);
  a.transport().send({snapshot(a.id(), b.id(), 2)});
  ASSERT_TRUE(wait_until([&] { return a.ears.reports(Report::Kind::kSnapshotDelivered) == 1; }));
  EXPECT_EQ(b.ears.count(), 1u);
  EXPECT_EQ(looks, 2);
}

// Says how much room there is.
class SmallFs final : public cairn::testing::ForwardingFileSystem {
 public:
  [[nodiscard]] Result<uint64_t> free_bytes(const std::string&) override { return free.load(); }
  std::atomic<uint64_t> free{0};
};

// Of the last megabytes the whole cluster hears: NOSPACE.
TEST(TransportSnapshot, TheLastOfADiskIsNotForAnImage) {
  SmallFs small;
  small.free = 50 << 20;
  TestMember a(1, with_image(20'000'000));
  TestMember b(2, [&](Transport::Options& options) { options.fs = &small; });
  know_each_other(a, b);
  ASSERT_TRUE(are_connected(a, b));
  a.transport().send({snapshot(a.id(), b.id(), 1)});
  ASSERT_TRUE(wait_until([&] { return a.ears.reports(Report::Kind::kSnapshotFailed) == 1; }));
  EXPECT_TRUE(wait_until([&] { return files_in(b.folder()).empty(); }));
  EXPECT_EQ(b.ears.count(), 0u);
  small.free = 60 << 20;
  a.transport().send({snapshot(a.id(), b.id(), 2)});
  ASSERT_TRUE(wait_until([&] { return a.ears.reports(Report::Kind::kSnapshotDelivered) == 1; }));
}

// Whoever knows the cluster's id may begin with one, and never come to an end.
TEST(TransportSnapshot, OnesThatComeSlowlyKeepNoneOut) {
  std::vector<std::unique_ptr<TestMember>> slow;
  TestMember a(1, with_image(5'000'000));
  TestMember b(2);
  const auto begin_slowly = [&](uint64_t id) {
    slow.push_back(std::make_unique<TestMember>(id, [](Transport::Options& options) {
      with_image(64 << 20)(options);
      options.snapshot_bytes_per_second_max = 256 << 10;
    }));
    slow.back()->transport().set_members({b.as_peer()}, {});
    slow.back()->transport().send({snapshot(NodeId{id}, b.id(), id)});
  };
  for (uint64_t id = 11; id <= 14; ++id) begin_slowly(id);
  ASSERT_TRUE(wait_until([&] { return files_in(b.folder()).size() == 4; }));
  begin_slowly(15);  // too many have only begun
  ASSERT_TRUE(wait_until([&] { return slow.back()->ears.reports(Report::Kind::kSnapshotFailed) == 1; }));
  know_each_other(a, b);
  ASSERT_TRUE(wait_until([&] {
    a.transport().send({snapshot(a.id(), b.id(), 1)});
    return a.ears.reports(Report::Kind::kSnapshotDelivered) >= 1;
  }));
  const auto given_up = std::ranges::count_if(
      slow, [](const auto& each) { return each->ears.reports(Report::Kind::kSnapshotFailed) == 1; });
  EXPECT_EQ(given_up, 2);
}

TEST(TransportSnapshot, AReceiverThatStopsIsGivenUp) {
  TestMember a(1, [](Transport::Options& options) {
    with_image(64 << 20)(options);
    options.snapshot_write_timeout_ns = 500 * kMilli;
  });
  TestMember b(2);
  Proxy proxy(b.address());
  a.transport().set_members({{.id = b.id(), .urls = {"http://" + proxy.address()}}}, {});
  b.transport().set_members({a.as_peer()}, {});
  ASSERT_TRUE(are_connected(a, b));
  proxy.freeze(true);
  a.transport().send({snapshot(a.id(), b.id(), 1)});
  ASSERT_TRUE(wait_until([&] { return a.ears.reports(Report::Kind::kSnapshotFailed) == 1; }));
  proxy.cut();
  proxy.freeze(false);
  EXPECT_TRUE(wait_until([&] { return files_in(b.folder()).empty(); }));
}

TEST(TransportSnapshot, OneUnderWayIsAnsweredForAtTheEnd) {
  TestMember a(1, [](Transport::Options& options) {
    with_image(64 << 20)(options);
    options.snapshot_bytes_per_second_max = 1 << 20;
  });
  TestMember b(2);
  know_each_other(a, b);
  ASSERT_TRUE(are_connected(a, b));
  a.transport().send({snapshot(a.id(), b.id(), 1)});
  ASSERT_TRUE(wait_until([&] { return !files_in(b.folder()).empty(); }));
  a.transport().send({snapshot(a.id(), NodeId{9}, 1)});  // nobody's
  a.stop();
  EXPECT_EQ(a.ears.reports(Report::Kind::kSnapshotFailed), 2);
  EXPECT_TRUE(wait_until([&] { return files_in(b.folder()).empty(); }));
}

// ---- whose it is

// The same member may be of another kind after a restart.
TEST(TransportKind, IsWhatTheLastConnectionSays) {
  TestMember a(1);
  TestMember b(2);
  EXPECT_FALSE(a.transport().speaks_cairn(b.id()));
  know_each_other(a, b);
  ASSERT_TRUE(are_connected(a, b));
  EXPECT_TRUE(a.transport().speaks_cairn(b.id()));
  EXPECT_TRUE(b.transport().speaks_cairn(a.id()));
  b.stop();
  const auto post = [&](bool is_cairn, uint64_t number) {
    auto channel = net::Http1Channel::connect(a.address());
    CAIRN_ASSERT(channel.has_value());
    net::HttpFields headers = {{"X-Server-From", "2"},
                               {"X-Server-Version", "3.7.1"},
                               {"X-Min-Cluster-Version", "3.0.0"},
                               {"X-Etcd-Cluster-ID", hex_id(kTestCluster)}};
    if (is_cairn) headers.emplace_back("X-Cairn-Version", "9.9.9");
    Pieces message;
    append_message(message, heartbeat(b.id(), a.id(), number));
    const auto answer =
        (*channel)->ask({.method = "POST", .path = "/raft", .headers = headers, .body = message.flat()});
    EXPECT_TRUE(answer && answer->status == 204);
  };
  post(false, 1);
  EXPECT_FALSE(a.transport().speaks_cairn(b.id()));
  post(true, 2);
  EXPECT_TRUE(a.transport().speaks_cairn(b.id()));
  a.transport().set_members({}, {b.id()});
  ASSERT_EQ(a.transport().streams(b.id()), Transport::Streams());  // it has gone
  EXPECT_TRUE(a.transport().speaks_cairn(b.id()));
}

// ---- the listener

struct Asked {
  std::string method = "GET";
  std::string path;
  net::HttpFields headers;
  std::string body = {};
};

net::HttpFields raft_headers(std::string cluster = hex_id(kTestCluster)) {
  return {{"X-Server-From", "1"},
          {"X-Server-Version", "3.7.1"},
          {"X-Min-Cluster-Version", "3.0.0"},
          {"X-Etcd-Cluster-ID", std::move(cluster)},
          {"X-Raft-To", "2"}};
}

net::HttpFields with(net::HttpFields headers, const std::string& name, const std::string& value) {
  std::erase_if(headers, [&](const auto& each) { return each.first == name; });
  if (!value.empty()) headers.emplace_back(name, value);
  return headers;
}

TEST(TransportListener, AnswersAsEtcd) {
  TestMember member(2);
  TestMember known(3);
  member.transport().set_members({known.as_peer(), {.id = NodeId{1}, .urls = {"http://127.0.0.1:1"}}}, {NodeId{4}});
  ASSERT_EQ(member.transport().streams(NodeId{1}), Transport::Streams());  // it knows them by now
  const auto ask = [&](const Asked& asked) {
    auto channel = net::Http1Channel::connect(member.address());
    CAIRN_ASSERT(channel.has_value());
    auto answer =
        (*channel)->ask({.method = asked.method, .path = asked.path, .headers = asked.headers, .body = asked.body});
    if (!answer) return "error: " + answer.error().message;
    return std::to_string(answer->status) + " " + answer->body;
  };
  const auto good = raft_headers();
  Pieces not_for_us;
  append_message(not_for_us, heartbeat(NodeId{1}, NodeId{77}, 1));
  Pieces of_removed;
  append_message(of_removed, heartbeat(NodeId{4}, NodeId{2}, 1));
  Pieces of_known;
  append_message(of_known, heartbeat(NodeId{1}, NodeId{2}, 42));
  const auto framed = [](const Pieces& message) {
    std::string length(8, '\0');
    store_be64(length.data(), message.size());
    return length + message.flat();
  };
  const std::string stream = "/raft/stream/message/";
  const struct {
    Asked asked;
    std::string answer;
  } kCases[] = {
      {{"POST", stream + "1", good}, "405 Method Not Allowed\n"},
      {{"GET", "/raft", good}, "405 Method Not Allowed\n"},
      {{"GET", "/raft/snapshot", good}, "405 Method Not Allowed\n"},
      {{"GET", "/elsewhere", good}, "404 404 page not found\n"},
      {{"GET", "/raft/stream", good}, "307 <a href=\"/raft/stream/\">Temporary Redirect</a>.\n\n"},
      {{"GET", stream + "1", with(good, "X-Etcd-Cluster-ID", "77")}, "412 cluster ID mismatch\n"},
      {{"GET", stream + "1", with(good, "X-Etcd-Cluster-ID", "")}, "412 cluster ID mismatch\n"},
      {{"GET", stream + "1", with(good, "X-Server-Version", "2.3.8")}, "412 incompatible version\n"},
      {{"GET", stream + "1", with(good, "X-Server-Version", "")}, "412 incompatible version\n"},
      {{"GET", stream + "1", with(good, "X-Min-Cluster-Version", "3.8.0")}, "412 incompatible version\n"},
      {{"GET", "/raft/stream/other/1", good}, "404 invalid path\n"},
      {{"GET", stream + "xyz", good}, "404 invalid from\n"},
      {{"GET", stream + "4", good}, "410 removed member\n"},
      {{"GET", stream + "5", good}, "404 error sender not found\n"},
      {{"GET", stream + "1", with(good, "X-Raft-To", "3")}, "412 to field mismatch\n"},
      {{"POST", "/raft", with(good, "X-Etcd-Cluster-ID", "77"), "x"}, "412 cluster ID mismatch\n"},
      {{"POST", "/raft", with(good, "X-Server-Version", "2.3.8"), "x"}, "412 incompatible version\n"},
      {{"POST", "/raft", good, "\xff\xff"}, "400 error unmarshalling raft message\n"},
      {{"POST", "/raft", good, not_for_us.flat()}, "500 error processing raft message\n"},
      {{"POST", "/raft", good, of_removed.flat()}, "403 cannot process message from removed member\n"},
      {{"POST", "/raft", good, of_known.flat()}, "204 "},
      {{"POST", "/raft/forward", good, of_removed.flat()}, "403 cannot process message from removed member\n"},
      {{"POST", "/raft/snapshot", with(good, "X-Etcd-Cluster-ID", "77"), "x"}, "412 cluster ID mismatch\n"},
      {{"POST", "/raft/snapshot", good, "x"}, "400 failed to decode raft message (unexpected EOF)\n"},
      {{"POST", "/raft/snapshot", good, std::string(8, '\x7f')},
       "400 failed to decode raft message (rafthttp: error limit exceeded)\n"},
      {{"POST", "/raft/snapshot", good, framed(of_known)}, "400 wrong raft message type\n"},
  };
  for (const auto& [asked, answer] : kCases) EXPECT_EQ(ask(asked), answer) << asked.method << " " << asked.path;
  ASSERT_TRUE(wait_until([&] { return member.ears.count() == 1; }));
  EXPECT_EQ(member.ears.messages().front().commit, Index{42});
  EXPECT_THAT(ask({.path = "/raft/probing"}), HasSubstr("200 {\"OK\":true,\"Now\":\"20"));
}

TEST(TransportListener, AMessageThatIsNoneBetweenMembersIsDropped) {
  TestMember member(2);
  auto channel = net::Http1Channel::connect(member.address());
  ASSERT_TRUE(channel);
  // Type 20 is etcd's own, between parts of one member.
  const auto answer = (*channel)->ask({.method = "POST",
                                       .path = "/raft",
                                       .headers = raft_headers(),
                                       .body = std::string("\x08\x14\x10\x02\x18\x01", 6)});
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->status, 204);
  EXPECT_EQ(member.ears.count(), 0u);
}

TEST(TransportCalls, AskWhatOthersServe) {
  TestMember a(1);
  TestMember b(2);
  know_each_other(a, b);
  b.transport().serve("/version", [](const net::HttpRequest& request, const net::HttpRespond& respond) {
    respond(
        {.content_type = "application/json", .body = "{\"asked\":\"" + request.method + " " + request.body + "\"}"});
  });
  b.transport().serve("/members/promote/", [](const net::HttpRequest& request, const net::HttpRespond& respond) {
    // From another thread.
    std::thread([=] { respond({.status = 404, .body = request.path}); }).detach();
  });
  const auto call = [&](NodeId to, net::HttpRequest request, int64_t timeout_ns = 120'000 * kMilli) {
    std::promise<Result<net::HttpResponse>> out;
    a.transport().call(to, std::move(request), timeout_ns,
                       [&](Result<net::HttpResponse> got) { out.set_value(std::move(got)); });
    return out.get_future().get();
  };
  const auto version = call(b.id(), {.method = "POST", .path = "/version", .body = "x"});
  ASSERT_TRUE(version) << version.error().message;
  EXPECT_EQ(version->body, "{\"asked\":\"POST x\"}");
  EXPECT_EQ(version->content_type, "application/json");
  const auto promoted = call(b.id(), {.method = "POST", .path = "/members/promote/17"});
  ASSERT_TRUE(promoted);
  EXPECT_EQ(promoted->status, 404);
  EXPECT_EQ(promoted->body, "/members/promote/17");
  const auto sent_on = call(b.id(), {.method = "GET", .path = "/members/promote", .query = "a=<b>"});
  EXPECT_EQ(sent_on->status, 307);
  EXPECT_EQ(sent_on->body, "<a href=\"/members/promote/?a=&lt;b&gt;\">Temporary Redirect</a>.\n\n");
  EXPECT_EQ(call(NodeId{9}, {.method = "GET", .path = "/"}).error().code, Code::kNotFound);
  b.transport().serve("/never", [](const net::HttpRequest&, const net::HttpRespond&) {});
  EXPECT_EQ(call(b.id(), {.method = "GET", .path = "/never"}, 20 * kMilli).error().code, Code::kDeadlineExceeded);
  // The second URL answers where the first does not.
  a.transport().set_members({{.id = b.id(), .urls = {"http://127.0.0.1:1", b.url()}}}, {});
  EXPECT_TRUE(call(b.id(), {.method = "GET", .path = "/version"}));
  std::promise<Code> cancelled;
  a.transport().call(b.id(), {.method = "GET", .path = "/never"}, 120'000 * kMilli,
                     [&](const auto& got) { cancelled.set_value(got.error().code); });
  a.stop();
  EXPECT_EQ(cancelled.get_future().get(), Code::kCancelled);
}

// Each takes a connection of both members, which have other uses for them.
TEST(TransportCalls, WaitForTheirTurn) {
  constexpr size_t kCallsMax = 4;
  constexpr size_t kCalls = 100;
  Mutex mutex;
  std::vector<std::pair<std::string, net::HttpRespond>> held;  // outlives b, which may still be asked at the end
  std::atomic<size_t> answered{0};
  std::atomic<size_t> late{0};
  TestMember a(1, [](Transport::Options& options) { options.calls_max = kCallsMax; });
  TestMember b(2);
  know_each_other(a, b);
  b.transport().serve("/hold", [&](const net::HttpRequest& request, const net::HttpRespond& respond) {
    const MutexLock lock(mutex);
    held.emplace_back(request.body, respond);
  });
  const auto held_count = [&] {
    const MutexLock lock(mutex);
    return held.size();
  };
  const auto call = [&](const std::string& body, int64_t timeout_ns) {
    a.transport().call(b.id(), {.method = "POST", .path = "/hold", .body = body}, timeout_ns,
                       [&, body](const Result<net::HttpResponse>& got) {
                         if (got && got->body == body) ++answered;
                         if (!got && got.error().code == Code::kDeadlineExceeded) ++late;
                       });
  };
  for (size_t i = 0; i < kCalls; ++i) call(std::to_string(i), 120'000 * kMilli);
  for (size_t i = 0; i < kCalls; ++i) {
    ASSERT_TRUE(wait_until([&] { return held_count() == std::min(kCallsMax, kCalls - i); })) << i;
    EXPECT_LE(a.transport().streams(b.id()).to_us, 2u);  // its thread has had a turn
    const MutexLock lock(mutex);
    ASSERT_LE(held.size(), kCallsMax);
    const auto [body, respond] = std::move(held.front());
    held.erase(held.begin());
    respond({.body = body});
  }
  ASSERT_TRUE(wait_until([&] { return answered == kCalls; }));
  // Those that wait behind calls without an answer end in their time, too.
  for (size_t i = 0; i < kCalls; ++i) call("late", 50 * kMilli);
  ASSERT_TRUE(wait_until([&] { return late == kCalls; }));
  for (size_t i = 0; i < 3 * kCallsMax; ++i) call("left", 120'000 * kMilli);
  a.stop();  // all hear of it, or this would not end
}

// ---- TLS

struct Pki {
  cairn::testing::TempDir folder;
  net::Authority authority;
  net::Authority stranger{"stranger"};

  Pki() {
    put("member", authority.issue({.common_name = "member"}));
    put("stranger", stranger.issue({.common_name = "member"}));
    put("other", authority.issue({.common_name = "other"}));
    net::write_file(folder / "ca", authority.pem());
  }
  void put(const std::string& name, const net::Issued& issued) {
    net::write_file(folder / (name + "-cert"), issued.certificate_pem);
    net::write_file(folder / (name + "-key"), issued.key_pem);
  }
  // Shows the certificate `name`; takes what the authority has signed, of common name `allowed`.
  [[nodiscard]] TestMember::Change with(const std::string& name, const std::string& allowed = "") const {
    net::TlsSettings settings;
    settings.cert_file = folder / (name + "-cert");
    settings.key_file = folder / (name + "-key");
    settings.trusted_ca_file = folder / "ca";
    settings.client_cert_auth = true;
    if (!allowed.empty()) settings.allowed_common_names = {allowed};
    return [settings](Transport::Options& options) {
      options.listen.front().tls.context = *net::TlsContext::open(settings);
      options.tls = *net::TlsClientContext::open({.settings = settings});
    };
  }
};

TEST(TransportTls, MembersThatKnowEachOtherSpeak) {
  const Pki pki;
  TestMember a(
      1,
      [&](Transport::Options& options) {
        pki.with("member")(options);
        with_image(3'000'000)(options);
      },
      "127.0.0.1:0", "https");
  TestMember b(2, pki.with("member", "member"), "127.0.0.1:0", "https");
  know_each_other(a, b);
  ASSERT_TRUE(are_connected(a, b));
  for (uint64_t i = 1; i <= 500; ++i) a.transport().send({append(a.id(), b.id(), i, std::string(i * 10, 'y'))});
  ASSERT_TRUE(wait_until([&] { return b.ears.count() == 500; }));
  EXPECT_EQ(numbers(b.ears).first, up_to(500));
  a.transport().send({snapshot(a.id(), b.id(), 3)});
  ASSERT_TRUE(wait_until([&] { return a.ears.reports(Report::Kind::kSnapshotDelivered) == 1; }));
  expect_image(b.path("0000000000000003.snap.db"), 3'000'000);
}

TEST(TransportTls, AWrongCertificateOpensNothing) {
  const Pki pki;
  TestMember b(2, pki.with("member", "member"), "127.0.0.1:0", "https");
  for (const std::string name : {"stranger", "other"}) {
    TestMember a(1, pki.with(name), "127.0.0.1:0", "https");
    know_each_other(a, b);
    a.transport().send({heartbeat(a.id(), b.id(), 1)});
    b.transport().send({heartbeat(b.id(), a.id(), 1)});
    ASSERT_TRUE(wait_until([&] {
      return a.ears.reports(Report::Kind::kUnreachable) > 0 && b.ears.reports(Report::Kind::kUnreachable) > 0;
    })) << name;
    EXPECT_EQ(a.ears.count() + b.ears.count(), 0u);
    EXPECT_FALSE(a.transport().active_since_ns(b.id()));
    EXPECT_FALSE(b.transport().active_since_ns(a.id()));
    b.ears.forget();
    b.transport().set_members({}, {});
  }
}

}  // namespace
}  // namespace cairn::peer
