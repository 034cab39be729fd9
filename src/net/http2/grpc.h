// net/http2/grpc.h: gRPC over HTTP/2 as the services see it: calls, messages, statuses. No nghttp2 in sight.
//
// A Server listens and owns its io threads; each connection, and each Call on it, lives on one io thread (its
// EventLoop) from first to last byte. Another thread reaches a call only by posting to its loop with the call's
// CallId, which is safe after the call's end: EventLoop::find() then answers null.
//
// Threads: everything here runs on the io thread of its loop, unless it says otherwise.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/error.h"

namespace cairn::net {

class EventLoop;
class Call;
struct PeerCertificate;

// Names a call for other threads: slot and generation in its loop's table. 0 names none.
struct CallId {
  uint64_t value = 0;
  friend bool operator==(CallId, CallId) = default;
};

// One gRPC message whose bytes are made while they are sent, so that a large answer is never whole in memory.
class MessageProducer {
 public:
  virtual ~MessageProducer() = default;
  enum class Outcome : uint8_t { kMore, kDone, kWait };
  struct Piece {
    size_t bytes = 0;
    Outcome outcome = Outcome::kMore;
  };
  // Fills up to `out.size()` (>= 16 KB) bytes. kWait: nothing to give now, Call::resume() is called later. The sum
  // over all pieces is exactly the length announced. An error resets the stream (INTERNAL_ERROR).
  virtual Result<Piece> produce(std::span<char> out) = 0;
};

// What a service method does with one call; made when the headers have arrived, destroyed after on_end().
class CallHandler {
 public:
  virtual ~CallHandler() = default;
  // What the method takes: decides what is said when the client ends its side without a whole message.
  enum class Takes : uint8_t { kOne, kOneForStream, kMany };
  [[nodiscard]] virtual Takes takes() const { return Takes::kOne; }
  // The call has begun, with or without a message to come: first event, not for a call that is over already.
  virtual void on_begin(Call&) {}
  // One whole request message, uncompressed; the bytes live only during the call.
  virtual void on_message(Call& call, std::string_view message) = 0;
  // False: no message comes, and the client is given no new window for what it sends, until something was sent to it.
  // For a stream whose requests wait.
  [[nodiscard]] virtual bool takes_more() const { return true; }
  // The client will send no more messages. Unary handlers usually answer in on_message and ignore this.
  virtual void on_half_close(Call&) {}
  // Asked when the client has taken next to nothing of what waits for it for ServerOptions::reader_stall_ns. True: the
  // call is ended with RESOURCE_EXHAUSTED. False: it may stay as it is (what waits is little, and counted elsewhere).
  [[nodiscard]] virtual bool ends_when_stalled() const { return true; }
  // All bytes handed to send() so far have gone to the transport: a stream may produce more.
  virtual void on_writable(Call&) {}
  // The call was answered or has failed: what it came to is known. `answer`: all of it, if it was given at once; of a
  // failure its text. Called from inside functions of Call, which must not be called here; not for a request that could
  // not be read.
  virtual void on_handled(Call& /*call*/, Code /*code*/, std::string_view /*answer*/) {}
  // What the call came to is known, whatever that is: once, before on_end(). As for on_handled().
  virtual void on_status(Call& /*call*/, Code /*code*/, std::string_view /*message*/) {}
  // The call is over: answered and its last byte given to the transport, reset by the client, past its deadline, or
  // its connection is gone. Last event; never called from inside a function of Call.
  virtual void on_end(Call&) {}
};

// The server's side of one call.
class Call {
 public:
  virtual ~Call() = default;
  [[nodiscard]] virtual CallId id() const = 0;
  [[nodiscard]] virtual EventLoop& loop() const = 0;
  // "127.0.0.1:50000"
  [[nodiscard]] virtual std::string peer_address() const = 0;
  // Where it came in: "127.0.0.1:2379", or a unix socket's path; "" when that is not known.
  [[nodiscard]] virtual std::string local_address() const { return {}; }
  // Who the client has proved to be, by its certificate; null: it was not asked. Lives as long as the call.
  [[nodiscard]] virtual const PeerCertificate* peer_certificate() const { return nullptr; }
  // Names the connection among those that live: whose turn it is, where connections take turns.
  [[nodiscard]] virtual uint64_t connection() const = 0;
  // Request metadata by lower-case name; nullopt when absent.
  [[nodiscard]] virtual std::optional<std::string_view> metadata(std::string_view name) const = 0;
  // Monotonic nanoseconds, from grpc-timeout; nullopt: none. At the deadline the call is ended by itself with
  // DEADLINE_EXCEEDED "context deadline exceeded".
  [[nodiscard]] virtual std::optional<int64_t> deadline_ns() const = 0;
  // Sends one message, copied. Before finish(). One above 2 GiB is not sent: the call ends with RESOURCE_EXHAUSTED.
  virtual void send(std::string_view message) = 0;
  // Sends one message, `head` and `tail` behind it, unless more than `queue_bytes_max` bytes wait already or what is
  // copied would exceed room_bytes(). False: nothing was sent; when nothing waits either, on_writable() will not come.
  // A long tail is not copied: `owner` keeps it alive, and whoever made it counts it once (EventLoop::charge), if there
  // is room_bytes() for it.
  [[nodiscard]] virtual bool offer(std::string_view head, std::string_view tail,
                                   const std::shared_ptr<const void>& owner, uint64_t queue_bytes_max) = 0;
  static constexpr size_t kCopiedBytesMax = 2048;  // of a tail
  // Sends one message of `length` bytes as the producer gives them; flow control decides the pace.
  virtual void send(uint64_t length, std::unique_ptr<MessageProducer> producer) = 0;
  virtual void resume() = 0;
  // Bytes given to send() that the transport has not taken yet; bounded by the caller's use of on_writable().
  [[nodiscard]] virtual uint64_t queued_bytes() const = 0;
  // How large a message given to send() or reply() whole may be just now, so that answers stay within
  // ServerOptions::answers; a larger one ends the call with RESOURCE_EXHAUSTED instead.
  [[nodiscard]] virtual uint64_t room_bytes() const = 0;
  // So much waits for clients already that even a short answer should be made while it is sent.
  [[nodiscard]] virtual bool is_room_scarce() const = 0;
  // Reserves memory for an answer in the making: until a message is given whole, which has room if it is not longer,
  // or until the call ends. False: there is no room, and nothing is reserved.
  [[nodiscard]] virtual bool reserve(uint64_t bytes) = 0;
  // Ends the call after what was sent: trailers with grpc-status, and grpc-message (percent-encoded) when not OK.
  virtual void finish(Code code = Code::kOk, std::string_view message = {}) = 0;
  // Ends a call whose first message cannot be read. A unary one is not counted: grpc-go reads the message before the
  // interceptors that count. Within on_message().
  virtual void reject(Code code, std::string_view message) = 0;
  // Ends the call now; what the transport has not taken yet is dropped, producers with it. The client gets the status
  // where no message was begun, else a reset of the stream, which it takes for the same code (RESOURCE_EXHAUSTED,
  // CANCELLED, UNAVAILABLE; INTERNAL for all others) with a text of its own library. on_end() comes at once: called
  // from a task or a timer, not from the handler or the producer.
  virtual void abort(Code code, std::string_view message) = 0;
  // Bytes of messages that the transport has taken since the call began: stands still while the client does not read.
  [[nodiscard]] virtual uint64_t sent_bytes() const = 0;
  // send(message) and finish() in one: the common unary answer, kept cheap.
  virtual void reply(std::string_view message) = 0;
};

// Finds the method. Called once a call, with the ":path" ("/etcdserverpb.KV/Put") and the call with its metadata and
// deadline; it may already finish() the call. Null: the server answers UNIMPLEMENTED with grpc-go's texts ("unknown
// service X", "unknown method Y for service X"), unless the call was finished. Called on every io thread.
class Router {
 public:
  virtual ~Router() = default;
  virtual std::unique_ptr<CallHandler> route(std::string_view path, Call& call) = 0;
  [[nodiscard]] virtual bool has_service(std::string_view service) const = 0;
};

}  // namespace cairn::net
