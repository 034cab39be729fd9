#include "net/client/dial.h"

#include <cerrno>
#include <cstring>
#include <memory>

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/listener.h"

namespace cairn::net {
namespace {

// As ::connect: 0, or -1 and errno.
int connect_within(int fd, const addrinfo& to, int timeout_ms) {
  if (timeout_ms == 0) return ::connect(fd, to.ai_addr, to.ai_addrlen);
  const int flags = ::fcntl(fd, F_GETFL);
  (void)::fcntl(fd, F_SETFL, flags | O_NONBLOCK);
  if (::connect(fd, to.ai_addr, to.ai_addrlen) != 0) {
    if (errno != EINPROGRESS) return -1;
    pollfd waits{.fd = fd, .events = POLLOUT, .revents = 0};
    int ready = 0;
    do {
      ready = ::poll(&waits, 1, timeout_ms);
    } while (ready < 0 && errno == EINTR);
    int error = ETIMEDOUT;
    socklen_t length = sizeof error;
    if (ready > 0) (void)::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
    if (error != 0) {
      errno = error;
      return -1;
    }
  }
  (void)::fcntl(fd, F_SETFL, flags);
  return 0;
}

}  // namespace

Result<int> dial(std::string_view address, DialOptions options) {
  CAIRN_TRY(const HostPort target, split_address(address));
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const char* const host = target.host.empty() ? "localhost" : target.host.c_str();
  if (const int rc = ::getaddrinfo(host, target.port.c_str(), &hints, &found); rc != 0) {
    return fail(Code::kUnavailable, "net: dial {}: {}", address, ::gai_strerror(rc));
  }
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> addresses(found, &::freeaddrinfo);
  int error = 0;
  for (const addrinfo* at = found; at != nullptr; at = at->ai_next) {
    const int fd = ::socket(at->ai_family, at->ai_socktype | SOCK_CLOEXEC, at->ai_protocol);
    if (fd < 0) {
      error = errno;
      continue;
    }
    if (options.receive_buffer_bytes != 0) {
      (void)::setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &options.receive_buffer_bytes, sizeof(int));
    }
    if (connect_within(fd, *at, options.timeout_ms) == 0) {
      const int on = 1;
      (void)::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
      if (!options.blocking) (void)::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK);
      return fd;
    }
    error = errno;
    ::close(fd);
  }
  return fail(Code::kUnavailable, "net: dial {}: {}", address, std::strerror(error));
}

}  // namespace cairn::net
