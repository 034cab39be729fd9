// Majorities against a twin that counts heads.
#include "raft/quorum.h"

#include <gtest/gtest.h>

#include <map>

#include "base/random.h"
#include "raft/progress.h"

namespace cairn::raft {
namespace {

// The largest of the values (or 0) that more than half of the voters have reached, by trying each.
uint64_t counted_value(const std::vector<NodeId>& voters, const std::map<NodeId, uint64_t>& values) {
  if (voters.empty()) return kQuorumOfNobody;
  uint64_t best = 0;
  for (const NodeId candidate : voters) {
    const uint64_t wanted = values.at(candidate);
    size_t count = 0;
    for (const NodeId voter : voters) count += values.at(voter) >= wanted;
    if (count * 2 > voters.size()) best = std::max(best, wanted);
  }
  return best;
}

VoteResult counted_vote(const std::vector<NodeId>& voters, const std::map<NodeId, bool>& votes) {
  if (voters.empty()) return VoteResult::kWon;
  size_t yes = 0;
  size_t silent = 0;
  for (const NodeId voter : voters) {
    const auto vote = votes.find(voter);
    if (vote == votes.end()) {
      ++silent;
    } else {
      yes += vote->second;
    }
  }
  if (yes * 2 > voters.size()) return VoteResult::kWon;
  return (yes + silent) * 2 > voters.size() ? VoteResult::kPending : VoteResult::kLost;
}

std::vector<NodeId> random_set(Random& random, uint64_t among) {
  std::vector<NodeId> ids;
  for (uint64_t id = 1; id <= among; ++id) {
    if (random.one_in(2)) ids.emplace_back(id);
  }
  return ids;
}

TEST(Quorum, AgreesWithItsTwinOnRandomConfigurations) {
  for (uint64_t seed = 1; seed <= 20'000; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Random random(seed);
    const uint64_t among = random.between(1, random.one_in(50) ? 80 : 9);
    ConfState conf;
    conf.voters = random_set(random, among);
    if (random.one_in(2)) conf.voters_outgoing = random_set(random, among);

    std::map<NodeId, uint64_t> values;
    std::vector<Progress> peers;
    std::map<NodeId, bool> votes;
    std::vector<Ballot> ballots;
    for (uint64_t i = 1; i <= among; ++i) {
      const NodeId id(i);
      values[id] = random.below(6);
      Progress peer(id, Index(1), 1, 0);
      peer.is_voter = std::ranges::count(conf.voters, id) > 0;
      peer.is_outgoing_voter = std::ranges::count(conf.voters_outgoing, id) > 0;
      peer.match = Index(values[id]);
      peers.push_back(std::move(peer));
      if (random.one_in(3)) continue;
      votes[id] = random.one_in(2);
      ballots.push_back({id, votes[id]});
    }

    ASSERT_EQ(quorum_value(peers, [](const Progress& peer) { return peer.match.value; }),
              std::min(counted_value(conf.voters, values), counted_value(conf.voters_outgoing, values)));

    const VoteResult a = counted_vote(conf.voters, votes);
    const VoteResult b = counted_vote(conf.voters_outgoing, votes);
    VoteResult both = VoteResult::kPending;
    if (a == VoteResult::kLost || b == VoteResult::kLost) both = VoteResult::kLost;
    if (a == VoteResult::kWon && b == VoteResult::kWon) both = VoteResult::kWon;
    ASSERT_EQ(vote_result(conf, ballots), both);
  }
}

TEST(Quorum, MembersAreCountedOnceInWhateverListsTheyStand) {
  ConfState conf;
  conf.voters = {NodeId(1), NodeId(2)};
  conf.voters_outgoing = {NodeId(2), NodeId(3)};
  conf.learners = {NodeId(9)};
  conf.learners_next = {NodeId(3)};
  EXPECT_EQ(all_voters(conf), (std::vector<NodeId>{NodeId(1), NodeId(2), NodeId(3)}));
  EXPECT_EQ(all_members(conf), (std::vector<NodeId>{NodeId(1), NodeId(2), NodeId(3), NodeId(9)}));
  EXPECT_TRUE(is_voter(conf, NodeId(3)));
  EXPECT_FALSE(is_voter(conf, NodeId(9)));
  EXPECT_TRUE(is_member(conf, NodeId(9)));
  EXPECT_FALSE(is_member(conf, NodeId(4)));
}

}  // namespace
}  // namespace cairn::raft
