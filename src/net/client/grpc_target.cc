#include "net/client/grpc_target.h"

#include <cerrno>
#include <cstring>
#include <memory>

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

namespace cairn::net {
namespace {

constexpr std::string_view kDefaultPort = "443";

// Takes `prefix` away from the front.
bool take(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return false;
  text.remove_prefix(prefix.size());
  return true;
}

Result<GrpcTarget> parse_host(std::string_view text) {
  GrpcTarget target{.authority = std::string(text)};
  std::string_view host = text;
  std::string_view port = kDefaultPort;
  const size_t bracket = text.starts_with('[') ? text.find(']') : std::string_view::npos;
  if (bracket != std::string_view::npos) {
    host = text.substr(1, bracket - 1);
    const std::string_view behind = text.substr(bracket + 1);
    if (!behind.empty()) {
      if (behind.size() < 2 || behind[0] != ':') return fail(Code::kInvalidArgument, "net: no address: {}", text);
      port = behind.substr(1);
    }
  } else if (const size_t colon = text.find(':'); colon != std::string_view::npos && colon == text.rfind(':')) {
    host = text.substr(0, colon);
    port = text.substr(colon + 1);
    if (port.empty()) return fail(Code::kInvalidArgument, "net: missing port behind the colon in address {}", text);
    if (host.empty()) host = "localhost";
  }
  if (host.empty()) return fail(Code::kInvalidArgument, "net: missing address");
  target.host = host;
  target.port = port;
  return target;
}

Result<int> try_connect(int family, const sockaddr* address, socklen_t length, Patience& patience,
                        int64_t deadline_ns) {
  const int fd = ::socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return fail_errno(errno, "net: socket");
  int error = ::connect(fd, address, length) == 0 ? 0 : errno;
  if (error == EINPROGRESS) {
    socklen_t size = sizeof error;
    if (!patience.wait(fd, POLLOUT, deadline_ns)) {
      error = ETIMEDOUT;
    } else if (::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0) {
      error = errno;
    }
  }
  if (error == 0) return fd;
  ::close(fd);
  return fail(Code::kUnavailable, "net: connect: {}", std::strerror(error));
}

}  // namespace

Result<GrpcTarget> parse_grpc_target(std::string_view text) {
  if (std::string_view path = text; take(path, "unix:")) {
    if (path.starts_with("//") && !path.starts_with("///")) {
      return fail(Code::kInvalidArgument, "net: a unix socket's address has no authority: {}", text);
    }
    (void)take(path, "//");
    if (path.empty() || path.size() >= sizeof(sockaddr_un{}.sun_path)) {
      return fail(Code::kInvalidArgument, "net: no path of a unix socket: {}", text);
    }
    return GrpcTarget{.unix_path = std::string(path), .authority = "localhost"};
  }
  for (const std::string_view scheme : {"dns:", "passthrough:"}) {
    std::string_view rest = text;
    if (!take(rest, scheme)) continue;
    if (take(rest, "//")) {  // an authority, such as a name server's address: it is not asked
      const size_t slash = rest.find('/');
      rest = slash == std::string_view::npos ? "" : rest.substr(slash + 1);
      return parse_host(rest);
    }
  }
  return parse_host(text);
}

Result<int> connect_to(const GrpcTarget& target, Patience& patience, int64_t deadline_ns) {
  if (!target.unix_path.empty()) {
    sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
    std::memcpy(address.sun_path, target.unix_path.data(), target.unix_path.size());
    return try_connect(AF_UNIX, reinterpret_cast<const sockaddr*>(&address), sizeof address, patience, deadline_ns);
  }
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (const int rc = ::getaddrinfo(target.host.c_str(), target.port.c_str(), &hints, &found); rc != 0) {
    return fail(Code::kUnavailable, "net: look up {}: {}", target.host, ::gai_strerror(rc));
  }
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> addresses(found, &::freeaddrinfo);
  Result<int> connected = fail(Code::kUnavailable, "net: {} has no address", target.host);
  for (const addrinfo* at = found; at != nullptr && patience.has_time(deadline_ns); at = at->ai_next) {
    connected = try_connect(at->ai_family, at->ai_addr, at->ai_addrlen, patience, deadline_ns);
    if (!connected) continue;
    const int on = 1;
    (void)::setsockopt(*connected, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return connected;
  }
  return connected;
}

}  // namespace cairn::net
