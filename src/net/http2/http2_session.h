// net/http2/http2_session.h: the server's side of one HTTP/2 connection carrying gRPC, without its socket.
//
// nghttp2 keeps streams, windows and header tables; here are the calls, what they may send, keepalive and drain.
// Windows are large (1 MB a stream, 16 MB a connection) so that uploads do not wait for a round trip; a stream whose
// client does not read its answers gets no new window.
//
// Always true: output() never makes more than it has room for; a message producer is only asked for what the peer's
//              windows and that room allow.
// Threads:     one loop.
// Source:      grpc/doc/PROTOCOL-HTTP2.md; texts and checks in the order of grpc-go's http2_server.go and server.go.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "net/http2/grpc.h"
#include "net/http2/ping_policy.h"
#include "net/protocol.h"
#include "net/server.h"
#include "net/timer_heap.h"

struct nghttp2_session;
struct nghttp2_rcbuf;

namespace cairn::net {

class GrpcCall;
class Loop;

class Http2Session final : public Protocol, private TimerHeap::Node {
 public:
  Http2Session(Loop& loop, const ServerOptions& options, Router& router, ProtocolHost& host);
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

  [[nodiscard]] size_t open_calls() const { return call_count_; }

 private:
  friend class GrpcCall;
  friend struct Http2Callbacks;

  // Events of nghttp2.
  GrpcCall* open_call(int32_t stream_id);
  void begin_call(GrpcCall& call, bool half_closed);
  void close_call(GrpcCall& call);
  void on_data(GrpcCall& call, std::string_view bytes);
  void on_ping(const uint8_t* opaque, bool ack);
  bool refuse_early(GrpcCall& call);

  // For calls.
  static std::string own_content_type(const GrpcCall& call);
  // A grpc-message that the client takes: cut where the text is longer than its headers may be.
  [[nodiscard]] std::string status_text(std::string_view message) const;
  void submit_headers(GrpcCall& call);
  void submit_trailers(GrpcCall& call);
  void submit_trailers_only(GrpcCall& call, unsigned http_status, Code code, std::string_view message);
  void resume(GrpcCall& call);
  void reset(GrpcCall& call, Code code);
  void note_writable(GrpcCall& call);
  void give_back(GrpcCall& call);

  void fire_writable();
  void on_timer() override;  // keepalive
  void send_last_goaway();

  Loop& loop_;
  const ServerOptions& options_;
  Router& router_;
  ProtocolHost& host_;
  nghttp2_session* session_ = nullptr;

  GrpcCall* first_call_ = nullptr;
  size_t call_count_ = 0;
  GrpcCall* receiving_ = nullptr;  // whose header block is coming in
  // The path that was asked for last, held, with its counters: mostly the next one's, too.
  nghttp2_rcbuf* last_path_ = nullptr;
  MethodCounters* last_counters_ = nullptr;

  std::vector<CallId> writable_;
  std::vector<CallId> firing_;
  PingPolicy pings_;
  int64_t last_read_ns_ = 0;
  int64_t asked_ns_ = 0;  // when the peer was asked for a sign of life; 0: it need not give one
  bool failed_ = false;
  bool draining_ = false;
  bool last_goaway_ = false;
  bool closed_ = false;
};

}  // namespace cairn::net
