#include "env/thread_times.h"

#include <charconv>
#include <cstddef>
#include <iterator>

#include <fcntl.h>
#include <unistd.h>

namespace cairn::env {

ThreadTimes thread_times() {
  const int fd = ::open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return {};
  char text[128];
  const ssize_t got = ::read(fd, text, sizeof text);
  ::close(fd);
  if (got <= 0) return {};
  ThreadTimes out;
  const char* const end = text + got;
  const auto ran = std::from_chars(text, end, out.ran_ns);
  if (ran.ec != std::errc() || ran.ptr == end) return {};
  if (std::from_chars(ran.ptr + 1, end, out.waited_ns).ec != std::errc()) return {};
  return out;
}

}  // namespace cairn::env
