// When linearizable reads ask nobody: who leads, has applied an entry of its term, is alone, and has applied what
// members that were removed may have answered.
#include <gtest/gtest.h>

#include "member/apply/apply_core.h"
#include "mvcc/index/index.h"
#include "storage/memory/engine.h"
#include "testing/mutants.h"

namespace cairn::member {
namespace {

constexpr NodeId kMember(77);
constexpr Term kTerm(3);

class Member {
 public:
  Member() : engine_(*storage::open_memory()) {
    AppliedState state;
    state.index = std::make_unique<mvcc::Index>();
    state.file = engine_->view();
    state.members.cluster_id = 9;
    core_ = std::make_unique<ApplyCore>(ApplyOptions{.member_id = kMember.value}, std::move(state), answers_, kNow);
  }

  void apply(ApplyBatch batch) { EXPECT_TRUE(core_->apply(std::move(batch), kNow)); }

  [[nodiscard]] bool reads_alone() const { return core_->published().newest().reads_alone; }

  [[nodiscard]] bool reads_alone_as(bool is_leader, bool is_alone, Index shared_up_to = {}) {
    ApplyBatch batch;
    batch.leader_state = LeaderState{.term = kTerm,
                                     .leader = is_leader ? kMember : NodeId(78),
                                     .is_leader = is_leader,
                                     .sole_member = is_alone,
                                     .shared_up_to = shared_up_to};
    apply(std::move(batch));
    return reads_alone();
  }

  void apply_one() {
    ApplyBatch batch;
    batch.entries.push_back({.term = kTerm, .index = ++applied_});
    apply(std::move(batch));
  }

 private:
  static constexpr int64_t kNow = 1;

  std::unique_ptr<storage::Engine> engine_;
  Answers answers_;
  std::unique_ptr<ApplyCore> core_;
  Index applied_;
};

void sole_leader_alone() {
  Member member;
  EXPECT_FALSE(member.reads_alone_as(true, true)) << "nothing of its term is applied";
  member.apply_one();
  EXPECT_TRUE(member.reads_alone_as(true, true));
  EXPECT_FALSE(member.reads_alone_as(true, false)) << "another one may lead by now";
  EXPECT_TRUE(member.reads_alone_as(true, true));
  EXPECT_FALSE(member.reads_alone_as(false, true)) << "a leader that was removed may still answer";
}

// The removal of the last other member was applied at 1; that member may have applied, and answered, up to 3.
void after_a_removal() {
  Member member;
  member.apply_one();
  EXPECT_FALSE(member.reads_alone_as(true, true, Index(3)));
  member.apply_one();
  EXPECT_FALSE(member.reads_alone());
  member.apply_one();
  EXPECT_TRUE(member.reads_alone());
}

TEST(ReadsAlone, OfTheSoleLeader) { sole_leader_alone(); }
TEST(ReadsAlone, NotBehindWhatARemovedMemberHasAnswered) { after_a_removal(); }

#ifdef CAIRN_MUTANTS
TEST(ReadsAloneMutants, AreFound) {
  EXPECT_TRUE(testing::fails_with("server.alone_read_after_losing_leadership", sole_leader_alone));
  EXPECT_TRUE(testing::fails_with("server.alone_read_beside_another_voter", sole_leader_alone));
  EXPECT_TRUE(testing::fails_with("server.alone_read_behind_a_removed_member", after_a_removal));
}
#endif

}  // namespace
}  // namespace cairn::member
