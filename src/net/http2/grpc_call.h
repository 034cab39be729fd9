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

#include "net/http2/framing.h"
#include "net/http2/grpc.h"
#include "net/http2/gzip.h"
#include "net/http2/inflate_turns.h"
#include "net/http2/request_head.h"
#include "net/http2/send_queue.h"
#include "net/http2/stream.h"
#include "net/stats.h"
#include "net/timer_heap.h"

namespace cairn::net {

class Http2Session;
class Loop;

class GrpcCall final : public Call, public Http2Stream, private TimerHeap::Node {
 public:
  GrpcCall() = default;
  ~GrpcCall() override { clear(); }
  GrpcCall(const GrpcCall&) = delete;
  GrpcCall& operator=(const GrpcCall&) = delete;

  // For the table and its pool.
  void set_id(CallId id) { id_ = id; }
  void clear();
  // The session has adopted it: takes `head`, finds the method, or refuses.
  void begin(Http2Session& session, RequestHead& head, Router& router);

  // Call
  CallId id() const override { return id_; }
  EventLoop& loop() const override;
  std::string peer_address() const override;
  std::string local_address() const override;
  const PeerCertificate* peer_certificate() const override;
  std::optional<std::string_view> metadata(std::string_view name) const override { return head_.metadata(name); }
  uint64_t connection() const override { return reinterpret_cast<uintptr_t>(session_); }
  std::optional<int64_t> deadline_ns() const override {
    return head_.deadline_ns() == RequestHead::kNoDeadline ? std::nullopt : std::optional(head_.deadline_ns());
  }
  void send(std::string_view message) override;
  bool offer(std::string_view head, std::string_view tail, const std::shared_ptr<const void>& owner,
             uint64_t queue_bytes_max) override;
  void send(uint64_t length, std::unique_ptr<MessageProducer> producer) override;
  void resume() override;
  uint64_t queued_bytes() const override { return queue_.queued_bytes(); }
  uint64_t room_bytes() const override;
  bool is_room_scarce() const override;
  bool reserve(uint64_t bytes) override;
  void finish(Code code, std::string_view message) override;
  void reject(Code code, std::string_view message) override;
  void reply(std::string_view message) override;
  void abort(Code code, std::string_view message) override;
  uint64_t sent_bytes() const override { return sent_bytes_; }

  // Http2Stream
  void on_body(std::string_view bytes) override;
  void on_half_close() override;
  Filled fill(std::span<char> out) override;
  void on_writable() override;
  bool waits_for_client() const override { return !queue_.empty() && !link.deferred && answer_ != Answer::kReset; }
  void on_stalled() override;
  void on_closed() override;

 private:
  enum class Answer : uint8_t {
    kNone,      // not even its head
    kBegun,     // the head is submitted; messages may follow
    kFinished,  // what is queued, then the trailers
    kReset,     // nothing more is sent
  };
  [[nodiscard]] bool is_finished() const { return answer_ >= Answer::kFinished; }

  // Before the method is known, with grpc-go's HTTP status. True: it is refused.
  bool refuse_early();
  void refuse_unknown(Router& router);
  bool refuse_too_large(uint64_t bytes);
  bool refuse_over_budget(uint64_t bytes);
  // What was reserved is free again; returns how much that was.
  uint64_t end_reservation();
  // What the client sends is no message.
  void fail_receive(Code code, std::string_view message);
  // The client has ended its side, and what the method takes has not come.
  void refuse_incomplete();

  [[nodiscard]] std::string_view take_messages(std::string_view bytes);
  void on_frame(const Deframer::Frame& frame);
  void on_message(std::string_view message);
  struct Waiting;
  InflateTurns::Step inflate(size_t bytes, bool forget);
  [[nodiscard]] size_t pending_bytes() const;
  void account_pending();
  void count_received(uint64_t bytes);
  void count_failed_receive();
  void count_sent(uint64_t bytes);
  void note_handled(Code code, std::string_view message, std::string_view answer = {});
  void count_handled(Code code, std::string_view told);
  // The queue has grown; `finished`: and it is whole.
  void send_on(bool finished);
  void submit_head();
  void submit_trailers();
  void submit_trailers_only(std::string_view http_status, Code code, std::string_view message);
  void give_back();
  [[nodiscard]] bool takes_more() const;
  void go_on();
  void settle();
  void forget_behind();
  void note_writable();
  void account();

  void on_timer() override;  // the deadline
  void drop(Code code);
  void end();

  // Set by the table.
  CallId id_;
  // Set for each call.
  Http2Session* session_ = nullptr;
  MethodCounters* counters_ = nullptr;  // null: not a known method
  std::unique_ptr<CallHandler> handler_;
  RequestHead head_;
  Answer answer_ = Answer::kNone;
  Code code_ = Code::kOk;
  bool is_counted_ = false;  // a unary call only once its message is read
  bool is_unary_ = false;
  bool has_message_ = false;  // one came
  bool half_close_waits_ = false;
  bool ended_ = false;
  bool writable_noted_ = false;
  uint64_t sent_bytes_ = 0;
  size_t withheld_bytes_ = 0;  // received, but not given back to the client's window while it does not read
  uint64_t reserved_bytes_ = 0;
  uint64_t accounted_queued_ = 0;
  uint64_t accounted_held_ = 0;
  size_t accounted_pending_ = 0;  // of a message that is not whole
  std::string status_message_;
  Deframer deframer_{0};
  // A compressed message that is not inflated whole.
  struct Waiting final : InflateTurns::Message {
    Waiting(GrpcCall& of, std::string_view compressed, size_t bytes_max)
        : call(of), message(std::string(compressed), bytes_max) {}
    InflateTurns::Step inflate(size_t bytes, bool forget) override { return call.inflate(bytes, forget); }
    GrpcCall& call;
    Gunzip message;
  };
  std::unique_ptr<Waiting> waiting_;
  std::string behind_;  // what came while no more was taken, from `behind_at_` on
  size_t behind_at_ = 0;
  SendQueue queue_;
};

}  // namespace cairn::net
