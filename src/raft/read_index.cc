#include "raft/read_index.h"

#include <utility>

#include "base/bytes.h"
#include "base/check.h"

namespace cairn::raft {

void ReadRounds::add(ReadRequest request) {
  if (waiting_.size() >= kWaitingMax) return;
  waiting_.push_back(std::move(request));
}

uint64_t ReadRounds::begin_round(Index commit) {
  CAIRN_ASSERT(can_begin_round());
  rounds_.push_back({.number = ++last_number_, .index = commit, .requests = std::exchange(waiting_, {})});
  return last_number_;
}

std::optional<ReadRound> ReadRounds::take_confirmed(uint64_t number) {
  if (rounds_.empty() || rounds_.front().number > number) return std::nullopt;
  ReadRound round = std::move(rounds_.front());
  rounds_.pop_front();
  return round;
}

std::string encode_round(uint64_t number) {
  std::string context(sizeof number, '\0');
  store_le(context.data(), number);
  return context;
}

uint64_t decode_round(std::string_view context) {
  return context.size() == sizeof(uint64_t) ? load_le<uint64_t>(context.data()) : 0;
}

}  // namespace cairn::raft
