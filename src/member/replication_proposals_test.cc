// The ways of a proposal of a member that may not lead, call by call: held, forwarded, recognised, lost, late.
#include <gtest/gtest.h>

#include <algorithm>

#include "base/errors.h"
#include "member/replication_core.h"
#include "member/requests.h"
#include "testing/mutants.h"

namespace cairn::member {
namespace {

using raft::Message;
using raft::MessageType;

constexpr int64_t kSecond = 1'000'000'000;
constexpr uint64_t kEpoch = 5;
constexpr uint32_t kElectionTicks = 1000;

raft::ConfState three() {
  raft::ConfState conf;
  for (const uint64_t id : {uint64_t{1}, uint64_t{2}, uint64_t{3}}) conf.voters.emplace_back(id);
  return conf;
}

Proposal request(uint64_t id, Tag tag) {
  return std::make_shared<const raft::Payload>(
      raft::Payload{.bytes = join_request(RequestKind::kPut, "request", id), .tag = tag});
}
raft::PayloadPtr without_tag(const Proposal& payload) {
  return std::make_shared<const raft::Payload>(raft::Payload{.bytes = payload->bytes});
}

// Member 1 of three, with nothing in its log.
class Member {
 public:
  explicit Member(std::function<bool(NodeId)> speaks_cairn = {})
      : core(options(std::move(speaks_cairn)), RaftLog(Index(0), Term(0), {}),
             {.hard = {}, .conf = three(), .applied = Index(0)}) {
    at(kSecond);
  }

  void at(int64_t now_ns) { core.set_now(now_ns); }
  void propose(const Proposal& one) {
    core.propose({one});
    settle();
  }
  void tick(uint64_t count = 1) {
    for (; count > 0; --count) {
      core.tick();
      settle();
    }
  }
  void step(Message message) {
    core.step(std::move(message));
    settle();
  }
  [[nodiscard]] static Message from(uint64_t peer, MessageType type, uint64_t term) {
    Message out;
    out.type = type;
    out.from = NodeId(peer);
    out.to = NodeId(1);
    out.term = Term(term);
    return out;
  }
  void heartbeat(uint64_t leader, uint64_t term) { step(from(leader, MessageType::kHeartbeat, term)); }
  // One entry behind the last, which is committed; of the leader's term if nothing else is said.
  void append(uint64_t leader, uint64_t term, const raft::PayloadPtr& data, uint64_t entry_term = 0) {
    Message message = from(leader, MessageType::kApp, term);
    message.index = last;
    message.log_term = last_term;
    last = last + 1;
    last_term = Term(entry_term == 0 ? term : entry_term);
    message.entries.push_back({.term = last_term, .index = last, .data = data});
    message.commit = last;
    step(std::move(message));
  }
  void snapshot(uint64_t leader, uint64_t term, uint64_t index, uint64_t snapshot_term,
                raft::ConfState conf = three()) {
    Message message = from(leader, MessageType::kSnap, term);
    auto state = std::make_shared<raft::Snapshot>();
    state->index = last = Index(index);
    state->term = last_term = Term(snapshot_term);
    state->conf = std::move(conf);
    message.snapshot = std::move(state);
    step(std::move(message));
  }
  void campaign() {
    core.campaign();
    settle();
  }
  void become_leader() {
    campaign();
    step(from(2, MessageType::kPreVoteResp, core.raft().term().value + 1));
    step(from(2, MessageType::kVoteResp, core.raft().term().value));
    ASSERT_TRUE(core.raft().is_leader());
    acknowledge(2);
  }
  // Member `peer` has the whole log.
  void acknowledge(uint64_t peer) {
    Message message = from(peer, MessageType::kAppResp, core.raft().term().value);
    message.index = core.raft().last_index();
    step(std::move(message));
  }
  std::vector<Message> take_sent(MessageType type) {
    std::vector<Message> out;
    for (Message& message : std::exchange(sent, {})) {
      if (message.type == type) out.push_back(std::move(message));
    }
    return out;
  }
  // The proposals that were sent since the last call: "to:term:sequence" of each.
  std::vector<std::string> take_forwarded() {
    std::vector<std::string> out;
    for (const Message& message : take_sent(MessageType::kProp)) {
      const uint64_t sequence = message.forward ? message.forward->sequence : 0;
      const Term term = message.forward ? message.forward->term : Term{};
      out.push_back(fmt::format("{}:{}:{}", message.to.value, term.value, sequence));
    }
    return out;
  }
  std::vector<Tag> take_answered() {
    std::vector<Tag> out;
    for (const raft::Entry& entry : std::exchange(applied, {})) {
      if (entry.tag() != 0) out.push_back(entry.tag());
    }
    return out;
  }

