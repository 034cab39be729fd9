// net/transport.h: reading and writing one non-blocking socket. Clear text now; TLS is another Transport.
//
// Threads: one loop.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

namespace cairn::net {

class Transport {
 public:
  virtual ~Transport() = default;
  enum class Outcome : uint8_t { kDone, kBlocked, kClosed };
  struct Moved {
    Outcome outcome = Outcome::kDone;
    size_t bytes = 0;
  };
  // kClosed: the peer has closed or the socket failed.
  virtual Moved read(std::span<char> into) = 0;
  // May take a part; kBlocked: the rest when the socket is writable.
  virtual Moved write(std::string_view bytes) = 0;
  // Written, and not yet acknowledged by the peer: what the kernel (and TLS) holds.
  [[nodiscard]] virtual uint64_t unsent_bytes() const = 0;
  // We send no more; reading goes on.
  virtual void close_write() = 0;
};

// Does not own `fd`.
[[nodiscard]] std::unique_ptr<Transport> clear_transport(int fd);

}  // namespace cairn::net
