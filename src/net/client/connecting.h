// net/client/connecting.h: from the name of a server to a connection that may speak: look up, connect, shake hands.
// Nothing of it holds up the loop, and each part has its time.
//
// Threads: one loop.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "net/client/resolver.h"
#include "net/reactor.h"
#include "net/timer_heap.h"
#include "net/transport.h"

namespace cairn::net {

class Loop;
class TlsClientContext;
class TlsTransport;

// Where a server is.
struct Endpoint {
  std::string address;  // "127.0.0.1:2380", "[::1]:2380", "host:2380"; of a unix socket its path
  bool is_unix = false;
  bool is_secure = false;
  friend bool operator==(const Endpoint&, const Endpoint&) = default;
};

class Connecting final : private Reactor::Handler, private TimerHeap::Node {
 public:
  struct Options {
    TlsClientContext* tls = nullptr;  // null: nothing secure can be reached
    int64_t dial_timeout_ns = 2'000'000'000;
    int64_t handshake_timeout_ns = 10'000'000'000;  // as Go's
    std::string local_ip = {};                      // where connections come from; "": the system chooses
  };
  struct Connected {
    int fd = -1;  // the hearer's
    std::unique_ptr<Transport> transport;
  };
  // Called once, never from inside the constructor; may destroy this.
  //   errors: kAborted when nobody listens there (the connection was refused), kDeadlineExceeded, kUnavailable else
  using Done = std::function<void(Result<Connected>)>;

  Connecting(Loop& loop, Resolver& resolver, const Options& options, Endpoint endpoint, Done done);
  ~Connecting() override;  // gives up
  Connecting(const Connecting&) = delete;
  Connecting& operator=(const Connecting&) = delete;

 private:
  enum class Phase : uint8_t { kLookingUp, kConnecting, kShakingHands, kOver };

  void on_readable() override;
  void on_writable() override;
  void on_timer() override;

  void on_addresses(Result<std::vector<SocketAddress>> addresses);
  void try_next();
  void on_connected();
  void step();
  void set_timer(int64_t delay_ns);
  void finish(Result<Connected> outcome);
  [[nodiscard]] std::string text(const std::string& why) const;

  Loop& loop_;
  const Options options_;
  const Endpoint endpoint_;
  Done done_;
  Phase phase_ = Phase::kLookingUp;
  int64_t due_ns_ = 0;  // of dialling, over all addresses
  std::string host_;
  std::unique_ptr<Resolver::Question> question_;
  std::vector<SocketAddress> addresses_;
  size_t next_ = 0;  // address to try
  std::unique_ptr<Reactor::Descriptor> descriptor_;
  std::unique_ptr<TlsTransport> transport_;
  Error last_error_;
};

}  // namespace cairn::net
