// One Link, step by step: what it dials, which way a message takes, when it gives up, what it reports.
#include "peer/link.h"

#include <gtest/gtest.h>

#include "base/bytes.h"
#include "base/fault.h"
#include "cluster/versions.h"
#include "peer/codec.h"
#include "peer/msgapp_v2.h"
#include "peer/testing.h"

namespace cairn::peer {
namespace {

using testing::entry;
using Kind = Report::Kind;

constexpr NodeId kSelf{0x1a};
constexpr NodeId kPeer{0x2b};
constexpr int64_t kMs = 1'000'000;
constexpr int64_t kSecond = 1000 * kMs;

Answer answered(int status, std::string body = {}, std::string version = "3.5.0") {
  Answer answer;
  answer.kind = Answer::Kind::kAnswered;
  answer.status = status;
  answer.body = std::move(body);
  answer.server_version = std::move(version);
  return answer;
}
Answer failed(Answer::Kind kind) {
  Answer answer;
  answer.kind = kind;
  return answer;
}

raft::Message message_of(raft::MessageType type, uint64_t index = 0) {
  raft::Message message;
  message.type = type;
  message.from = kSelf;
  message.to = kPeer;
  message.term = Term(5);
  message.log_term = Term(5);
  message.index = Index(index);
  return message;
}

raft::Message snapshot_message() {
  raft::Message message = message_of(raft::MessageType::kSnap);
  auto snapshot = std::make_shared<raft::Snapshot>();
  snapshot->index = Index(7);
  snapshot->term = Term(5);
  snapshot->conf.voters = {kSelf, kPeer};
  message.snapshot = std::move(snapshot);
  return message;
}

// A Link, the time, and the effects since they were last looked at.
class Bench {
 public:
  explicit Bench(std::vector<std::string> urls = {"http://b:1"}, bool pipeline_only = false)
      : link(options(urls, pipeline_only)) {
    link.start(now, effects);
  }
  static LinkOptions options(std::vector<std::string> urls, bool pipeline_only) {
    LinkOptions options;
    options.self = kSelf;
    options.peer = kPeer;
    options.cluster_id = 0xc1;
    options.self_urls = {"http://a:1", "http://a:2"};
    options.peer_urls = std::move(urls);
    options.pipeline_only = pipeline_only;
    return options;
  }

  // Takes all effects of a type; the others stay.
  template <class T>
  std::vector<T> take() {
    std::vector<T> out;
    std::erase_if(effects, [&](Effect& effect) {
      auto* const wanted = std::get_if<T>(&effect);
      if (wanted != nullptr) out.push_back(std::move(*wanted));
      return wanted != nullptr;
    });
    return out;
  }
  std::vector<Kind> reports() {
    std::vector<Kind> out;
    for (const Report& report : take<Report>()) out.push_back(report.kind);
    return out;
  }
  // The one Dial.
  Dial dialled() {
    auto dials = take<Dial>();
    EXPECT_EQ(dials.size(), 1U);
    return dials.empty() ? Dial{} : dials.front();
  }
  void answer(LinkId id, Answer answer) { link.on_dialled(id, std::move(answer), now, effects); }
  void close(LinkId id, Ending ending = Ending::kEnded) { link.on_closed(id, ending, "closed", now, effects); }
  // Both readers answered with 200; returns their ids, msgapp first.
  std::pair<LinkId, LinkId> open_readers() {
    const auto dials = take<Dial>();
    EXPECT_EQ(dials.size(), 2U);
    for (const Dial& dial : dials) answer(dial.id, answered(200));
    effects.clear();
    return {dials.at(0).id, dials.at(1).id};
  }
  void pass(int64_t ns) {
    now += ns;
    link.on_time(now, effects);
  }
  void send(raft::Message message) {
    std::vector<raft::Message> messages;
    messages.push_back(std::move(message));
    link.send(std::move(messages), now, effects);
  }
  std::string written() {
    std::string out;
    for (const Write& write : take<Write>()) out += write.bytes.flat();
    return out;
  }

