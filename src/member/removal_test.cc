// When a removed member may go.
#include "member/removal.h"

#include <gtest/gtest.h>

namespace cairn::member {
namespace {

constexpr NodeId kSelf{9};

cluster::Membership members_of(std::initializer_list<uint64_t> ids, bool is_removed) {
  cluster::Membership out;
  for (const uint64_t id : ids) out.members[NodeId(id)] = {.id = NodeId(id), .peer_urls = {}};
  if (is_removed) out.removed.insert(kSelf);
  return out;
}

TEST(Removal, AMemberThatNobodyRemovesStays) {
  Removal removal(kSelf);
  EXPECT_FALSE(removal.is_over(members_of({1, 2, 9}, false), 5));
  EXPECT_EQ(removal.next_ns(), std::nullopt);
}

TEST(Removal, ItStaysUntilAMajorityOfThoseWhoAreLeftKnow) {
  Removal removal(kSelf);
  const auto members = members_of({1, 2, 3}, true);
  EXPECT_FALSE(removal.is_over(members, 5));
  removal.told_by(NodeId(2));
  removal.told_by(NodeId(2));
  EXPECT_FALSE(removal.is_over(members, 6)) << "it may be the only one that knows, and be lost";
  removal.told_by(NodeId(3));
  EXPECT_TRUE(removal.is_over(members, 7));
  EXPECT_TRUE(removal.is_over(members, 8));
  EXPECT_EQ(removal.next_ns(), std::nullopt);
}

TEST(Removal, OfTwoTheOneThatIsLeftHasToKnow) {
  Removal removal(kSelf);
  const auto members = members_of({1}, true);
  EXPECT_FALSE(removal.is_over(members, 5));
  removal.told_by(NodeId(1));
  EXPECT_TRUE(removal.is_over(members, 6));
}

TEST(Removal, LearnersDoNotCount) {
  Removal removal(kSelf);
  auto members = members_of({1, 2, 3}, true);
  members.members[NodeId(2)].is_learner = members.members[NodeId(3)].is_learner = true;
  EXPECT_FALSE(removal.is_over(members, 5));
  removal.told_by(NodeId(1));
  EXPECT_TRUE(removal.is_over(members, 6));
}

TEST(Removal, WhoHasNotAppliedItBelievesTheOthers) {
  Removal removal(kSelf);
  const auto members = members_of({1, 2, 9}, false);
  removal.told_by(NodeId(7));
  EXPECT_FALSE(removal.is_over(members, 5));
  removal.told_by(NodeId(2));
  EXPECT_TRUE(removal.is_over(members, 6));
}

TEST(Removal, ItDoesNotWaitForEver) {
  Removal removal(kSelf);
  const auto members = members_of({1, 2, 3}, true);
  EXPECT_FALSE(removal.is_over(members, 5));
  ASSERT_EQ(removal.next_ns(), 5 + Removal::kPatienceNs);
  EXPECT_FALSE(removal.is_over(members, *removal.next_ns() - 1));
  EXPECT_TRUE(removal.is_over(members, *removal.next_ns()));
}

}  // namespace
}  // namespace cairn::member
