#include "net/listener.h"

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <string>
#include <utility>

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "net/event_loop.h"
#include "net/loop.h"

namespace cairn::net {
namespace {

constexpr int kBacklog = 4096;
constexpr unsigned kAcceptsATurn = 64;
constexpr int64_t kPauseNs = 50'000'000;
constexpr int kTcpKeepaliveSeconds = 30;
constexpr int kUnsentBytes = 256 * 1024;

// Go's texts begin with a small letter.
std::string error_text(int error) {
  std::string why = std::strerror(error);
  if (why[0] >= 'A' && why[0] <= 'Z') why[0] = static_cast<char>(why[0] - 'A' + 'a');
  return why;
}

// The path of the unix socket that `fd` is; "" when it is none.
std::string unix_path(int fd) {
  sockaddr_un address{};
  socklen_t length = sizeof address;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) != 0 || address.sun_family != AF_UNIX)
    return {};
  return address.sun_path;
}

Result<int> bind_one(const addrinfo& info, SocketOptions options) {
  const int fd = ::socket(info.ai_family, info.ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, info.ai_protocol);
  if (fd < 0) return fail_errno(errno, "net: socket");
  const int on = 1;
  // Always, as Go's listeners have it: --socket-reuse-address changes nothing there either.
  ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (options.reuse_port) ::setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
  if (info.ai_family == AF_INET6) {
    // "::" takes IPv4 as well, as Go's listener does.
    const int off = 0;
    ::setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
  }
  if (::bind(fd, info.ai_addr, info.ai_addrlen) != 0 || ::listen(fd, kBacklog) != 0) {
    const int error = errno;
    ::close(fd);
    return fail(Code::kUnavailable, "bind: {}", error_text(error));
  }
  return fd;
}

// The connection at the queue's front has gone, or its network fails: the next may be good. See accept(2).
bool is_about_one_connection(int error) {
  constexpr int kErrors[] = {EINTR,  ECONNABORTED, ENETDOWN,     EPROTO,     ENOPROTOOPT,
                             ENONET, EHOSTDOWN,    EHOSTUNREACH, EOPNOTSUPP, ENETUNREACH};
  return std::find(std::begin(kErrors), std::end(kErrors), error) != std::end(kErrors);
}

}  // namespace

void prepare_tcp(int fd) {
  const auto set = [fd](int level, int option, int value) { ::setsockopt(fd, level, option, &value, sizeof value); };
  set(IPPROTO_TCP, TCP_NODELAY, 1);
  // A peer that vanished without a word is noticed, as etcd's listener does it.
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
  set(IPPROTO_TCP, TCP_KEEPIDLE, kTcpKeepaliveSeconds);
  set(IPPROTO_TCP, TCP_KEEPINTVL, kTcpKeepaliveSeconds);
  // What a stopped reader leaves in the kernel: this much, not megabytes.
  set(IPPROTO_TCP, TCP_NOTSENT_LOWAT, kUnsentBytes);
}

std::string address_text(const sockaddr_storage& address) {
  if (address.ss_family == AF_UNIX) {
    const auto* local = reinterpret_cast<const sockaddr_un*>(&address);
    return local->sun_path[0] == '\0' ? "@" : local->sun_path;
  }
  char host[INET6_ADDRSTRLEN] = {};
  if (address.ss_family == AF_INET6) {
    const auto* v6 = reinterpret_cast<const sockaddr_in6*>(&address);
    inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof host);
    return fmt::format("[{}]:{}", host, ntohs(v6->sin6_port));
  }
  const auto* v4 = reinterpret_cast<const sockaddr_in*>(&address);
  inet_ntop(AF_INET, &v4->sin_addr, host, sizeof host);
  return fmt::format("{}:{}", host, ntohs(v4->sin_port));
}

std::string socket_address(int fd, bool own) {
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  const auto ask = own ? ::getsockname : ::getpeername;
  return ask(fd, reinterpret_cast<sockaddr*>(&address), &length) == 0 ? address_text(address) : "";
}

