// Streams: against etcd's bytes, with cuts anywhere, and against lengths that lie.
#include "peer/msgapp_v2.h"

#include <gtest/gtest.h>

#include "base/bytes.h"
#include "peer/codec.h"
#include "peer/testing.h"
#include "testing/seeds.h"

namespace cairn::peer {
namespace {

using testing::entry;
using testing::same;
using testing::some_append;
using testing::some_message;
using testing::unhex;

constexpr NodeId kSelf{2};
constexpr NodeId kPeer{1};

// Feeds in parts of chance.
template <class Decoder>
Status feed_cut(Decoder& decoder, std::string_view bytes, Random& random, std::vector<raft::Message>& out) {
  while (!bytes.empty()) {
    const size_t part = std::min<size_t>(bytes.size(), random.one_in(3) ? 1 : random.between(1, 300));
    // A copy of its own, so that a view kept by mistake is seen by the sanitizers.
    const std::string copy(bytes.substr(0, part));
    CAIRN_CHECK(decoder.feed(copy, out));
    bytes.remove_prefix(part);
  }
  return {};
}

// Recorded from 3.4.23: a full message, an entry that follows, a commit, a heartbeat.
TEST(MsgAppV2, ReadsWhatEtcdSent) {
  const std::string bytes =
      unhex(
          "02 0000000000000036 0803 10d7e698e2b990d8a249 18bf95e29adcd2fcd420 2003 2801 3002 3a06 0800 1003 1803 4002"
          "4a0a12080a02280010001800 5000 5800") +
      unhex("01 0000000000000001 000000000000000a 0800 1003 1804 2202 6162 0000000000000003") +
      unhex("01 0000000000000000 0000000000000004") + unhex("00");
  Random random(1);
  for (int round = 0; round < 50; ++round) {
    MsgAppV2Decoder decoder(kSelf, kPeer);
    std::vector<raft::Message> out;
    ASSERT_TRUE(feed_cut(decoder, bytes, random, out));
    ASSERT_EQ(out.size(), 3U);
    EXPECT_TRUE(decoder.at_boundary());
    EXPECT_EQ(out[0].entries.at(0).index, Index(3));
    EXPECT_EQ(out[1].type, raft::MessageType::kApp);
    EXPECT_EQ(out[1].from, kPeer);
    EXPECT_EQ(out[1].to, kSelf);
    EXPECT_EQ(out[1].term, Term(3));
    EXPECT_EQ(out[1].log_term, Term(3));
    EXPECT_EQ(out[1].index, Index(3));
    EXPECT_EQ(out[1].commit, Index(3));
    ASSERT_EQ(out[1].entries.size(), 1U);
    EXPECT_TRUE(same(out[1].entries[0], entry(3, 4, "ab")));
    EXPECT_EQ(out[2].index, Index(4));
    EXPECT_EQ(out[2].commit, Index(4));
    EXPECT_TRUE(out[2].entries.empty());
  }
}

TEST(MsgAppV2, WritesTheShortFormOnlyWhenItFollows) {
  Random random(7);
  MsgAppV2Encoder encoder;
  const auto kind_of = [&](uint64_t term, uint64_t log_term, uint64_t index, size_t count) {
    raft::Message message;
    message.term = Term(term);
    message.log_term = Term(log_term);
    message.index = Index(index);
    for (size_t at = 1; at <= count; ++at) message.entries.push_back(entry(term, index + at, "x"));
    Pieces out;
    encoder.append(out, message);
    return static_cast<int>(out.flat()[0]);
  };
  EXPECT_EQ(kind_of(3, 1, 2, 1), 2);
  EXPECT_EQ(kind_of(3, 3, 3, 2), 1);
  EXPECT_EQ(kind_of(3, 3, 5, 0), 1);  // a commit alone
  EXPECT_EQ(kind_of(3, 3, 5, 1), 1);
  EXPECT_EQ(kind_of(3, 3, 5, 1), 2);  // sent again
  EXPECT_EQ(kind_of(4, 3, 6, 1), 2);  // another term
  EXPECT_EQ(kind_of(4, 4, 7, 1), 1);
  EXPECT_EQ(kind_of(4, 4, 9, 1), 2);  // a gap
}

TEST(MsgAppV2, ReadsWhatItWroteInAnyParts) {
  Random random(cairn::testing::first_seed(11));
  for (int round = 0; round < 200; ++round) {
    MsgAppV2Encoder encoder;
    MsgAppV2Decoder decoder(kSelf, kPeer);
    std::vector<raft::Message> sent;
    Pieces bytes;
    uint64_t term = 1;
    uint64_t log_term = 0;
    uint64_t index = random.below(5);
    for (uint64_t left = random.below(20); left > 0; --left) {
      if (random.one_in(5)) MsgAppV2Encoder::append_heartbeat(bytes);
      if (random.one_in(6)) term += random.below(3);
      if (random.one_in(8)) index = random.below(index + 1);
      if (index == 0) log_term = 0;
      raft::Message message = some_append(random, term, log_term, index);
      message.from = kPeer;
      message.to = kSelf;
      encoder.append(bytes, message);
      if (!message.entries.empty()) {
        index = message.entries.back().index.value;
        log_term = message.entries.back().term.value;
      }
      sent.push_back(std::move(message));
    }
    std::vector<raft::Message> read;
    ASSERT_TRUE(feed_cut(decoder, bytes.flat(), random, read)) << round;
    ASSERT_TRUE(same(read, sent)) << round;
    ASSERT_TRUE(decoder.at_boundary());
  }
}

TEST(MessageStream, ReadsWhatItWroteInAnyParts) {
  Random random(cairn::testing::first_seed(12));
  for (int round = 0; round < 200; ++round) {
    MessageDecoder decoder;
    std::vector<raft::Message> sent;
    Pieces bytes;
    for (uint64_t left = random.below(20); left > 0; --left) {
      if (random.one_in(5)) append_message_heartbeat(bytes);
      sent.push_back(some_message(random, kPeer, kSelf));
      append_framed_message(bytes, sent.back());
    }
    std::vector<raft::Message> read;
    ASSERT_TRUE(feed_cut(decoder, bytes.flat(), random, read)) << round;
    ASSERT_TRUE(same(read, sent)) << round;
    ASSERT_TRUE(decoder.at_boundary());
  }
}

TEST(MessageStream, KnowsHeartbeatsOfAllVersions) {
  MessageDecoder decoder;
  std::vector<raft::Message> out;
  ASSERT_TRUE(decoder.feed(
      unhex("000000000000001e 0808 1000 1800 2000 2800 3000 4000 4a0a12080a02280010001800 5000 5800"), out));
  ASSERT_TRUE(decoder.feed(unhex("0000000000000002 0808"), out));
  Pieces own;
  append_message_heartbeat(own);
  ASSERT_TRUE(decoder.feed(own.flat(), out));
  EXPECT_TRUE(out.empty());
  EXPECT_EQ(to_hex(own.flat()),
            "0000000000000014"
            "08081000180020002800"
            "30004000"
            "50005800"
            "6800");
}

// A message of a kind that is not known is left out; the stream goes on.
TEST(MessageStream, GoesOnBehindAnUnknownKind) {
  MessageDecoder decoder;
  std::vector<raft::Message> out;
  Pieces good;
  Random random(3);
  append_framed_message(good, some_message(random, kPeer, kSelf));
  ASSERT_TRUE(decoder.feed(unhex("0000000000000003 08ac02") + unhex("0000000000000000") + good.flat(), out));
  EXPECT_EQ(out.size(), 1U);
}

TEST(MessageStream, KeepsWhatCameBeforeABadMessage) {
  MessageDecoder decoder;
  std::vector<raft::Message> out;
  Pieces good;
  Random random(3);
  append_framed_message(good, some_message(random, kPeer, kSelf));
  EXPECT_FALSE(decoder.feed(good.flat() + unhex("0000000000000002 0807") + good.flat(), out));
  EXPECT_EQ(out.size(), 1U);
}

TEST(MessageStream, RefusesLengthsThatLie) {
  const auto refused = [](auto&& decoder, std::string_view hex) {
    std::vector<raft::Message> out;
    return !decoder.feed(unhex(hex), out) && out.empty();
  };
  EXPECT_TRUE(refused(MessageDecoder(), "0000000020000001"));
  EXPECT_FALSE(refused(MessageDecoder(), "0000000020000000"));  // 512 MB may come
  EXPECT_TRUE(refused(MessageDecoder(), "ffffffffffffffff"));
  const MsgAppV2Decoder fresh(kSelf, kPeer);
  EXPECT_TRUE(refused(MsgAppV2Decoder(fresh), "02 ffffffffffffffff"));
  EXPECT_TRUE(refused(MsgAppV2Decoder(fresh), "03"));
  EXPECT_TRUE(refused(MsgAppV2Decoder(fresh), "01"));  // goes on from nothing
  const std::string first = "02 0000000000000014 0803 1002 1801 2003 2801 3002 3a06 0800 1003 1803 4002";
  EXPECT_FALSE(refused(MsgAppV2Decoder(fresh), "02 0000000000000016"));
  const auto refused_after = [&](std::string_view hex) {
    MsgAppV2Decoder decoder(kSelf, kPeer);
    std::vector<raft::Message> out;
    EXPECT_TRUE(decoder.feed(unhex("02 0000000000000014 0803 1002 1801 2003 2801 3002 3a06 0800 1003 1803"), out));
    EXPECT_EQ(out.size(), 1U);
    return !decoder.feed(unhex(hex), out);
  };
  EXPECT_TRUE(refused_after("01 ffffffffffffffff"));                                  // entries
  EXPECT_TRUE(refused_after("01 0000000000000001 ffffffffffffffff"));                 // bytes of one
  EXPECT_TRUE(refused_after("01 0000000000000001 0000000000000006 0800 1003 1805"));  // not the next
  EXPECT_TRUE(refused_after("01 0000000000000001 0000000000000006 0800 1002 1804"));  // not of the term
  EXPECT_TRUE(refused_after("01 0000000000000001 0000000000000000"));
  EXPECT_FALSE(refused_after("01 0000000000000001 0000000000000006 0800 1003 1804 0000000000000003"));
}

}  // namespace
}  // namespace cairn::peer
