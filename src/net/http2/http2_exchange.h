// net/http2/http2_exchange.h: one plain HTTP request and its answer on an HTTP/2 stream.
//
// Threads: one loop.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "net/byte_queue.h"
#include "net/http.h"
#include "net/http2/stream.h"

namespace cairn::net {

class Http2Session;

class Http2Exchange final : public Exchange, public Http2Stream {
 public:
  Http2Exchange(Http2Session& session, HttpRequest request);
  // The session has adopted it.
  void begin(HttpHandler& handler);

  // Exchange
  ExchangeId id() const override { return id_; }
  EventLoop& loop() const override;
  const HttpRequest& request() const override { return request_; }
  const HttpLimits& limits() const override;
  std::string peer_address() const override;
  uint64_t connection() const override { return reinterpret_cast<uintptr_t>(&session_); }
  bool is_answered() const override { return answer_ != Answer::kNone; }
  void respond(const HttpResponse& head, std::optional<uint64_t> length) override;
  void write(std::string_view bytes) override;
  void finish() override;
  void abort() override;
  uint64_t queued_bytes() const override { return out_.size(); }
  bool has_room(uint64_t bytes) const override;
  void hold_body(bool hold) override;
  void stream_body() override { streams_body_ = true; }
  bool can_switch_protocols() const override { return false; }
  void switch_protocols(const HttpFields& headers) override;

  // Http2Stream
  void on_body(std::string_view bytes) override;
  void on_half_close() override;
  bool may_end_soon() const override { return body_bytes_ == 0; }
  Filled fill(std::span<char> out) override;
  void on_writable() override;
  bool waits_for_client() const override { return !out_.empty() && !link.deferred; }
  uint64_t sent_bytes() const override { return sent_bytes_; }
  void on_stalled() override { abort(); }
  void on_closed() override;

 private:
  enum class Answer : uint8_t { kNone, kBegun, kFinished, kAborted };
  [[nodiscard]] bool is_over() const { return answer_ == Answer::kFinished || answer_ == Answer::kAborted; }
  void drop_queue();

  Http2Session& session_;
  const HttpRequest request_;
  const ExchangeId id_;
  std::unique_ptr<ExchangeHandler> handler_;
  ByteQueue out_;
  std::string body_held_;  // came while the handler wanted none; its window is not given back
  uint64_t body_bytes_ = 0;
  uint64_t sent_bytes_ = 0;
  Answer answer_ = Answer::kNone;
  bool sends_body_ = true;
  bool holds_body_ = false;
  bool streams_body_ = false;
};

}  // namespace cairn::net
