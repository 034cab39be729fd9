// env/system_call.h: calls the kernel again after a signal.
#pragma once

#include <cerrno>

namespace cairn::env {

// The result of `call`, which is repeated while a signal interrupts it. An interrupted call has not failed. Other
// errors are never repeated, least of all those of a sync.
template <class Call>
auto uninterrupted(Call call) {
  auto result = call();
  while (result < 0 && errno == EINTR) result = call();
  return result;
}

}  // namespace cairn::env
