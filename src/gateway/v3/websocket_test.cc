#include "gateway/v3/websocket.h"

#include <gtest/gtest.h>

namespace cairn::gateway::v3 {
namespace {

struct Record final : WebSocketReader::Sink {
  std::string told;
  void on_payload(std::string_view bytes) override { told += bytes; }
  void on_message_end() override { told += "|end|"; }
  void on_ping(std::string_view payload) override { told.append("|ping ").append(payload).append("|"); }
  void on_close(std::string_view payload) override {
    told += "|close";
    if (payload.size() >= 2) {
      told += " " + std::to_string(static_cast<uint8_t>(payload[0]) * 256 + static_cast<uint8_t>(payload[1]));
      told.append(" ").append(payload.substr(2));
    }
    told += "|";
  }
};

// As a client sends it: masked.
std::string frame(unsigned first, std::string_view payload, std::string_view mask = "\x01\x02\x03\x04") {
  std::string out = websocket_frame(WebSocketFrame::kText, true, payload);
  const size_t head = out.size() - payload.size();
  out[0] = static_cast<char>(first);
  out[1] = static_cast<char>(static_cast<uint8_t>(out[1]) | 0x80u);
  for (size_t i = 0; i < payload.size(); ++i) out[head + i] = static_cast<char>(out[head + i] ^ mask[i % 4]);
  return out.insert(head, mask);
}

std::string told(std::string_view bytes, size_t step) {
  WebSocketReader reader;
  Record record;
  for (; !bytes.empty(); bytes.remove_prefix(std::min(step, bytes.size()))) reader.feed(bytes.substr(0, step), record);
  return record.told;
}

void expect_told(const std::string& bytes, const std::string& expected) {
  for (const size_t step : {size_t{1}, size_t{2}, size_t{7}, SIZE_MAX}) EXPECT_EQ(told(bytes, step), expected) << step;
}

TEST(WebSocketReader, MessagesHoweverTheyComeAndHoweverLong) {
  expect_told(frame(0x81, "abc") + frame(0x82, "") + frame(0x81, "d"), "abc|end||end|d|end|");
  expect_told(frame(0x01, "ab") + frame(0x00, "c") + frame(0x80, "d"), "abcd|end|");
  for (const size_t length : {125, 126, 65535, 65536}) {
    const std::string text(length, 'x');
    EXPECT_EQ(told(frame(0x81, text), 5000), text + "|end|");
  }
}

TEST(WebSocketReader, ControlFramesComeBetweenThePartsOfAMessage) {
  expect_told(frame(0x01, "ab") + frame(0x89, "p") + frame(0x8a, "ignored") + frame(0x80, "c"), "ab|ping p|c|end|");
}

TEST(WebSocketReader, NothingIsReadBehindTheLastFrame) {
  expect_told(frame(0x88, "\x03\xe8gone") + frame(0x81, "a"), "|close 1000 |");
  expect_told(frame(0x88, "") + frame(0x81, "a"), "|close|");
}

TEST(WebSocketReader, WhatIsWrongIsTold) {
  expect_told("\x81\x01x", "|close 1002 bad MASK|");
  expect_told(frame(0xf1, "x"), "|close 1002 RSV1 set, RSV2 set, RSV3 set|");
  expect_told(frame(0x83, "x"), "|close 1002 bad opcode 3|");
  expect_told(frame(0x80, "x"), "|close 1002 continuation after FIN|");
  expect_told(frame(0x01, "x") + frame(0x81, "y"), "x|close 1002 data before FIN|");
  expect_told(frame(0x09, "x"), "|close 1002 FIN not set on control|");
  expect_told(frame(0x89, std::string(126, 'x')), "|close 1002 len > 125 for control|");
  expect_told(frame(0x88, "\x03\xee"), "|close 1002 bad close code 1006|");
  expect_told(frame(0x88, "\x03\xe8\xff"), "|close 1002 invalid utf8 payload in close frame|");
  expect_told(std::string("\x81\xff\x80\0\0\0\0\0\0\0abcd", 14), "|close 1002 negative payload length|");
}

TEST(WebSocketFrames, AsAServerWritesThem) {
  EXPECT_EQ(websocket_frame(WebSocketFrame::kText, true, "ab"),
            "\x81\x02"
            "ab");
  EXPECT_EQ(websocket_frame(WebSocketFrame::kContinuation, false, ""), std::string("\0\0", 2));
  EXPECT_EQ(websocket_frame(WebSocketFrame::kText, true, std::string(126, 'x')).substr(0, 4),
            std::string("\x81\x7e\0\x7e", 4));
  EXPECT_EQ(websocket_frame(WebSocketFrame::kText, true, std::string(65536, 'x')).substr(0, 10),
            std::string("\x81\x7f\0\0\0\0\0\x01\0\0", 10));
}

net::HttpRequest handshake() {
  return {.method = "GET",
          .headers = {{"connection", "keep-alive, Upgrade"},
                      {"Upgrade", "WebSocket"},
                      {"Sec-WebSocket-Version", "13"},
                      {"Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="}}};
}

TEST(WebSocketHandshake, IsAsked) {
  EXPECT_TRUE(is_websocket_upgrade(handshake()));
  EXPECT_EQ(websocket_refusal(handshake()), std::nullopt);
  EXPECT_EQ(websocket_accept("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") << "RFC 6455, 1.3";
  net::HttpRequest other = handshake();
  other.headers[0].second = "keep-alive";
  EXPECT_FALSE(is_websocket_upgrade(other));
  other = handshake();
  other.headers[1].second = "websockets";
  EXPECT_FALSE(is_websocket_upgrade(other));
}

TEST(WebSocketHandshake, IsRefused) {
  net::HttpRequest other = handshake();
  other.method = "POST";
  EXPECT_EQ(websocket_refusal(other), 405);
  other = handshake();
  other.headers[2].second = "8";
  EXPECT_EQ(websocket_refusal(other), 400);
  for (const char* const key : {"", "short", "dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZSBub25jZQ!!"}) {
    other = handshake();
    other.headers[3].second = key;
    EXPECT_EQ(websocket_refusal(other), 400) << key;
  }
}

}  // namespace
}  // namespace cairn::gateway::v3
