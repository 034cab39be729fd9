#include "raft/conf_change.h"

#include <gtest/gtest.h>

#include <set>

#include "base/bytes.h"
#include "base/random.h"
#include "raft/describe.h"

namespace cairn::raft {
namespace {

ConfChange change_of(std::vector<ConfChangeSingle> singles,
                     ConfChangeTransition transition = ConfChangeTransition::kAuto) {
  ConfChange change;
  change.changes = std::move(singles);
  change.transition = transition;
  return change;
}
ConfChangeSingle add(uint64_t id) { return {ConfChangeType::kAddNode, NodeId(id)}; }
ConfChangeSingle learn(uint64_t id) { return {ConfChangeType::kAddLearnerNode, NodeId(id)}; }
ConfChangeSingle drop(uint64_t id) { return {ConfChangeType::kRemoveNode, NodeId(id)}; }

std::string after(ConfState conf, const ConfChange& change) {
  const Result<ConfState> next = changed(conf, change);
  return next ? describe(*next) : next.error().message;
}

ConfState three() {
  ConfState conf;
  conf.voters = {NodeId(1), NodeId(2), NodeId(3)};
  return conf;
}

TEST(ConfChange, OneVoterAtATimeIsSimple) {
  EXPECT_EQ(after({}, change_of({add(1)})), "(1)");
  EXPECT_EQ(after(three(), change_of({add(4)})), "(1 2 3 4)");
  EXPECT_EQ(after(three(), change_of({drop(2)})), "(1 3)");
  EXPECT_EQ(after(three(), change_of({learn(4)})), "(1 2 3) learners=(4)");
  EXPECT_EQ(after(three(), change_of({learn(3)})), "(1 2) learners=(3)");
  EXPECT_EQ(after(three(), change_of({{ConfChangeType::kUpdateNode, NodeId(2)}})), "(1 2 3)");
  ConfState conf = three();
  conf.learners = {NodeId(4)};
  EXPECT_EQ(after(conf, change_of({add(4)})), "(1 2 3 4)");
}

TEST(ConfChange, TheLastVoterStays) {
  ConfState conf;
  conf.voters = {NodeId(1)};
  EXPECT_EQ(after(conf, change_of({drop(1)})), "raft: conf change would leave no voter");
  EXPECT_EQ(after(conf, change_of({learn(1)})), "raft: conf change would leave no voter");
}

TEST(ConfChange, SeveralChangesGoThroughAJointConfiguration) {
  const ConfChange swap = change_of({add(4), drop(1), learn(2)});
  EXPECT_EQ(after(three(), swap), "(3 4)&&(1 2 3) learners_next=(2) auto_leave");
  const ConfState joint = *changed(three(), swap);
  EXPECT_EQ(after(joint, ConfChange()), "(3 4) learners=(2)");
  EXPECT_EQ(after(joint, change_of({add(5)})), "raft: simple change in a joint configuration");
  EXPECT_EQ(after(joint, swap), "raft: configuration is already joint");
  EXPECT_EQ(after(three(), ConfChange()), "raft: configuration is not joint");
  EXPECT_EQ(after(three(), change_of({add(4)}, ConfChangeTransition::kJointExplicit)), "(1 2 3 4)&&(1 2 3)");
  EXPECT_EQ(after(three(), change_of({add(4)}, ConfChangeTransition::kJointImplicit)), "(1 2 3 4)&&(1 2 3) auto_leave");
}

TEST(ConfChange, ReadsWhatEtcdWrote) {
  // AddNode of 2 with id 0, all fields present (3.4), and the same without zeros (3.7).
  for (const char* bytes : {"\x08\x00\x10\x00\x18\x02", "\x18\x02"}) {
    const std::string_view text(bytes, bytes[0] == '\x08' ? 6 : 2);
    const Result<ConfChange> change = decode_conf_change(EntryType::kConfChange, text);
    ASSERT_TRUE(change);
    EXPECT_EQ(change->changes, std::vector<ConfChangeSingle>{add(2)});
  }
  EXPECT_EQ(
      to_hex(encode(ConfChangeV1{.id = 7, .type = ConfChangeType::kRemoveNode, .node = NodeId(300), .context = "x"})),
      "08071001"
      "18ac02"
      "220178");
  EXPECT_TRUE(leaves_joint(*decode_conf_change(EntryType::kConfChangeV2, "")));
  EXPECT_FALSE(decode_conf_change(EntryType::kConfChange, "\x10\x09"));
  EXPECT_FALSE(decode_conf_change(EntryType::kConfChange, "\x10"));
  EXPECT_FALSE(decode_conf_change(EntryType::kConfChangeV2, "\x12\x02\x08"));
}

// Sets instead of sorted lists, and the rules once more.
TEST(ConfChange, RandomChangesKeepEveryListSortedAndApart) {
  for (uint64_t seed = 1; seed <= 3000; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Random random(seed);
    ConfState conf = three();
    for (int step = 0; step < 20; ++step) {
      std::vector<ConfChangeSingle> singles;
      for (uint64_t i = random.between(1, 3); i > 0; --i) {
        singles.push_back({static_cast<ConfChangeType>(random.below(4)), NodeId(random.below(6))});
      }
      ConfChange change = change_of(singles, static_cast<ConfChangeTransition>(random.below(3)));
      if (random.one_in(3)) change = ConfChange();
      const ConfChange copy = *decode_conf_change_v2(encode(change));
      ASSERT_EQ(copy, change);
      const Result<ConfState> next = changed(conf, change);
      if (!next) continue;

      std::set<NodeId> voters(conf.voters.begin(), conf.voters.end());
      if (!change.changes.empty()) {
        for (const ConfChangeSingle& single : change.changes) {
          if (single.node == kNoNode) continue;
          if (single.type == ConfChangeType::kAddNode) voters.insert(single.node);
          if (single.type == ConfChangeType::kRemoveNode || single.type == ConfChangeType::kAddLearnerNode) {
            voters.erase(single.node);
          }
        }
      }
      ASSERT_EQ(std::vector<NodeId>(voters.begin(), voters.end()), next->voters);
      for (const auto* list : {&next->voters, &next->learners, &next->voters_outgoing, &next->learners_next}) {
        ASSERT_TRUE(std::ranges::is_sorted(*list));
        ASSERT_EQ(std::ranges::adjacent_find(*list), list->end());
      }
      for (const NodeId learner : next->learners) {
        ASSERT_FALSE(std::ranges::count(next->voters, learner));
        ASSERT_FALSE(std::ranges::count(next->voters_outgoing, learner));
      }
      for (const NodeId learner : next->learners_next) ASSERT_TRUE(std::ranges::count(next->voters_outgoing, learner));
      // Two configurations that follow each other share a quorum in every half.
      if (next->voters_outgoing.empty() && conf.voters_outgoing.empty()) {
        std::vector<NodeId> different;
        std::ranges::set_symmetric_difference(conf.voters, next->voters, std::back_inserter(different));
        ASSERT_LE(different.size(), 1u);
      }
      conf = *next;
    }
  }
}

TEST(ConfState, IsEtcds) {
  ConfState conf;
  conf.voters = {NodeId(0x20a9f295c3588abf), NodeId(0x494560839c463357)};
  conf.learners = {NodeId(0xaa6af4b64397dbc2)};
  const std::string bytes = encode(conf);
  EXPECT_EQ(to_hex(bytes), "08bf95e29adcd2fcd42008d7e698e2b990d8a24910c2b7df9ce496bdb5aa012800");
  EXPECT_EQ(*decode_conf_state(bytes), conf);
}

TEST(ConfState, ReadsPackedNumbersAndMissingFields) {
  EXPECT_EQ(*decode_conf_state(""), ConfState{});
  const auto packed = decode_conf_state("\x0a\x03\x01\xac\x02\x28\x01");
  ASSERT_TRUE(packed);
  EXPECT_EQ(packed->voters, (std::vector{NodeId(1), NodeId(300)}));
  EXPECT_TRUE(packed->auto_leave);
  EXPECT_FALSE(decode_conf_state("\x0a\x01\x80"));
}

}  // namespace
}  // namespace cairn::raft