  ReplicationCore core;
  std::vector<Message> sent;
  std::vector<raft::Entry> applied;
  std::vector<Refused> refused;
  Index last;
  Term last_term;

 private:
  static ReplicationCore::Options options(std::function<bool(NodeId)> speaks_cairn) {
    ReplicationCore::Options out;
    out.raft.id = NodeId(1);
    out.raft.election_ticks = kElectionTicks;
    out.start_epoch = kEpoch;
    out.speaks_cairn = std::move(speaks_cairn);
    return out;
  }
  void settle() {
    while (core.has_output()) {
      ReplicationOutput out = core.take_output();
      std::ranges::move(out.messages, std::back_inserter(sent));
      std::ranges::move(out.refused, std::back_inserter(refused));
      std::ranges::move(out.apply.entries, std::back_inserter(applied));
      for (WalWrite& write : out.wal) {
        if (write.install != nullptr) core.installed(*write.install);
        WalDone done{.number = write.number, .entries = std::move(write.entries)};
        done.messages = std::move(write.messages);
        core.wal_done(std::move(done));
      }
      if (!applied.empty() && applied.back().index > core.raft().applied()) {
        AppliedNotice notice;
        notice.applied = applied.back().index;
        core.applied(std::move(notice));
      }
    }
  }
};

using Sent = std::vector<std::string>;
using Tags = std::vector<Tag>;

TEST(Proposals, WithoutALeaderTheyWaitForOne) {
  Member member;
  member.propose(request(1, 10));
  member.propose(request(2, 20));
  EXPECT_EQ(member.take_forwarded(), Sent{});
  EXPECT_EQ(member.core.held_count(), 2u);
  member.heartbeat(2, 1);
  const auto forwarded = member.take_sent(MessageType::kProp);
  ASSERT_EQ(forwarded.size(), 1u);
  EXPECT_EQ(forwarded[0].entries.size(), 2u);
  const raft::ForwardTag tag{.origin = NodeId(1), .epoch = kEpoch, .term = Term(1), .sequence = 1};
  EXPECT_EQ(forwarded[0].forward, tag);
  EXPECT_EQ(member.core.held_count(), 0u);
  EXPECT_EQ(member.core.own_count(), 2u);
}

TEST(Proposals, WhatComesBackIsKnownByItsId) {
  Member member;
  member.heartbeat(2, 1);
  const Proposal mine = request(1, 10);
  member.propose(mine);
  member.append(2, 1, without_tag(request(2, 0)));
  EXPECT_EQ(member.take_answered(), Tags{});
  member.append(2, 1, without_tag(mine));
  EXPECT_EQ(member.take_answered(), Tags{10});
  EXPECT_EQ(member.core.own_count(), 0u);
  member.at(100 * kSecond);
  member.tick();
  EXPECT_TRUE(member.refused.empty());
}

TEST(Proposals, AfterACutStreamWhatIsNotConfirmedIsSentAgain) {
  Member member;
  member.heartbeat(2, 1);
  for (uint64_t i = 1; i <= 3; ++i) member.propose(request(i, i));
  EXPECT_EQ(member.take_forwarded(), (Sent{"2:1:1", "2:1:2", "2:1:3"}));
  Message answer = Member::from(2, MessageType::kHeartbeatResp, 1);
  answer.forward = raft::ForwardTag{.origin = NodeId(1), .epoch = kEpoch, .term = Term(1), .sequence = 1};
  member.step(answer);
  member.core.report({.kind = PeerReport::Kind::kStreamCut, .peer = NodeId(3)});
  EXPECT_EQ(member.take_forwarded(), Sent{}) << "it is not the leader's";
  member.core.report({.kind = PeerReport::Kind::kStreamCut, .peer = NodeId(2)});
  member.heartbeat(2, 1);
  EXPECT_EQ(member.take_forwarded(), Sent{"2:1:2"}) << "both in one message";
}

TEST(Proposals, AnEntryOfALaterTermShowsThatTheyAreLost) {
  Member member;
  member.heartbeat(2, 1);
  const Proposal committed = request(1, 10);
  member.propose(committed);
  member.propose(request(2, 20));
  member.take_forwarded();
  member.heartbeat(3, 2);
  EXPECT_EQ(member.take_forwarded(), Sent{}) << "the new leader may have them in its log";
  member.append(3, 2, without_tag(committed), 1);
  EXPECT_EQ(member.take_answered(), Tags{10});
  EXPECT_EQ(member.take_forwarded(), Sent{}) << "the other one may follow";
  member.append(3, 2, nullptr);
  const auto again = member.take_sent(MessageType::kProp);
  ASSERT_EQ(again.size(), 1u) << "what was committed is not proposed again";
  EXPECT_EQ(again[0].to, NodeId(3));
  EXPECT_EQ(again[0].forward->term, Term(2));
  EXPECT_EQ(again[0].forward->sequence, 1u);
  EXPECT_EQ(again[0].entries.size(), 1u);
  EXPECT_EQ(request_id_of(raft::EntryType::kNormal, again[0].entries[0].bytes()), 2u);
  member.append(3, 2, nullptr);
  EXPECT_EQ(member.take_forwarded(), Sent{}) << "once";
  member.append(3, 2, without_tag(request(2, 0)));
  EXPECT_EQ(member.take_answered(), Tags{20});
}

// etcd drops the tag, and may append in any later term what it was sent.
TEST(Proposals, AnEtcdLeaderIsSentThemOnceAndTimeDecides) {
  Member member([](NodeId id) { return id != NodeId(2); });
  member.heartbeat(2, 1);
  member.propose(request(1, 10));
  const auto forwarded = member.take_sent(MessageType::kProp);
  ASSERT_EQ(forwarded.size(), 1u);
  EXPECT_TRUE(!forwarded[0].forward || forwarded[0].forward->sequence == 0) << "it is not counted";
  member.tick(200);
  EXPECT_EQ(member.take_forwarded(), Sent{});
  member.heartbeat(3, 2);
  member.append(3, 2, nullptr);
  EXPECT_EQ(member.take_forwarded(), Sent{});
  member.at(8 * kSecond);
  member.tick();
  ASSERT_EQ(member.refused.size(), 1u);
  EXPECT_EQ(member.refused[0].tag, 10u);
  EXPECT_EQ(member.refused[0].error, errors::timeout());
  EXPECT_EQ(member.core.own_count(), 0u);
}

void append_in_order_and_once() {
  Member member;
  member.become_leader();
  const uint64_t term = member.core.raft().term().value;
  const auto forward = [&](uint64_t sequence, size_t count, uint64_t in_term, uint64_t origin = 2) {
    member.sent.clear();
    const Index before = member.core.raft().last_index();
    Message message = Member::from(2, MessageType::kProp, 0);
    message.forward =
        raft::ForwardTag{.origin = NodeId(origin), .epoch = 9, .term = Term(in_term), .sequence = sequence};
    for (size_t i = 0; i < count; ++i) message.entries.push_back({.data = without_tag(request(sequence + i, 0))});
    member.step(std::move(message));
    const uint64_t appended = member.core.raft().last_index().value - before.value;
    std::string said = "nothing";
    for (const Message& one : member.take_sent(MessageType::kHeartbeatResp)) {
      if (one.forward) said = fmt::format("{}{}", one.forward->sequence, one.forward->is_refused ? " again" : "");
    }
    return fmt::format("{}, {}", appended, said);
  };
  EXPECT_EQ(forward(1, 2, term), "2, 2");
  EXPECT_EQ(forward(1, 2, term), "0, 2") << "a repeat";
  EXPECT_EQ(forward(4, 1, term), "0, 2 again") << "a gap";
  EXPECT_EQ(forward(2, 3, term), "2, 4") << "one of them is known";
  EXPECT_EQ(forward(5, 1, term - 1), "0, nothing") << "of another term";
  EXPECT_EQ(forward(5, 1, term + 1), "0, nothing");
  EXPECT_EQ(forward(5, 1, term, 3), "0, nothing") << "in another's name";
  EXPECT_EQ(forward(5, 1, term), "1, 5");
}

TEST(Proposals, ALeaderAppendsWhatIsForwardedInOrderAndOnce) { append_in_order_and_once(); }

#ifdef CAIRN_MUTANTS
TEST(ProposalsMutants, AreFound) {
  EXPECT_TRUE(cairn::testing::fails_with("raft.forwarded_term_ignored", append_in_order_and_once));
}
#endif

// Each in its room: neither the leader's clients nor those of others keep the others out.
TEST(Proposals, ALeaderTakesFromOthersAsMuchAsTheyMayHaveInItsLog) {
  Member member;
  member.become_leader();
  const Term term = member.core.raft().term();
  const auto append = [&](uint64_t sequence, size_t bytes) {
    member.sent.clear();
    const Index before = member.core.raft().last_index();
    Message message = Member::from(2, MessageType::kProp, 0);
    if (sequence != 0) {
      message.forward = raft::ForwardTag{.origin = NodeId(2), .epoch = 9, .term = term, .sequence = sequence};
    }
    const auto payload = std::make_shared<const raft::Payload>(raft::Payload{.bytes = std::string(bytes, 'x')});
    message.entries.push_back({.data = payload});
    member.step(std::move(message));
    return member.core.raft().last_index().value - before.value;
  };
  for (uint64_t i = 1; i <= 40; ++i) member.propose(request(i, i));
  EXPECT_EQ(append(1, 20 << 20), 1u);
  EXPECT_EQ(append(2, 20 << 20), 1u);
  EXPECT_EQ(append(3, 1), 0u) << "what it has of others is not applied";
  const auto answers = member.take_sent(MessageType::kHeartbeatResp);
  ASSERT_EQ(answers.size(), 1u);
  EXPECT_TRUE(answers[0].forward->is_refused);
  EXPECT_EQ(append(0, 1), 0u) << "an etcd's is dropped";
  const Index before = member.core.raft().last_index();
  member.propose(request(50, 50));
  EXPECT_EQ(member.core.raft().last_index(), before + 1) << "its own clients are counted elsewhere";
  member.acknowledge(2);
  EXPECT_EQ(append(3, 1), 1u);
  EXPECT_EQ(append(0, 1), 1u);
}

TEST(Proposals, WhatALeaderAppendedForOthersAndLostDoesNotCountWhenItLeadsAgain) {
  Member member;
  member.become_leader();
  const auto forward = [&](size_t bytes) {
    const Index before = member.core.raft().last_index();
    Message message = Member::from(2, MessageType::kProp, 0);
    message.entries.push_back(
        {.data = std::make_shared<const raft::Payload>(raft::Payload{.bytes = std::string(bytes, 'x')})});
    member.step(std::move(message));
    return member.core.raft().last_index().value - before.value;
  };
  const Index committed = member.core.raft().committed();
  const Term led_in = member.core.raft().term();
  member.last = committed;
  member.last_term = led_in;
  for (int i = 0; i < 4; ++i) EXPECT_EQ(forward(10 << 20), 1u);
  EXPECT_EQ(forward(1), 0u);
  member.append(3, led_in.value + 1, request(1, 0));
  ASSERT_EQ(member.core.raft().last_index(), committed + 1) << "its tail is cut";
  member.become_leader();
  EXPECT_EQ(forward(1), 1u);
}

TEST(Proposals, DuringATransferTheyWaitAndGoToTheNewLeader) {
  Member member;
  member.become_leader();
  const uint64_t term = member.core.raft().term().value;
  member.core.transfer({.to = NodeId(2), .tag = 5});
  member.propose(request(1, 10));
  EXPECT_EQ(member.core.held_count(), 1u);
  const Index before = member.core.raft().last_index();
  member.sent.clear();
  member.heartbeat(2, term + 1);
  EXPECT_EQ(member.take_forwarded(), Sent{fmt::format("2:{}:1", term + 1)});
  EXPECT_EQ(member.core.raft().last_index(), before);
  EXPECT_TRUE(member.refused.empty());
}

TEST(Proposals, ATransferThatIsGivenUpDropsNone) {
  Member member;
  member.become_leader();
  member.core.transfer({.to = NodeId(2), .tag = 5});
  member.propose(request(1, 10));
  const Index before = member.core.raft().last_index();
  for (uint32_t tick = 0; tick <= kElectionTicks && member.core.held_count() > 0; ++tick) {
    member.tick();
    if (tick % 100 == 0) {
      member.step(Member::from(3, MessageType::kHeartbeatResp, member.core.raft().term().value));
    }
  }
  EXPECT_EQ(member.core.held_count(), 0u);
  EXPECT_TRUE(member.core.raft().is_leader());
  EXPECT_EQ(member.core.raft().last_index(), before + 1);
  member.acknowledge(3);
  EXPECT_EQ(member.take_answered(), Tags{10});
}

// --- requests that an installation has swallowed

// The entry may be part of the snapshot, or lost: nobody can say. It is never proposed again, and time decides.
TEST(Proposals, WhatASnapshotMayHoldIsAnsweredWhenTimeIsUp) {
  for (const uint64_t snapshot_term : {uint64_t{1}, uint64_t{2}}) {
    SCOPED_TRACE(snapshot_term);
    Member member;
    member.heartbeat(2, 1);
    member.propose(request(1, 10));
    EXPECT_EQ(member.take_forwarded(), Sent{"2:1:1"});
    member.snapshot(2, snapshot_term, 10, snapshot_term);
    EXPECT_EQ(member.core.raft().applied(), Index(10));
    EXPECT_EQ(member.core.own_count(), 1u);
    member.take_forwarded();
    member.heartbeat(3, 7);
    member.append(3, 7, nullptr);
    member.tick(200);
    EXPECT_EQ(member.take_forwarded(), Sent{}) << "it would be applied twice";
    member.at(8 * kSecond - 1);
    member.tick();
    EXPECT_TRUE(member.refused.empty());
    member.at(8 * kSecond);
    member.tick();
    ASSERT_EQ(member.refused.size(), 1u);
    EXPECT_EQ(member.refused[0].tag, 10u);
    EXPECT_EQ(member.refused[0].error, errors::timeout());
    EXPECT_EQ(member.core.own_count(), 0u);
    EXPECT_EQ(member.core.held_count(), 0u);
  }
}

TEST(Proposals, WhatASnapshotDoesNotHoldIsAnsweredWithItsEntry) {
  Member member;
  member.heartbeat(2, 1);
  const Proposal mine = request(1, 10);
  member.propose(mine);
  member.snapshot(2, 1, 10, 1);
  member.append(2, 1, without_tag(mine));
  EXPECT_EQ(member.take_answered(), Tags{10});
  member.at(100 * kSecond);
  member.tick();
  EXPECT_TRUE(member.refused.empty());
}

// A leader that was deposed, and fell so far behind that it is sent a snapshot.
TEST(Proposals, WhatADeposedLeaderHadAppendedIsNotProposedAgainBehindASnapshot) {
  Member member;
  member.become_leader();
  const uint64_t term = member.core.raft().term().value;
  member.propose(request(1, 10));
  member.heartbeat(3, term + 1);
  member.snapshot(3, term + 1, 50, term + 1);
  member.sent.clear();
  member.append(3, term + 1, nullptr);
  member.heartbeat(2, term + 2);
  member.append(2, term + 2, nullptr);
  EXPECT_EQ(member.take_forwarded(), Sent{});
  member.at(8 * kSecond);
  member.tick();
  ASSERT_EQ(member.refused.size(), 1u);
  EXPECT_EQ(member.refused[0].tag, 10u);
}

// The others were removed, so it leads alone: nothing else happens any more, and yet somebody waits.
TEST(Proposals, WhatASnapshotMayHoldIsRefusedInTimeByWhoIsLeftAlone) {
  Member member;
  member.heartbeat(2, 1);
  member.propose(request(1, 10));
  raft::ConfState alone;
  alone.voters.emplace_back(1);
  member.snapshot(2, 1, 10, 1, alone);
  member.campaign();
  ASSERT_TRUE(member.core.raft().is_leader());
  EXPECT_EQ(member.core.own_count(), 1u);
  EXPECT_TRUE(member.core.needs_ticks());
  member.at(9 * kSecond);
  member.tick();
  ASSERT_EQ(member.refused.size(), 1u);
  EXPECT_EQ(member.refused[0].tag, 10u);
  EXPECT_FALSE(member.core.needs_ticks()) << "nobody waits any more";
}

// It stops before their time is up: what it decides about itself is answered with its entry, the rest is refused.
TEST(Proposals, WhatNobodyDecidesAboutIsRefusedWhenWhoIsLeftAloneStops) {
  Member member;
  member.heartbeat(2, 1);
  member.propose(request(1, 10));
  raft::ConfState alone;
  alone.voters.emplace_back(1);
  member.snapshot(2, 1, 10, 1, alone);
  member.campaign();
  member.core.propose({request(2, 20)});
  member.core.refuse_held(errors::stopped());
  member.tick();
  ASSERT_EQ(member.refused.size(), 1u);
  EXPECT_EQ(member.refused[0].tag, 10u);
  EXPECT_EQ(member.refused[0].error, errors::stopped());
  EXPECT_EQ(member.take_answered(), Tags{20});
  EXPECT_EQ(member.core.own_count(), 0u);
}

TEST(Proposals, WhatComesBehindASnapshotIsProposedAsEver) {
  Member member;
  const Proposal first = request(1, 10);
  member.propose(first);
  member.snapshot(2, 1, 10, 1);
  EXPECT_EQ(member.take_forwarded(), Sent{"2:1:1"}) << "it has waited for a leader";
  member.append(2, 1, without_tag(first));
  EXPECT_EQ(member.take_answered(), Tags{10});
  member.propose(request(2, 20));
  EXPECT_EQ(member.take_forwarded(), Sent{"2:1:2"});
  member.heartbeat(3, 2);
  member.append(3, 2, nullptr);
  EXPECT_EQ(member.take_forwarded(), Sent{"3:2:1"}) << "it is lost for certain";
}

}  // namespace
}  // namespace cairn::member
