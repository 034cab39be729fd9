// gateway/v3/websocket.h: the frames of a WebSocket, as a server reads and writes them (RFC 6455), with
// gorilla/websocket's words for what is none.
//
// Payloads are handed on as they come: nothing is held but a frame's head and a control frame, 139 bytes at most.
//
// Threads: any one.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "net/http.h"

namespace cairn::gateway::v3 {

class WebSocketReader {
 public:
  class Sink {
   public:
    virtual ~Sink() = default;
    virtual void on_payload(std::string_view bytes) = 0;  // a piece of a message
    virtual void on_message_end() = 0;
    virtual void on_ping(std::string_view payload) = 0;
    // The peer's last frame; `payload` is what a close frame in reply has. After a protocol error, too.
    virtual void on_close(std::string_view payload) = 0;
  };
  // Nothing is read after on_close().
  void feed(std::string_view bytes, Sink& sink);

 private:
  enum class State : uint8_t { kHead, kPayload, kOver };
  static constexpr size_t kControlBytesMax = 125;

  [[nodiscard]] size_t head_bytes() const;  // of the frame whose head has begun, as far as that tells
  void begin_frame(Sink& sink);
  void end_frame(Sink& sink);
  void refuse(std::string_view why, Sink& sink);
  [[nodiscard]] unsigned opcode() const { return static_cast<uint8_t>(head_[0]) & 15u; }
  [[nodiscard]] bool is_control() const { return opcode() >= 8; }
  [[nodiscard]] bool is_last() const { return (static_cast<uint8_t>(head_[0]) & 0x80u) != 0; }

  State state_ = State::kHead;
  bool in_message_ = false;  // further frames of it are to come
  std::string head_;
  std::string control_;  // the payload of a control frame
  uint64_t left_ = 0;    // of the payload
  uint8_t mask_[4] = {};
  uint8_t mask_at_ = 0;
};

enum class WebSocketFrame : uint8_t { kContinuation = 0, kText = 1, kClose = 8, kPong = 10 };
[[nodiscard]] std::string websocket_frame(WebSocketFrame kind, bool is_last, std::string_view payload);

// Whether a request asks to become a WebSocket.
[[nodiscard]] bool is_websocket_upgrade(const net::HttpRequest& request);
// Null: the connection may switch. Otherwise the status with which it is refused.
[[nodiscard]] std::optional<int> websocket_refusal(const net::HttpRequest& request);
// Sec-WebSocket-Accept.
[[nodiscard]] std::string websocket_accept(std::string_view key);

}  // namespace cairn::gateway::v3
