#include "net/client/connecting.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <unistd.h>

#include "net/listener.h"
#include "net/loop.h"
#include "net/tls/tls_client_context.h"

namespace cairn::net {
namespace {

constexpr int64_t kAttemptNsMin = 2'000'000'000;  // as Go: one of several addresses gets this at least

// Go's words.
std::string words_of(int error, std::string_view what = "connect") {
  std::string why = std::strerror(error);
  if (why[0] >= 'A' && why[0] <= 'Z') why[0] = static_cast<char>(why[0] - 'A' + 'a');
  return fmt::format("{}: {}", what, why);
}

// Gives a socket that is to reach `to` the address `local_ip`; "", or a unix socket: none. 0 or an errno.
int bind_to(int fd, const SocketAddress& to, const std::string& local_ip) {
  if (local_ip.empty() || to.storage.ss_family == AF_UNIX) return 0;
  sockaddr_storage local{};
  local.ss_family = to.storage.ss_family;
  void* const address = to.storage.ss_family == AF_INET6
                            ? static_cast<void*>(&reinterpret_cast<sockaddr_in6&>(local).sin6_addr)
                            : static_cast<void*>(&reinterpret_cast<sockaddr_in&>(local).sin_addr);
  if (::inet_pton(local.ss_family, local_ip.c_str(), address) != 1) return EAFNOSUPPORT;  // of the other family
  const int on = 1;
  ::setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
  return ::bind(fd, reinterpret_cast<const sockaddr*>(&local), to.length) == 0 ? 0 : errno;
}

// A unix socket that is not there is nobody who listens, too.
Code code_of(int error) { return error == ECONNREFUSED || error == ENOENT ? Code::kAborted : Code::kUnavailable; }

}  // namespace

Connecting::Connecting(Loop& loop, Resolver& resolver, const Options& options, Endpoint endpoint, Done done)
    : loop_(loop), options_(options), endpoint_(std::move(endpoint)), done_(std::move(done)) {
  due_ns_ = loop_.now_ns() + options_.dial_timeout_ns;
  set_timer(options_.dial_timeout_ns);
  HostPort target;
  Result<SocketAddress> unix_socket = SocketAddress{};
  if (endpoint_.is_unix) {
    unix_socket = unix_address(endpoint_.address);
    target = {.host = "127.0.0.1", .port = "0"};  // asked all the same: the answer comes from the loop
    host_ = endpoint_.address;
  } else if (auto parts = split_address(endpoint_.address)) {
    target = *std::move(parts);
    if (target.host.empty()) target.host = "localhost";
    host_ = target.host;
  } else {
    unix_socket = std::unexpected(parts.error());
    target = {.host = "127.0.0.1", .port = "0"};
  }
  question_ = resolver.resolve(
      target.host, target.port,
      [this, is_unix = endpoint_.is_unix, unix_socket = std::move(unix_socket)](auto addresses) mutable {
        if (!unix_socket) return finish(std::unexpected(std::move(unix_socket).error()));
        if (is_unix) addresses = std::vector<SocketAddress>{*unix_socket};
        on_addresses(std::move(addresses));
      });
}

Connecting::~Connecting() { loop_.timers().remove(*this); }

std::string Connecting::text(const std::string& why) const {
  return fmt::format("dial {} {}: {}", endpoint_.is_unix ? "unix" : "tcp", endpoint_.address, why);
}

void Connecting::set_timer(int64_t delay_ns) {
  loop_.timers().remove(*this);
  loop_.timers().add(*this, loop_.now_ns() + delay_ns);
}

void Connecting::on_addresses(Result<std::vector<SocketAddress>> addresses) {
  question_.reset();
  if (!addresses) return finish(fail(addresses.error().code, "{}", text(addresses.error().message)));
  addresses_ = *std::move(addresses);
  last_error_ = {.code = Code::kUnavailable, .message = text("no addresses")};
  phase_ = Phase::kConnecting;
  try_next();
}

void Connecting::try_next() {
  descriptor_.reset();
  while (next_ < addresses_.size()) {
    const size_t left = addresses_.size() - next_;
    const SocketAddress& address = addresses_[next_++];
    const int fd = ::socket(address.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
      last_error_ = {.code = Code::kUnavailable, .message = text(words_of(errno))};
      continue;
    }
    prepare_tcp(fd);
    if (const int error = bind_to(fd, address, options_.local_ip); error != 0) {
      last_error_ = {.code = Code::kUnavailable, .message = text(words_of(error, "bind"))};
      ::close(fd);
      continue;
    }
    if (::connect(fd, reinterpret_cast<const sockaddr*>(&address.storage), address.length) != 0 &&
        errno != EINPROGRESS) {
      last_error_ = {.code = code_of(errno), .message = text(words_of(errno))};
      ::close(fd);
      continue;
    }
    auto watched = loop_.reactor().watch(fd, *this);
    if (!watched) return finish(std::unexpected(std::move(watched).error()));
    descriptor_ = *std::move(watched);
    descriptor_->wait_writable();
    const int64_t left_ns = std::max<int64_t>(due_ns_ - loop_.now_ns(), 0);
    set_timer(std::min(left_ns, std::max(left_ns / static_cast<int64_t>(left), kAttemptNsMin)));
    return;
  }
  finish(std::unexpected(last_error_));
}

void Connecting::on_connected() {
  int error = 0;
  socklen_t length = sizeof error;
  ::getsockopt(descriptor_->fd(), SOL_SOCKET, SO_ERROR, &error, &length);
  if (error != 0) {
    last_error_ = {.code = code_of(error), .message = text(words_of(error))};
    return try_next();
  }
  if (!endpoint_.is_secure) {
    const int fd = descriptor_->release();
    return finish(Connected{.fd = fd, .transport = clear_transport(fd)});
  }
  if (options_.tls == nullptr) return finish(fail(Code::kUnavailable, "{}", text("tls: no configuration")));
  options_.tls->look_again(loop_.now_ns());
  transport_ = options_.tls->new_transport(descriptor_->fd(), host_);
  phase_ = Phase::kShakingHands;
  set_timer(options_.handshake_timeout_ns);
  step();
}

void Connecting::step() {
  switch (transport_->shake_hands()) {
    case Transport::Outcome::kWantsReadable: return descriptor_->wait_readable();
    case Transport::Outcome::kWantsWritable: return descriptor_->wait_writable();
    case Transport::Outcome::kClosed: return finish(fail(Code::kUnavailable, "{}", transport_->failure()));
    case Transport::Outcome::kDone: break;
  }
  const int fd = descriptor_->release();
  finish(Connected{.fd = fd, .transport = std::move(transport_)});
}

void Connecting::on_readable() {
  if (phase_ == Phase::kShakingHands) step();
}

void Connecting::on_writable() {
  if (phase_ == Phase::kConnecting) return on_connected();
  if (phase_ == Phase::kShakingHands) step();
}

void Connecting::on_timer() {
  if (phase_ == Phase::kShakingHands) return finish(fail(Code::kDeadlineExceeded, "net/http: TLS handshake timeout"));
  last_error_ = {.code = Code::kDeadlineExceeded, .message = text("i/o timeout")};
  if (phase_ == Phase::kConnecting && loop_.now_ns() < due_ns_) return try_next();
  finish(std::unexpected(last_error_));
}

void Connecting::finish(Result<Connected> outcome) {
  if (std::exchange(phase_, Phase::kOver) == Phase::kOver) return;
  loop_.timers().remove(*this);
  question_.reset();
  descriptor_.reset();
  const Done done = std::move(done_);
  done(std::move(outcome));
}

}  // namespace cairn::net
