// net/tls/handshakes.h: TLS handshakes, away from the loops that serve: a key's work takes a millisecond, and a name
// may have to be looked up.
//
// A thread of its own takes each new connection through its handshake and hands it to its loop. A storm of handshakes
// takes that thread's time and no other's. One that does not end within ten seconds is given up; so is the oldest when
// there are too many.
//
// Threads: begin() from any; the rest from the one that owns it.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "net/seats.h"
#include "net/tls/names.h"
#include "net/tls/tls_listen.h"
#include "net/transport.h"

namespace cairn::net {

class Loop;

class Handshakes {
 public:
  struct Options {
    int64_t timeout_ns = 10'000'000'000;
    size_t open_max = 2048;
    NameLookup lookup = system_lookup();
  };
  // `index`: of its loop, which serves nobody.
  Handshakes(unsigned index, Options options);
  ~Handshakes();  // after stop()
  Handshakes(const Handshakes&) = delete;
  Handshakes& operator=(const Handshakes&) = delete;

  // Called on the thread of the handshakes, with a connection that may speak now. Owns `fd`.
  using Done = std::function<void(int fd, std::unique_ptr<Transport> transport, Seat seat)>;
  // Owns `fd`.
  void begin(int fd, TlsListen listen, Seat seat, Done done);

  void start();
  void stop();  // what is not done is closed

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace cairn::net
