// net/transport.h: a stream of bytes over one non-blocking socket. Clear text now; TLS is another Transport.
//
// Which readiness of the socket it waits for is the transport's to say: TLS reads while it writes, and the other way
// round. It may also hold bytes that were received and not yet read, of which the socket knows nothing.
//
// Threads: one loop.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace cairn::net {

class Transport {
 public:
  virtual ~Transport() = default;
  enum class Outcome : uint8_t {
    kDone,
    kWantsReadable,  // nothing more can be done until the socket is readable
    kWantsWritable,  // the same, writable
    kClosed,         // the peer has closed, or the socket failed
  };
  struct Moved {
    Outcome outcome = Outcome::kDone;
    size_t bytes = 0;  // moved all the same
  };
  // kDone: bytes > 0.
  virtual Moved read(std::span<char> into) = 0;
  // kDone: all of it, or a part.
  virtual Moved write(std::string_view bytes) = 0;
  // Received and not read: reading again gives something although the socket is not readable.
  [[nodiscard]] virtual bool has_unread() const = 0;
  // Written, and not yet acknowledged by the peer: what the kernel and the transport hold.
  [[nodiscard]] virtual uint64_t unsent_bytes() const = 0;
  // We send no more; reading goes on.
  virtual void close_write() = 0;

  // Who is there. (The peer's certificate will stand here.)
  struct Peer {
    std::string address;  // "127.0.0.1:50000", "[::1]:50000"; "" when it has gone
  };
  [[nodiscard]] virtual Peer peer() const = 0;
};

// Does not own `fd`.
[[nodiscard]] std::unique_ptr<Transport> clear_transport(int fd);

}  // namespace cairn::net
