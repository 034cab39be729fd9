// rpc/residency.h: whether an io thread may touch the db file's pages without asking the kernel first.
//
// Normally it may: the file is in memory, and asking costs a system call for each page. After a thread had to wait for
// the disk (a major page fault of its own), every io thread asks before it reads. Workers then read the pages that are
// not in memory, so the other requests of the io thread go on. This ends a tenth of a second after the last miss.
//
// Threads: any; Faults belongs to one.
#pragma once

#include <atomic>
#include <cstdint>

#include "env/clock.h"

namespace cairn::rpc {

class Residency {
 public:
  static constexpr int64_t kCarefulNs = 100'000'000;

  // Careful at first: nothing is known about the file yet.
  explicit Residency(const env::Clock& clock) : clock_(clock), until_ns_(clock.monotonic_ns() + kCarefulNs) {}

  [[nodiscard]] bool careful() {
    const int64_t until_ns = until_ns_.load(std::memory_order_relaxed);
    return until_ns != 0 && still_careful(until_ns);
  }
  // Something was not in memory.
  void note_miss();
  [[nodiscard]] uint64_t misses() const { return misses_.load(std::memory_order_relaxed); }

  // The major page faults of the thread that asks.
  class Faults {
   public:
    // Whether there were any since it was asked last.
    [[nodiscard]] bool grew();

   private:
    int64_t seen_ = 0;
  };

 private:
  bool still_careful(int64_t until_ns);

  const env::Clock& clock_;
  std::atomic<int64_t> until_ns_;  // 0: not careful
  std::atomic<uint64_t> misses_{0};
};

}  // namespace cairn::rpc
