// net/answer_budget.h: how much memory answers may take until clients have taken them, per connection and in all.
//
// Two things count: bytes that are queued for a client, and memory that a call has reserved for an answer that is being
// made (a list to be sorted, the answer of a write). Answers that are made while they are sent count almost nothing.
// Beyond a bound a further answer is refused. One that is larger than a whole bound may still pass while little else
// waits: otherwise it would never be answered.
//
// Each loop counts for itself; the sum over all loops is taken only when an answer is looked at closely.
//
// Threads: one loop.
#pragma once

#include <algorithm>
#include <cstdint>

#include "net/answer_limits.h"
#include "net/loop.h"

namespace cairn::net {

// What one connection has of the budget.
class AnswerBudget {
 public:
  AnswerBudget(Loop& loop, const AnswerLimits& limits) : loop_(loop), limits_(limits) {}
  ~AnswerBudget() { change(-static_cast<int64_t>(held_bytes_)); }
  AnswerBudget(const AnswerBudget&) = delete;
  AnswerBudget& operator=(const AnswerBudget&) = delete;

  // Answers of this connection hold so much more, or less.
  void change(int64_t bytes) {
    held_bytes_ += static_cast<uint64_t>(bytes);
    loop_.counters().answer_bytes_held.add(static_cast<uint64_t>(bytes));
  }
  [[nodiscard]] uint64_t held_bytes() const { return held_bytes_; }

  // How large one more answer may be.
  [[nodiscard]] uint64_t room_bytes() const {
    return std::min(room_in(held_bytes_, limits_.connection_bytes_max),
                    room_in(loop_.sum_everywhere(&LoopCounters::answer_bytes_held), limits_.bytes_max));
  }
  // So much waits, for this client or for all, that any answer counts.
  [[nodiscard]] bool is_scarce() const { return room_bytes() != UINT64_MAX; }
  // Whether an answer that is whole may be queued. Small ones pass without a look at the other loops while this
  // connection holds little.
  [[nodiscard]] bool takes(uint64_t bytes) const {
    return (bytes <= kSmallBytes && held_bytes_ <= kSmallHeldBytes) || bytes <= room_bytes();
  }

 private:
  static constexpr uint64_t kSmallBytes = 4096;
  static constexpr uint64_t kSmallHeldBytes = 1024 * 1024;
  static constexpr uint64_t kLittle = 8;  // a bound is not looked at below this part of it

  static uint64_t room_in(uint64_t held_bytes, uint64_t bytes_max) {
    return held_bytes <= bytes_max / kLittle ? UINT64_MAX : bytes_max - std::min(held_bytes, bytes_max);
  }

  Loop& loop_;
  const AnswerLimits& limits_;
  uint64_t held_bytes_ = 0;
};

}  // namespace cairn::net
