// net/http1/http1_session.h: HTTP/1.1 on one connection: a request is read, answered, and then the next one is read.
//
// Pipelined requests wait in the buffer, so answers are in order. Keep-alive as RFC 9112 has it.
//
// Threads: one loop; the answer may be given from any.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "net/http.h"
#include "net/protocol.h"
#include "net/server.h"
#include "net/timer_heap.h"

namespace cairn::net {

class Loop;

class Http1Session final : public Protocol, private TimerHeap::Node {
 public:
  Http1Session(Loop& loop, const ServerOptions& options, HttpHandler& handler, ProtocolHost& host);
  ~Http1Session() override;

  // Protocol
  bool receive(std::string_view bytes) override;
  void output(Output& out) override;
  bool wants_close() const override { return closing_; }
  bool may_read(bool blocked) const override;
  void drain() override;
  void on_closed() override;

  // The answer to the request that is being handled.
  void answer(const HttpResponse& response);

 private:
  struct Parser;  // Beast's

  void parse();
  void dispatch();
  void refuse(int status);  // and close
  void write(const HttpResponse& response);
  void on_timer() override;  // the headers took too long

  Loop& loop_;
  const ServerOptions& options_;
  HttpHandler& handler_;
  ProtocolHost& host_;
  std::unique_ptr<Parser> parser_;  // of the request that is coming in
  std::string in_;
  size_t in_offset_ = 0;
  std::string out_;
  size_t out_offset_ = 0;
  uint64_t expected_ = 0;  // the number of the answer that is awaited; 0: none
  bool parsing_ = false;
  bool head_ = false;  // the request being answered is a HEAD
  bool http10_ = false;
  bool keep_alive_ = true;
  bool continued_ = false;  // "100 Continue" was sent
  bool draining_ = false;
  bool closing_ = false;
};

}  // namespace cairn::net
