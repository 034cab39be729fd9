// env/system_call.h: what all callers of the kernel need.
#pragma once

#include <cerrno>

namespace cairn::env {

// The result of `call`, made again while a signal interrupts it. Nothing of an interrupted call has failed: not so
// after any other error, of a sync least of all.
template <class Call>
auto uninterrupted(Call call) {
  auto result = call();
  while (result < 0 && errno == EINTR) result = call();
  return result;
}

}  // namespace cairn::env
