// env/clock.h: time, passed in. Cores never ask for it; shells hand it to them as ticks and stamps.
#pragma once

#include <chrono>
#include <cstdint>

namespace cairn::env {

class Clock {
 public:
  virtual ~Clock() = default;
  // Never goes back, has no meaning outside the process. Nanoseconds.
  [[nodiscard]] virtual int64_t monotonic_ns() const = 0;
  // Nanoseconds since 1970 UTC; may jump.
  [[nodiscard]] virtual int64_t wall_ns() const = 0;
};

class PosixClock final : public Clock {
 public:
  [[nodiscard]] int64_t monotonic_ns() const override {
    return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
  }
  [[nodiscard]] int64_t wall_ns() const override {
    return std::chrono::system_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
  }
};

}  // namespace cairn::env
