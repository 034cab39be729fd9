#include "gateway/v3/websocket.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>
#include <openssl/sha.h>

#include "base/utf8.h"
#include "gateway/v3/base64.h"

namespace cairn::gateway::v3 {
namespace {

constexpr unsigned kClose = 8;
constexpr unsigned kPing = 9;
constexpr unsigned kPong = 10;
constexpr uint16_t kProtocolError = 1002;

std::string close_payload(uint16_t code, std::string_view text) {
  std::string out = {static_cast<char>(code >> 8), static_cast<char>(code & 0xff)};
  return out.append(text);
}

// As gorilla/websocket has it: 1004 to 1006 and 1015 are never sent.
bool is_close_code(unsigned code) {
  return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1013) || (code >= 3000 && code <= 4999);
}

bool is_token_char(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
         std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
}

// Whether one of the lists under the name has the token.
bool has_token(const net::HttpRequest& request, std::string_view name, std::string_view token) {
  for (const auto& [key, value] : request.headers) {
    if (!net::equal_ignoring_case(key, name)) continue;
    std::string_view rest = value;
    while (true) {
      while (!rest.empty() && (rest.front() == ' ' || rest.front() == '\t')) rest.remove_prefix(1);
      const auto end = std::ranges::find_if_not(rest, is_token_char);
      const std::string_view found = rest.substr(0, static_cast<size_t>(end - rest.begin()));
      if (found.empty()) break;
      rest.remove_prefix(found.size());
      while (!rest.empty() && (rest.front() == ' ' || rest.front() == '\t')) rest.remove_prefix(1);
      if (!rest.empty() && rest.front() != ',') break;
      if (net::equal_ignoring_case(found, token)) return true;
      if (rest.empty()) break;
      rest.remove_prefix(1);
    }
  }
  return false;
}

}  // namespace

size_t WebSocketReader::head_bytes() const {
  if (head_.size() < 2) return 2;
  const unsigned length = static_cast<uint8_t>(head_[1]) & 0x7fu;
  return 2u + (length == 126 ? 2 : length == 127 ? 8 : 0) + 4;
}

void WebSocketReader::feed(std::string_view bytes, Sink& sink) {
  while (state_ != State::kOver && !bytes.empty()) {
    if (state_ == State::kHead) {
      const size_t taken = std::min(head_bytes() - head_.size(), bytes.size());
      head_.append(bytes.substr(0, taken));
      bytes.remove_prefix(taken);
      if (head_.size() == 2) begin_frame(sink);
      if (state_ != State::kOver && head_.size() > 2 && head_.size() == head_bytes()) {
        std::copy_n(head_.end() - 4, 4, mask_);
        mask_at_ = 0;
        left_ = static_cast<uint8_t>(head_[1]) & 0x7fu;
        if (left_ >= 126) {
          left_ = 0;
          for (size_t i = 2; i < head_.size() - 4; ++i) left_ = left_ << 8 | static_cast<uint8_t>(head_[i]);
        }
        state_ = State::kPayload;
        // The most significant bit must be 0; nobody lives to see so much.
        if (left_ > INT64_MAX) return refuse("negative payload length", sink);
        if (left_ == 0) end_frame(sink);
      }
      continue;
    }
    std::array<char, 4096> plain;
    const size_t taken = static_cast<size_t>(std::min<uint64_t>({left_, bytes.size(), plain.size()}));
    for (size_t i = 0; i < taken; ++i) {
      plain[i] = static_cast<char>(static_cast<uint8_t>(bytes[i]) ^ mask_[mask_at_]);
      mask_at_ = (mask_at_ + 1) & 3;
    }
    bytes.remove_prefix(taken);
    left_ -= taken;
    const std::string_view piece(plain.data(), taken);
    is_control() ? static_cast<void>(control_.append(piece)) : sink.on_payload(piece);
    if (left_ == 0) end_frame(sink);
  }
}

