// rpc/token_wait.h: a call whose simple token was given by an entry that this member has not applied yet: another
// member has answered the Authenticate. What the client sends is kept until the entry is applied, and then given to the
// method's own handler.
//
// compat: etcd waits for as long as the call lasts; here until the request timeout, and so many calls of a thread at
// once. What waits for nothing in the end is refused as ever.
//
// Threads: one loop.
// Source:  etcd 3.7.1, tokenSimple.isValidSimpleToken.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "net/event_loop.h"
#include "net/http2/grpc.h"

namespace cairn::rpc {

class Context;

class TokenWait final : public net::CallHandler {
 public:
  static constexpr size_t kCallsMax = 64;     // of a loop; the next ones do not wait
  static constexpr size_t kMessagesMax = 16;  // of a call

  // `handler`, or one that waits in front of it, if that is due.
  static std::unique_ptr<net::CallHandler> in_front_of(std::unique_ptr<net::CallHandler> handler, Context& context,
                                                       const net::Call& call);
  ~TokenWait() override;

  Takes takes() const override { return handler_->takes(); }
  bool takes_more() const override { return handler_->takes_more(); }
  bool ends_when_stalled() const override { return handler_->ends_when_stalled(); }
  void on_begin(net::Call& call) override { handler_->on_begin(call); }
  void on_message(net::Call& call, std::string_view message) override;
  void on_half_close(net::Call& call) override;
  void on_writable(net::Call& call) override { handler_->on_writable(call); }
  void on_handled(net::Call& call, Code code, std::string_view answer) override {
    handler_->on_handled(call, code, answer);
  }
  void on_status(net::Call& call, Code code, std::string_view message) override {
    handler_->on_status(call, code, message);
  }
  void on_end(net::Call& call) override;

 private:
  TokenWait(std::unique_ptr<net::CallHandler> handler, Context& context, const net::Call& call, uint64_t index);

  void look_later();
  void look();
  void end_wait();
  void go_on(net::Call& call);

  const std::unique_ptr<net::CallHandler> handler_;
  Context& context_;
  const net::CallId call_;
  const uint64_t index_;  // the entry is the next one
  const int64_t ends_ns_;
  int64_t reached_ns_ = 0;  // when everything up to `index_` was applied
  bool waits_ = true;
  bool is_half_closed_ = false;
  std::vector<std::string> messages_;
  std::unique_ptr<net::EventLoop::Timer> timer_;
};

}  // namespace cairn::rpc
