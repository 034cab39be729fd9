// What decides about proposals and reads of a member with peers, call by call: no disk, no thread.
#include "member/replication_core.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "raft/conf_change.h"
#include "testing/mutants.h"

namespace cairn::member {
namespace {

using raft::Message;
using raft::MessageType;

constexpr uint64_t kRetryTicks = 50;

raft::ConfState voters(std::initializer_list<uint64_t> ids) {
  raft::ConfState conf;
  for (const uint64_t id : ids) conf.voters.emplace_back(id);
  return conf;
}

// Member 1, with nothing in its log.
class Replication {
 public:
  struct Options {
    raft::ConfState conf = voters({1, 2, 3});
    uint64_t start_epoch = 1;
    uint64_t unstable_bytes_max = 1 << 20;
    uint64_t held_bytes_max = 64 << 20;
    uint64_t memory_bytes_max = 8 << 20;
    bool shortens_first_timeout = false;
  };
  explicit Replication(const Options& options)
      : core(core_options(options), RaftLog(Index(0), Term(0), {.memory_bytes_max = options.memory_bytes_max}),
             {.hard = {}, .conf = options.conf, .applied = Index(0)}) {}

  // Takes what is ready, and makes it stable.
  void settle() {
    while (core.has_output()) take(/*stable=*/true);
  }
  void take(bool stable) {
    ReplicationOutput out = core.take_output();
    for (Message& message : out.messages) sent.push_back(std::move(message));
    if (out.apply.leader_state) state = *out.apply.leader_state;
    for (const ControlRequest& control : out.apply.controls) answered.push_back(control);
    for (raft::Entry& entry : out.apply.entries) applied.push_back(std::move(entry));
    refused += out.refused.size();
    for (WalWrite& write : out.wal) {
      WalDone done{.number = write.number, .entries = std::move(write.entries)};
      done.messages = std::move(write.messages);
      written += done.entries.size();
      if (stable) core.wal_done(std::move(done));
    }
  }

  void heartbeat(uint64_t from, uint64_t term, uint64_t commit = 0) {
    Message message = from_peer(MessageType::kHeartbeat, from, term);
    message.commit = Index(commit);
    core.step(std::move(message));
    settle();
  }
  void append(uint64_t from, uint64_t term, raft::Entry entry, uint64_t commit) {
    Message message = from_peer(MessageType::kApp, from, term);
    message.index = entry.index - 1;
    message.entries.push_back(std::move(entry));
    message.commit = Index(commit);
    core.step(std::move(message));
    settle();
  }
  void answer_read(uint64_t from, uint64_t term, std::string context, uint64_t index) {
    Message message = from_peer(MessageType::kReadIndexResp, from, term);
    message.index = Index(index);
    message.entries.push_back({.data = payload(std::move(context))});
    core.step(std::move(message));
    settle();
  }
  void read(Tag tag) {
    core.control({.kind = Control::kLinearizable, .tag = tag});
    settle();
  }
  // The contexts of the read requests that were sent since the last call.
  std::vector<std::string> take_asked(uint64_t to) {
    std::vector<std::string> contexts;
    for (const Message& message : sent) {
      if (message.type == MessageType::kReadIndex && message.to == NodeId(to)) {
        contexts.emplace_back(message.entries.at(0).bytes());
      }
    }
    sent.clear();
    return contexts;
  }

  static Proposal payload(std::string bytes) {
    return std::make_shared<const raft::Payload>(raft::Payload{.bytes = std::move(bytes)});
  }

  ReplicationCore core;
  LeaderState state;
  std::vector<Message> sent;
  std::vector<ControlRequest> answered;
  std::vector<raft::Entry> applied;
  size_t refused = 0;
  size_t written = 0;

