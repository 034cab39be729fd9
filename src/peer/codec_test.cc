// Messages as bytes: against facts of etcd's bytes, against protobuf's own reader, and against anything malformed.
#include "peer/codec.h"

#include <gtest/gtest.h>

#include "base/bytes.h"
#include "base/wire.h"
#include "peer/testing.h"
#include "proto/raft.pb.h"
#include "testing/seeds.h"

namespace cairn::peer {
namespace {

using testing::entry;
using testing::same;
using testing::some_message;
using testing::unhex;

std::string encode(const raft::Message& message) {
  Pieces out;
  append_message(out, message);
  EXPECT_EQ(out.size(), message_size(message));
  return out.flat();
}

// As a MsgApp of a leader in term 3.
raft::Message append_of(std::vector<raft::Entry> entries) {
  raft::Message message;
  message.type = raft::MessageType::kApp;
  message.to = NodeId(2);
  message.from = NodeId(1);
  message.term = Term(3);
  message.log_term = Term(1);
  message.index = Index(2);
  message.commit = Index(2);
  message.entries = std::move(entries);
  return message;
}

TEST(PeerCodec, WritesEveryScalarInOrder) {
  raft::Message message = append_of({entry(3, 3)});
  message.to = NodeId(0x4942b1959890b3d7 & 0xffff);
  EXPECT_EQ(to_hex(encode(message)),
            "080310d7e702180120032801"
            "30023a06080010031803"
            "4002"
            "5000"
            "5800"
            "6800");
  message.entries[0] = entry(3, 3, "ab", raft::EntryType::kConfChange);
  message.context = "x";
  message.reject = true;
  EXPECT_EQ(to_hex(encode(message)),
            "080310d7e702180120032801"
            "30023a0a080110031803"
            "22026162"
            "4002"
            "5001"
            "5800"
            "620178"
            "6800");
}

TEST(PeerCodec, WritesASnapshotWithItsConfiguration) {
  raft::Message message;
  message.type = raft::MessageType::kSnap;
  auto snapshot = std::make_shared<raft::Snapshot>();
  snapshot->index = Index(5611);
  snapshot->term = Term(3);
  snapshot->conf = {
      .voters = {NodeId(1), NodeId(2)}, .learners = {NodeId(3)}, .voters_outgoing = {}, .learners_next = {}};
  snapshot->data = "v2";
  message.snapshot = snapshot;
  EXPECT_EQ(to_hex(encode(message)),
            "08071000180020002800"
            "3000"
            "4000"
            "4a15"
            "0a027632"
            "120f"
            "0a08"
            "080108021003"
            "2800"
            "10eb2b"
            "1803"
            "5000"
            "5800"
            "6800");
}

// What 3.4.23 wrote: no `vote`, an empty snapshot in each message.
TEST(PeerCodec, ReadsOlderMembers) {
  const auto message =
      decode_message(unhex("0803 10d7e698e2b990d8a249 18bf95e29adcd2fcd420 2003 2801 3002 3a06 0800 1003 1803 4002"
                           "4a0a12080a02280010001800 5000 5800"));
  ASSERT_TRUE(message) << message.error().message;
  raft::Message expected = append_of({entry(3, 3)});
  expected.to = NodeId(0x494560839c463357);
  expected.from = NodeId(0x20a9f295c3588abf);
  EXPECT_TRUE(same(*message, expected));
}

// What 3.7 writes: only what is set.
TEST(PeerCodec, ReadsMembersThatLeaveZerosOut) {
  const auto heartbeat = decode_message(unhex("0808"));
  ASSERT_TRUE(heartbeat);
  EXPECT_TRUE(is_link_heartbeat(*heartbeat));
  const auto append = decode_message(unhex("0803 1002 1801 2003 2801 3002 3a04 1003 1803 4002"));
  ASSERT_TRUE(append) << append.error().message;
  EXPECT_TRUE(same(*append, append_of({entry(3, 3)})));
}

TEST(PeerCodec, ReadsWhatItWrote) {
  Random random(cairn::testing::first_seed(1));
  for (int round = 0; round < 3000; ++round) {
    const raft::Message message =
        some_message(random, NodeId(random.between(1, 9)), NodeId(testing::some_number(random)));
    const std::string bytes = encode(message);
    const auto read = decode_message(bytes);
    ASSERT_TRUE(read) << round << ": " << read.error().message;
    ASSERT_TRUE(same(*read, message)) << round;
    ASSERT_EQ(encode(*read), bytes) << round;
  }
}

// protobuf's reader is independent of ours, and every field that etcd requires must be there.
TEST(PeerCodec, ProtobufReadsTheSame) {
  Random random(cairn::testing::first_seed(2));
  for (int round = 0; round < 1000; ++round) {
    const raft::Message message = some_message(random, NodeId(1), NodeId(2));
    raftpb::Message read;
    ASSERT_TRUE(read.ParseFromString(encode(message)));
    ASSERT_TRUE(read.has_type() && read.has_to() && read.has_from() && read.has_term() && read.has_logterm() &&
                read.has_index() && read.has_commit() && read.has_reject() && read.has_rejecthint() && read.has_vote());
    ASSERT_EQ(static_cast<int>(read.type()), static_cast<int>(message.type));
    ASSERT_EQ(read.to(), message.to.value);
    ASSERT_EQ(read.from(), message.from.value);
    ASSERT_EQ(read.term(), message.term.value);
    ASSERT_EQ(read.logterm(), message.log_term.value);
    ASSERT_EQ(read.index(), message.index.value);
    ASSERT_EQ(read.commit(), message.commit.value);
    ASSERT_EQ(read.reject(), message.reject);
    ASSERT_EQ(read.rejecthint(), message.reject_hint.value);
    ASSERT_EQ(read.context(), message.context);
    ASSERT_EQ(static_cast<size_t>(read.entries_size()), message.entries.size());
    for (int at = 0; at < read.entries_size(); ++at) {
      const raft::Entry& wanted = message.entries[static_cast<size_t>(at)];
      ASSERT_EQ(read.entries(at).term(), wanted.term.value);
      ASSERT_EQ(read.entries(at).index(), wanted.index.value);
      ASSERT_EQ(static_cast<int>(read.entries(at).type()), static_cast<int>(wanted.type));
      ASSERT_EQ(read.entries(at).data(), wanted.bytes());
    }
    ASSERT_EQ(read.has_snapshot(), message.snapshot != nullptr);
    if (!message.snapshot) continue;
    const raft::ConfState& conf = message.snapshot->conf;
    const raftpb::ConfState& read_conf = read.snapshot().metadata().conf_state();
    const auto equal = [](const auto& ids, const std::vector<NodeId>& wanted) {
      return std::ranges::equal(ids, wanted, {}, {}, [](NodeId id) { return id.value; });
    };
    ASSERT_TRUE(equal(read_conf.voters(), conf.voters) && equal(read_conf.learners(), conf.learners) &&
                equal(read_conf.voters_outgoing(), conf.voters_outgoing) &&
                equal(read_conf.learners_next(), conf.learners_next));
    ASSERT_EQ(read_conf.auto_leave(), conf.auto_leave);
    ASSERT_EQ(read.snapshot().data(), message.snapshot->data);
    ASSERT_EQ(read.snapshot().metadata().index(), message.snapshot->index.value);
    ASSERT_EQ(read.snapshot().metadata().term(), message.snapshot->term.value);
  }
}

TEST(PeerCodec, SharesTheBytesOfLargePayloads) {
  const raft::Message message = append_of({entry(3, 3, std::string(100'000, 'x')), entry(3, 4, "small")});
  Pieces first;
  Pieces second;
  append_message(first, message);
  append_message(second, message);
  ASSERT_EQ(first.count(), 3U);
  EXPECT_EQ(first.piece(1).data(), message.entries[0].data->bytes.data());
  EXPECT_EQ(first.piece(1).data(), second.piece(1).data());
}

TEST(PeerCodec, RefusesWhatWouldBeMisread) {
  const auto refused = [](const raft::Message& message) {
    const auto read = decode_message(encode(message));
    return !read && read.error().code == Code::kDataLoss;
  };
  EXPECT_FALSE(refused(append_of({entry(2, 3), entry(3, 4)})));
  EXPECT_TRUE(refused(append_of({entry(2, 4)})));               // a gap
  EXPECT_TRUE(refused(append_of({entry(3, 3), entry(2, 4)})));  // terms go back
  EXPECT_TRUE(refused(append_of({entry(4, 3)})));               // of a term that the leader is not in
  raft::Message last = append_of({});
  last.index = Index(~uint64_t{0});
  EXPECT_TRUE(refused(last));

  raft::Message heartbeat;
  heartbeat.type = raft::MessageType::kHeartbeat;
  heartbeat.context = std::string(kContextBytesMax, 'c');
  EXPECT_FALSE(refused(heartbeat));
  heartbeat.context.push_back('c');
  EXPECT_TRUE(refused(heartbeat));

  raft::Message read_index;
  read_index.type = raft::MessageType::kReadIndex;
  EXPECT_TRUE(refused(read_index));
  read_index.entries = {entry(0, 0, "12345678")};
  EXPECT_FALSE(refused(read_index));
  read_index.entries.push_back(entry(0, 0, "12345678"));
  EXPECT_TRUE(refused(read_index));
  read_index.entries = {entry(0, 0, std::string(kContextBytesMax + 1, 'c'))};
  EXPECT_TRUE(refused(read_index));

  raft::Message snap;
  snap.type = raft::MessageType::kSnap;
  EXPECT_TRUE(refused(snap));
  const auto with = [&](raft::ConfState conf, uint64_t index) {
    auto snapshot = std::make_shared<raft::Snapshot>();
    snapshot->index = Index(index);
    snapshot->term = Term(1);
    snapshot->conf = std::move(conf);
    snap.snapshot = snapshot;
    return snap;
  };
  EXPECT_FALSE(refused(with({.voters = {NodeId(1)}}, 1)));
  EXPECT_TRUE(refused(with({.voters = {NodeId(1)}}, 0)));
  EXPECT_TRUE(refused(with({}, 1)));
  EXPECT_TRUE(refused(with({.voters = {NodeId(1), NodeId(1)}}, 1)));
  EXPECT_TRUE(refused(with({.voters = {NodeId(0)}}, 1)));
  EXPECT_TRUE(refused(with({.voters = std::vector<NodeId>(kConfMembersMax + 1, NodeId(1))}, 1)));
}

TEST(PeerCodec, TakesPackedListsOfMembers) {
  const auto message = decode_message(unhex("0807 4a12 1210 0a0a 0a03 018002 2800 12010a 10051801"));
  ASSERT_TRUE(message) << message.error().message;
  EXPECT_EQ(message->snapshot->conf.voters, (std::vector{NodeId(1), NodeId(256)}));
  EXPECT_EQ(message->snapshot->conf.learners, std::vector{NodeId(10)});
}

TEST(PeerCodec, DropsMessagesOfOtherKinds) {
  for (const uint64_t type : {0ul, 1ul, 10ul, 11ul, 12ul, 19ul, 23ul, 24ul, 300ul, ~0ul}) {
    std::string bytes;
    wire::append_varint_field(bytes, 1, type);
    const auto read = decode_message(bytes);
    ASSERT_FALSE(read);
    EXPECT_EQ(read.error().code, Code::kUnimplemented) << type;
  }
  EXPECT_EQ(decode_message("").error().code, Code::kUnimplemented);
}

TEST(PeerCodec, SkipsFieldsItDoesNotKnow) {
  raft::Message message = append_of({entry(3, 3, "x")});
  std::string bytes = encode(message);
  wire::append_varint_field(bytes, 14 + 100, 7);
  wire::append_bytes_field(bytes, 2000, "later");
  const auto read = decode_message(bytes);
  ASSERT_TRUE(read);
  EXPECT_TRUE(same(*read, message));
}

// Any cut and any changed byte: a message or an error. The sanitizers see the rest.
TEST(PeerCodec, IsTotal) {
  Random random(cairn::testing::first_seed(3));
  uint64_t refused = 0;
  for (int round = 0; round < 2000; ++round) {
    std::string bytes = encode(some_message(random, NodeId(1), NodeId(2)));
    if (random.one_in(2)) bytes.resize(random.below(bytes.size() + 1));
    for (uint64_t changes = random.below(4); changes > 0 && !bytes.empty(); --changes) {
      bytes[random.below(bytes.size())] = static_cast<char>(random.next());
    }
    const auto read = decode_message(bytes);
    if (!read) ++refused;
    if (read) {
      const auto again = decode_message(encode(*read));
      ASSERT_TRUE(again) << again.error().message;
      ASSERT_TRUE(same(*again, *read));
    }
  }
  EXPECT_GT(refused, 100U);
}

}  // namespace
}  // namespace cairn::peer
