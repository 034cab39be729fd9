// env/system_call.h: calls the kernel again after a signal.
#pragma once

#include <cerrno>

namespace cairn::env {

// A call that takes longer than the time between two signals of a timer begins anew each time and never ends: fallocate
// on tmpfs is one. Then it fails with EINTR.
inline constexpr int kInterruptionsMax = 1000;

// The result of `call`, which is repeated while a signal interrupts it. An interrupted call has not failed. Other
// errors are never repeated, least of all those of a sync.
template <class Call>
auto uninterrupted(Call call) {
  auto result = call();
  for (int i = 0; i < kInterruptionsMax && result < 0 && errno == EINTR; ++i) result = call();
  return result;
}

}  // namespace cairn::env
