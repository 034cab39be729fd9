// net/connection.h: one accepted socket: tells HTTP/2 from HTTP/1.1, then moves bytes between it and the protocol.
//
//     unknown -> open -> goodbye -> write closed -> closing      closing at once when the peer goes or the socket fails
//
// A connection holds a buffer only while its socket takes less than its session gave (below 256 KB). A peer that takes
// less than ServerOptions::reader_rate_min of what waits for it is closed after reader_stall_ns.
//
// Threads: one loop.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "net/protocol.h"
#include "net/reactor.h"
#include "net/seats.h"
#include "net/server.h"
#include "net/timer_heap.h"
#include "net/transport.h"

namespace cairn::net {

class Loop;

// What listens where the connection came in.
struct Services {
  Router* router = nullptr;     // null: no gRPC here
  HttpHandler* http = nullptr;  // null: no plain HTTP here
  const HttpLimits* limits = nullptr;
  bool refuse = false;  // all seats are taken: the client hears so, whatever it wants
};

class Connection final : public ProtocolHost, private Reactor::Handler, private TimerHeap::Node {
 public:
  // Owns `fd`, until the end of start() at least. `options` outlives the connection.
  Connection(Loop& loop, int fd, std::unique_ptr<Transport> transport, Seat seat, const ServerOptions& options,
             Services services);
  ~Connection() override;
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  [[nodiscard]] bool start();  // false: the socket cannot be watched; the connection is good for nothing
  void drain();
  // Writes what there is, and asks for what the socket shall tell next. Called by the loop at a turn's end.
  void flush();
  void on_closed();  // called by the loop, once

  // ProtocolHost
  void wake() override;
  [[nodiscard]] bool is_blocked() const override { return blocked_; }
  [[nodiscard]] std::string peer_address() const override { return transport_->peer_address(); }
  [[nodiscard]] std::string local_address() const override { return transport_->local_address(); }
  [[nodiscard]] bool is_secure() const override { return transport_->is_secure(); }
  [[nodiscard]] const std::shared_ptr<const PeerCertificate>& peer_certificate() const override {
    return transport_->peer_certificate();
  }

  // For the loop's list.
  [[nodiscard]] size_t place() const { return place_; }
  void set_place(size_t place) { place_ = place; }
  bool mark_closing();  // false: it was already
  // The later a connection came, the larger.
  [[nodiscard]] uint64_t number() const { return number_; }
  void set_number(uint64_t number) { number_ = number; }
  [[nodiscard]] Stake stake() const { return protocol_ == nullptr ? Stake::kLittle : protocol_->stake(); }
  [[nodiscard]] bool may_be_displaced() const;
  void give_up_seat() { seat_.reset(); }

 private:
  enum class Phase : uint8_t {
    kUnknown,      // the first bytes have not told the protocol
    kOpen,         // bytes both ways
    kGoodbye,      // nothing more is said but what is queued
    kWriteClosed,  // reading only to see the peer's end
    kClosing,      // the loop will take it away
  };

  void on_readable() override;
  void on_writable() override;
  void on_timer() override;

  bool sniff(std::string_view bytes);
  void read_on();
  void wait_to_read();
  bool write_some(std::string_view bytes, size_t& written);
  void write_pending();
  void fill_and_write();
  void begin_goodbye();
  void close_write();
  void read_away();
  void watch_progress();
  void set_timer(int64_t delay_ns);

  Loop& loop_;
  const int fd_;
  Seat seat_;
  const ServerOptions& options_;
  const Services services_;
  std::unique_ptr<Reactor::Descriptor> descriptor_;
  std::unique_ptr<Transport> transport_;
  std::unique_ptr<Protocol> protocol_;  // null in kUnknown
  std::string sniffed_;                 // the first bytes, as long as they do not tell
  std::string pending_;                 // what the socket did not take
  size_t pending_offset_ = 0;
  uint64_t mark_bytes_ = 0;  // what the peer had taken when the timer was set
  size_t place_ = 0;
  uint64_t number_ = 0;
  Phase phase_ = Phase::kUnknown;
  bool flush_asked_ = false;
  bool more_to_send_ = false;
  bool blocked_ = false;              // the transport takes no more
  bool reads_when_writable_ = false;  // what reading waits for, where it is not the usual
  bool writes_when_readable_ = false;
  bool read_again_ = false;  // the transport has more, and it was others' turn
  bool draining_ = false;
};

}  // namespace cairn::net
