// Proposals on their way to the leader: exactly once in its term, in order, whatever the network does.
#include "member/forwarding.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/random.h"

namespace cairn::member {
namespace {

using raft::ForwardTag;
using raft::Message;
using Turn = Ledger::Turn;

constexpr NodeId kOrigin{1};
constexpr NodeId kLeader{2};
constexpr uint64_t kEpoch = 77;

raft::PayloadPtr payload(std::string bytes) {
  return std::make_shared<const raft::Payload>(raft::Payload{.bytes = std::move(bytes)});
}
std::vector<raft::PayloadPtr> payloads(int count, size_t size = 10) {
  std::vector<raft::PayloadPtr> out;
  for (int i = 0; i < count; ++i) out.push_back(payload(std::string(size, static_cast<char>('a' + i))));
  return out;
}
ForwardTag tag(uint64_t term, uint64_t sequence) {
  return {.origin = kOrigin, .epoch = kEpoch, .term = Term(term), .sequence = sequence};
}
ForwardTag refused(uint64_t term, uint64_t sequence) {
  ForwardTag out = tag(term, sequence);
  out.is_refused = true;
  return out;
}
// "sequence+entries" of each message.
std::vector<std::string> shape(const std::vector<Message>& messages) {
  std::vector<std::string> out;
  for (const Message& one : messages) {
    out.push_back(std::to_string(one.forward->sequence) + "+" + std::to_string(one.entries.size()));
  }
  return out;
}
using Shape = std::vector<std::string>;

struct Origin {
  explicit Origin(Forwarder::Options options = {}) : forwarder(with_self(options)) {}
  static Forwarder::Options with_self(Forwarder::Options options) {
    options.self = kOrigin;
    options.epoch = kEpoch;
    return options;
  }
  Shape give(const std::vector<raft::PayloadPtr>& what) {
    std::vector<Message> out;
    forwarder.give(what, tick, out);
    return shape(out);
  }
  Shape at(uint64_t new_tick) {
    tick = new_tick;
    std::vector<Message> out;
    forwarder.tick(tick, out);
    return shape(out);
  }
  void answer(const ForwardTag& what) { forwarder.take_answer(what, tick); }

