#include "net/transport.h"

#include <cerrno>

#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "net/listener.h"

namespace cairn::net {
namespace {

class ClearTransport final : public Transport {
 public:
  explicit ClearTransport(int fd) : fd_(fd) {}

  Moved read(std::span<char> into) override {
    for (;;) {
      const ssize_t bytes = ::recv(fd_, into.data(), into.size(), 0);
      if (bytes > 0) return {.bytes = static_cast<size_t>(bytes)};
      if (bytes == 0) return {.outcome = Outcome::kClosed};
      if (errno != EINTR) return failed(Outcome::kWantsReadable);
    }
  }

  Moved write(std::string_view bytes) override {
    for (;;) {
      const ssize_t sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent >= 0) return {.bytes = static_cast<size_t>(sent)};
      if (errno != EINTR) return failed(Outcome::kWantsWritable);
    }
  }

  bool has_unread() const override { return false; }

  uint64_t unsent_bytes() const override {
    int bytes = 0;
    return ::ioctl(fd_, SIOCOUTQ, &bytes) == 0 && bytes > 0 ? static_cast<uint64_t>(bytes) : 0;
  }

  void close_write() override { ::shutdown(fd_, SHUT_WR); }

  Peer peer() const override {
    sockaddr_storage address{};
    socklen_t length = sizeof address;
    if (::getpeername(fd_, reinterpret_cast<sockaddr*>(&address), &length) != 0) return {};
    return {.address = address_text(address)};
  }

 private:
  static Moved failed(Outcome blocked) {
    return {.outcome = errno == EAGAIN || errno == EWOULDBLOCK ? blocked : Outcome::kClosed};
  }

  int fd_;
};

}  // namespace

std::unique_ptr<Transport> clear_transport(int fd) { return std::make_unique<ClearTransport>(fd); }

}  // namespace cairn::net
