#include "cmd/server/ending.h"

#include <iterator>

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/check.h"

namespace cairn::cmd {
namespace {

bool is_readable(int fd, int timeout_ms) {
  pollfd looked_at{.fd = fd, .events = POLLIN, .revents = 0};
  return ::poll(&looked_at, 1, timeout_ms) > 0;
}

}  // namespace

Ending::Ending(const sigset_t& signals)
    : signal_fd_(::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK)), removed_fd_(::eventfd(0, EFD_CLOEXEC)) {
  CAIRN_ASSERT(signal_fd_ >= 0 && removed_fd_ >= 0);
}

Ending::~Ending() {
  ::close(signal_fd_);
  ::close(removed_fd_);
}

void Ending::removed() const {
  const uint64_t one = 1;
  CAIRN_ASSERT(::write(removed_fd_, &one, sizeof one) == sizeof one);
}

bool Ending::is_removed() const { return is_readable(removed_fd_, 0); }

Ending::Reason Ending::wait() const {
  while (true) {
    pollfd looked_at[] = {{.fd = signal_fd_, .events = POLLIN, .revents = 0},
                          {.fd = removed_fd_, .events = POLLIN, .revents = 0}};
    (void)::poll(looked_at, std::size(looked_at), -1);
    signalfd_siginfo told{};
    if (::read(signal_fd_, &told, sizeof told) == sizeof told) {
      return {Kind::kSignal, static_cast<int>(told.ssi_signo)};
    }
    if (looked_at[1].revents != 0) return {Kind::kRemoved};
  }
}

}  // namespace cairn::cmd
