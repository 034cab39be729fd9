// raft/read_index.h: the leader's book of linearizable reads.
//
// A request waits until a round begins; a round takes the commit index of its beginning and a number, which goes out
// in heartbeats as their context (8 bytes, little-endian) and comes back unchanged. A majority that answered round n
// confirmed that we still led when n began, and so for all rounds before it.
//
// Always true: rounds are numbered upwards within one leadership; answers of another term never get here.
// Source:      Raft dissertation, 6.4.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "raft/types.h"

namespace cairn::raft {

struct ReadRequest {
  NodeId from;  // 0: this member
  PayloadPtr context;
};

struct ReadRound {
  uint64_t number = 0;
  Index index;
  std::vector<ReadRequest> requests;
};

class ReadRounds {
 public:
  // Beyond this many requests without a round further ones are dropped; their senders ask again.
  static constexpr size_t kWaitingMax = 65'536;
  // Beyond this many rounds under way requests gather until one is confirmed.
  static constexpr size_t kRoundsMax = 4;

  void add(ReadRequest request);
  [[nodiscard]] bool can_begin_round() const { return !waiting_.empty() && rounds_.size() < kRoundsMax; }

  // All that wait become a round, at `commit`. needs: can_begin_round()
  uint64_t begin_round(Index commit);
  // The newest round not yet confirmed; 0 none.
  [[nodiscard]] uint64_t newest() const { return rounds_.empty() ? 0 : rounds_.back().number; }
  // Takes the oldest round if `number` or a later one was confirmed.
  [[nodiscard]] std::optional<ReadRound> take_confirmed(uint64_t number);

 private:
  std::vector<ReadRequest> waiting_;
  std::deque<ReadRound> rounds_;
  uint64_t last_number_ = 0;
};

[[nodiscard]] std::string encode_round(uint64_t number);
[[nodiscard]] uint64_t decode_round(std::string_view context);  // 0: not one of ours

}  // namespace cairn::raft
