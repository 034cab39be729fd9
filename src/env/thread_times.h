// env/thread_times.h: how long a thread has run, and how long it has waited for a processor.
//
// Source: proc_pid_schedstat(5): /proc/thread-self/schedstat.
#pragma once

#include <cstdint>

namespace cairn::env {

struct ThreadTimes {
  int64_t ran_ns = 0;
  int64_t waited_ns = 0;  // able to run, while others did
};

// Of the calling thread since it began; zeros where the kernel does not tell.
[[nodiscard]] ThreadTimes thread_times();

}  // namespace cairn::env
