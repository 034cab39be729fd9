// net/protocol.h: what a connection speaks, without its socket: bytes in, bytes out.
//
// Threads: one loop.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "net/output.h"
#include "net/peer_certificate.h"

namespace cairn::net {

// What a protocol asks of the connection that carries it.
class ProtocolHost {
 public:
  virtual ~ProtocolHost() = default;
  // There may be something to send, or a reason to close: output() and wants_close() are asked at the turn's end.
  virtual void wake() = 0;
  // The socket takes no more. Then the whole peer is slow, not single calls.
  [[nodiscard]] virtual bool is_blocked() const = 0;
  // "127.0.0.1:50000"
  [[nodiscard]] virtual std::string peer_address() const = 0;
  [[nodiscard]] virtual std::string local_address() const { return {}; }
  // Below is TLS.
  [[nodiscard]] virtual bool is_secure() const { return false; }
  // Who the peer has proved to be; null: it was not asked.
  [[nodiscard]] virtual const std::shared_ptr<const PeerCertificate>& peer_certificate() const {
    static const std::shared_ptr<const PeerCertificate> kNone;
    return kNone;
  }
};

// What is lost if a connection ends now; the most comes last.
enum class Stake : uint8_t {
  kLittle,       // at most a request that can be asked again
  kRequestBody,  // a body as long as the client likes has begun to come
  kAnswer,       // an answer as long as the server likes has begun
};

class Protocol {
 public:
  virtual ~Protocol() = default;
  [[nodiscard]] virtual Stake stake() const { return Stake::kLittle; }
  // False: the peer broke the rules; the connection is closed after what output() still gives.
  virtual bool receive(std::string_view bytes) = 0;
  // Appends what is to be sent, as far as there is room.
  virtual void output(Output& out) = 0;
  // Nothing more will be sent: close the connection once the output is sent.
  [[nodiscard]] virtual bool wants_close() const = 0;
  // False while so much waits to be sent that nothing more should be read. `blocked`: the socket takes no more.
  [[nodiscard]] virtual bool may_read(bool blocked) const = 0;
  // Take no new work and close when the present work is done.
  virtual void drain() = 0;
  // The connection is gone: ends all calls. Nothing else is called afterwards.
  virtual void on_closed() = 0;
};

}  // namespace cairn::net
