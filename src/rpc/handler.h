// rpc/handler.h: what the handlers of all methods share.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "net/http2/grpc.h"
#include "rpc/context.h"
#include "rpc/methods.h"

namespace cairn::rpc {

class Handler : public net::CallHandler {
 public:
  Handler(Context& context, const Method& method, const Caller& caller)
      : context_(context), method_(method), caller_(caller) {}

  Takes takes() const final {
    switch (method_.kind) {
      case Method::Kind::kUnary: return Takes::kOne;
      case Method::Kind::kServerStream: return Takes::kOneForStream;
      case Method::Kind::kBidiStream: return Takes::kMany;
    }
    return Takes::kOne;
  }
  void on_end(net::Call& call) override { context_.forget(call.id()); }

 protected:
  [[nodiscard]] const Method& method() const { return method_; }
  [[nodiscard]] const Caller& caller() const { return caller_; }

  Context& context_;

 private:
  const Method& method_;
  Caller caller_;
};

// A method that takes one request, whatever it answers with. As Go's server: a method that answers with a stream is
// carried out when the client has ended its side, and a second request is an error.
class OneRequestHandler : public Handler {
 public:
  using Handler::Handler;

  void on_message(net::Call& call, std::string_view message) final {
    if (method().kind == Method::Kind::kUnary) return on_request(call, message);
    if (request_) {
      return call.finish(Code::kInternal,
                         "cardinality violation: received multiple request messages for non-client-streaming RPC");
    }
    request_ = message;
  }
  void on_half_close(net::Call& call) final {
    if (request_) on_request(call, *request_);
  }

 protected:
  virtual void on_request(net::Call& call, std::string_view message) = 0;

 private:
  std::optional<std::string> request_;  // when it answers with a stream
};

// A Maker for a handler class.
template <class H>
std::unique_ptr<net::CallHandler> make_handler(Context& context, const Method& method, const Caller& caller) {
  return std::make_unique<H>(context, method, caller);
}

}  // namespace cairn::rpc
