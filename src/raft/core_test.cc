// What a transcript does not show well: what a Core promises its driver, call by call.
#include "raft/core.h"

#include <gtest/gtest.h>

#include "raft/conf_change.h"
#include "raft/memory_log.h"
#include "testing/mutants.h"

namespace cairn::raft {
namespace {

ConfState voters(std::initializer_list<uint64_t> ids) {
  ConfState conf;
  for (const uint64_t id : ids) conf.voters.emplace_back(id);
  return conf;
}

Config config_of(uint64_t id) {
  Config config;
  config.id = NodeId(id);
  config.election_ticks = 10;
  config.heartbeat_ticks = 2;
  return config;
}

PayloadPtr payload(std::string bytes, uint64_t tag = 0) {
  return std::make_shared<const Payload>(Payload{std::move(bytes), tag});
}

Entry entry(uint64_t index, uint64_t term, PayloadPtr data = nullptr, EntryType type = EntryType::kNormal) {
  return {.term = Term(term), .index = Index(index), .type = type, .data = std::move(data)};
}

Message message(MessageType type, uint64_t from, uint64_t to, uint64_t term) {
  Message made;
  made.type = type;
  made.from = NodeId(from);
  made.to = NodeId(to);
  made.term = Term(term);
  return made;
}

// Takes and stores everything; what came out, in one Ready.
Ready settle(Core& core, MemoryLog& log) {
  Ready sum;
  while (core.has_ready()) {
    Ready ready = core.take_ready();
    if (ready.snapshot) log.install(ready.snapshot);
    log.append(ready.entries);
    if (ready.number != 0) core.appended(ready.number);
    if (ready.hard_state) sum.hard_state = ready.hard_state;
    for (Entry& e : ready.committed) sum.committed.push_back(std::move(e));
    for (Message& m : ready.messages) sum.messages.push_back(std::move(m));
    for (Message& m : ready.messages_after_sync) sum.messages.push_back(std::move(m));
    for (ReadState& r : ready.read_states) sum.read_states.push_back(std::move(r));
  }
  return sum;
}

// A leader of members 1 to 3 in term 1, with its first entry committed.
struct LeaderOfThree {
  MemoryLog log;
  Core core{config_of(1), log, {.hard = {}, .conf = voters({1, 2, 3}), .applied = {}}};

