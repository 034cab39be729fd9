// net/server.h: listens, owns the io threads, and tells gRPC from HTTP/1.1 on one port.
//
// Each connection is given to one io thread, in turn, and stays there; with TLS once its handshake is done, which has a
// thread of its own. What the handshake agreed on decides, or the first bytes: the HTTP/2 preface starts a gRPC
// session, anything else is HTTP/1.1.
//
// Threads: constructed, started and stopped by one thread; stats() from any.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "net/answer_limits.h"
#include "net/event_loop.h"
#include "net/http.h"
#include "net/http2/grpc.h"
#include "net/listener.h"
#include "net/stats.h"
#include "net/tls/tls_listen.h"

namespace cairn::net {

// One listening address. At least one of `grpc` and `http` is true. Plain HTTP comes as HTTP/1.1 or as HTTP/2.
struct Listen {
  // "127.0.0.1:2379", "[::1]:0", "localhost:2379", ":2379" (every interface), port 0: any free; or a unix socket's
  // path.
  std::string address;
  bool is_unix = false;
  bool grpc = true;
  bool http = true;
  HttpHandler* http_handler = nullptr;  // null: the server's own
  HttpLimits http_limits = {};
  TlsListen tls = {};
  bool reuse_port = false;
  int fd = -1;            // a socket that listens there already (listen_at()), given to the server
  bool is_early = false;  // open_early() opens it
};

// As grpc-go: a client that pings an open call more often than `min_time`, or a connection without calls more often
// than every two hours, and does so a third time, is sent GOAWAY "too_many_pings".
struct Keepalive {
  int64_t min_time_ns = 5'000'000'000;
  int64_t interval_ns = 7'200'000'000'000;  // a silent connection is pinged after this; 0: never
  int64_t timeout_ns = 20'000'000'000;      // and closed when it stays silent for this
};

struct ServerOptions {
  std::vector<Listen> listen;
  unsigned io_threads = 1;
  uint32_t max_concurrent_streams = UINT32_MAX;          // a connection
  uint32_t max_request_message_bytes = 2 * 1024 * 1024;  // more: RESOURCE_EXHAUSTED
  size_t connections_max = SIZE_MAX;  // at once, over all addresses; more hear "too many connections"
  // Instead a newcomer takes the place of those that have least to lose (net/protocol.h) and have been there for
  // longest. Who has begun to get an answer stays. Of servers with one loop.
  bool newcomers_displace = false;
  // A client for which something waits takes at least so much of it, over so long a time; else it is ended.
  int64_t reader_stall_ns = 30'000'000'000;
  uint32_t reader_rate_min = 1024;  // bytes a second
  AnswerLimits answers;
  // What gRPC messages that are not whole may hold, over all connections. The call that goes beyond is refused.
  uint64_t request_bytes_max = 256 << 20;
  Keepalive keepalive;

  [[nodiscard]] uint64_t reader_bytes_min() const {
    return std::max<uint64_t>(1, static_cast<uint64_t>(reader_stall_ns) / 1'000'000 * reader_rate_min / 1000);
  }
};

// What a process of `limit` descriptors may give to connections: etcd's rule. 0: too few to serve at all.
inline constexpr size_t kReservedDescriptors = 150;
[[nodiscard]] constexpr size_t connections_within(uint64_t limit) {
  return limit <= kReservedDescriptors ? 0 : static_cast<size_t>(limit - kReservedDescriptors);
}

// Binds: what start() does for addresses that have no socket yet.
//   errors: kInvalidArgument for an address that is none, kUnavailable when it cannot be bound
Result<BoundSocket> listen_at(const Listen& listen);

class Server {
 public:
  // `router` and `http` outlive the server; null: no gRPC, no HTTP/1.1.
  Server(ServerOptions options, Router* router, HttpHandler* http);
  ~Server();  // stops at once when still running
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // The loops exist from construction on, so that their turn ends can be set before start().
  [[nodiscard]] std::span<EventLoop* const> loops() const;

  // Starts the threads: from here on what is posted to the loops runs. Before start(), which does it if nobody has.
  void run();

  // Takes connections at the early listeners, and starts the threads. Before start(), which does it if nobody has.
  //   errors: of start()
  Status open_early();

  // Binds, then takes connections. The bound addresses as "host:port", in the order of options.listen.
  //   errors: kInvalidArgument for an address that is none, kUnavailable when it cannot be bound
  Result<std::vector<std::string>> start();

  // Listens no more, sends GOAWAY, lets open calls and requests end for at most `grace_ns`, then closes everything
  // and joins the threads. Calls still open get on_end().
  void stop(int64_t grace_ns);

  // One entry a method called so far, summed over the loops, and the totals of all connections.
  [[nodiscard]] ServerStats stats() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace cairn::net