 private:
  static ReplicationCore::Options core_options(const Options& options) {
    ReplicationCore::Options made;
    made.raft.id = NodeId(1);
    made.raft.election_ticks = 1000;
    made.raft.max_unstable_bytes = options.unstable_bytes_max;
    made.held_bytes_max = options.held_bytes_max;
    made.start_epoch = options.start_epoch;
    made.shortens_first_timeout = options.shortens_first_timeout;
    return made;
  }
  static Message from_peer(MessageType type, uint64_t from, uint64_t term) {
    Message message;
    message.type = type;
    message.from = NodeId(from);
    message.to = NodeId(1);
    message.term = Term(term);
    return message;
  }
};

// What only a leader may ask for is appended in its term, or dropped.
TEST(ReplicationCore, WhatALeaderProposesIsForItsTermAlone) {
  Replication member({.conf = voters({1})});
  const auto entries = [] { return std::vector{Replication::payload("a"), Replication::payload("b")}; };
  EXPECT_FALSE(member.core.propose_as_leader(Term(0), entries())) << "nobody leads";
  member.core.campaign();
  member.settle();
  const Term term = member.core.raft().term();
  const size_t before = member.applied.size();
  EXPECT_FALSE(member.core.propose_as_leader(Term(term.value - 1), entries()));
  EXPECT_FALSE(member.core.propose_as_leader(Term(term.value + 1), entries()));
  member.settle();
  EXPECT_EQ(member.applied.size(), before);
  const auto last = member.core.propose_as_leader(term, entries());
  member.settle();
  ASSERT_EQ(member.applied.size(), before + 2);
  EXPECT_EQ(last, member.applied.back().index);
}

TEST(ReplicationCore, WhatALeaderProposesIsNotForwarded) {
  Replication member({});
  member.heartbeat(2, 1);
  member.sent.clear();
  EXPECT_FALSE(member.core.propose_as_leader(Term(1), {Replication::payload("a")}));
  member.settle();
  EXPECT_TRUE(member.sent.empty());
}

// The answer to a round of the last start comes late, and says less than what was acknowledged since.
void answer_to_an_earlier_start() {
  Replication before({.start_epoch = 1});
  before.heartbeat(2, 1);
  before.read(7);
  const auto old = before.take_asked(2);
  ASSERT_EQ(old.size(), 1u);

  Replication after({.start_epoch = 2});
  after.heartbeat(2, 1);
  after.read(8);
  const auto asked = after.take_asked(2);
  ASSERT_EQ(asked.size(), 1u);
  EXPECT_NE(asked[0], old[0]);
  after.answer_read(2, 1, old[0], 0);
  EXPECT_TRUE(after.answered.empty());
  after.answer_read(2, 1, asked[0], 0);
  ASSERT_EQ(after.answered.size(), 1u);
  EXPECT_EQ(after.answered[0].tag, 8u);
}

TEST(ReplicationCore, AnAnswerToAReadOfAnEarlierStartServesNoNewOne) { answer_to_an_earlier_start(); }

TEST(ReplicationCore, AContextOfUnexpectedLengthIsRefused) {
  Replication member({});
  member.heartbeat(2, 1);
  member.read(7);
  const auto asked = member.take_asked(2);
  ASSERT_EQ(asked.size(), 1u);
  member.answer_read(2, 1, "", 0);
  for (const size_t size : {size_t{1}, size_t{8}, asked[0].size() - 1}) {
    member.answer_read(2, 1, asked[0].substr(0, size), 0);
  }
  member.answer_read(2, 1, asked[0] + "x", 0);
  EXPECT_TRUE(member.answered.empty());
  member.answer_read(2, 1, asked[0], 0);
  EXPECT_EQ(member.answered.size(), 1u);
}

TEST(ReplicationCore, ALostReadIsAskedForAgainAfterHalfASecond) {
  Replication member({});
  member.heartbeat(2, 1);
  member.read(7);
  const auto asked = member.take_asked(2);
  for (int round = 0; round < 2; ++round) {
    for (uint64_t i = 1; i < kRetryTicks; ++i) member.core.tick();
    member.settle();
    EXPECT_TRUE(member.take_asked(2).empty());
    member.core.tick();
    member.settle();
    EXPECT_EQ(member.take_asked(2), asked);
  }
}

TEST(ReplicationCore, AReadIsAskedForAgainWhenTheLeaderChanges) {
  Replication member({});
  member.heartbeat(2, 1);
  member.read(7);
  const auto asked = member.take_asked(2);
  member.heartbeat(3, 2);  // without a moment that has no leader
  EXPECT_EQ(member.take_asked(3), asked);
  member.heartbeat(3, 4);  // the same, elected anew
  EXPECT_EQ(member.take_asked(3), asked);
  member.heartbeat(3, 4);
  EXPECT_TRUE(member.take_asked(3).empty());
}

// An etcd of 3.4 drops a request while nothing of its term is committed.
TEST(ReplicationCore, AReadIsAskedForAgainAtTheFirstCommitOfATerm) {
  Replication member({});
  member.heartbeat(2, 1);
  member.read(7);
  const auto asked = member.take_asked(2);
  member.append(2, 1, {.term = Term(1), .index = Index(1)}, 0);
  EXPECT_TRUE(member.take_asked(2).empty());
  member.heartbeat(2, 1, 1);
  EXPECT_EQ(member.take_asked(2), asked);
  member.heartbeat(2, 1, 1);
  EXPECT_TRUE(member.take_asked(2).empty());
}

TEST(ReplicationCore, ReadsGatherWhileRoundsAreUnderWay) {
  Replication member({});
  member.heartbeat(2, 1);
  for (Tag tag = 1; tag <= 100; ++tag) member.read(tag);
  const auto asked = member.take_asked(2);
  EXPECT_LT(asked.size(), 10u);
  for (const std::string& context : asked) member.answer_read(2, 1, context, 0);
  for (const std::string& context : member.take_asked(2)) member.answer_read(2, 1, context, 0);
  EXPECT_EQ(member.answered.size(), 100u);
  EXPECT_EQ(member.core.held_count(), 0u);
}

TEST(ReplicationCore, ALearnerKeepsTheClockRunning) {
  for (const bool has_learner : {false, true}) {
    raft::ConfState conf = voters({1});
    if (has_learner) conf.learners.emplace_back(2);
    Replication member({.conf = conf});
    EXPECT_TRUE(member.core.needs_ticks());
    member.core.campaign();
    member.settle();
    ASSERT_TRUE(member.core.raft().is_leader());
    EXPECT_EQ(member.core.needs_ticks(), has_learner);
  }
}

// A learner may have applied and shown what the only voter has committed and not applied yet.
TEST(ReplicationCore, AVoterBesideALearnerDoesNotReadAlone) {
  for (const bool has_learner : {false, true}) {
    raft::ConfState conf = voters({1});
    if (has_learner) conf.learners.emplace_back(2);
    Replication member({.conf = conf});
    member.core.campaign();
    member.settle();
    EXPECT_TRUE(member.state.is_leader);
    EXPECT_EQ(member.state.sole_member, !has_learner);
  }
}

// Who was removed may have applied, and answered, all that was committed by then, and the leader has not applied it.
TEST(ReplicationCore, WhoIsLeftAloneKnowsWhatTheOthersMayHaveAnswered) {
  raft::ConfState conf = voters({1});
  conf.learners.emplace_back(2);
  Replication member({.conf = conf});
  member.core.campaign();
  member.settle();
  const auto change = [&](raft::ConfChangeType type, uint64_t node) {
    member.core.propose_conf_change(
        Replication::payload(raft::encode(raft::ConfChangeV1{.type = type, .node = NodeId(node)})));
    member.core.propose({Replication::payload("a"), Replication::payload("b")});
    member.settle();
    AppliedNotice notice;
    notice.applied = member.applied.back().index;
    notice.conf_verdict = ConfVerdict{notice.applied, true};
    member.core.applied(std::move(notice));
    member.settle();
  };
  change(raft::ConfChangeType::kRemoveNode, 2);
  EXPECT_TRUE(member.state.sole_member);
  const Index shared = member.state.shared_up_to;
  EXPECT_EQ(shared, member.core.raft().committed());
  change(raft::ConfChangeType::kUpdateNode, 1);
  EXPECT_LT(shared, member.core.raft().committed());
  EXPECT_EQ(member.state.shared_up_to, shared) << "it was alone before";
}

// Ticks until a member asks for votes, when it is connected to `others` after `before` ticks.
size_t ticks_to_first_candidacy(bool shortens, const std::vector<uint64_t>& others, size_t before = 0) {
  Replication member({.shortens_first_timeout = shortens});
  size_t ticks = 0;
  while (member.sent.empty() && ticks < 10'000) {
    if (ticks == before) {
      for (const uint64_t other : others) member.core.report({PeerReport::Kind::kConnected, NodeId(other)});
    }
    member.core.tick();
    member.settle();
    ++ticks;
  }
  return ticks;
}

TEST(ReplicationCore, AMemberThatStartsAndReachesAMajorityWaitsLessForALeader) {
  const size_t timeout = ticks_to_first_candidacy(false, {2, 3});
  EXPECT_GE(timeout, 1000u);
  EXPECT_EQ(ticks_to_first_candidacy(true, {}), timeout);
  EXPECT_EQ(ticks_to_first_candidacy(true, {2}), timeout - 980) << "all but two heartbeats of the election timeout";
  EXPECT_EQ(ticks_to_first_candidacy(true, {2, 3}), timeout - 980) << "once";
  EXPECT_EQ(ticks_to_first_candidacy(true, {2}, 10), timeout - 980);
  EXPECT_EQ(ticks_to_first_candidacy(true, {7}), timeout) << "no voter";
}

TEST(ReplicationCore, AMemberThatKnowsALeaderWaitsForItAsLongAsEver) {
  Replication member({.shortens_first_timeout = true});
  member.heartbeat(2, 1);
  member.sent.clear();
  for (const uint64_t other : {2U, 3U}) member.core.report({PeerReport::Kind::kConnected, NodeId(other)});
  for (int i = 0; i < 999; ++i) {
    member.core.tick();
    member.settle();
  }
  EXPECT_TRUE(member.sent.empty());
}

TEST(ReplicationCore, AVerdictThatASnapshotOvertookIsDropped) {
  Replication member({});
  member.heartbeat(2, 1);
  const raft::ConfChangeV1 change{.type = raft::ConfChangeType::kAddNode, .node = NodeId(4)};
  member.append(2, 1,
                {.term = Term(1),
                 .index = Index(1),
                 .type = raft::EntryType::kConfChange,
                 .data = Replication::payload(raft::encode(change))},
                1);
  ASSERT_EQ(member.applied.size(), 1u);
  AppliedNotice notice;
  notice.conf_verdict = ConfVerdict{Index(0), true};  // of an entry before this process's snapshot
  member.core.applied(notice);
  EXPECT_EQ(member.core.raft().conf(), voters({1, 2, 3}));
  notice.conf_verdict = ConfVerdict{Index(1), true};
  member.core.applied(notice);
  EXPECT_EQ(member.core.raft().conf(), voters({1, 2, 3, 4}));
}

TEST(ReplicationCore, ConfigurationChangesAreProposedOneAfterTheOther) {
  Replication member({.conf = voters({1})});
  member.core.campaign();
  member.settle();
  const auto apply_next = [&] {
    AppliedNotice notice;
    notice.applied = member.applied.back().index;
    if (member.applied.back().type == raft::EntryType::kConfChange)
      notice.conf_verdict = ConfVerdict{notice.applied, true};
    member.core.applied(std::move(notice));
    member.settle();
  };
  const auto propose = [&](raft::ConfChangeType type, uint64_t node) {
    member.core.propose_conf_change(
        Replication::payload(raft::encode(raft::ConfChangeV1{.type = type, .node = NodeId(node)})));
  };
  apply_next();
  member.applied.clear();
  propose(raft::ConfChangeType::kUpdateNode, 1);
  propose(raft::ConfChangeType::kUpdateNode, 7);
  propose(raft::ConfChangeType::kRemoveNode, 1);
  propose(raft::ConfChangeType::kAddLearnerNode, 5);
  member.settle();
  EXPECT_EQ(member.applied.size(), 1u) << "the next one waits for the verdict";
  apply_next();
  EXPECT_EQ(member.applied.size(), 2u);
  EXPECT_EQ(member.refused, 0u);
  apply_next();
  EXPECT_EQ(member.refused, 1u) << "no voter would be left";
  ASSERT_EQ(member.applied.size(), 3u);
  apply_next();
  EXPECT_EQ(member.core.raft().conf().learners, std::vector<NodeId>{NodeId(5)});
  propose(raft::ConfChangeType::kUpdateNode, 1);
  propose(raft::ConfChangeType::kUpdateNode, 1);
  member.core.refuse_held({});
  member.settle();
  EXPECT_EQ(member.refused, 2u) << "the one that waited";
}

TEST(ReplicationCore, ProposalsWaitForTheDiskInsteadOfPilingUp) {
  Replication member({.conf = voters({1}), .unstable_bytes_max = 300});
  member.core.campaign();
  member.settle();
  member.written = 0;
  std::vector<Proposal> proposals;
  for (int i = 0; i < 10; ++i) proposals.push_back(Replication::payload(std::string(100, 'x')));
  member.core.propose(std::move(proposals));
  ReplicationOutput out = member.core.take_output();
  ASSERT_EQ(out.wal.size(), 1u);
  EXPECT_EQ(out.wal[0].entries.size(), 2u);
  EXPECT_EQ(member.core.held_count(), 8u);
  EXPECT_FALSE(member.core.has_output());  // until the disk has them
  member.core.wal_done({.number = out.wal[0].number, .entries = std::move(out.wal[0].entries)});
  member.settle();
  EXPECT_EQ(member.written, 8u);
  EXPECT_EQ(member.refused, 0u);
  EXPECT_EQ(member.core.held_count(), 0u);
}

TEST(ReplicationCore, WithoutALeaderOnlySoManyBytesWait) {
  Replication member({.held_bytes_max = 10'000});
  for (int round = 0; round < 3; ++round) {
    std::vector<Proposal> proposals;
    for (int i = 0; i < 4; ++i) proposals.push_back(Replication::payload(std::string(1000, 'x')));
    member.core.propose(std::move(proposals));
  }
  member.settle();
  EXPECT_EQ(member.core.held_count(), 9u);
  EXPECT_EQ(member.refused, 3u);
  member.core.propose({Replication::payload("x")});
  member.core.propose({Replication::payload(std::string(1000, 'x'))});
  member.settle();
  EXPECT_EQ(member.core.held_count(), 10u) << "the small one";
  EXPECT_EQ(member.refused, 4u);
  // They leave with the first leader, and there is room again.
  member.heartbeat(2, 1);
  EXPECT_EQ(member.core.held_count(), 0u);
  member.core.refuse_held({});
  for (int i = 0; i < 20; ++i) member.core.propose({Replication::payload(std::string(1000, 'x'))});
  member.settle();
  EXPECT_EQ(member.refused, 4u);
}

TEST(ReplicationCore, WhatWaitsForTheDiskLeavesWhenItIsStable) {
  Replication member({});
  Message append;
  append.type = MessageType::kApp;
  append.from = NodeId(2);
  append.to = NodeId(1);
  append.term = Term(1);
  append.entries.push_back({.term = Term(1), .index = Index(1)});
  append.commit = Index(1);
  member.core.step(append);
  ReplicationOutput out = member.core.take_output();
  EXPECT_TRUE(out.messages.empty());
  EXPECT_EQ(out.apply.entries.size(), 1u);  // committed: it need not be stable here to be applied
  ASSERT_EQ(out.wal.size(), 1u);
  ASSERT_EQ(out.wal[0].messages.size(), 1u) << "who writes may send it";
  EXPECT_EQ(out.wal[0].messages[0].type, MessageType::kAppResp);
  WalDone done{.number = out.wal[0].number, .entries = std::move(out.wal[0].entries)};
  done.messages = std::move(out.wal[0].messages);
  member.core.wal_done(std::move(done));
  member.settle();
  ASSERT_EQ(member.sent.size(), 1u);
  EXPECT_EQ(member.sent[0].type, MessageType::kAppResp);
}

// What a majority has is applied before it is stable here. The log may hold another entry at its index until then.
void apply_before_it_is_stable() {
  Replication member({.memory_bytes_max = 0});
  member.append(2, 1, {.term = Term(1), .index = Index(1), .data = Replication::payload("old")}, 0);
  Message append;
  append.type = MessageType::kApp;
  append.from = NodeId(3);
  append.to = NodeId(1);
  append.term = Term(2);
  append.entries.push_back({.term = Term(2), .index = Index(1), .data = Replication::payload("new")});
  append.commit = Index(1);
  member.core.step(append);
  ReplicationOutput out = member.core.take_output();
  ASSERT_EQ(out.apply.entries.size(), 1u);
  ASSERT_EQ(out.wal.size(), 1u);
  AppliedNotice notice;
  notice.applied = Index(1);
  member.core.applied(std::move(notice));
  EXPECT_FALSE(member.core.has_output()) << "it is asked for in the segments, which hold the old one";
  member.core.wal_done({.number = out.wal[0].number, .entries = std::move(out.wal[0].entries)});
  member.settle();
  EXPECT_EQ(member.core.raft().last_index(), Index(1));
}

TEST(ReplicationCore, WhatIsNotStableDoesNotLeaveMemory) { apply_before_it_is_stable(); }

#ifdef CAIRN_MUTANTS
TEST(ReplicationCoreMutants, AreFound) {
  EXPECT_TRUE(cairn::testing::fails_with("server.log_leaves_memory_before_it_is_stable", apply_before_it_is_stable));
  EXPECT_TRUE(cairn::testing::fails_with("server.read_context_used_again", answer_to_an_earlier_start));
}
#endif

}  // namespace
}  // namespace cairn::member
