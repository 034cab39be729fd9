// net/http.h: plain HTTP beside gRPC on the same ports: health, metrics, version, later JSON and v2.
//
// One Exchange is one request and its answer, the same over HTTP/1.1 and HTTP/2. Bodies are streams both ways: a
// handler hears pieces of the request's body and its end, and writes pieces of the answer's. What is written waits in
// memory until the client takes it: a handler of long answers writes on when on_writable() says so. A request's body
// comes no faster than the handler takes it: see Exchange::hold_body().
//
// Most handlers want the whole body and give a whole answer, from whichever thread: WholeBodyHandler.
//
// Threads: an Exchange lives on one loop, and so does its handler; HttpRespond is called from any thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace cairn::net {

class EventLoop;
struct PeerCertificate;

[[nodiscard]] bool equal_ignoring_case(std::string_view a, std::string_view b);  // of ASCII letters

using HttpFields = std::vector<std::pair<std::string, std::string>>;

struct HttpRequest {
  std::string method;
  std::string path;   // as sent, not decoded; without the query
  std::string query;  // the part behind '?'
  HttpFields headers;
  std::string body;                                                   // of a WholeBodyHandler's request only
  bool is_secure = false;                                             // came over TLS
  std::shared_ptr<const PeerCertificate> peer_certificate = nullptr;  // null: the client was not asked for one
  std::weak_ptr<const void> client = {};  // expires when nobody waits any more; of a WholeBodyHandler's request only

  [[nodiscard]] std::string_view header(std::string_view name) const;  // case-insensitive; "" when absent
};

struct HttpResponse {
  int status = 200;
  std::string content_type = "text/plain; charset=utf-8";  // "": none is sent
  HttpFields headers;
  std::string body;
  std::shared_ptr<const std::string> shared_body = nullptr;  // instead, for an answer that many get

  [[nodiscard]] std::string_view bytes() const { return shared_body != nullptr ? *shared_body : body; }
};

// What a listener allows of each request.
struct HttpLimits {
  uint32_t header_bytes_max = 64 * 1024;            // more: 431
  uint64_t body_bytes_max = 16 * 1024 * 1024;       // more: 413; also of a connection's open requests together
  uint64_t gathered_bytes_max = 128 * 1024 * 1024;  // of bodies that are gathered, over all connections; more: 503
  int64_t header_timeout_ns = 300'000'000'000;      // from its first byte to the end of its headers
  int64_t whole_body_timeout_ns = 300'000'000'000;  // from there to the end of a body that is gathered: else 408
  int64_t read_timeout_ns = 0;  // HTTP/1.1: a client that is to send and sends nothing for so long is closed; 0: never
};

// Names an exchange for other threads. 0 names none.
struct ExchangeId {
  uint64_t value = 0;
  friend bool operator==(ExchangeId, ExchangeId) = default;
};

class Exchange {
 public:
  virtual ~Exchange() = default;
  [[nodiscard]] virtual ExchangeId id() const = 0;
  [[nodiscard]] virtual EventLoop& loop() const = 0;
  [[nodiscard]] virtual const HttpRequest& request() const = 0;
  [[nodiscard]] virtual const HttpLimits& limits() const = 0;
  // "127.0.0.1:50000"
  [[nodiscard]] virtual std::string peer_address() const = 0;
  // Names the connection among those that live, calls of gRPC included: Call::connection().
  [[nodiscard]] virtual uint64_t connection() const = 0;

  // It has an answer, begun at least, or has been given up: respond() is not for it any more.
  [[nodiscard]] virtual bool is_answered() const = 0;
  // Begins the answer, once: `head.body` is not looked at. With `length` the bytes written are exactly so many.
  virtual void respond(const HttpResponse& head, std::optional<uint64_t> length) = 0;
  // A piece of its body, copied; after respond().
  virtual void write(std::string_view bytes) = 0;
  // The same of what lies in pieces: it is one piece for the client.
  virtual void write_pieces(std::span<const std::string_view> pieces);
  // The answer is whole. What of the request has not come is not waited for.
  virtual void finish() = 0;
  // Ends the exchange without sending more. A client that has a part of the answer can tell that it is incomplete.
  // on_end() comes later.
  virtual void abort() = 0;
  // Written and not taken by the transport yet.
  [[nodiscard]] virtual uint64_t queued_bytes() const = 0;
  // Whether an answer of so many bytes may be written at once: what waits for clients is bounded (net/answer_budget.h).
  // A short one always may.
  static constexpr uint64_t kShortBytes = 1024;
  [[nodiscard]] virtual bool has_room(uint64_t bytes) const = 0;
  // True: on_body() is not called until hold_body(false); flow control slows the client down. on_body_end() still comes
  // when no bytes are held back.
  virtual void hold_body(bool hold) = 0;
  // The body is as long as the client likes: the handler bounds what it keeps of it. Within HttpHandler::begin().
  // A length that is told beforehand has the bound of any other body.
  virtual void stream_body() = 0;

  // Whether the connection can become another protocol's: it is one of HTTP/1.1.
  [[nodiscard]] virtual bool can_switch_protocols() const = 0;
  // Answers 101. From here on on_body() and write() are about the connection's bytes as they are; finish() closes it.
  // Within HttpHandler::begin(), if can_switch_protocols().
  virtual void switch_protocols(const HttpFields& headers) = 0;
};

// What a handler does with one exchange. Destroyed after on_end().
class ExchangeHandler {
 public:
  virtual ~ExchangeHandler() = default;
  // A piece of the request's body; the bytes live during the call.
  virtual void on_body(Exchange&, std::string_view) {}
  virtual void on_body_end(Exchange&) {}
  // All that was written has gone to the transport; the answer is not finished.
  virtual void on_writable(Exchange&) {}
  // The exchange is over, by its end or because the client has gone. Last event.
  virtual void on_end(Exchange&) {}
};

class HttpHandler {
 public:
  virtual ~HttpHandler() = default;
  // The head of a request has come. It may be answered at once; null: it is, and the body does not matter.
  [[nodiscard]] virtual std::unique_ptr<ExchangeHandler> begin(Exchange& exchange) = 0;
};

// Answers one request, once, from any thread: what is sent after the connection has gone is dropped.
using HttpRespond = std::function<void(HttpResponse)>;
[[nodiscard]] HttpRespond responder(Exchange& exchange);
// On the loop's thread: a whole answer; 503 instead when too much waits for clients already.
void respond_whole(Exchange& exchange, const HttpResponse& response);

// 307 as Go's multiplexer says it: to another path of this server, not encoded, with the query that was asked.
[[nodiscard]] HttpResponse redirect(const HttpRequest& request, const std::string& path);

// For handlers that want the whole request.
class WholeBodyHandler : public HttpHandler {
 public:
  [[nodiscard]] std::unique_ptr<ExchangeHandler> begin(Exchange& exchange) final;
  // False: the body of this request (its head is here) is read and passed over; handle() gets "" for it.
  [[nodiscard]] virtual bool wants_body(const HttpRequest&) const { return true; }
  virtual void handle(HttpRequest request, EventLoop& loop, HttpRespond respond) = 0;
};

}  // namespace cairn::net
