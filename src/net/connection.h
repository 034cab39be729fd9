// net/connection.h: one accepted socket: tells HTTP/2 from HTTP/1.1, then moves bytes between it and the protocol.
//
//     unknown -> open -> saying goodbye -> closed       closed at once when the peer goes or the socket fails
//
// A connection holds a buffer only while its socket takes less than its session gave (below 256 KB).
//
// Threads: one loop.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "net/protocol.h"
#include "net/reactor.h"
#include "net/server.h"
#include "net/timer_heap.h"
#include "net/transport.h"

namespace cairn::net {

class Loop;

// What listens where the connection came in.
struct Services {
  Router* router = nullptr;     // null: no gRPC here
  HttpHandler* http = nullptr;  // null: no HTTP/1.1 here
};

class Connection final : public ProtocolHost, private Reactor::Handler, private TimerHeap::Node {
 public:
  // Owns `fd`. `options` outlives the connection.
  Connection(Loop& loop, int fd, const ServerOptions& options, Services services);
  ~Connection() override;
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  void start();
  void drain();
  // Writes what there is, and asks for what the socket shall tell next. Called by the loop at a turn's end.
  void flush();
  void on_closed();  // called by the loop, once

  void wake() override;

  // For the loop's list.
  [[nodiscard]] size_t place() const { return place_; }
  void set_place(size_t place) { place_ = place; }
  bool mark_closing() { return !std::exchange(closing_, true); }  // false: it was already

 private:
  void on_readable() override;
  void on_writable() override;
  void on_timer() override;

  bool sniff(std::string_view bytes);
  void write_pending();
  void fill_and_write();
  void say_goodbye();
  void read_away();

  Loop& loop_;
  const ServerOptions& options_;
  const Services services_;
  std::unique_ptr<Reactor::Descriptor> descriptor_;
  std::unique_ptr<Transport> transport_;
  std::unique_ptr<Protocol> protocol_;  // null until the first bytes told which
  std::string sniffed_;                 // those bytes, as long as they do not tell
  std::string pending_;                 // what the socket did not take
  size_t pending_offset_ = 0;
  size_t place_ = 0;
  bool flush_asked_ = false;
  bool more_to_send_ = false;
  bool blocked_ = false;
  bool goodbye_ = false;       // nothing more is said
  bool write_closed_ = false;  // reading only to see the peer's end
  bool closing_ = false;
  bool draining_ = false;
};

}  // namespace cairn::net
