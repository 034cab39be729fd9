#include "raft/quorum.h"

#include <algorithm>

namespace cairn::raft {
namespace {

bool contains(const std::vector<NodeId>& ids, NodeId id) { return std::binary_search(ids.begin(), ids.end(), id); }

void add_all(std::vector<NodeId>& to, const std::vector<NodeId>& from) {
  to.insert(to.end(), from.begin(), from.end());
}

void make_set(std::vector<NodeId>& ids) {
  std::ranges::sort(ids);
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
}

}  // namespace

uint64_t majority_value(std::span<uint64_t> values) {
  if (values.empty()) return kQuorumOfNobody;
  std::ranges::sort(values);
  return values[(values.size() - 1) / 2];  // a majority stands at this place or behind it
}

VoteResult majority_vote(const std::vector<NodeId>& voters, std::span<const Ballot> ballots) {
  if (voters.empty()) return VoteResult::kWon;
  size_t granted = 0;
  size_t refused = 0;
  for (const Ballot& ballot : ballots) {
    if (!contains(voters, ballot.from)) continue;
    (ballot.granted ? granted : refused) += 1;
  }
  const size_t needed = voters.size() / 2 + 1;
  if (granted >= needed) return VoteResult::kWon;
  if (voters.size() - refused < needed) return VoteResult::kLost;
  return VoteResult::kPending;
}

VoteResult vote_result(const ConfState& conf, std::span<const Ballot> ballots) {
  const VoteResult incoming = majority_vote(conf.voters, ballots);
  const VoteResult outgoing = majority_vote(conf.voters_outgoing, ballots);
  if (incoming == VoteResult::kLost || outgoing == VoteResult::kLost) return VoteResult::kLost;
  if (incoming == VoteResult::kWon && outgoing == VoteResult::kWon) return VoteResult::kWon;
  return VoteResult::kPending;
}

bool is_voter(const ConfState& conf, NodeId id) {
  return contains(conf.voters, id) || contains(conf.voters_outgoing, id);
}

bool is_member(const ConfState& conf, NodeId id) {
  return is_voter(conf, id) || contains(conf.learners, id) || contains(conf.learners_next, id);
}

std::vector<NodeId> all_voters(const ConfState& conf) {
  std::vector<NodeId> ids = conf.voters;
  add_all(ids, conf.voters_outgoing);
  make_set(ids);
  return ids;
}

std::vector<NodeId> all_members(const ConfState& conf) {
  std::vector<NodeId> ids = conf.voters;
  add_all(ids, conf.voters_outgoing);
  add_all(ids, conf.learners);
  add_all(ids, conf.learners_next);
  make_set(ids);
  return ids;
}

}  // namespace cairn::raft
