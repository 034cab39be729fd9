// testing/manual_clock.h: a clock that stands still but for what the test sets.
#pragma once

#include <cstdint>

#include "env/clock.h"

namespace cairn::testing {

class ManualClock final : public env::Clock {
 public:
  [[nodiscard]] int64_t monotonic_ns() const override { return now_ns; }
  [[nodiscard]] int64_t wall_ns() const override { return now_ns; }

  int64_t now_ns = 1'000'000'000;
};

}  // namespace cairn::testing