  uint64_t tick = 0;
  Forwarder forwarder;
};

TEST(Forwarder, SaysWhoseEachProposalIsAndCountsThem) {
  Origin origin;
  origin.forwarder.follow(kLeader, Term(3));
  std::vector<Message> out;
  origin.forwarder.give(payloads(2), 0, out);
  origin.forwarder.give(payloads(1), 0, out);
  ASSERT_EQ(shape(out), (Shape{"1+2", "3+1"}));
  EXPECT_EQ(out[0].type, raft::MessageType::kProp);
  EXPECT_EQ(out[0].from, kOrigin);
  EXPECT_EQ(out[0].to, kLeader);
  EXPECT_EQ(out[0].term, Term{}) << "etcd drops a proposal with a term";
  EXPECT_EQ(out[0].forward, tag(3, 1));
  EXPECT_EQ(out[0].entries[1].bytes(), std::string(10, 'b'));
  EXPECT_EQ(out[1].forward, tag(3, 3));
}

TEST(Forwarder, BoundsItsMessagesAndWhatIsUnderWay) {
  const uint64_t cost = 10 + raft::kEntryOverheadBytes;
  Origin origin({.message_bytes_max = 2 * cost, .window_bytes = 4 * cost});
  origin.forwarder.follow(kLeader, Term(3));
  EXPECT_EQ(origin.forwarder.room_bytes(), 4 * cost);
  EXPECT_EQ(origin.give(payloads(3)), (Shape{"1+2", "3+1"}));
  EXPECT_EQ(origin.forwarder.room_bytes(), cost);
  origin.answer(tag(3, 2));
  EXPECT_EQ(origin.forwarder.room_bytes(), 3 * cost);
  // One that is larger than everything goes alone.
  EXPECT_EQ(origin.give({payload(std::string(1000, 'x'))}), Shape{"4+1"});
  EXPECT_EQ(origin.forwarder.room_bytes(), 0u);
  origin.answer(tag(3, 4));
  EXPECT_EQ(origin.forwarder.room_bytes(), 4 * cost);
  EXPECT_EQ(origin.forwarder.unconfirmed(), 0u);
}

TEST(Forwarder, SendsAgainWhatIsNotConfirmed) {
  Origin origin({.retry_ticks = 50});
  origin.forwarder.follow(kLeader, Term(3));
  origin.at(100);
  origin.give(payloads(3));
  EXPECT_EQ(origin.at(149), Shape{});
  EXPECT_EQ(origin.at(150), Shape{"1+3"});
  origin.at(152);
  origin.answer(tag(3, 1));
  EXPECT_EQ(origin.at(249), Shape{}) << "it goes forward, and twice what that took is not over";
  EXPECT_EQ(origin.at(256), Shape{"2+2"});
  origin.answer(tag(3, 3));
  EXPECT_EQ(origin.at(1000), Shape{});
}

// A link on which a proposal takes two seconds: what is on its way is not sent again and again.
TEST(Forwarder, WaitsLongerOnASlowWay) {
  constexpr uint64_t kTakes = 200;
  Origin origin({.retry_ticks = 50, .retry_ticks_max = 400});
  origin.forwarder.follow(kLeader, Term(3));
  size_t repeats = 0;
  for (uint64_t number = 1; number <= 20; ++number) {
    if (number == 3) repeats = 0;  // it knows by then
    origin.give(payloads(1));
    const uint64_t until = origin.tick + kTakes;
    while (origin.tick + 1 < until) repeats += origin.at(origin.tick + 1).size();
    origin.tick = until;
    origin.answer(tag(3, number));
  }
  EXPECT_EQ(repeats, 0u);
  // Small ones between the large ones take no time; the next large one is given its time all the same.
  for (uint64_t number = 21; number <= 24; ++number) {
    origin.give(payloads(1));
    origin.answer(tag(3, number));
  }
  origin.give(payloads(1));
  EXPECT_EQ(origin.at(origin.tick + kTakes), Shape{});
  origin.answer(tag(3, 25));
  // The way is quick again: it is found out within some proposals.
  for (uint64_t number = 26; number <= 50; ++number) {
    origin.give(payloads(1));
    origin.answer(tag(3, number));
  }
  origin.give(payloads(1));
  EXPECT_EQ(origin.at(origin.tick + 49), Shape{});
  EXPECT_EQ(origin.at(origin.tick + 1), Shape{"51+1"});
}

TEST(Forwarder, EachRepeatWaitsTwiceAsLongUpToABound) {
  Origin origin({.retry_ticks = 50, .retry_ticks_max = 400});
  origin.forwarder.follow(kLeader, Term(3));
  origin.give(payloads(1));
  std::vector<uint64_t> sent_at;
  for (uint64_t tick = 1; tick <= 1600; ++tick) {
    if (!origin.at(tick).empty()) sent_at.push_back(tick);
  }
  EXPECT_EQ(sent_at, (std::vector<uint64_t>{50, 150, 350, 750, 1150, 1550}));
  // Another leader, another way.
  origin.forwarder.follow(kLeader, Term(4));
  origin.give(payloads(1));
  EXPECT_EQ(origin.at(origin.tick + 50), Shape{"1+1"});
}

TEST(Forwarder, OnlyTheBeginningIsSentAgainWhereNothingIsKnownToBeLost) {
  const uint64_t cost = 100 + raft::kEntryOverheadBytes;
  Origin origin({.message_bytes_max = 2 * cost, .retry_ticks = 50, .retry_bytes = 3 * cost});
  origin.forwarder.follow(kLeader, Term(3));
  EXPECT_EQ(origin.give(payloads(10, 100)), (Shape{"1+2", "3+2", "5+2", "7+2", "9+2"}));
  EXPECT_EQ(origin.at(50), (Shape{"1+2", "3+2"}));
  origin.forwarder.note_cut();
  EXPECT_EQ(origin.at(51), (Shape{"1+2", "3+2", "5+2", "7+2", "9+2"}));
}

TEST(Forwarder, CutsAndRefusalsDoNotMakeItWaitLonger) {
  Origin origin({.retry_ticks = 50, .refusal_ticks = 3});
  origin.forwarder.follow(kLeader, Term(3));
  origin.give(payloads(1));
  for (int i = 0; i < 10; ++i) {
    origin.forwarder.note_cut();
    EXPECT_EQ(origin.at(origin.tick + 1), Shape{"1+1"});
    origin.answer(refused(3, 0));
    EXPECT_EQ(origin.at(origin.tick + 3), Shape{"1+1"});
  }
  EXPECT_EQ(origin.at(origin.tick + 49), Shape{});
  EXPECT_EQ(origin.at(origin.tick + 1), Shape{"1+1"});
}

TEST(Forwarder, AfterACutEverythingIsSentAgain) {
  Origin origin;
  origin.forwarder.follow(kLeader, Term(3));
  origin.give(payloads(3));
  origin.answer(tag(3, 1));
  origin.forwarder.note_cut();
  EXPECT_EQ(origin.at(1), Shape{"2+2"});
  EXPECT_EQ(origin.at(2), Shape{});
}

TEST(Forwarder, AfterARefusalItAsksSoon) {
  Origin origin({.retry_ticks = 50, .refusal_ticks = 3});
  origin.forwarder.follow(kLeader, Term(3));
  origin.give(payloads(3));
  origin.tick = 10;
  origin.answer(refused(3, 1));
  EXPECT_EQ(origin.at(12), Shape{});
  EXPECT_EQ(origin.at(13), Shape{"2+2"});
  origin.answer(refused(3, 0));
  EXPECT_EQ(origin.at(20), Shape{}) << "a refusal from before the last confirmation says nothing new";
}

// A leader without room refuses each message of the window, and what is sent again, for as long as it has none.
TEST(Forwarder, AfterARefusalItSendsALittleAndMoreWithEachConfirmation) {
  constexpr uint64_t kOne = 10 + raft::kEntryOverheadBytes;
  Origin origin({.message_bytes_max = kOne, .retry_ticks = 50, .retry_bytes = kOne, .refusal_ticks = 3});
  origin.forwarder.follow(kLeader, Term(3));
  EXPECT_EQ(origin.give(payloads(8, 10)).size(), 8u);
  for (int i = 0; i < 8; ++i) origin.answer(refused(3, 0));
  EXPECT_EQ(origin.at(2), Shape{});
  EXPECT_EQ(origin.at(3), Shape{"1+1"});
  EXPECT_EQ(origin.give(payloads(1, 10)), Shape{}) << "it would be refused";
  origin.answer(refused(3, 0));
  EXPECT_EQ(origin.at(8), Shape{});
  EXPECT_EQ(origin.at(9), Shape{"1+1"}) << "twice as long";
  origin.answer(tag(3, 1));
  EXPECT_EQ(origin.at(9), (Shape{"2+1", "3+1"}));
  origin.answer(tag(3, 3));
  EXPECT_EQ(origin.at(9), (Shape{"4+1", "5+1", "6+1", "7+1"}));
  origin.answer(tag(3, 7));
  EXPECT_EQ(origin.at(9), (Shape{"8+1", "9+1"}));
  EXPECT_EQ(origin.give(payloads(1, 10)), Shape{"10+1"}) << "nothing waits any more";
}

TEST(Forwarder, ARefusalInsideOfABurstIsWhereTheNextOneBegins) {
  constexpr uint64_t kOne = 10 + raft::kEntryOverheadBytes;
  Origin origin({.message_bytes_max = kOne, .retry_ticks = 50, .retry_bytes = kOne, .refusal_ticks = 3});
  origin.forwarder.follow(kLeader, Term(3));
  origin.give(payloads(8, 10));
  origin.answer(refused(3, 0));
  EXPECT_EQ(origin.at(3), Shape{"1+1"});
  origin.answer(tag(3, 1));
  EXPECT_EQ(origin.at(3), (Shape{"2+1", "3+1"}));
  origin.answer(tag(3, 2));
  origin.answer(refused(3, 2));
  EXPECT_EQ(origin.at(5), Shape{});
  EXPECT_EQ(origin.at(6), Shape{"3+1"});
}

TEST(Forwarder, WhatIsKnownToBeLostBeforeThereIsAnythingDoesNotMatterLater) {
  for (int how = 0; how < 4; ++how) {
    SCOPED_TRACE(how);
    Origin origin({.retry_ticks = 50, .refusal_ticks = 3});
    origin.forwarder.follow(kLeader, Term(3));
    if (how == 0) origin.forwarder.note_cut();
    if (how == 1) origin.forwarder.note_lost(0);
    if (how >= 2) {
      origin.give(payloads(2));
      origin.answer(refused(3, 0));
      how == 2 ? origin.forwarder.follow(kLeader, Term(4)) : origin.answer(tag(3, 2));
    }
    const uint64_t term = how == 2 ? 4 : 3;
    const uint64_t first = how == 3 ? 3 : 1;
    const std::string all = std::to_string(first) + "+3";
    EXPECT_EQ(origin.give(payloads(3)), Shape{all});
    EXPECT_EQ(origin.at(49), Shape{});
    EXPECT_EQ(origin.at(50), Shape{all}) << "it was lost, and nobody said so";
    origin.answer(refused(term, first - 1));
    EXPECT_EQ(origin.at(53), Shape{all});
  }
}

// A queue was full, a POST has failed, or a stream was cut.
TEST(Forwarder, WhatTheWayHasNoRoomForIsSentAgainLittleByLittle) {
  constexpr uint64_t kOne = 10 + raft::kEntryOverheadBytes;
  Origin origin({.message_bytes_max = kOne, .retry_ticks = 50, .retry_bytes = kOne, .refusal_ticks = 3});
  origin.forwarder.follow(kLeader, Term(3));
  origin.give(payloads(4, 10));
  uint64_t sent = 0;
  for (uint64_t tick = 1; tick <= 1000; ++tick) {
    origin.forwarder.note_lost(tick);
    sent += origin.at(tick).size();
  }
  EXPECT_GE(sent, 1000u / 51);
  EXPECT_LE(sent, 30u) << "each time later, up to a bound";
  origin.forwarder.note_lost(1000);
  EXPECT_EQ(origin.at(1050), Shape{"1+1"});
  origin.answer(tag(3, 1));
  EXPECT_EQ(origin.at(1050), (Shape{"2+1", "3+1"}));
}

TEST(Forwarder, AnswersToAnotherStartOrTermOrMemberAreNotItsOwn) {
  Origin origin;
  origin.forwarder.follow(kLeader, Term(3));
  origin.give(payloads(3));
  for (ForwardTag wrong : {tag(2, 3), tag(4, 3), tag(3, 4)}) origin.answer(wrong);
  ForwardTag other = tag(3, 3);
  other.epoch = kEpoch + 1;
  origin.answer(other);
  other = tag(3, 3);
  other.origin = kLeader;
  origin.answer(other);
  EXPECT_EQ(origin.forwarder.unconfirmed(), 3u);
  origin.answer(tag(3, 2));
  origin.answer(tag(3, 1));  // overtaken
  EXPECT_EQ(origin.forwarder.unconfirmed(), 1u);
}

TEST(Forwarder, ATermBeginsAnew) {
  Origin origin;
  origin.forwarder.follow(kLeader, Term(3));
  origin.give(payloads(3));
  origin.forwarder.follow(kLeader, Term(4));
  EXPECT_EQ(origin.forwarder.unconfirmed(), 0u);
  EXPECT_EQ(origin.at(1000), Shape{});
  EXPECT_EQ(origin.give(payloads(1)), Shape{"1+1"});
}

TEST(Forwarder, ALeaderThatWasForgottenAndIsBackIsSentAllAgain) {
  Origin origin;
  origin.forwarder.follow(kLeader, Term(3));
  origin.give(payloads(2));
  origin.forwarder.follow(raft::kNoNode, Term(3));
  EXPECT_EQ(origin.at(1000), Shape{});
  origin.forwarder.follow(kLeader, Term(3));
  EXPECT_EQ(origin.at(1001), Shape{"1+2"});
}

// --- the leader

TEST(Ledger, TakesEachOnceAndInOrder) {
  Ledger ledger;
  ledger.begin(Term(3));
  const auto turn = [&](uint64_t sequence, size_t count) { return ledger.judge(tag(3, sequence), count).turn; };
  EXPECT_EQ(turn(2, 1), Turn::kEarly);
  EXPECT_EQ(ledger.answer(tag(3, 2), true), refused(3, 0));
  EXPECT_EQ(turn(1, 2), Turn::kDue);
  EXPECT_EQ(turn(1, 2), Turn::kDue) << "it was only judged";
  ledger.note_taken(tag(3, 1), 2);
  EXPECT_EQ(ledger.answer(tag(3, 1), false), tag(3, 2));
  EXPECT_EQ(turn(1, 2), Turn::kRepeat);
  EXPECT_EQ(turn(2, 1), Turn::kRepeat);
  EXPECT_EQ(turn(4, 1), Turn::kEarly);
  EXPECT_EQ(turn(3, 1), Turn::kDue);
  const Ledger::Verdict overlapping = ledger.judge(tag(3, 1), 5);
  EXPECT_EQ(overlapping.turn, Turn::kDue);
  EXPECT_EQ(overlapping.known, 2u);
  ledger.note_taken(tag(3, 1), 5);
  EXPECT_EQ(ledger.answer(tag(3, 1), false), tag(3, 5));
  ledger.note_taken(tag(3, 2), 1);
  EXPECT_EQ(ledger.answer(tag(3, 2), false), tag(3, 5)) << "it never goes back";
}

TEST(Ledger, EachTermAndEachStartOfAMemberIsCountedForItself) {
  Ledger ledger;
  ledger.begin(Term(3));
  ledger.note_taken(tag(3, 1), 7);
  ledger.begin(Term(3));
  EXPECT_EQ(ledger.answer(tag(3, 1), false).sequence, 7u);
  ForwardTag later_start = tag(3, 1);
  later_start.epoch = kEpoch + 1;
  EXPECT_EQ(ledger.answer(later_start, false).sequence, 0u);
  ForwardTag change = tag(3, 1);
  change.is_conf_change = true;
  EXPECT_EQ(ledger.answer(change, false).sequence, 0u);
  ForwardTag other = tag(3, 1);
  other.origin = NodeId(9);
  EXPECT_EQ(ledger.answer(other, false).sequence, 0u);
  ledger.begin(Term(4));
  EXPECT_EQ(ledger.answer(tag(4, 1), false).sequence, 0u);
}

// To forget one would be to take its entries twice.
TEST(Ledger, TooManyStartsAreNotKeptAndNoneIsForgotten) {
  constexpr uint64_t kMany = 4096;
  Ledger ledger;
  ledger.begin(Term(3));
  ForwardTag one = tag(3, 1);
  for (one.epoch = 0; one.epoch < kMany; ++one.epoch) {
    ASSERT_EQ(ledger.judge(one, 1).turn, Turn::kDue);
    ledger.note_taken(one, 1);
  }
  EXPECT_EQ(ledger.judge(one, 1).turn, Turn::kNotKept);
  one.epoch = 0;
  EXPECT_EQ(ledger.judge(one, 1).turn, Turn::kRepeat);
  one.sequence = 2;
  EXPECT_EQ(ledger.judge(one, 1).turn, Turn::kDue);
}

// --- both

// A network that loses, repeats, delays and cuts: what is given in a term arrives in it once and in order.
TEST(Forwarding, ExactlyOnceInATermWhateverTheNetworkDoes) {
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    Forwarder forwarder({.self = kOrigin,
                         .epoch = kEpoch,
                         .message_bytes_max = 50 + random.below(200),
                         .window_bytes = 100 + random.below(1000),
                         .retry_ticks = random.between(2, 60),
                         .retry_bytes = random.below(300),
                         .refusal_ticks = random.between(1, 5)});
    Ledger ledger;
    std::vector<Message> to_leader;
    std::vector<ForwardTag> to_origin;
    std::vector<std::string> given;
    std::vector<std::string> appended;
    uint64_t tick = 0;
    const auto pass = [&](bool is_bad) {
      ++tick;
      std::vector<Message> out;
      forwarder.tick(tick, out);
      if (is_bad && random.one_in(3) && forwarder.room_bytes() > 0) {
        given.push_back(std::to_string(given.size()));
        const raft::PayloadPtr next = payload(given.back());
        forwarder.give({&next, 1}, tick, out);
      }
      for (Message& one : out) {
        if (is_bad && random.one_in(4)) continue;
        if (is_bad && random.one_in(4)) to_leader.push_back(one);
        to_leader.push_back(std::move(one));
      }
      while (!to_leader.empty() && (!is_bad || !random.one_in(3))) {
        const auto at = to_leader.begin() + static_cast<std::ptrdiff_t>(is_bad ? random.below(to_leader.size()) : 0);
        const Message message = std::move(*at);
        to_leader.erase(at);
        const Ledger::Verdict verdict = ledger.judge(*message.forward, message.entries.size());
        bool is_refused = verdict.turn == Turn::kEarly;
        if (verdict.turn == Turn::kDue) {
          is_refused = is_bad && random.one_in(5);  // no room
          if (!is_refused) {
            for (size_t i = verdict.known; i < message.entries.size(); ++i) {
              appended.emplace_back(message.entries[i].bytes());
            }
            ledger.note_taken(*message.forward, message.entries.size());
          }
        }
        to_origin.push_back(ledger.answer(*message.forward, is_refused));
      }
      while (!to_origin.empty() && (!is_bad || !random.one_in(3))) {
        const auto at = to_origin.begin() + static_cast<std::ptrdiff_t>(is_bad ? random.below(to_origin.size()) : 0);
        if (!is_bad || !random.one_in(4)) forwarder.take_answer(*at, tick);
        to_origin.erase(at);
      }
      if (is_bad && random.one_in(30)) {
        to_leader.clear();
        to_origin.clear();
        forwarder.note_cut();
      }
    };
    for (uint64_t term = 1; term <= 3; ++term) {
      ledger.begin(Term(term));
      forwarder.follow(kLeader, Term(term));
      given.clear();
      appended.clear();
      to_leader.clear();
      to_origin.clear();
      for (int i = 0; i < 300; ++i) pass(true);
      for (int i = 0; i < 5000; ++i) pass(false);
      ASSERT_GT(given.size(), 20u);
      ASSERT_EQ(appended, given);
      ASSERT_EQ(forwarder.unconfirmed(), 0u);
    }
  }
}

}  // namespace
}  // namespace cairn::member
