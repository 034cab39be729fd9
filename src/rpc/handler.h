// rpc/handler.h: what the handlers of all methods share.
#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>

#include "member/access.h"
#include "net/http2/grpc.h"
#include "rpc/context.h"
#include "rpc/methods.h"
#include "rpc/request_stats.h"
#include "rpc/request_trace.h"

namespace etcdserverpb {
class InternalRaftRequest;
}  // namespace etcdserverpb

namespace cairn::rpc {

// Metadata of a call that comes through the JSON gateway: the certificate is the gateway's then, and names nobody.
inline constexpr std::string_view kGatewayMark = "grpcgateway-accept";

class Handler : public net::CallHandler {
 public:
  Handler(Context& context, const Method& method, const Caller& caller)
      : context_(context), method_(method), caller_(caller), began_ns_(context.turn_ns()) {}

  Takes takes() const final {
    switch (method_.kind) {
      case Method::Kind::kUnary: return Takes::kOne;
      case Method::Kind::kServerStream: return Takes::kOneForStream;
      case Method::Kind::kBidiStream: return Takes::kMany;
    }
    return Takes::kOne;
  }
  void on_handled(net::Call& call, Code code, std::string_view answer) final {
    is_handled_ = true;
    const int64_t took_ns = context_.turn_ns() - began_ns_;
    context_.time_call(method_, took_ns);
    if (method_.kind != Method::Kind::kUnary) return;
    const Limits& limits = context_.limits();
    const int64_t quick_ns = std::min({limits.warning_unary_ns, limits.warning_apply_ns, kTraceThresholdNs});
    if (took_ns > quick_ns || log::enabled(log::Level::kDebug)) tell_of(call, took_ns, code, answer);
  }
  void on_status(net::Call& call, Code code, std::string_view message) final;
  void on_end(net::Call& call) override { context_.forget(call.id()); }

 protected:
  // Of a call that is not handled at once, for the line in the log.
  [[nodiscard]] virtual std::string_view kept_request() const { return {}; }
  [[nodiscard]] bool is_handled() const { return is_handled_; }
  void note_request_bytes(uint64_t bytes) { request_bytes_ = bytes; }
  // For the log: the request is no entry of it; nobody knows of a newer state.
  void note_read() { reads_ = true; }
  void note_agreement() { agreed_ns_ = context_.turn_ns() - began_ns_; }

  [[nodiscard]] const Method& method() const { return method_; }
  [[nodiscard]] const Caller& caller() const { return caller_; }
  // Null: the call is not traced.
  [[nodiscard]] tracing::CallTrace* trace() const { return caller_.trace.get(); }
  // For the first offload() of what was asked.
  [[nodiscard]] Context::Turn turn() const { return caller_.is_step ? Context::Turn::kStep : Context::Turn::kFirst; }

  // --- who calls, and whether they may. Those that answer false or nullopt have ended the call.

  //   errors: invalid_auth_token
  [[nodiscard]] Result<auth::Identity> identify(const net::Call& call, const member::Published& state);
  // Somebody who is known; a user with the role root. While auth is off: anybody.
  [[nodiscard]] std::optional<auth::Identity> admit_known(net::Call& call);
  [[nodiscard]] std::optional<auth::Identity> admit_root(net::Call& call);
  // Somebody of whom `check`, a Status(const auth::Identity&), says so.
  template <class Check>
  [[nodiscard]] std::optional<auth::Identity> admit(net::Call& call, const member::Published& state,
                                                    const Check& check) {
    if (!state.auth->enabled() || caller_.is_member) return auth::Identity{};
    Result<auth::Identity> who = identify(call, state);
    const Status allowed = who ? check(*who) : std::unexpected(who.error());
    if (allowed) return *std::move(who);
    finish_with(call, allowed.error());
    return std::nullopt;
  }
  // Somebody who may read, at `state`, what the request touches.
  template <class Request>
  [[nodiscard]] std::optional<auth::Identity> admit_read(net::Call& call, const member::Published& state,
                                                         const Request& request) {
    return admit(call, state, [&](const auth::Identity& who) { return member::check_read(*state.auth, who, request); });
  }
  // Somebody whose write may be proposed. Whether it may be done is decided when it is applied; but what this member
  // knows to be refused then is refused here, and takes no room in the log.
  template <class Request>
  [[nodiscard]] std::optional<auth::Identity> admit_write(net::Call& call, const member::Published& state,
                                                          const Request& request, std::string_view body) {
    return admit(call, state, [&](const auth::Identity& who) {
      return decides(state, who, body) ? member::check_access(*state.auth, who, request) : Status();
    });
  }
  // Of an entry that is proposed for `who`.
  void set_header(etcdserverpb::InternalRaftRequest& request, const auth::Identity& who);
  // Whether no member knows of a newer state, and the order in which etcd looks for errors is kept: what is too large
  // for the log is said before it is known who may do it.
  [[nodiscard]] bool decides(const member::Published& state, const auth::Identity& who, std::string_view body) const {
    constexpr size_t kHeaderBytesMax = 128;  // but for the user's name
    return state.reads_alone && state.alarms->empty() &&
           body.size() + who.user.size() + kHeaderBytesMax <= context_.limits().request_bytes_max;
  }

  Context& context_;

 private:
  // Lines of the log about a call that took long, and about each at level debug.
  void tell_of(const net::Call& call, int64_t took_ns, Code code, std::string_view told);

  const Method& method_;
  Caller caller_;
  int64_t began_ns_;
  int64_t agreed_ns_ = 0;
  uint64_t request_bytes_ = 0;
  bool is_handled_ = false;
  bool reads_ = false;
};

// A method that takes one request, whatever it answers with. As Go's server: a method that answers with a stream is
// carried out when the client has ended its side, and a second request is an error.
class OneRequestHandler : public Handler {
 public:
  using Handler::Handler;

  void on_message(net::Call& call, std::string_view message) final {
    if (method().kind == Method::Kind::kUnary) {
      const bool tells_all = log::enabled(log::Level::kDebug);
      if (tells_all) keep(message);
      on_request(call, message);
      if (!tells_all && !is_handled()) keep(message);
      return;
    }
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
  [[nodiscard]] std::string_view kept_request() const final { return kept_; }
  // Only what is about keys is told: others may hold passwords.
  void keep(std::string_view message) {
    note_request_bytes(message.size());
    const bool is_about_keys = method().touches == Method::Touches::kKeys;
    if (is_about_keys && message.size() <= kKeptRequestBytesMax) kept_ = message;
  }

  std::optional<std::string> request_;  // when it answers with a stream
  std::string kept_;                    // for the log
};

// A Maker for a handler class.
template <class H>
std::unique_ptr<net::CallHandler> make_handler(Context& context, const Method& method, const Caller& caller) {
  return std::make_unique<H>(context, method, caller);
}

}  // namespace cairn::rpc
