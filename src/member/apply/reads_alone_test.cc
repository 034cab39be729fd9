// When linearizable reads ask nobody: who leads, has applied an entry of its term, and is alone.
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

  [[nodiscard]] bool reads_alone_as(bool is_leader, bool is_alone) {
    ApplyBatch batch;
    batch.leader_state = LeaderState{
        .term = kTerm, .leader = is_leader ? kMember : NodeId(78), .is_leader = is_leader, .sole_member = is_alone};
    apply(std::move(batch));
    return core_->published().newest().reads_alone;
  }

  void apply_first_of_term() {
    ApplyBatch batch;
    batch.entries.push_back({.term = kTerm, .index = Index(1)});
    apply(std::move(batch));
  }

 private:
  static constexpr int64_t kNow = 1;

  std::unique_ptr<storage::Engine> engine_;
  Answers answers_;
  std::unique_ptr<ApplyCore> core_;
};

void sole_leader_alone() {
  Member member;
  EXPECT_FALSE(member.reads_alone_as(true, true)) << "nothing of its term is applied";
  member.apply_first_of_term();
  EXPECT_TRUE(member.reads_alone_as(true, true));
  EXPECT_FALSE(member.reads_alone_as(true, false)) << "another one may lead by now";
  EXPECT_TRUE(member.reads_alone_as(true, true));
  EXPECT_FALSE(member.reads_alone_as(false, true)) << "a leader that was removed may still answer";
}

TEST(ReadsAlone, OfTheSoleLeader) { sole_leader_alone(); }

#ifdef CAIRN_MUTANTS
TEST(ReadsAloneMutants, AreFound) {
  EXPECT_TRUE(testing::fails_with("server.alone_read_after_losing_leadership", sole_leader_alone));
  EXPECT_TRUE(testing::fails_with("server.alone_read_beside_another_voter", sole_leader_alone));
}
#endif

}  // namespace
}  // namespace cairn::member
