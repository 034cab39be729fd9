// net/http2/grpc_call.h: one gRPC call on an HTTP/2 stream.
//
//     headers -> [message]* -> half close            the client's side
//     route   -> [send]* -> finish -> end            ours; end() also by reset, deadline or loss of the connection
//
// After end() the handler is gone and find() does not know the call; what was queued is still sent, and the memory
// goes back to the pool when the stream closes.
//
// Threads: one loop.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "net/http2/framing.h"
#include "net/http2/grpc.h"
#include "net/http2/send_queue.h"
#include "net/stats.h"
#include "net/timer_heap.h"

struct nghttp2_rcbuf;

namespace cairn::net {

class Http2Session;
class Loop;

class GrpcCall final : public Call, private TimerHeap::Node {
 public:
  GrpcCall();
  ~GrpcCall() override;
  GrpcCall(const GrpcCall&) = delete;
  GrpcCall& operator=(const GrpcCall&) = delete;

  // Call
  CallId id() const override { return id_; }
  EventLoop& loop() const override;
  std::optional<std::string_view> metadata(std::string_view name) const override;
  std::optional<int64_t> deadline_ns() const override {
    return deadline_ns_ == kNoDeadline ? std::nullopt : std::optional(deadline_ns_);
  }
  void send(std::string_view message) override;
  void send(uint64_t length, std::unique_ptr<MessageProducer> producer) override;
  void resume() override;
  uint64_t queued_bytes() const override { return queue_.queued_bytes(); }
  void finish(Code code, std::string_view message) override;
  void reply(std::string_view message) override;
  void abort(Code code, std::string_view message) override;
  uint64_t sent_bytes() const override { return sent_bytes_; }

 private:
  friend class Http2Session;
  friend class CallTable;
  friend struct Http2Callbacks;

  static constexpr int64_t kNoDeadline = INT64_MAX;
  enum class Encoding : uint8_t { kIdentity, kGzip, kOther };
  struct Header {
    nghttp2_rcbuf* name;
    nghttp2_rcbuf* value;
  };

  void open(Http2Session& session, int32_t stream_id, uint32_t message_bytes_max);
  bool refuse_too_large(uint64_t bytes);
  void clear();  // for the pool
  void add_header(nghttp2_rcbuf* name, nghttp2_rcbuf* value, std::string_view name_text, std::string_view value_text);
  [[nodiscard]] std::string_view path() const;
  void set_deadline(int64_t deadline_ns);

  // The client's side.
  void on_bytes(std::string_view bytes);
  void on_message(const Deframer::Frame& frame);
  void on_half_close();
  // The client has ended its side, and what the method takes has not come.
  void refuse_incomplete();

  void on_timer() override;  // the deadline
  void start_or_resume();
  void drop(Code code);
  void end();
  // The transport wants up to out.size() bytes.
  struct Filled {
    size_t bytes = 0;
    bool last = false;   // trailers follow
    bool defer = false;  // nothing now
    bool failed = false;
  };
  Filled fill(std::span<char> out);

  // Set by the table.
  CallId id_;
  // Set for each call.
  Http2Session* session_ = nullptr;
  MethodCounters* counters_ = nullptr;  // null: not a known method
  std::unique_ptr<CallHandler> handler_;
  GrpcCall* previous_ = nullptr;
  GrpcCall* next_ = nullptr;
  int32_t stream_id_ = 0;
  int64_t deadline_ns_ = kNoDeadline;
  nghttp2_rcbuf* path_ = nullptr;
  std::vector<Header> headers_;
  size_t header_bytes_ = 0;
  std::string encoding_name_;  // when kOther
  std::optional<Error> header_error_;
  std::string method_;           // when not POST
  std::string content_type_;     // when not gRPC
  std::string content_subtype_;  // the answer has the same
  Encoding encoding_ = Encoding::kIdentity;
  bool has_method_ = false;
  bool has_content_type_ = false;
  bool half_closed_ = false;
  bool has_message_ = false;  // one came
  bool headers_submitted_ = false;
  bool finished_ = false;
  bool ended_ = false;
  bool deferred_ = false;
  bool writable_noted_ = false;
  bool reset_ = false;  // nothing more is sent
  uint64_t sent_bytes_ = 0;
  Code code_ = Code::kOk;
  size_t held_bytes_ = 0;  // received, but not given back to the client's window while it does not read
  std::string status_message_;
  Deframer deframer_{0};
  SendQueue queue_;
};

}  // namespace cairn::net
