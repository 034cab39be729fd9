// net/http1/http1_session.h: HTTP/1.1 on one connection: a request is read, answered, and then the next one is read.
//
// Pipelined requests wait in the buffer until the answer before them has gone to the socket, so answers are in order
// and one at most is in memory. Keep-alive as RFC 9112 has it. The session is itself the Exchange of the present
// request.
//
// Always true: of what is not understood yet at most kAheadBytesMax, or one head, is held.
// Threads:     one loop.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "net/answer_budget.h"
#include "net/byte_queue.h"
#include "net/http.h"
#include "net/http1/head_lines.h"
#include "net/http1/request_parser.h"
#include "net/protocol.h"
#include "net/timer_heap.h"

namespace cairn::net {

class Loop;

class Http1Session final : public Protocol, public Exchange, private TimerHeap::Node {
 public:
  Http1Session(Loop& loop, const HttpLimits& limits, HttpHandler& handler, ProtocolHost& host);
  ~Http1Session() override;

  // Protocol
  bool receive(std::string_view bytes) override;
  void output(Output& out) override;
  bool wants_close() const override { return closing_; }
  bool may_read(bool blocked) const override;
  void drain() override;
  void on_closed() override;
  Stake stake() const override;

  // Exchange
  ExchangeId id() const override { return id_; }
  EventLoop& loop() const override;
  const HttpRequest& request() const override { return parser_->request(); }
  const HttpLimits& limits() const override { return limits_; }
  std::string peer_address() const override { return host_.peer_address(); }
  uint64_t connection() const override { return reinterpret_cast<uintptr_t>(this); }
  bool is_answered() const override { return answer_ != Answer::kNone || closing_; }
  void respond(const HttpResponse& head, std::optional<uint64_t> length) override;
  void write(std::string_view bytes) override { write_pieces({&bytes, 1}); }
  void write_pieces(std::span<const std::string_view> pieces) override;
  void finish() override;
  void abort() override;
  uint64_t queued_bytes() const override { return out_.size(); }
  bool has_room(uint64_t bytes) const override { return bytes <= kShortBytes || answer_budget_.takes(bytes); }
  void hold_body(bool hold) override;
  void stream_body() override;
  bool can_switch_protocols() const override { return !parser_->is_http10(); }
  void switch_protocols(const HttpFields& headers) override;

 private:
  enum class Request : uint8_t { kHead, kBody, kWhole };              // what of it has come
  enum class Answer : uint8_t { kNone, kBegun, kChunks, kFinished };  // kChunks: begun, and its length is not known

  [[nodiscard]] bool may_parse() const;
  void parse();
  void begin_exchange();
  void push_header(std::string_view name, std::string_view value);
  void end_exchange();
  // And close. `why`: more than the status says.
  void refuse(int status, std::string_view why = {});
  [[nodiscard]] RequestParser::Progress feed(std::string_view bytes);
  void on_timer() override;  // the head took too long, or the client was silent for too long
  void set_timer();
  // What is queued has changed.
  void account() { answer_budget_.change(static_cast<int64_t>(out_.size() - answer_budget_.held_bytes())); }

  Loop& loop_;
  const HttpLimits& limits_;
  HttpHandler& handler_;
  ProtocolHost& host_;
  std::unique_ptr<RequestParser> parser_;  // of the present request; null between two
  HeadLines lines_;                        // of the present request, until its head is whole
  std::unique_ptr<ExchangeHandler> exchange_;
  ExchangeId id_;  // 0: no exchange
  std::string in_;
  size_t in_offset_ = 0;
  ByteQueue out_;
  int64_t head_due_ns_ = 0;  // 0: no head is on its way
  int64_t silent_since_ns_;  // if the client is to send
  AnswerBudget answer_budget_;
  Request request_ = Request::kHead;
  Answer answer_ = Answer::kNone;
  bool sends_body_ = true;  // no: the answer to a HEAD, or one of a status without
  bool keep_alive_ = true;
  bool holds_body_ = false;
  bool streams_body_ = false;  // stream_body() was called for this request
  bool is_raw_ = false;        // the connection speaks another protocol now
  bool parsing_ = false;
  bool is_first_ = true;  // no request has come yet
  bool draining_ = false;
  bool closing_ = false;  // nothing more is read
};

}  // namespace cairn::net
