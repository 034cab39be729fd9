// testing/wait.h: a test waits for what other threads do.
#pragma once

#include <chrono>
#include <thread>

namespace cairn::testing {

// Until `condition()` is true. What is waited for comes: the time is for a program that hangs, and no test depends on
// how long it is. False: it did not come.
template <class Condition>
[[nodiscard]] bool wait_until(const Condition& condition) {
  constexpr std::chrono::milliseconds kLook{1};
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(120);
  while (!condition()) {
    if (std::chrono::steady_clock::now() >= deadline) return false;
    std::this_thread::sleep_for(kLook);
  }
  return true;
}

}  // namespace cairn::testing
