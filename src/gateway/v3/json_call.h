// gateway/v3/json_call.h: one call of a method, in JSON: the values of a request's body go to the method's handler, and
// what it answers goes back.
//
//     client -- bytes --> JsonScan -> from_json -> LocalCall -> handler
//     client <- bytes --- ToJson <------ take ---- LocalCall <- handler
//
// The handler is the one that gRPC's calls have, and is found and asked for leave in the same way: no rule is here.
//
// Always true: of the request one value is held, with the bytes behind it that came along; of the answers one message,
//              with at most kQueueBytesMax of JSON. What the client does not take waits in the call, which counts it.
// Threads:     one loop.
// Source:      grpc-gateway v2, as etcd 3.7.1 sets it up.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "gateway/v3/json_scan.h"
#include "gateway/v3/paths.h"
#include "gateway/v3/to_json.h"
#include "net/event_loop.h"
#include "net/gathered_bytes.h"

namespace cairn::gateway::v3 {

[[nodiscard]] int http_status_of(Code code);

// An answer that is not a stream's: its status and its body.
struct ErrorAnswer {
  int status = 500;
  std::string json;
};
[[nodiscard]] ErrorAnswer error_answer(const Error& error);

class JsonCall final : private net::LocalCall::Owner {
 public:
  // Who asked, and is answered.
  class Client {
   public:
    virtual ~Client() = default;
    // A whole answer.
    virtual void answer(int status, net::HttpFields headers, std::string_view json) = 0;
    // Or one in pieces. `has_content`: there will be some.
    virtual void begin_answer(int status, net::HttpFields headers, bool has_content) = 0;
    // `ends_line`: with it one answer of a stream is whole.
    virtual void write(std::string json, bool ends_line) = 0;
    virtual void finish() = 0;
    virtual void abort() = 0;
    [[nodiscard]] virtual uint64_t queued_bytes() const = 0;
    virtual void hold_body(bool hold) = 0;
  };
  struct Options {
    uint64_t message_bytes_max = 2 << 20;  // of a request, as it would be over gRPC
    bool waits_for_end = true;             // a method that takes one request is called when the body has ended
  };

  // All outlive the call but `origin`.
  JsonCall(const Method& method, net::Exchange& exchange, Client& client, net::Router& router, const Options& options,
           std::unique_ptr<net::LocalCall::Origin> origin);
  JsonCall(const JsonCall&) = delete;
  JsonCall& operator=(const JsonCall&) = delete;

  void begin();
  void on_bytes(std::string_view bytes);
  void on_bytes_end();
  // The client has taken all that was written.
  void on_writable() { send_on(); }

 private:
  enum class Request : uint8_t { kReading, kRead, kOver };  // kRead: the one there is; the body's end is waited for
  enum class Answer : uint8_t { kNone, kBegun, kOver };
  static constexpr uint64_t kQueueBytesMax = 64 * 1024;
  static constexpr size_t kPieceBytes = 16 * 1024;
  // JSON for each byte of the largest message: base64 takes 4 for 3, and what is left is for names.
  static constexpr uint64_t kJsonBytesPerByte = 3;
  static constexpr uint64_t kJsonBytesLeast = 64 * 1024;

  void on_news(net::LocalCall&) override;

  // Of the request.
  void read_on();
  // Takes bytes up to the end of a value, which is whole then: true.
  bool take(std::string_view& bytes);
  [[nodiscard]] uint64_t value_bytes_max() const {
    return std::max(options_.message_bytes_max * kJsonBytesPerByte, kJsonBytesLeast);
  }
  void on_value();
  void on_no_value(const Error& error);
  void send(const std::string& message);
  void end_requests();

  // Of the answer.
  void open_call();
  void send_on();
  bool send_json();  // false: more of the message is to be sent
  void send_piece(std::string piece, bool is_last);
  void on_end_of_call();
  void fail(const Error& error);
  void begin_answer(int status, bool has_content);

  [[nodiscard]] bool is_unary() const { return method_.kind == Method::Kind::kUnary; }
  [[nodiscard]] bool takes_many() const { return method_.kind == Method::Kind::kBidiStream; }

  const Method& method_;
  net::Exchange& exchange_;
  Client& client_;
  net::Router& router_;
  const Options options_;
  std::unique_ptr<net::LocalCall::Origin> origin_;
  std::unique_ptr<net::LocalCall> call_;
  std::unique_ptr<net::EventLoop::Timer> body_timer_;

  Request request_ = Request::kReading;
  JsonScan scan_;
  std::string value_;  // as far as it has come
  net::GatheredBytes gathered_;
  std::string ahead_;  // came while the handler wanted nothing
  bool body_has_ended_ = false;
  bool holds_body_ = false;

  Answer answer_ = Answer::kNone;
  bool has_message_ = false;  // one has come: the client is told of gRPC's headers
  std::string message_;
  std::shared_ptr<void> message_charge_;
  std::optional<ToJson> json_;  // of the message that is being sent
  bool is_mid_line_ = false;    // a part of it has been
};

}  // namespace cairn::gateway::v3
