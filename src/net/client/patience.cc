#include "net/client/patience.h"

#include <algorithm>
#include <chrono>
#include <climits>

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/check.h"

namespace cairn::net {

int64_t monotonic_now_ns() { return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1); }

Patience::Patience() : wake_fd_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) { CAIRN_ASSERT(wake_fd_ >= 0); }

Patience::~Patience() { ::close(wake_fd_); }

void Patience::end_by(int64_t deadline_ns) {
  latest_ns_ = deadline_ns;
  const uint64_t one = 1;
  (void)!::write(wake_fd_, &one, sizeof one);
}

bool Patience::has_time(int64_t deadline_ns) const {
  return monotonic_now_ns() < std::min(deadline_ns, latest_ns_.load());
}

bool Patience::wait(int fd, short events, int64_t deadline_ns) {
  while (true) {
    const int64_t latest_ns = latest_ns_;
    const int64_t left_ns = std::min(deadline_ns, latest_ns) - monotonic_now_ns();
    if (left_ns <= 0) return false;
    const int64_t left_ms = std::min<int64_t>(left_ns / 1'000'000 + 1, INT_MAX);
    // Once the end is known there is nothing more to be woken for, and the descriptor stays readable.
    pollfd watched[] = {{fd, events, 0}, {wake_fd_, POLLIN, 0}};
    const int ready = ::poll(watched, latest_ns == INT64_MAX ? 2 : 1, static_cast<int>(left_ms));
    if (ready > 0 && watched[0].revents != 0) return true;
  }
}

}  // namespace cairn::net
