#include "rpc/residency.h"

#include <sys/resource.h>

namespace cairn::rpc {

void Residency::note_miss() {
  misses_.fetch_add(1, std::memory_order_relaxed);
  until_ns_.store(clock_.monotonic_ns() + kCarefulNs, std::memory_order_relaxed);
}

bool Residency::still_careful(int64_t until_ns) {
  if (clock_.monotonic_ns() < until_ns) return true;
  until_ns_.compare_exchange_strong(until_ns, 0, std::memory_order_relaxed);  // unless there was a miss just now
  return until_ns_.load(std::memory_order_relaxed) != 0;
}

bool Residency::Faults::grew() {
  rusage usage{};
  if (::getrusage(RUSAGE_THREAD, &usage) != 0) return false;
  const bool more = usage.ru_majflt > seen_;
  seen_ = usage.ru_majflt;
  return more;
}

}  // namespace cairn::rpc