// Its first two bytes have come.
void WebSocketReader::begin_frame(Sink& sink) {
  std::string errors;
  const auto add = [&](std::string_view error) { errors.append(errors.empty() ? "" : ", ").append(error); };
  const auto first = static_cast<uint8_t>(head_[0]);
  const auto second = static_cast<uint8_t>(head_[1]);
  if ((first & 0x40u) != 0) add("RSV1 set");
  if ((first & 0x20u) != 0) add("RSV2 set");
  if ((first & 0x10u) != 0) add("RSV3 set");
  switch (opcode()) {
    case kClose:
    case kPing:
    case kPong:
      if ((second & 0x7fu) > kControlBytesMax) add("len > 125 for control");
      if (!is_last()) add("FIN not set on control");
      break;
    case 0:
      if (!in_message_) add("continuation after FIN");
      in_message_ = !is_last();
      break;
    case 1:
    case 2:
      if (in_message_) add("data before FIN");
      in_message_ = !is_last();
      break;
    default: add(fmt::format("bad opcode {}", opcode()));
  }
  if ((second & 0x80u) == 0) add("bad MASK");
  if (!errors.empty()) refuse(errors, sink);
}

void WebSocketReader::end_frame(Sink& sink) {
  const std::string control = std::exchange(control_, {});
  const unsigned kind = opcode();
  const bool is_end_of_message = !is_control() && is_last();
  head_.clear();
  state_ = State::kHead;
  if (is_end_of_message) return sink.on_message_end();
  if (kind == kPing) return sink.on_ping(control);
  if (kind != kClose) return;
  if (control.size() < 2) {
    state_ = State::kOver;
    return sink.on_close({});
  }
  const unsigned code = static_cast<uint8_t>(control[0]) * 256u + static_cast<uint8_t>(control[1]);
  if (!is_close_code(code)) return refuse(fmt::format("bad close code {}", code), sink);
  if (!is_utf8(std::string_view(control).substr(2))) return refuse("invalid utf8 payload in close frame", sink);
  state_ = State::kOver;
  sink.on_close(std::string_view(control).substr(0, 2));
}

void WebSocketReader::refuse(std::string_view why, Sink& sink) {
  state_ = State::kOver;
  sink.on_close(close_payload(kProtocolError, why).substr(0, kControlBytesMax));
}

std::string websocket_frame(WebSocketFrame kind, bool is_last, std::string_view payload) {
  std::string out(1, static_cast<char>(static_cast<uint8_t>(kind) | (is_last ? 0x80u : 0u)));
  if (payload.size() < 126) {
    out += static_cast<char>(payload.size());
  } else {
    const bool is_short = payload.size() <= UINT16_MAX;
    out += static_cast<char>(is_short ? 126 : 127);
    for (int shift = is_short ? 8 : 56; shift >= 0; shift -= 8)
      out += static_cast<char>(uint64_t{payload.size()} >> shift);
  }
  return out.append(payload);
}

bool is_websocket_upgrade(const net::HttpRequest& request) {
  return has_token(request, "connection", "upgrade") && has_token(request, "upgrade", "websocket");
}

std::optional<int> websocket_refusal(const net::HttpRequest& request) {
  if (request.method != "GET") return 405;
  if (!has_token(request, "sec-websocket-version", "13")) return 400;
  const std::string_view key = request.header("sec-websocket-key");
  const auto decoded = key.size() % 4 == 0 ? from_base64(key) : std::nullopt;
  const bool is_standard = key.find_first_of("-_\r\n") == std::string_view::npos;
  return decoded && is_standard && decoded->size() == 16 ? std::nullopt : std::optional(400);
}

std::string websocket_accept(std::string_view key) {
  const std::string text = std::string(key) + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
  std::array<unsigned char, SHA_DIGEST_LENGTH> digest{};
  SHA1(reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest.data());
  std::string out;
  append_base64(out, {reinterpret_cast<const char*>(digest.data()), digest.size()});
  return out;
}

}  // namespace cairn::gateway::v3
