// net/refusal.h: what a client hears that comes when all seats are taken: a reason in its own protocol, then the end.
//
// gRPC's clients take the GOAWAY for UNAVAILABLE and come again after a while; HTTP/1.1's get 503.
//
// Threads: one loop.
#pragma once

#include <string_view>
#include <utility>

#include "net/protocol.h"

namespace cairn::net {

class Refusal final : public Protocol {
 public:
  explicit Refusal(bool is_http2) : rest_(is_http2 ? kHttp2 : kHttp1) {}

  bool receive(std::string_view) override { return true; }
  void output(Output& out) override { out.append(std::exchange(rest_, {})); }
  bool wants_close() const override { return rest_.empty(); }
  bool may_read(bool) const override { return true; }
  void drain() override {}
  void on_closed() override {}

 private:
  // An empty SETTINGS frame, which begins a server's side, and GOAWAY: last stream 0, NO_ERROR, "too many connections".
  static constexpr std::string_view kHttp2{
      "\0\0\0\4\0\0\0\0\0"
      "\0\0\x1c\7\0\0\0\0\0"
      "\0\0\0\0\0\0\0\0too many connections",
      9 + 9 + 8 + 20};
  static constexpr std::string_view kHttp1 =
      "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nRetry-After: 1\r\n"
      "Content-Length: 21\r\nConnection: close\r\n\r\ntoo many connections\n";

  std::string_view rest_;
};

}  // namespace cairn::net