  int64_t now = 1000 * kSecond;
  Effects effects;
  Link link;
};

TEST(PeerLink, DialsBothStreamsAndSaysWhoItIs) {
  Bench bench;
  const auto dials = bench.take<Dial>();
  ASSERT_EQ(dials.size(), 2U);
  EXPECT_EQ(dials[0].url, "http://b:1");
  EXPECT_EQ(dials[0].path, "/raft/stream/msgapp/1a");
  EXPECT_EQ(dials[1].path, "/raft/stream/message/1a");
  const Headers expected = {{"X-Server-From", "1a"},
                            {"X-Server-Version", "3.7.1"},
                            {"X-Min-Cluster-Version", "3.0.0"},
                            {"X-Cairn-Version", std::string(cluster::kCairnVersion)},
                            {"X-Etcd-Cluster-Id", "c1"},
                            {"X-PeerURLs", "http://a:1,http://a:2"},
                            {"X-Raft-To", "2b"}};
  EXPECT_EQ(dials[0].headers, expected);
}

TEST(PeerLink, RedialsTenTimesASecond) {
  Bench bench;
  auto dials = bench.take<Dial>();
  // One turn is in reserve: the second attempt is at once.
  bench.answer(dials[0].id, failed(Answer::Kind::kRefused));
  Dial next = bench.dialled();
  EXPECT_EQ(next.path, dials[0].path);
  for (int round = 0; round < 5; ++round) {
    bench.answer(next.id, failed(Answer::Kind::kRefused));
    bench.pass(99 * kMs);
    EXPECT_TRUE(bench.take<Dial>().empty());
    bench.pass(1 * kMs);
    next = bench.dialled();
  }
  EXPECT_TRUE(bench.reports().empty());  // never seen alive, so not dead either
}

TEST(PeerLink, GoesRoundTheUrls) {
  Bench bench({"http://b:1", "http://b:2", "http://b:3"});
  auto dials = bench.take<Dial>();
  bench.answer(dials[0].id, failed(Answer::Kind::kTimedOut));
  Dial next = bench.dialled();
  EXPECT_EQ(next.url, "http://b:2");
  // The other reader's failure of the same URL does not skip one.
  bench.answer(dials[1].id, failed(Answer::Kind::kTimedOut));
  EXPECT_EQ(bench.dialled().url, "http://b:2");
  bench.answer(next.id, answered(404));
  bench.pass(100 * kMs);
  next = bench.dialled();
  EXPECT_EQ(next.url, "http://b:3");
  bench.answer(next.id, failed(Answer::Kind::kFailed));
  bench.pass(100 * kMs);
  EXPECT_EQ(bench.dialled().url, "http://b:1");
}

TEST(PeerLink, ADialWithoutAnswerIsGivenUp) {
  Bench bench;
  const auto dials = bench.take<Dial>();
  bench.pass(7 * kSecond - 1);
  EXPECT_TRUE(bench.take<Close>().empty());
  bench.pass(1);
  EXPECT_EQ(bench.take<Close>().size(), 2U);
  EXPECT_EQ(bench.take<Dial>().size(), 2U);
  // Its answer comes after all.
  bench.answer(dials[0].id, answered(200));
  EXPECT_TRUE(bench.effects.empty());
}

TEST(PeerLink, DeadWhenBothStreamsEndedAndAConnectionIsRefused) {
  Bench bench;
  const auto [msgapp, message] = bench.open_readers();
  bench.pass(kSecond);
  bench.close(msgapp);
  bench.answer(bench.dialled().id, failed(Answer::Kind::kRefused));
  EXPECT_EQ(bench.reports(), std::vector{Kind::kInactive});  // the other stream is open
  bench.close(message);
  EXPECT_TRUE(bench.reports().empty());
  bench.answer(bench.dialled().id, failed(Answer::Kind::kRefused));
  EXPECT_EQ(bench.reports(), std::vector{Kind::kDied});
  bench.pass(100 * kMs);
  for (const Dial& dial : bench.take<Dial>()) bench.answer(dial.id, failed(Answer::Kind::kRefused));
  EXPECT_TRUE(bench.reports().empty());  // said once
}

// The kernel may close the streams of a process that dies before its listener.
TEST(PeerLink, AConnectionThatIsResetBehindTheStreamsEndIsTriedAgainSoon) {
  Bench bench;
  const auto [msgapp, message] = bench.open_readers();
  bench.pass(kSecond);
  bench.close(msgapp);
  bench.close(message);
  for (const Dial& dial : bench.take<Dial>()) bench.answer(dial.id, failed(Answer::Kind::kFailed));
  (void)bench.reports();
  bench.pass(5 * kMs);
  for (const Dial& dial : bench.take<Dial>()) bench.answer(dial.id, failed(Answer::Kind::kRefused));
  EXPECT_EQ(bench.reports(), std::vector{Kind::kDied});

  // Not for ever.
  Bench other;
  const auto [first, second] = other.open_readers();
  other.pass(kSecond);
  other.close(first);
  other.close(second);
  size_t dials = 0;
  for (int i = 0; i < 100; ++i) {
    for (const Dial& dial : other.take<Dial>()) {
      ++dials;
      other.answer(dial.id, failed(Answer::Kind::kFailed));
    }
    other.pass(kMs);
  }
  EXPECT_GE(dials, 12U);
  EXPECT_LE(dials, 16U);
}

TEST(PeerLink, NotDeadWhenNobodyAnswersOrSomebodyDoes) {
  for (const Answer& answer :
       {failed(Answer::Kind::kTimedOut), failed(Answer::Kind::kFailed), answered(200), answered(404)}) {
    Bench bench;
    const auto [msgapp, message] = bench.open_readers();
    bench.pass(kSecond);
    bench.close(msgapp);
    bench.close(message);
    for (const Dial& dial : bench.take<Dial>()) bench.answer(dial.id, answer);
    for (const Kind kind : bench.reports()) EXPECT_NE(kind, Kind::kDied);
  }
}

TEST(PeerLink, DeadOnlyWhenEveryUrlRefuses) {
  Bench bench({"http://b:1", "http://b:2"});
  const auto [msgapp, message] = bench.open_readers();
  bench.pass(kSecond);
  bench.close(msgapp);
  bench.close(message);
  auto dials = bench.take<Dial>();
  ASSERT_EQ(dials.size(), 2U);
  bench.answer(dials[0].id, failed(Answer::Kind::kRefused));
  EXPECT_EQ(bench.reports(), std::vector{Kind::kInactive});
  const Dial second = bench.dialled();  // at once: what it says decides
  EXPECT_EQ(second.url, "http://b:2");
  bench.answer(second.id, failed(Answer::Kind::kRefused));
  EXPECT_EQ(bench.reports(), std::vector{Kind::kDied});
  EXPECT_TRUE(bench.take<Dial>().empty());
}

TEST(PeerLink, AskedAtOnceItTriesANewConnection) {
  Bench bench({"http://b:1", "http://b:2"});
  const auto [msgapp, message] = bench.open_readers();
  bench.link.redial_now(bench.now, bench.effects);
  Dial probe = bench.dialled();
  EXPECT_EQ(probe.path, "/raft/probing");
  bench.link.redial_now(bench.now, bench.effects);
  EXPECT_TRUE(bench.effects.empty());  // one at a time
  bench.answer(probe.id, answered(200));
  EXPECT_EQ(bench.take<Close>().size(), 1U);
  EXPECT_TRUE(bench.effects.empty());

  bench.link.redial_now(bench.now, bench.effects);
  bench.answer(bench.dialled().id, failed(Answer::Kind::kTimedOut));
  EXPECT_TRUE(bench.effects.empty());

  bench.link.redial_now(bench.now, bench.effects);
  bench.answer(bench.dialled().id, failed(Answer::Kind::kRefused));
  probe = bench.dialled();
  EXPECT_EQ(probe.url, "http://b:2");
  bench.answer(probe.id, failed(Answer::Kind::kRefused));
  EXPECT_EQ(bench.reports(), (std::vector{Kind::kInactive, Kind::kDied}));
  const auto closed = bench.take<Close>();
  ASSERT_EQ(closed.size(), 2U);
  EXPECT_EQ(closed[0].id, msgapp);
  EXPECT_EQ(closed[1].id, message);
}

// The answer that a POST got meanwhile is one, too; the probe is still there and is not made twice.
TEST(PeerLink, ASecondQuestionWaitsForTheFirstProbe) {
  Bench bench;
  (void)bench.open_readers();
  bench.link.redial_now(bench.now, bench.effects);
  const Dial probe = bench.dialled();
  bench.send(message_of(raft::MessageType::kHeartbeat));
  bench.link.on_posted(bench.take<Post>().at(0).id, answered(204), bench.now, bench.effects);
  bench.link.redial_now(bench.now, bench.effects);
  EXPECT_TRUE(bench.take<Dial>().empty());
  bench.answer(probe.id, failed(Answer::Kind::kRefused));
  EXPECT_EQ(bench.reports(), (std::vector{Kind::kInactive, Kind::kDied}));
}

TEST(PeerLink, AStreamOfNoKnownVersionIsClosed) {
  Bench bench;
  const LinkId id = bench.take<Dial>().at(0).id;
  bench.answer(id, answered(200, "", ""));
  EXPECT_EQ(bench.take<Close>().at(0).id, id);
}

TEST(PeerLink, AskedAtOnceAWaitingReaderDials) {
  Bench bench;
  const auto [msgapp, message] = bench.open_readers();
  bench.close(msgapp);
  bench.close(message);
  for (int round = 0; round < 2; ++round) {
    for (const Dial& dial : bench.take<Dial>()) bench.answer(dial.id, failed(Answer::Kind::kRefused));
  }
  EXPECT_EQ(bench.reports().back(), Kind::kDied);
  bench.link.redial_now(bench.now, bench.effects);
  bench.answer(bench.dialled().id, failed(Answer::Kind::kRefused));
  EXPECT_EQ(bench.reports(), std::vector{Kind::kDied});  // asked again, said again
}

TEST(PeerLink, TellsOfRefusals) {
  const auto reports_of = [](const Answer& answer) {
    Bench bench;
    bench.answer(bench.take<Dial>()[0].id, answer);
    return bench.reports();
  };
  EXPECT_EQ(reports_of(answered(410, "removed member\n")), std::vector{Kind::kRemoved});
  EXPECT_EQ(reports_of(answered(412, "cluster ID mismatch\n")), std::vector{Kind::kClusterIdMismatch});
  EXPECT_EQ(reports_of(answered(412, "incompatible version\n")), std::vector{Kind::kIncompatibleVersion});
  EXPECT_TRUE(reports_of(answered(412, "to field mismatch\n")).empty());
  EXPECT_TRUE(reports_of(answered(404, "error sender not found\n")).empty());
  // No member of etcd wrote this.
  EXPECT_TRUE(reports_of(answered(410, "gone", "")).empty());
  EXPECT_TRUE(reports_of(answered(410, "gone", "2.0.9")).empty());
  EXPECT_TRUE(reports_of(answered(200, "", "")).empty());
}

TEST(PeerLink, ComplainsOnceUntilSomethingSucceeds) {
  Bench bench;
  Dial dial = bench.take<Dial>()[0];
  for (int round = 0; round < 3; ++round) {
    bench.answer(dial.id, answered(412, "cluster ID mismatch\n"));
    bench.pass(100 * kMs);
    dial = bench.dialled();
  }
  EXPECT_EQ(bench.reports(), std::vector{Kind::kClusterIdMismatch});
  bench.answer(dial.id, answered(200));
  bench.close(dial.id);
  bench.answer(bench.dialled().id, answered(412, "cluster ID mismatch\n"));
  EXPECT_EQ(bench.reports(), (std::vector{Kind::kActive, Kind::kClusterIdMismatch, Kind::kInactive}));
}

TEST(PeerLink, ASilentReaderIsClosed) {
  Bench bench;
  const auto [msgapp, message] = bench.open_readers();
  EXPECT_EQ(bench.link.active_since_ns(), bench.now);
  bench.pass(4 * kSecond);
  bench.link.on_bytes(message, std::string_view("\0", 1), bench.now, bench.effects);
  bench.pass(kSecond - 1);
  EXPECT_TRUE(bench.effects.empty());
  bench.pass(1);
  const auto closed = bench.take<Close>();
  ASSERT_EQ(closed.size(), 1U);
  EXPECT_EQ(closed[0].id, msgapp);
  EXPECT_EQ(bench.reports(), std::vector{Kind::kInactive});
  EXPECT_EQ(bench.dialled().path, "/raft/stream/msgapp/1a");
  EXPECT_EQ(bench.link.active_since_ns(), std::nullopt);
}

TEST(PeerLink, ChoosesTheWay) {
  Bench bench;
  bench.send(message_of(raft::MessageType::kApp));
  auto posts = bench.take<Post>();
  ASSERT_EQ(posts.size(), 1U);
  EXPECT_EQ(posts[0].path, "/raft");
  EXPECT_EQ(posts[0].headers[0], (std::pair<std::string, std::string>("Content-Type", "application/protobuf")));
  EXPECT_TRUE(decode_message(posts[0].body.flat()));
  raft::Message counted = message_of(raft::MessageType::kProp);
  counted.forward = raft::ForwardTag{.origin = counted.from, .epoch = 1, .term = Term(1), .sequence = 1};
  bench.send(counted);
  posts = bench.take<Post>();
  ASSERT_EQ(posts.size(), 1U);
  EXPECT_EQ(posts[0].path, "/raft/forward") << "an etcd that comes to this address meanwhile appends it in any term";

  const LinkId message = bench.link.on_attached(StreamKind::kMessage, bench.now, bench.effects);
  bench.send(message_of(raft::MessageType::kApp));
  auto writes = bench.take<Write>();
  ASSERT_EQ(writes.size(), 1U);
  EXPECT_EQ(writes[0].id, message);

  const LinkId msgapp = bench.link.on_attached(StreamKind::kMsgApp, bench.now, bench.effects);
  bench.send(message_of(raft::MessageType::kApp));
  bench.send(message_of(raft::MessageType::kHeartbeat));
  writes = bench.take<Write>();
  ASSERT_EQ(writes.size(), 2U);
  EXPECT_EQ(writes[0].id, msgapp);
  EXPECT_EQ(writes[1].id, message);

  bench.send(snapshot_message());
  const auto snapshots = bench.take<PostSnapshot>();
  ASSERT_EQ(snapshots.size(), 1U);
  EXPECT_EQ(snapshots[0].path, "/raft/snapshot");
  EXPECT_EQ(load_be64(snapshots[0].prefix.data()), snapshots[0].prefix.size() - 8);
  EXPECT_TRUE(decode_message(std::string_view(snapshots[0].prefix).substr(8)));
}

TEST(PeerLink, AStreamBeginsAnew) {
  Bench bench;
  const LinkId first = bench.link.on_attached(StreamKind::kMsgApp, bench.now, bench.effects);
  raft::Message append = message_of(raft::MessageType::kApp, 9);
  append.entries.push_back(entry(5, 10, "x"));
  bench.send(append);
  EXPECT_EQ(bench.written()[0], 2);
  bench.send(message_of(raft::MessageType::kApp, 10));
  EXPECT_EQ(bench.written()[0], 1);
  const LinkId second = bench.link.on_attached(StreamKind::kMsgApp, bench.now, bench.effects);
  EXPECT_NE(first, second);
  EXPECT_EQ(bench.take<Close>().at(0).id, first);
  bench.send(message_of(raft::MessageType::kApp, 10));
  EXPECT_EQ(bench.written()[0], 2);  // whole: the reader knows nothing yet
}

TEST(PeerLink, BoundsItsQueues) {
  Bench bench;
  const LinkId stream = bench.link.on_attached(StreamKind::kMessage, bench.now, bench.effects);
  bench.effects.clear();
  raft::Message large = message_of(raft::MessageType::kProp);
  large.entries.push_back(entry(0, 0, std::string(1 << 20, 'x')));
  bench.send(large);
  const size_t window = bench.written().size();
  EXPECT_GT(window, 1U << 20);
  // The transport holds a window's worth. What follows waits, 4096 messages or 64 MB.
  for (int count = 0; count < 4096; ++count) bench.send(message_of(raft::MessageType::kHeartbeat));
  EXPECT_TRUE(bench.effects.empty());
  bench.send(message_of(raft::MessageType::kHeartbeat));
  EXPECT_EQ(bench.reports(), std::vector{Kind::kUnreachable});
  bench.link.on_drained(stream, window, bench.now, bench.effects);
  EXPECT_GT(bench.written().size(), 4096U * 20);

  Bench other;
  (void)other.link.on_attached(StreamKind::kMessage, other.now, other.effects);
  other.effects.clear();
  for (int count = 0; count < 64; ++count) other.send(large);
  EXPECT_TRUE(other.reports().empty());
  other.send(large);
  EXPECT_EQ(other.reports(), std::vector{Kind::kUnreachable});
}

TEST(PeerLink, PostsFourAtOnce) {
  Bench bench;
  for (int count = 0; count < 68; ++count) bench.send(message_of(raft::MessageType::kHeartbeat));
  (void)bench.take<Dial>();
  auto posts = bench.take<Post>();
  EXPECT_EQ(posts.size(), 4U);
  EXPECT_TRUE(bench.reports().empty());
  bench.send(message_of(raft::MessageType::kHeartbeat));
  EXPECT_EQ(bench.reports(), std::vector{Kind::kUnreachable});
  bench.link.on_posted(posts[0].id, answered(204), bench.now, bench.effects);
  EXPECT_EQ(bench.reports(), std::vector{Kind::kActive});
  EXPECT_EQ(bench.take<Post>().size(), 1U);
  bench.link.on_posted(posts[0].id, answered(204), bench.now, bench.effects);  // not twice
  EXPECT_TRUE(bench.effects.empty());
  bench.link.on_posted(posts[1].id, answered(200), bench.now, bench.effects);
  EXPECT_EQ(bench.reports(), (std::vector{Kind::kInactive, Kind::kUnreachable}));
  bench.link.on_posted(posts[2].id, answered(403), bench.now, bench.effects);
  EXPECT_EQ(bench.reports(), (std::vector{Kind::kRemoved, Kind::kUnreachable}));
  bench.pass(60 * kSecond);
  EXPECT_GE(bench.take<Close>().size(), 4U);  // none waits for ever
}

TEST(PeerLink, KeepsStreamsAlive) {
  Bench bench;
  (void)bench.link.on_attached(StreamKind::kMsgApp, bench.now, bench.effects);
  (void)bench.link.on_attached(StreamKind::kMessage, bench.now, bench.effects);
  bench.effects.clear();
  for (int round = 0; round < 3; ++round) {
    bench.now = std::max(bench.now, bench.link.wake_at_ns().value());
    bench.pass(0);
    const auto writes = bench.take<Write>();
    ASSERT_EQ(writes.size(), 2U);
    EXPECT_EQ(writes[0].bytes.flat(), std::string(1, '\0'));
    EXPECT_EQ(writes[1].bytes.size(), 28U);
    for (const Write& write : writes) bench.link.on_drained(write.id, write.bytes.size(), bench.now, bench.effects);
  }
  EXPECT_EQ(bench.now, 1000 * kSecond + 3 * (5 * kSecond / 3));
}

TEST(PeerLink, AWriterThatTakesNothingIsClosed) {
  Bench bench({"http://b:1"}, /*pipeline_only=*/true);
  const LinkId stream = bench.link.on_attached(StreamKind::kMessage, bench.now, bench.effects);
  bench.effects.clear();
  bench.send(message_of(raft::MessageType::kHeartbeat));
  bench.pass(3 * kSecond);
  bench.link.on_drained(stream, 1, bench.now, bench.effects);  // it moves
  bench.pass(4 * kSecond);
  EXPECT_TRUE(bench.take<Close>().empty());
  bench.pass(kSecond);
  ASSERT_EQ(bench.take<Close>().size(), 1U);
  EXPECT_EQ(bench.reports(), (std::vector{Kind::kInactive, Kind::kUnreachable, Kind::kStreamCut}));
  bench.send(message_of(raft::MessageType::kHeartbeat));
  EXPECT_EQ(bench.take<Post>().size(), 1U);
}

TEST(PeerLink, EverySnapshotHasOneReport) {
  Bench bench;
  bench.send(snapshot_message());
  const LinkId first = bench.take<PostSnapshot>().at(0).id;
  bench.send(snapshot_message());
  EXPECT_EQ(bench.reports(), (std::vector{Kind::kUnreachable, Kind::kSnapshotFailed}));
  bench.link.on_posted(first, answered(204), bench.now, bench.effects);
  EXPECT_EQ(bench.reports(), (std::vector{Kind::kActive, Kind::kSnapshotDelivered}));
  bench.send(snapshot_message());
  bench.link.on_posted(bench.take<PostSnapshot>().at(0).id, answered(500), bench.now, bench.effects);
  EXPECT_EQ(bench.reports(), (std::vector{Kind::kInactive, Kind::kUnreachable, Kind::kSnapshotFailed}));
  bench.send(snapshot_message());
  bench.effects.clear();
  bench.link.stop(bench.effects);
  EXPECT_EQ(bench.reports(), std::vector{Kind::kSnapshotFailed});
}

TEST(PeerLink, DeliversWhatIsForThisMemberAlone) {
  Bench bench;
  const auto [msgapp, message] = bench.open_readers();
  const auto delivered = [&](raft::MessageType type, NodeId from, NodeId to) {
    raft::Message sent = message_of(type);
    sent.from = from;
    sent.to = to;
    if (type == raft::MessageType::kReadIndex) sent.entries.push_back(entry(0, 0, "12345678"));
    Pieces bytes;
    append_framed_message(bytes, sent);
    bench.link.on_bytes(message, bytes.flat(), bench.now, bench.effects);
    return bench.take<Deliver>().size() == 1;
  };
  using raft::MessageType;
  EXPECT_TRUE(delivered(MessageType::kAppResp, kPeer, kSelf));
  EXPECT_FALSE(delivered(MessageType::kAppResp, kPeer, NodeId(9)));
  EXPECT_FALSE(delivered(MessageType::kAppResp, NodeId(9), kSelf));
  EXPECT_FALSE(delivered(MessageType::kVote, NodeId(9), kSelf));
  EXPECT_TRUE(delivered(MessageType::kProp, NodeId(9), kSelf));  // forwarded twice
  EXPECT_TRUE(delivered(MessageType::kReadIndex, NodeId(9), kSelf));
  EXPECT_TRUE(delivered(MessageType::kTransferLeader, NodeId(9), kSelf));
  EXPECT_FALSE(delivered(MessageType::kProp, NodeId(0), kSelf));
}

// etcd's raftDropHeartbeat: `return` drops what is read, whatever it is; other terms drop nothing.
TEST(PeerLink, AFaultPointDropsWhatIsRead) {
  Bench bench;
  const auto [msgapp, message] = bench.open_readers();
  raft::Message vote = message_of(raft::MessageType::kVote, 9);
  std::swap(vote.from, vote.to);
  Pieces pieces;
  append_framed_message(pieces, vote);
  const std::string bytes = pieces.flat();
  bool drops = true;
  uint64_t reached = 0;
  fault::set_handler([&](fault::Point point) {
    EXPECT_EQ(point, fault::named("raftDropHeartbeat"));
    ++reached;
    return drops ? std::optional<std::string>("") : std::nullopt;
  });
  fault::armed[fault::named("raftDropHeartbeat")] = true;
  bench.link.on_bytes(message, bytes + bytes, bench.now, bench.effects);
  EXPECT_TRUE(bench.take<Deliver>().empty());
  EXPECT_EQ(reached, 2U);
  drops = false;
  bench.link.on_bytes(message, bytes, bench.now, bench.effects);
  EXPECT_EQ(bench.take<Deliver>().size(), 1U);
  fault::armed[fault::named("raftDropHeartbeat")] = false;
  fault::set_handler(nullptr);
  bench.link.on_bytes(message, bytes, bench.now, bench.effects);
  EXPECT_EQ(bench.take<Deliver>().size(), 1U);
  EXPECT_EQ(reached, 3U);
}

TEST(PeerLink, BytesThatAreNoMessageEndTheStream) {
  Bench bench;
  const auto [msgapp, message] = bench.open_readers();
  bench.link.on_bytes(msgapp, "\x03", bench.now, bench.effects);
  EXPECT_EQ(bench.take<Close>().at(0).id, msgapp);
  EXPECT_EQ(bench.reports(), std::vector{Kind::kInactive});
  EXPECT_EQ(bench.dialled().path, "/raft/stream/msgapp/1a");
  bench.link.on_bytes(msgapp, "\x03", bench.now, bench.effects);  // crossed the Close
  bench.close(msgapp);
  EXPECT_TRUE(bench.effects.empty());
}

TEST(PeerLink, ARemoteIsOnlyPostedTo) {
  Bench bench({"http://b:1"}, /*pipeline_only=*/true);
  EXPECT_TRUE(bench.effects.empty());
  EXPECT_EQ(bench.link.wake_at_ns(), std::nullopt);
  bench.send(message_of(raft::MessageType::kApp));
  EXPECT_EQ(bench.take<Post>().size(), 1U);
  bench.link.redial_now(bench.now, bench.effects);
  bench.pass(kSecond);
  EXPECT_TRUE(bench.effects.empty());
}

TEST(PeerLink, StopsWhole) {
  Bench bench;
  const auto [msgapp, message] = bench.open_readers();
  (void)bench.link.on_attached(StreamKind::kMessage, bench.now, bench.effects);
  bench.send(snapshot_message());
  bench.effects.clear();
  bench.link.stop(bench.effects);
  EXPECT_EQ(bench.take<Close>().size(), 4U);
  EXPECT_EQ(bench.link.wake_at_ns(), std::nullopt);
  bench.effects.clear();
  bench.close(msgapp);
  bench.pass(kSecond);
  EXPECT_TRUE(bench.effects.empty());
}

}  // namespace
}  // namespace cairn::peer
