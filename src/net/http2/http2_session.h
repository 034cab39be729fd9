// net/http2/http2_session.h: the server's side of one HTTP/2 connection carrying gRPC and plain HTTP, without its
// socket.
//
// nghttp2 keeps streams, windows and header tables; here are the streams' users, what they may send, keepalive, drain,
// and the watch over clients that do not take their answers. Windows are large (1 MB a stream, 16 MB a connection) so
// that uploads do not wait for a round trip; a stream whose client does not read its answers gets no new window.
//
// Always true: output() never makes more than it has room for; a stream is only asked for what the peer's windows and
//              that room allow. Streams longer than one frame take turns.
// Threads:     one loop.
// Source:      grpc/doc/PROTOCOL-HTTP2.md; texts and checks in the order of grpc-go's http2_server.go and server.go.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "net/answer_budget.h"
#include "net/http2/grpc.h"
#include "net/http2/header_memo.h"
#include "net/http2/inflate_turns.h"
#include "net/http2/ping_policy.h"
#include "net/http2/request_head.h"
#include "net/http2/stream.h"
#include "net/protocol.h"
#include "net/server.h"
#include "net/timer_heap.h"

struct nghttp2_session;

namespace cairn::net {

class Loop;
struct MethodCounters;

class Http2Session final : public Protocol {
 public:
  // At least one of `router` and `http`; what is not gRPC goes to `http`, and is refused without one.
  Http2Session(Loop& loop, const ServerOptions& options, const HttpLimits& limits, Router* router, HttpHandler* http,
               ProtocolHost& host);
  ~Http2Session() override;
  Http2Session(const Http2Session&) = delete;
  Http2Session& operator=(const Http2Session&) = delete;

  // Protocol
  bool receive(std::string_view bytes) override;
  void output(Output& out) override;
  bool wants_close() const override;
  bool may_read(bool blocked) const override;
  void drain() override;
  void on_closed() override;

  // For streams.
  [[nodiscard]] Loop& loop() { return loop_; }
  [[nodiscard]] const ServerOptions& options() const { return options_; }
  [[nodiscard]] const HttpLimits& limits() const { return limits_; }
  [[nodiscard]] ProtocolHost& host() { return host_; }
  // The answer's head. `is_long`: more than a frame follows, so it takes turns with others.
  enum class Body : uint8_t { kNone, kShort, kLong };
  void submit_head(Http2Stream& stream, std::span<const nghttp2_nv> fields, Body body);
  void submit_trailers(Http2Stream& stream, std::span<const nghttp2_nv> fields);
  // There is something to fill() again.
  void resume(Http2Stream& stream);
  // With an error code of HTTP/2.
  void reset(Http2Stream& stream, uint32_t error);
  // So many bytes that on_body() gave may come again.
  void give_back(Http2Stream& stream, size_t bytes);
  // on_writable() when the transport has what was given, or when it is its turn after wake().
  void note_writable(Http2Stream& stream);
  void wake() { host_.wake(); }
  // Something was sent for a stream: pings are forgiven.
  void note_sent() { pings_.on_sent(); }
  // What streams have queued, and how much memory their answers hold, has changed by so much.
  void account(int64_t queued_bytes, int64_t held_bytes);
  [[nodiscard]] const AnswerBudget& answer_budget() const { return answer_budget_; }
  // The counters of a method that the router knows.
  MethodCounters& counters_of(nghttp2_rcbuf* path);
  // What the open HTTP requests of this connection have sent of their bodies: as many may be gathered at once.
  void note_body(int64_t bytes) { open_body_bytes_ += static_cast<uint64_t>(bytes); }
  [[nodiscard]] uint64_t open_body_bytes() const { return open_body_bytes_; }
  // Its calls' compressed messages.
  [[nodiscard]] InflateTurns::Client& inflating() { return inflating_; }
  // A grpc-message that the client takes: cut where the text is longer than its headers may be.
  [[nodiscard]] std::string status_text(std::string_view message) const;

 private:
  friend struct Http2Callbacks;  // the functions that nghttp2 calls: this class in another syntax

  // Events of nghttp2.
  void begin_request(int32_t stream_id);
  void end_head(bool half_closed);
  [[nodiscard]] bool is_for_http() const;
  void on_data(int32_t stream_id, std::string_view bytes, bool is_last);
  void on_end_stream(int32_t stream_id);
  void on_stream_closed(int32_t stream_id);
  void on_answer_sent(int32_t stream_id);
  void reset_lingering();
  void reset_first_lingering();
  void on_ping(const uint8_t* opaque, bool ack);

  void adopt(Http2Stream& stream, int32_t stream_id, bool half_closed);
  void close(Http2Stream& stream);
  [[nodiscard]] Http2Stream* stream_of(int32_t stream_id);
  void fire_writable();
  void on_keepalive();
  void watch_streams();
  void watch_streams_again();
  void send_last_goaway();

  Loop& loop_;
  const ServerOptions& options_;
  const HttpLimits& limits_;
  Router* const router_;
  HttpHandler* const http_;
  ProtocolHost& host_;
  nghttp2_session* session_ = nullptr;

  // Requests.
  int32_t receiving_ = 0;  // the stream whose header block is coming in; 0: none, or it is not wanted
  RequestHead head_;
  HeaderMemo memo_;
  // The path that was asked for last, held, with its counters: mostly the next one's, too.
  nghttp2_rcbuf* last_path_ = nullptr;
  MethodCounters* last_counters_ = nullptr;

  // Streams.
  Http2Stream* first_ = nullptr;
  Http2Stream* last_used_ = nullptr;  // that stream_of() found, or that began since
  size_t stream_count_ = 0;
  size_t consumed_bytes_ = 0;  // to be given back to the connection's window
  uint64_t queued_bytes_ = 0;
  AnswerBudget answer_budget_;
  uint64_t open_body_bytes_ = 0;
  InflateTurns::Client inflating_;
  std::vector<int32_t> writable_;
  std::vector<int32_t> firing_;
  // Answered before the client had ended its side; each with the time at which it is reset.
  struct Lingering {
    int32_t stream_id = 0;
    int64_t until_ns = 0;
  };
  std::deque<Lingering> lingering_;
  MemberTimer<Http2Session> linger_timer_;
  MemberTimer<Http2Session> stall_timer_;
  int64_t stall_look_due_ns_ = 0;

  // The connection.
  enum class Phase : uint8_t {
    kOpen,
    kDraining,    // asked for no new streams
    kLastGoaway,  // told which stream is the last
    kFailed,      // the peer broke the rules, or is dead
    kClosed,
  };
  Phase phase_ = Phase::kOpen;
  PingPolicy pings_;
  MemberTimer<Http2Session> keepalive_timer_;
  int64_t last_read_ns_ = 0;
  int64_t asked_ns_ = 0;  // when the peer was asked for a sign of life; 0: it need not give one
};

}  // namespace cairn::net
