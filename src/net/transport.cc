#include "net/transport.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "net/listener.h"

namespace cairn::net {
namespace {

class ClearTransport final : public Transport {
 public:
  ClearTransport(int fd, std::string early) : fd_(fd), early_(std::move(early)) {}

  Moved read(std::span<char> into) override {
    if (!early_.empty()) {
      const size_t bytes = std::min(early_.size(), into.size());
      std::memcpy(into.data(), early_.data(), bytes);
      early_ = early_.substr(bytes);
      return {.bytes = bytes};
    }
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
      if (sent >= 0) {
        sent_bytes_ += static_cast<uint64_t>(sent);
        return {.bytes = static_cast<size_t>(sent)};
      }
      if (errno != EINTR) return failed(Outcome::kWantsWritable);
    }
  }

  bool has_unread() const override { return !early_.empty(); }

  uint64_t taken_bytes() const override {
    int waiting = 0;
    const bool is_known = ::ioctl(fd_, SIOCOUTQ, &waiting) == 0 && waiting > 0;
    return sent_bytes_ - (is_known ? static_cast<uint64_t>(waiting) : 0);
  }

  void close_write() override { ::shutdown(fd_, SHUT_WR); }

  Spoken spoken() const override { return Spoken::kUnsaid; }

  std::string peer_address() const override { return socket_address(fd_, false); }
  std::string local_address() const override { return socket_address(fd_, true); }
  bool is_secure() const override { return false; }
  const std::shared_ptr<const PeerCertificate>& peer_certificate() const override {
    static const std::shared_ptr<const PeerCertificate> kNone;
    return kNone;
  }

 private:
  static Moved failed(Outcome blocked) {
    return {.outcome = errno == EAGAIN || errno == EWOULDBLOCK ? blocked : Outcome::kClosed};
  }

  const int fd_;
  std::string early_;
  uint64_t sent_bytes_ = 0;
};

}  // namespace

std::unique_ptr<Transport> clear_transport(int fd, std::string early) {
  return std::make_unique<ClearTransport>(fd, std::move(early));
}

}  // namespace cairn::net
