// raft/quorum.h: majorities of one set of voters, or of both sets of a joint configuration.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "raft/types.h"

namespace cairn::raft {

enum class VoteResult : uint8_t { kPending, kWon, kLost };

struct Ballot {
  NodeId from;
  bool granted = false;
};

inline constexpr uint64_t kQuorumOfNobody = std::numeric_limits<uint64_t>::max();

// The largest value that a majority has reached. Reorders `values`. Of nobody: kQuorumOfNobody, so that the minimum
// over both halves of a configuration is right when the outgoing half is empty.
[[nodiscard]] uint64_t majority_value(std::span<uint64_t> values);

// An election among nobody is won, for the same reason.
[[nodiscard]] VoteResult majority_vote(const std::vector<NodeId>& voters, std::span<const Ballot> ballots);

// Both halves must be won; either can lose it.
[[nodiscard]] VoteResult vote_result(const ConfState& conf, std::span<const Ballot> ballots);

// In either half of the configuration.
[[nodiscard]] bool is_voter(const ConfState& conf, NodeId id);
// In any list.
[[nodiscard]] bool is_member(const ConfState& conf, NodeId id);
// Ascending, without duplicates.
[[nodiscard]] std::vector<NodeId> all_voters(const ConfState& conf);
[[nodiscard]] std::vector<NodeId> all_members(const ConfState& conf);

}  // namespace cairn::raft
