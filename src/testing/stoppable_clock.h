// testing/stoppable_clock.h: the real clock, but for a test that wants no time to pass, or more than passes.
#pragma once

#include <atomic>
#include <cstdint>

#include "env/clock.h"

namespace cairn::testing {

// Threads: any.
class StoppableClock final : public env::Clock {
 public:
  [[nodiscard]] int64_t monotonic_ns() const override {
    const int64_t stopped_at_ns = stopped_at_ns_;
    return (stopped_at_ns != 0 ? stopped_at_ns : real_.monotonic_ns()) + skipped_ns_;
  }
  [[nodiscard]] int64_t wall_ns() const override { return real_.wall_ns(); }

  void skip(int64_t ns) { skipped_ns_ += ns; }
  // For good.
  void stop() { stopped_at_ns_ = real_.monotonic_ns(); }

 private:
  env::PosixClock real_;
  std::atomic<int64_t> stopped_at_ns_{0};
  std::atomic<int64_t> skipped_ns_{0};
};

}  // namespace cairn::testing
