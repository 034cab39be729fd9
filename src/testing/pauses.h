// testing/pauses.h: tests of limits of time, on a machine that may stand still for longer than the limit.
#pragma once

#include <algorithm>
#include <chrono>

namespace cairn::testing {

// The longest pause between two looks of a thread that has to do something in time.
class Pauses {
 public:
  using Clock = std::chrono::steady_clock;

  void look() {
    const auto now = Clock::now();
    longest_ = std::max(longest_, now - last_);
    last_ = now;
  }
  // What has passed since the last look does not count.
  void skip() { last_ = Clock::now(); }
  [[nodiscard]] Clock::duration longest() const { return longest_; }

 private:
  Clock::time_point last_ = Clock::now();
  Clock::duration longest_{0};
};

// Whether `attempt(pauses)` succeeds when its thread is never held up for as long as `limit`. A failure after such a
// pause says nothing: it is tried again, and a machine on which each attempt is held up cannot tell.
template <class Attempt>
[[nodiscard]] bool succeeds_unless_held_up(Pauses::Clock::duration limit, const Attempt& attempt) {
  constexpr int kAttempts = 30;
  for (int i = 0; i < kAttempts; ++i) {
    Pauses pauses;
    if (attempt(pauses)) return true;
    pauses.look();
    if (pauses.longest() < limit) return false;
  }
  return true;
}

}  // namespace cairn::testing
