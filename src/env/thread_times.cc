#include "env/thread_times.h"

#include <fstream>

namespace cairn::env {

ThreadTimes thread_times() {
  std::ifstream file("/proc/thread-self/schedstat");
  ThreadTimes out;
  return file >> out.ran_ns >> out.waited_ns ? out : ThreadTimes();
}

}  // namespace cairn::env