Result<HostPort> split_address(std::string_view address) {
  const size_t colon = address.rfind(':');
  if (colon == std::string_view::npos) return fail(Code::kInvalidArgument, "net: no port in address {}", address);
  std::string host(address.substr(0, colon));
  std::string port(address.substr(colon + 1));
  if (host.starts_with('[') && host.ends_with(']')) {
    host = host.substr(1, host.size() - 2);
  } else if (host.find(':') != std::string::npos) {
    return fail(Code::kInvalidArgument, "net: too many colons in address {}", address);
  }
  if (port.empty() || port.find_first_not_of("0123456789") != std::string::npos) {
    return fail(Code::kInvalidArgument, "net: invalid port in address {}", address);
  }
  return HostPort{.host = std::move(host), .port = std::move(port)};
}

Result<BoundSocket> listen_on(std::string_view address, SocketOptions options) {
  CAIRN_TRY(const HostPort target, split_address(address));
  // The system would take the number modulo 65536. The words are Go's.
  if (target.port.size() > 5 || std::stoul(target.port) > UINT16_MAX) {
    return fail(Code::kInvalidArgument, "listen tcp: address {}: invalid port", target.port);
  }
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int outcome =
      ::getaddrinfo(target.host.empty() ? nullptr : target.host.c_str(), target.port.c_str(), &hints, &found);
  if (outcome != 0) {
    return fail(Code::kInvalidArgument, "net: cannot resolve {}: {}", address, ::gai_strerror(outcome));
  }
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owned(found, &::freeaddrinfo);
  // Every interface: the IPv6 wildcard takes both. A name: IPv4 first, as Go does.
  const int preferred = target.host.empty() ? AF_INET6 : AF_INET;
  std::string why = "no address";
  for (const bool wanted : {true, false}) {
    for (const addrinfo* info = found; info != nullptr; info = info->ai_next) {
      if ((info->ai_family == preferred) != wanted) continue;
      auto fd = bind_one(*info, options);
      if (!fd) {
        why = fd.error().message;
        continue;
      }
      sockaddr_storage bound{};
      socklen_t length = sizeof bound;
      ::getsockname(*fd, reinterpret_cast<sockaddr*>(&bound), &length);
      return BoundSocket{.fd = *fd, .address = address_text(bound)};
    }
  }
  return fail(Code::kUnavailable, "listen tcp {}: {}", address, why);
}

Result<BoundSocket> listen_on_unix(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) {
    return fail(Code::kUnavailable, "listen unix {}: bind: invalid argument", path);
  }
  path.copy(address.sun_path, path.size());
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) {
    return fail(Code::kUnavailable, "remove {}: {}", path, error_text(errno));
  }
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return fail_errno(errno, "net: socket");
  if (::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 || ::listen(fd, kBacklog) != 0) {
    const int error = errno;
    ::close(fd);
    return fail(Code::kUnavailable, "listen unix {}: bind: {}", path, error_text(error));
  }
  return BoundSocket{.fd = fd, .address = path};
}

// While descriptors have run out, accepting again at once would only fail again.
struct Listener::Pause {
  std::unique_ptr<EventLoop::Timer> timer;
};

Listener::Listener(Loop& loop, OnAccept on_accept)
    : loop_(loop), on_accept_(std::move(on_accept)), pause_(std::make_unique<Pause>()) {}

Result<std::unique_ptr<Listener>> Listener::open(Loop& loop, int fd, OnAccept on_accept) {
  std::unique_ptr<Listener> listener(new Listener(loop, std::move(on_accept)));
  listener->unix_path_ = unix_path(fd);
  CAIRN_TRY(listener->descriptor_, loop.reactor().watch(fd, *listener));
  listener->descriptor_->wait_readable();
  return listener;
}

Listener::~Listener() {
  if (!unix_path_.empty()) ::unlink(unix_path_.c_str());
}

void Listener::on_readable() {
  for (unsigned accepts = 0; accepts < kAcceptsATurn; ++accepts) {
    const int fd = ::accept4(descriptor_->fd(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
      if (is_about_one_connection(errno)) continue;
      if (errno == EAGAIN || errno == EWOULDBLOCK) break;
      if (!std::exchange(is_failing_, true)) {
        log::error("accept failed; trying again until it works", {{"error", std::strerror(errno)}});
      }
      pause_->timer = loop_.after(kPauseNs, [this] { descriptor_->wait_readable(); });
      return;
    }
    if (std::exchange(is_failing_, false)) log::info("accept works again");
    prepare_tcp(fd);
    on_accept_(fd);
  }
  descriptor_->wait_readable();
}

}  // namespace cairn::net
