// The requests of this member's own clients: each leaves the table once, with its entry, as lost, or as late.
#include "member/own_proposals.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "base/random.h"
#include "member/requests.h"
#include "raft/conf_change.h"

namespace cairn::member {
namespace {

constexpr int64_t kTimeoutNs = 100;
constexpr auto kNormal = raft::EntryType::kNormal;
constexpr auto kConfChange = raft::EntryType::kConfChange;

Proposal proposal(uint64_t id, Tag tag, std::string_view body = "body") {
  return std::make_shared<const raft::Payload>(
      raft::Payload{.bytes = join_request(RequestKind::kPut, body, id), .tag = tag});
}
// As it comes back in an entry: without its tag.
raft::Entry entry_of(const Proposal& payload, uint64_t term = 1) {
  return {.term = Term(term),
          .index = Index(1),
          .type = kNormal,
          .data = std::make_shared<const raft::Payload>(raft::Payload{.bytes = payload->bytes})};
}
Tag resolved(OwnProposals& own, raft::Entry entry) {
  own.resolve(entry);
  return entry.tag();
}
std::vector<Tag> tags(const std::vector<OwnProposals::One>& ones) {
  std::vector<Tag> out;
  for (const auto& one : ones) out.push_back(one.payload->tag);
  return out;
}
std::vector<Tag> expired(OwnProposals& own, int64_t now_ns) {
  std::vector<Tag> out;
  for (const auto& late : own.take_expired(now_ns)) out.push_back(late.one.payload->tag);
  return out;
}
using Tags = std::vector<Tag>;

TEST(OwnProposals, AnEntryIsKnownByItsIdAndTakesTheTagOnce) {
  OwnProposals own(kTimeoutNs);
  const Proposal mine = proposal(5, 50);
  own.add(mine, kNormal, 0);
  EXPECT_EQ(resolved(own, entry_of(proposal(6, 0))), 0u) << "somebody else's";
  EXPECT_EQ(resolved(own, entry_of(mine)), 50u);
  EXPECT_TRUE(own.empty());
  EXPECT_EQ(resolved(own, entry_of(mine)), 0u) << "as an etcd leader may append it twice";
}

// An id begins with the lowest 16 bits of its member's.
TEST(OwnProposals, AnotherMembersEntryOfTheSameIdIsNotIts) {
  OwnProposals own(kTimeoutNs);
  own.add(proposal(5, 50), kNormal, 0);
  EXPECT_EQ(resolved(own, entry_of(proposal(5, 0, "other"))), 0u);
  EXPECT_EQ(own.size(), 1u);
}

TEST(OwnProposals, AnEntryThatStillHasItsTagIsAnsweredOnlyWhileItWaitsHere) {
  OwnProposals own(kTimeoutNs);
  const Proposal mine = proposal(5, 50);
  raft::Entry entry = entry_of(mine);
  entry.data = mine;  // this member leads, and has appended the payload as it came
  own.add(mine, kNormal, 0);
  EXPECT_EQ(expired(own, kTimeoutNs), Tags{50});
  EXPECT_EQ(resolved(own, entry), 0u) << "it was told that time is up";
  own.add(mine, kNormal, kTimeoutNs);
  EXPECT_EQ(resolved(own, entry), 50u);
}

TEST(OwnProposals, WhatWasGivenInAnEarlierTermIsLostWithIt) {
  OwnProposals own(kTimeoutNs);
  std::vector<Proposal> mine;
  for (uint64_t i = 0; i < 4; ++i) {
    mine.push_back(proposal(i + 1, i + 10));
    own.add(mine.back(), kNormal, static_cast<int64_t>(i));
  }
  own.note_given(mine[2], kNormal, Term(3), true);
  own.note_given(mine[0], kNormal, Term(3), true);
  own.note_given(mine[1], kNormal, Term(4), true);
  EXPECT_EQ(tags(own.take_lost(Term(3))), Tags{});
  EXPECT_EQ(tags(own.take_lost(Term(4))), (Tags{10, 12})) << "in the order in which they came";
  EXPECT_EQ(tags(own.take_lost(Term(4))), Tags{}) << "they wait here again, and are in nobody's log";
  EXPECT_EQ(tags(own.take_lost(Term(5))), Tags{11}) << "never the one that nobody has";
  EXPECT_EQ(own.size(), 4u);
  own.note_given(mine[0], kNormal, Term(5), true);
  EXPECT_EQ(resolved(own, entry_of(mine[0])), 10u);
}

// It may append in any later term what it was sent.
TEST(OwnProposals, WhatAnEtcdLeaderWasSentIsNeverTakenForLost) {
  OwnProposals own(kTimeoutNs);
  const Proposal mine = proposal(1, 10);
  own.add(mine, kNormal, 0);
  own.note_given(mine, kNormal, Term(3), false);
  EXPECT_EQ(tags(own.take_lost(Term(9))), Tags{});
  own.note_given(mine, kNormal, Term(9), true);
  EXPECT_EQ(tags(own.take_lost(Term(10))), Tags{}) << "the first one may still come";
  EXPECT_EQ(resolved(own, entry_of(mine)), 10u);
}

TEST(OwnProposals, WhatASnapshotMayHoldIsNeverTakenForLost) {
  OwnProposals own(kTimeoutNs);
  const Proposal before = proposal(1, 10);
  const Proposal in_its_term = proposal(2, 20);
  const Proposal behind = proposal(3, 30);
  const Proposal waits = proposal(4, 40);
  for (const Proposal& one : {before, in_its_term, behind, waits}) own.add(one, kNormal, 0);
  own.note_given(before, kNormal, Term(2), true);
  own.note_given(in_its_term, kNormal, Term(3), true);
  own.note_given(behind, kNormal, Term(4), true);
  own.note_snapshot(Term(3));
  EXPECT_EQ(tags(own.take_lost(Term(9))), Tags{30});
  own.note_given(waits, kNormal, Term(9), true);
  EXPECT_EQ(tags(own.take_lost(Term(10))), Tags{40}) << "nobody had it when the snapshot came";
  EXPECT_EQ(expired(own, kTimeoutNs), (Tags{10, 20, 30, 40}));
}

TEST(OwnProposals, TimeIsUpInTheOrderOfArrival) {
  OwnProposals own(kTimeoutNs);
  const Proposal second = proposal(2, 20);
  own.add(proposal(1, 10), kNormal, 5);
  own.add(second, kNormal, 6);
  own.add(proposal(3, 30), kNormal, 7);
  EXPECT_EQ(expired(own, kTimeoutNs + 4), Tags{});
  EXPECT_EQ(resolved(own, entry_of(second)), 20u);
  const auto late = own.take_expired(kTimeoutNs + 5);
  ASSERT_EQ(late.size(), 1u);
  EXPECT_EQ(late[0].one.payload->tag, 10u);
  EXPECT_EQ(late[0].since_ns, 5);
  EXPECT_EQ(expired(own, kTimeoutNs + 7), Tags{30});
  EXPECT_TRUE(own.empty());
}

TEST(OwnProposals, WhatIsForgottenIsNeverSpokenOfAgain) {
  OwnProposals own(kTimeoutNs);
  const Proposal refused = proposal(1, 10);
  own.add(refused, kNormal, 0);
  EXPECT_EQ(own.size(), 1u);
  own.forget(refused, kNormal);
  EXPECT_TRUE(own.empty());
  EXPECT_EQ(resolved(own, entry_of(refused)), 0u);
  EXPECT_EQ(expired(own, kTimeoutNs), Tags{});
  own.add(proposal(2, 20), kNormal, 0);
  own.add(proposal(3, 30), kNormal, 0);
  EXPECT_EQ(tags(own.take_all()), (Tags{20, 30}));
  EXPECT_TRUE(own.empty());
  EXPECT_EQ(expired(own, kTimeoutNs), Tags{});
}

TEST(OwnProposals, OnlyWhatIsWaitedForAndHasAnIdOfItsOwnIsKept) {
  OwnProposals own(kTimeoutNs);
  own.add(proposal(1, 0), kNormal, 0);
  own.add(std::make_shared<const raft::Payload>(raft::Payload{.bytes = "no request", .tag = 9}), kNormal, 0);
  EXPECT_TRUE(own.empty());
  const Proposal first = proposal(2, 20);
  const Proposal again = proposal(2, 21);
  own.add(first, kNormal, 0);
  own.add(again, kNormal, 0);
  EXPECT_EQ(own.size(), 1u);
  own.forget(again, kNormal);
  EXPECT_EQ(resolved(own, entry_of(first)), 20u) << "the other one was never here";
}

TEST(OwnProposals, AConfChangeHasItsIdInItself) {
  const auto change = [](uint64_t id, Tag tag) {
    return std::make_shared<const raft::Payload>(
        raft::Payload{.bytes = raft::encode(raft::ConfChangeV1{
                          .id = id, .type = raft::ConfChangeType::kAddNode, .node = NodeId(7), .context = {}}),
                      .tag = tag});
  };
  OwnProposals own(kTimeoutNs);
  own.add(change(5, 50), kConfChange, 0);
  raft::Entry entry{.term = Term(1), .index = Index(1), .type = kConfChange, .data = change(5, 0)};
  own.resolve(entry);
  EXPECT_EQ(entry.tag(), 50u);
  EXPECT_EQ(request_id_of(raft::EntryType::kConfChangeV2, change(5, 0)->bytes), 0u) << "no member proposes one";
}

// Whatever happens, a tag leaves once, and none is left at the end.
TEST(OwnProposals, EachTagLeavesOnce) {
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    OwnProposals own(kTimeoutNs);
    std::map<uint64_t, Proposal> here;  // by id
    std::set<Tag> left;
    uint64_t next = 0;
    int64_t now_ns = 0;
    const auto leaves = [&](const Proposal& payload) {
      ASSERT_TRUE(left.insert(payload->tag).second) << payload->tag << " left before";
      here.erase(request_id_of(kNormal, payload->bytes));
    };
    for (uint64_t term = 1; term < 60; ++term) {
      now_ns += static_cast<int64_t>(random.below(20));
      for (uint64_t count = random.below(4); count > 0; --count) {
        ++next;
        here[next] = proposal(next, next + 1000);
        own.add(here[next], kNormal, now_ns);
      }
      std::vector<Proposal> some;
      for (const auto& [id, payload] : here) {
        if (random.one_in(2)) some.push_back(payload);
      }
      for (const Proposal& one : some) {
        switch (random.below(5)) {
          case 0: own.note_given(one, kNormal, Term(term), !random.one_in(4)); break;
          case 1: {
            raft::Entry entry = random.one_in(2) ? entry_of(one) : raft::Entry{.type = kNormal, .data = one};
            own.resolve(entry);
            ASSERT_EQ(entry.tag(), one->tag);
            leaves(one);
            break;
          }
          case 2:
            own.forget(one, kNormal);
            leaves(one);
            break;
          default: break;
        }
      }
      if (random.one_in(5)) own.note_snapshot(Term(random.below(term + 1)));
      for (const auto& lost : own.take_lost(Term(term))) ASSERT_TRUE(here.contains(lost.payload->tag - 1000));
      for (const auto& late : own.take_expired(now_ns)) leaves(late.one.payload);
      ASSERT_EQ(own.size(), here.size());
      if (random.one_in(20)) {
        for (const auto& one : own.take_all()) leaves(one.payload);
      }
    }
    for (const auto& late : own.take_expired(now_ns + kTimeoutNs)) leaves(late.one.payload);
    EXPECT_EQ(left.size(), next);
    EXPECT_TRUE(own.empty());
  }
}

}  // namespace
}  // namespace cairn::member