  LeaderOfThree() {
    core.campaign();
    settle(core, log);
    core.step(message(MessageType::kPreVoteResp, 2, 1, 1));
    settle(core, log);
    core.step(message(MessageType::kVoteResp, 2, 1, 1));
    settle(core, log);
    acknowledge(2, 1);
    settle(core, log);
  }
  void acknowledge(uint64_t from, uint64_t index) {
    Message reply = message(MessageType::kAppResp, from, 1, 1);
    reply.index = Index(index);
    core.step(std::move(reply));
  }
};

TEST(Core, AForwardedProposalIsAppendedInItsTermOnly) {
  LeaderOfThree leader;
  for (const uint64_t bound : {0U, 1U, 2U}) {
    const Index before = leader.core.last_index();
    Message proposal = message(MessageType::kProp, 2, 1, 0);
    proposal.forward = ForwardTag{.origin = NodeId(2), .term = Term(bound)};
    proposal.entries.push_back(entry(0, 0, payload("x")));
    leader.core.step(std::move(proposal));
    EXPECT_EQ(leader.core.last_index() - before, bound <= 1 ? 1u : 0u) << bound;
  }
}

TEST(Core, PayloadsComeBackAsTheyWereProposedAndUncopied) {
  MemoryLog log;
  Core core(config_of(1), log, {.hard = {}, .conf = voters({1}), .applied = {}});
  core.campaign();
  settle(core, log);
  std::vector<PayloadPtr> payloads = {payload("a", 7), payload("b", 8)};
  const std::vector<PayloadPtr> kept = payloads;
  const ProposeResult result = core.propose(payloads);
  EXPECT_EQ(result.outcome, ProposeOutcome::kAppended);
  EXPECT_EQ(payloads[0], nullptr);
  const Ready ready = settle(core, log);
  ASSERT_EQ(ready.committed.size(), 2u);
  EXPECT_EQ(ready.committed[0].data, kept[0]);
  EXPECT_EQ(ready.committed[1].tag(), 8u);
  EXPECT_EQ(ready.committed[1].index, result.first + 1);
}

TEST(Core, ARefusedProposalKeepsItsPayloads) {
  MemoryLog log;
  Core core(config_of(1), log, {.hard = {}, .conf = voters({1, 2}), .applied = {}});
  std::vector<PayloadPtr> payloads = {payload("a")};
  EXPECT_EQ(core.propose(payloads).outcome, ProposeOutcome::kNoLeader);
  EXPECT_NE(payloads[0], nullptr);
}

TEST(Core, WhatIsNotInMemoryIsAskedForAgainWhenItIsLoaded) {
  class Slow final : public LogView {
   public:
    std::expected<void, LogGap> entries(Index lo, Index hi, uint64_t max, std::vector<Entry>& out) const override {
      ++asked;
      if (!loaded) return std::unexpected(LogGap::kNotInMemory);
      return log.entries(lo, hi, max, out);
    }
    std::expected<Term, LogGap> term(Index index) const override { return log.term(index); }
    Index first_index() const override { return log.first_index(); }
    Index last_index() const override { return log.last_index(); }
    SnapshotPtr snapshot() const override { return nullptr; }
    MemoryLog log;
    bool loaded = false;
    mutable int asked = 0;
  };
  Slow slow;
  const std::vector<Entry> old = {entry(1, 1), entry(2, 1)};
  slow.log.append(old);
  Core core(config_of(1), slow, {.hard = {Term(1), kNoNode, Index(2)}, .conf = voters({1, 2}), .applied = {}});
  ASSERT_TRUE(core.has_ready());
  EXPECT_TRUE(core.take_ready().committed.empty());
  EXPECT_FALSE(core.has_ready());  // does not spin
  EXPECT_EQ(slow.asked, 1);
  slow.loaded = true;
  core.log_loaded();
  EXPECT_EQ(settle(core, slow.log).committed.size(), 2u);

  // The same for what a follower lacks.
  core.applied_to(Index(2));
  core.campaign();
  settle(core, slow.log);
  core.step(message(MessageType::kPreVoteResp, 2, 1, 2));
  settle(core, slow.log);
  core.step(message(MessageType::kVoteResp, 2, 1, 2));
  settle(core, slow.log);
  slow.loaded = false;
  Message refusal = message(MessageType::kAppResp, 2, 1, 2);
  refusal.reject = true;
  refusal.index = Index(2);
  core.step(refusal);
  EXPECT_TRUE(settle(core, slow.log).messages.empty());
  slow.loaded = true;
  core.log_loaded();
  const Ready ready = settle(core, slow.log);
  ASSERT_EQ(ready.messages.size(), 1u);
  EXPECT_EQ(ready.messages[0].index, Index(0));
  EXPECT_EQ(ready.messages[0].entries.size(), 3u);
}

TEST(Core, ASnapshotOvertakesAConfChangeThatIsBeingApplied) {
  MemoryLog log;
  Core core(config_of(2), log, {.hard = {}, .conf = voters({1, 2}), .applied = {}});
  Message append = message(MessageType::kApp, 1, 2, 1);
  const ConfChangeV1 change{.id = 0, .type = ConfChangeType::kAddNode, .node = NodeId(3), .context = {}};
  append.entries = {entry(1, 1, payload(encode(change)), EntryType::kConfChange), entry(2, 1)};
  append.commit = Index(2);
  core.step(append);
  EXPECT_EQ(settle(core, log).committed.size(), 1u);
  EXPECT_TRUE(core.awaits_conf_verdict());

  Message snap = message(MessageType::kSnap, 1, 2, 1);
  snap.snapshot = std::make_shared<const Snapshot>(
      Snapshot{.index = Index(9), .term = Term(1), .conf = voters({2, 3, 4}), .data = {}});
  core.step(snap);
  Ready ready = core.take_ready();
  ASSERT_TRUE(ready.snapshot);
  EXPECT_EQ(core.conf(), voters({2, 3, 4}));
  EXPECT_EQ(*core.apply_conf_change(Index(1), ConfChange(change)), voters({2, 3, 4}));  // the late verdict
  EXPECT_EQ(core.applied(), Index(0));
  log.install(ready.snapshot);
  core.appended(ready.number);
  EXPECT_EQ(core.applied(), Index(9));
  EXPECT_EQ(core.conf(), voters({2, 3, 4}));
}

// The verdict that a snapshot overtook may never be given: the applier begins anew with the snapshot. The next change
// must not be taken for it.
TEST(Core, AVerdictThatASnapshotOvertookIsNotMissed) {
  MemoryLog log;
  Core core(config_of(2), log, {.hard = {}, .conf = voters({1, 2}), .applied = {}});
  Message append = message(MessageType::kApp, 1, 2, 1);
  const ConfChangeV1 first{.id = 0, .type = ConfChangeType::kAddNode, .node = NodeId(3), .context = {}};
  append.entries = {entry(1, 1, payload(encode(first)), EntryType::kConfChange)};
  append.commit = Index(1);
  core.step(append);
  settle(core, log);
  Message snap = message(MessageType::kSnap, 1, 2, 1);
  snap.snapshot = std::make_shared<const Snapshot>(
      Snapshot{.index = Index(9), .term = Term(1), .conf = voters({1, 2, 3}), .data = {}});
  core.step(snap);
  settle(core, log);
  EXPECT_FALSE(core.awaits_conf_verdict());

  const ConfChangeV1 second{.id = 0, .type = ConfChangeType::kAddNode, .node = NodeId(4), .context = {}};
  append.index = Index(9);
  append.log_term = Term(1);
  append.entries = {entry(10, 1, payload(encode(second)), EntryType::kConfChange), entry(11, 1)};
  append.commit = Index(11);
  core.step(append);
  EXPECT_EQ(settle(core, log).committed.size(), 1u);
  // Late after all, and while another is awaited.
  EXPECT_EQ(*core.apply_conf_change(Index(1), ConfChange(first)), voters({1, 2, 3}));
  EXPECT_TRUE(core.awaits_conf_verdict());
  EXPECT_EQ(*core.apply_conf_change(Index(10), ConfChange(second)), voters({1, 2, 3, 4}));
  EXPECT_EQ(settle(core, log).committed.size(), 1u);
}

void take_answers_of_a_stranger() {
  for (const MessageType type : {MessageType::kAppResp, MessageType::kVoteResp, MessageType::kPreVoteResp,
                                 MessageType::kHeartbeatResp, MessageType::kReadIndexResp}) {
    LeaderOfThree leader;
    Message answer = message(type, 4, 1, 7);
    answer.reject = true;
    answer.entries.push_back(entry(0, 0, payload("r")));
    leader.core.step(answer);
    EXPECT_TRUE(leader.core.is_leader()) << name_of(type);
    EXPECT_EQ(leader.core.term(), Term(1)) << name_of(type);
    EXPECT_TRUE(settle(leader.core, leader.log).read_states.empty()) << name_of(type);
    answer.from = NodeId(3);
    leader.core.step(answer);
    EXPECT_FALSE(leader.core.is_leader()) << name_of(type);
  }
}

// Forged, or damaged: behind the last term no election would be possible any more.
TEST(Core, ATermThatNoElectionHasReachedIsNotTaken) {
  for (const MessageType type :
       {MessageType::kApp, MessageType::kHeartbeat, MessageType::kVote, MessageType::kAppResp}) {
    LeaderOfThree leader;
    Message forged = message(type, 3, 1, UINT64_MAX);
    forged.context = kCampaignTransfer;
    leader.core.step(forged);
    EXPECT_TRUE(leader.core.is_leader()) << name_of(type);
    EXPECT_EQ(leader.core.term(), Term(1)) << name_of(type);
  }
}

TEST(Core, AStrangersAnswerDeposesNobody) { take_answers_of_a_stranger(); }

#ifdef CAIRN_MUTANTS
TEST(CoreMutants, AreFound) {
  EXPECT_TRUE(cairn::testing::fails_with("raft.stranger_stepped", take_answers_of_a_stranger));
}
#endif

// Of two voters the other one has lost all it had of the log, and has campaigned four times more. Each of them
// campaigns again and again, as fast as the other: only who is told of the newer term ever gets ahead.
TEST(Core, ACandidateOfAnOldTermIsToldOfTheNewOne) {
  for (const bool pre_vote : {false, true}) {
    SCOPED_TRACE(pre_vote);
    Config config = config_of(1);
    config.pre_vote = pre_vote;
    MemoryLog log;
    Core core(config, log,
              {.hard = {.term = Term(9), .vote = {}, .commit = {}}, .conf = voters({1, 2}), .applied = {}});
    const MessageType asks = pre_vote ? MessageType::kPreVote : MessageType::kVote;
    core.step(message(asks, 2, 1, 5));
    const Ready told = settle(core, log);
    ASSERT_EQ(told.messages.size(), 1U);
    EXPECT_EQ(told.messages[0].type, pre_vote ? MessageType::kPreVoteResp : MessageType::kVoteResp);
    EXPECT_TRUE(told.messages[0].reject);
    EXPECT_EQ(told.messages[0].term, Term(9));

    config.id = NodeId(2);
    MemoryLog longer;
    const std::vector<Entry> entries{entry(1, 1)};
    longer.append(entries);
    Core candidate(config, longer,
                   {.hard = {.term = Term(4), .vote = {}, .commit = {}}, .conf = voters({1, 2}), .applied = {}});
    ASSERT_TRUE(candidate.campaign());
    settle(candidate, longer);
    candidate.step(told.messages[0]);
    EXPECT_EQ(candidate.term(), Term(9));
    ASSERT_TRUE(candidate.campaign());
    const Ready again = settle(candidate, longer);
    ASSERT_EQ(again.messages.size(), 1U);
    core.step(again.messages[0]);
    const Ready voted = settle(core, log);
    ASSERT_EQ(voted.messages.size(), 1U);
    EXPECT_FALSE(voted.messages[0].reject);
  }
}

TEST(Core, ACandidateDoesNotCampaignAgainBeforeItsTimeout) {
  MemoryLog log;
  Core core(config_of(1), log, {.hard = {}, .conf = voters({1, 2, 3}), .applied = {}});
  EXPECT_TRUE(core.campaign());
  EXPECT_FALSE(core.campaign());  // the pre-vote goes on
  settle(core, log);
  core.step(message(MessageType::kPreVoteResp, 2, 1, 1));
  ASSERT_EQ(core.role(), Role::kCandidate);
  settle(core, log);
  EXPECT_FALSE(core.campaign());
  core.step(message(MessageType::kVoteResp, 2, 1, 1));
  EXPECT_TRUE(core.is_leader());
  EXPECT_EQ(core.term(), Term(1));
}

TEST(Core, AMemberThatLostItsLogEndsWithEtcdsText) {
  MemoryLog log;
  Core core(config_of(1), log,
            {.hard = {.term = Term(1), .vote = {}, .commit = {}}, .conf = voters({1, 2, 3}), .applied = {}});
  Message heartbeat = message(MessageType::kHeartbeat, 2, 1, 1);
  heartbeat.commit = Index(7);
  EXPECT_DEATH(core.step(heartbeat), "tocommit.7. is out of range .lastIndex.0... Was the raft log corrupted");
}

// Both survivors of three have voted for themselves.
TEST(Core, ASplitVoteIsOverWhenTheMissingVoterIsDead) {
  for (const bool absent_is_known : {false, true}) {
    MemoryLog log;
    Core core(config_of(1), log, {.hard = {}, .conf = voters({1, 2, 3}), .applied = {}});
    const auto again = [&] { return absent_is_known ? core.campaign_without(NodeId(3)) : core.campaign(); };
    EXPECT_TRUE(again());
    EXPECT_FALSE(again());  // 2 has not answered
    settle(core, log);
    core.step(message(MessageType::kPreVoteResp, 2, 1, 1));
    ASSERT_EQ(core.role(), Role::kCandidate);
    EXPECT_FALSE(again());  // our own vote is not stable
    settle(core, log);
    EXPECT_FALSE(again());  // 2 has not answered
    Message refusal = message(MessageType::kVoteResp, 2, 1, 1);
    refusal.reject = true;
    core.step(refusal);
    if (!absent_is_known) {
      EXPECT_FALSE(again());
      continue;
    }
    // Where absence was told of before the last answer, that answer has ended the candidacy.
    EXPECT_EQ(core.role(), Role::kFollower);
    EXPECT_TRUE(again());
    settle(core, log);
    core.step(message(MessageType::kPreVoteResp, 2, 1, 2));
    settle(core, log);
    core.step(message(MessageType::kVoteResp, 2, 1, 2));
    EXPECT_TRUE(core.is_leader());
    EXPECT_EQ(core.term(), Term(2));
  }
}

TEST(Core, ACandidacyGetsAWholeTimeout) {
  MemoryLog log;
  Core core(config_of(1), log, {.hard = {}, .conf = voters({1, 2, 3}), .applied = {}});
  for (int i = 0; i < 9; ++i) core.tick();
  EXPECT_TRUE(core.campaign());
  settle(core, log);
  for (int i = 0; i < 9; ++i) core.tick();
  EXPECT_TRUE(settle(core, log).messages.empty());  // no second round of requests
}

// A leader with a slow disk delays nobody: two of three have the entry.
TEST(Core, WhatAMajorityHoldsIsHandedOutBeforeItIsStableHere) {
  LeaderOfThree leader;
  std::vector<PayloadPtr> payloads = {payload("a")};
  leader.core.propose(payloads);
  const Ready writes = leader.core.take_ready();
  ASSERT_EQ(writes.entries.size(), 1u);
  leader.acknowledge(2, 2);
  EXPECT_EQ(leader.core.committed(), Index(1));  // one is no majority
  leader.acknowledge(3, 2);
  ASSERT_TRUE(leader.core.has_ready());
  const Ready ready = leader.core.take_ready();
  ASSERT_EQ(ready.committed.size(), 1u);
  EXPECT_EQ(ready.committed.front().index, Index(2));
  EXPECT_EQ(leader.core.stable_index(), Index(1));
  leader.core.applied_to(Index(2));
  leader.log.append(writes.entries);
  leader.core.appended(writes.number);
  EXPECT_EQ(leader.core.stable_index(), Index(2));
  EXPECT_TRUE(settle(leader.core, leader.log).committed.empty());  // once is enough
}

TEST(Core, ProposalsWaitWhileTooMuchIsNotStableHere) {
  MemoryLog log;
  Config config = config_of(1);
  config.max_unstable_bytes = 100;
  Core core(config, log, {.hard = {}, .conf = voters({1, 2, 3}), .applied = {}});
  core.campaign();
  settle(core, log);
  core.step(message(MessageType::kPreVoteResp, 2, 1, 1));
  settle(core, log);
  core.step(message(MessageType::kVoteResp, 2, 1, 1));
  settle(core, log);
  EXPECT_EQ(core.proposal_room_bytes(), 100u);
  std::vector<PayloadPtr> large = {payload(std::string(200, 'x'))};
  EXPECT_EQ(core.propose(large).outcome, ProposeOutcome::kAppended);  // the first one, whatever its size
  EXPECT_EQ(core.proposal_room_bytes(), 0u);
  const Ready writes = core.take_ready();
  for (const uint64_t from : {2U, 3U}) {
    Message reply = message(MessageType::kAppResp, from, 1, 1);
    reply.index = Index(2);
    core.step(std::move(reply));
  }
  EXPECT_EQ(core.committed(), Index(2));
  std::vector<PayloadPtr> next = {payload("a")};
  EXPECT_EQ(core.propose(next).outcome, ProposeOutcome::kFull);
  EXPECT_NE(next[0], nullptr);
  log.append(writes.entries);
  core.appended(writes.number);
  EXPECT_EQ(core.propose(next).outcome, ProposeOutcome::kAppended);
}

// Others go on proposing: a moment in which everything is stable may never come.
TEST(Core, AProposalThatIsLargerThanTheBoundIsTakenWhileThereIsAnyRoom) {
  MemoryLog log;
  Config config = config_of(1);
  config.max_unstable_bytes = 100;
  Core core(config, log, {.hard = {}, .conf = voters({1}), .applied = {}});
  core.campaign();
  settle(core, log);
  std::vector<PayloadPtr> small = {payload("a")};
  ASSERT_EQ(core.propose(small).outcome, ProposeOutcome::kAppended);
  ASSERT_GT(core.proposal_room_bytes(), 0u);
  ASSERT_LT(core.proposal_room_bytes(), 100u);
  std::vector<PayloadPtr> fits = {payload(std::string(100 - kEntryOverheadBytes, 'x'))};
  EXPECT_EQ(core.propose(fits).outcome, ProposeOutcome::kFull) << "there will be room for it";
  std::vector<PayloadPtr> large = {payload(std::string(200, 'x'))};
  EXPECT_EQ(core.propose(large).outcome, ProposeOutcome::kAppended);
  EXPECT_EQ(core.proposal_room_bytes(), 0u);
  EXPECT_EQ(core.propose(large).outcome, ProposeOutcome::kFull) << "one at a time";
}

TEST(Core, WithALearnerItIsNotAlone) {
  MemoryLog log;
  ConfState conf = voters({1});
  EXPECT_TRUE(Core(config_of(1), log, {.hard = {}, .conf = conf, .applied = {}}).is_sole_member());
  conf.learners.emplace_back(2);
  const Core core(config_of(1), log, {.hard = {}, .conf = conf, .applied = {}});
  EXPECT_TRUE(core.is_sole_voter());
  EXPECT_FALSE(core.is_sole_member());
}

TEST(Core, ACandidateLearnsFromARefusalWhatIsCommitted) {
  MemoryLog log;
  log.append(std::vector<Entry>{entry(1, 1), entry(2, 1), entry(3, 2)});
  const HardState hard{Term(2), kNoNode, Index(1)};
  Core core(config_of(1), log, {.hard = hard, .conf = voters({1, 2, 3}), .applied = Index(1)});
  core.campaign();
  settle(core, log);
  Message refusal = message(MessageType::kPreVoteResp, 2, 1, 2);
  refusal.reject = true;
  refusal.commit = Index(3);
  refusal.log_term = Term(9);  // another entry 3 than ours
  core.step(refusal);
  EXPECT_EQ(core.committed(), Index(1));
  refusal.commit = Index(2);
  refusal.log_term = Term(1);
  core.step(refusal);
  EXPECT_EQ(core.committed(), Index(2));
  EXPECT_EQ(core.role(), Role::kPreCandidate);
}

TEST(Core, WhatWasAppliedIsCommittedAfterARestart) {
  MemoryLog log;
  log.append(std::vector<Entry>{entry(1, 1), entry(2, 1), entry(3, 1)});
  Core core(config_of(1), log, {.hard = {Term(1), kNoNode, Index(1)}, .conf = voters({1, 2, 3}), .applied = Index(2)});
  EXPECT_EQ(core.committed(), Index(2));
  const Ready ready = settle(core, log);
  ASSERT_TRUE(ready.hard_state);
  EXPECT_EQ(ready.hard_state->commit, Index(2));
  EXPECT_TRUE(ready.committed.empty());
}

TEST(Core, ReadRoundsUnderWayAreBoundedAndRequestsGather) {
  LeaderOfThree leader;
  uint64_t heartbeats = 0;
  for (int i = 0; i < 50; ++i) {
    leader.core.read_index("r" + std::to_string(i));
    heartbeats += settle(leader.core, leader.log).messages.size();
  }
  EXPECT_EQ(heartbeats, 2 * ReadRounds::kRoundsMax);
  Message reply = message(MessageType::kHeartbeatResp, 3, 1, 1);
  reply.context = encode_round(ReadRounds::kRoundsMax);
  leader.core.step(reply);
  EXPECT_EQ(settle(leader.core, leader.log).read_states.size(), ReadRounds::kRoundsMax);
  reply.context = encode_round(ReadRounds::kRoundsMax + 1);  // one round for all that gathered
  leader.core.step(reply);
  EXPECT_EQ(settle(leader.core, leader.log).read_states.size(), 50 - ReadRounds::kRoundsMax);
}

TEST(Core, ARemovedLeaderStepsDownIfToldTo) {
  for (const bool steps_down : {false, true}) {
    MemoryLog log;
    Config config = config_of(1);
    config.step_down_on_removal = steps_down;
    Core core(config, log, {.hard = {}, .conf = voters({1, 2}), .applied = {}});
    core.campaign();
    settle(core, log);
    core.step(message(MessageType::kPreVoteResp, 2, 1, 1));
    settle(core, log);
    core.step(message(MessageType::kVoteResp, 2, 1, 1));
    settle(core, log);
    const ConfChangeV1 change{.id = 0, .type = ConfChangeType::kRemoveNode, .node = NodeId(1), .context = {}};
    EXPECT_EQ(core.propose_conf_change(EntryType::kConfChange, payload(encode(change))).outcome,
              ProposeOutcome::kAppended);
    settle(core, log);
    Message reply = message(MessageType::kAppResp, 2, 1, 1);
    reply.index = core.last_index();
    core.step(reply);
    settle(core, log);
    ASSERT_TRUE(core.awaits_conf_verdict());
    EXPECT_EQ(*core.apply_conf_change(core.last_index(), ConfChange(change)), voters({2}));
    EXPECT_EQ(core.is_leader(), !steps_down);
    std::vector<PayloadPtr> payloads = {payload("late")};
    EXPECT_EQ(core.propose(payloads).outcome, steps_down ? ProposeOutcome::kNoLeader : ProposeOutcome::kNotMember);
  }
}

TEST(Core, NothingIsAppendedBehindALeadersOwnRemoval) {
  MemoryLog log;
  Core core(config_of(1), log, {.hard = {}, .conf = voters({1, 2}), .applied = {}});
  core.campaign();
  settle(core, log);
  core.step(message(MessageType::kPreVoteResp, 2, 1, 1));
  settle(core, log);
  core.step(message(MessageType::kVoteResp, 2, 1, 1));
  settle(core, log);
  const auto acknowledge = [&] {
    Message reply = message(MessageType::kAppResp, 2, 1, 1);
    reply.index = core.last_index();
    core.step(reply);
    settle(core, log);
    core.applied_to(core.committed() - (core.awaits_conf_verdict() ? 1 : 0));
  };
  acknowledge();
  const auto put = [&] {
    std::vector<PayloadPtr> payloads = {payload("late")};
    return core.propose(payloads).outcome;
  };
  const ConfChangeV1 change{.id = 0, .type = ConfChangeType::kRemoveNode, .node = NodeId(1), .context = {}};
  EXPECT_EQ(core.propose_conf_change(EntryType::kConfChange, payload(encode(change))).outcome,
            ProposeOutcome::kAppended);
  const Index removal = core.last_index();
  EXPECT_EQ(put(), ProposeOutcome::kTransferring);
  acknowledge();
  EXPECT_EQ(put(), ProposeOutcome::kTransferring);
  ConfChange refused;
  refused.changes.push_back({});
  ASSERT_TRUE(core.apply_conf_change(removal, refused));
  core.applied_to(removal);
  EXPECT_EQ(put(), ProposeOutcome::kAppended);
}

TEST(Core, ANewLeaderAcceptsNoConfChangeBeforeItsLogIsApplied) {
  MemoryLog log;
  log.append(std::vector<Entry>{entry(1, 1), entry(2, 1)});
  Core core(config_of(1), log, {.hard = {Term(1), kNoNode, Index(1)}, .conf = voters({1}), .applied = {}});
  core.campaign();
  settle(core, log);
  const ConfChangeV1 change{.id = 0, .type = ConfChangeType::kAddLearnerNode, .node = NodeId(2), .context = {}};
  EXPECT_EQ(core.propose_conf_change(EntryType::kConfChange, payload(encode(change))).outcome,
            ProposeOutcome::kConfRefused);
  core.applied_to(Index(2));
  EXPECT_EQ(core.propose_conf_change(EntryType::kConfChange, payload(encode(change))).outcome,
            ProposeOutcome::kAppended);
  EXPECT_EQ(core.propose_conf_change(EntryType::kConfChange, payload(encode(change))).outcome,
            ProposeOutcome::kConfRefused);
}

}  // namespace
}  // namespace cairn::raft
