// net/transport.h: a stream of bytes over one non-blocking socket: clear text here, TLS in tls/tls_transport.h.
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

#include "net/peer_certificate.h"

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
  // Of what went to the socket, as much as the peer has acknowledged. Compared with what it was earlier.
  [[nodiscard]] virtual uint64_t taken_bytes() const = 0;
  // We send no more; reading goes on.
  virtual void close_write() = 0;

  // The protocol above, where the handshake has told it.
  enum class Spoken : uint8_t { kUnsaid, kHttp1, kHttp2 };
  [[nodiscard]] virtual Spoken spoken() const = 0;

  // "127.0.0.1:50000", "[::1]:50000"; "@" over a unix socket, "" when the peer has gone.
  [[nodiscard]] virtual std::string peer_address() const = 0;
  // The same of our end; a unix socket's path.
  [[nodiscard]] virtual std::string local_address() const = 0;
  [[nodiscard]] virtual bool is_secure() const = 0;
  // Who the peer has proved to be; null: it was not asked.
  [[nodiscard]] virtual const std::shared_ptr<const PeerCertificate>& peer_certificate() const = 0;
};

// Does not own `fd`. `early`: what was read from it already.
[[nodiscard]] std::unique_ptr<Transport> clear_transport(int fd, std::string early = {});

}  // namespace cairn::net
