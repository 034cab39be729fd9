// rpc/stepped_handler.h: methods that are carried out in calls of other methods of this member, one after the other.
//
//     void on_request(call, message) { ask<LeaseGrantResponse>(kGrant, grant, [this](const auto& it) { enter(it); }); }
//     void enter(...)                { ask<TxnResponse>(kTxn, txn, [this](const auto& it) { ... }); }
//
// The inner calls go to the handlers that gRPC clients' calls go to, with the outer call's caller and metadata: whether
// they are allowed is decided there. They are counted and asked for their "hasleader" no second time.
//
// One inner call at a time; the next one, and the end of the outer call, cancels it. What it comes to when it fails is
// for on_refused() to say.
//
// Threads: one loop.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include <google/protobuf/message_lite.h>

#include "base/check.h"
#include "net/event_loop.h"
#include "proto/rpc.pb.h"
#include "rpc/handler.h"

namespace cairn::rpc {

inline constexpr std::string_view kRangePath = "/etcdserverpb.KV/Range";
inline constexpr std::string_view kTxnPath = "/etcdserverpb.KV/Txn";
inline constexpr std::string_view kDeleteRangePath = "/etcdserverpb.KV/DeleteRange";
inline constexpr std::string_view kLeaseGrantPath = "/etcdserverpb.Lease/LeaseGrant";
inline constexpr std::string_view kWatchPath = "/etcdserverpb.Watch/Watch";

class SteppedHandler : public OneRequestHandler, private net::LocalCall::Owner {
 public:
  using OneRequestHandler::OneRequestHandler;

  void on_begin(net::Call& call) override { call_ = &call; }
  void on_writable(net::Call&) override { take_answers(); }
  void on_end(net::Call& call) override {
    inner_.reset();
    Handler::on_end(call);
  }

 protected:
  [[nodiscard]] net::Call& outer() { return *call_; }

  // Calls a unary method. `then`: void(const Response&).
  template <class Response, class Then>
  void ask(std::string_view path, const google::protobuf::MessageLite& request, Then then) {
    begin(path, request, [then = std::move(then)](std::string_view bytes) { then(parse<Response>(bytes)); });
  }
  // Watches. `then`: void(const etcdserverpb::WatchResponse&), for each response with events.
  void watch(const etcdserverpb::WatchCreateRequest& create,
             std::function<void(const etcdserverpb::WatchResponse&)> then);
  // Calls a unary method and does not wait for it, nor for the outer call: for on_end().
  void leave(std::string_view path, const google::protobuf::MessageLite& request);

  // An inner call has failed, or a watcher was cancelled. Unless this does otherwise, the outer call ends
  // with the error.
  virtual void on_refused(const Error& error) { finish_with(outer(), error); }
  // False: answers of the inner call wait until the outer call's client has taken what was sent to it.
  [[nodiscard]] virtual bool takes_answers() { return true; }

 private:
  using Answered = std::function<void(std::string_view message)>;

  template <class Response>
  static Response parse(std::string_view bytes) {
    Response response;
    CAIRN_ASSERT(response.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())));
    return response;
  }
  void begin(std::string_view path, const google::protobuf::MessageLite& request, Answered then);
  std::unique_ptr<net::LocalCall> open(std::string_view path, std::unique_ptr<net::LocalCall::Origin> origin);
  void on_news(net::LocalCall&) override { take_answers(); }
  void take_answers();
  void tell(std::string_view message);
  void end_inner();
  void end_watch(const etcdserverpb::WatchResponse& cancelled);

  net::Call* call_ = nullptr;  // the outer one; lives as long as its handler
  std::unique_ptr<net::LocalCall> inner_;
  uint64_t begun_ = 0;  // inner calls so far
  Answered then_;
  std::string answer_;  // of a unary method, until that has ended
  bool watches_ = false;
};

}  // namespace cairn::rpc
