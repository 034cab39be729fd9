// net/testing/test_server.h: a server on a free loopback port whose methods are lambdas.
#pragma once

#include <atomic>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <string>

#include "base/check.h"
#include "net/server.h"
#include "testing/wait.h"

namespace cairn::net {

struct LambdaHandler final : CallHandler {
  std::function<void(Call&, std::string_view)> message;
  std::function<void(Call&)> half_close;
  std::function<void(Call&)> writable;
  std::function<void(Call&)> end;
  std::function<bool()> wants_more;

  bool is_kept_when_stalled = false;

  Takes takes() const override { return Takes::kMany; }
  bool takes_more() const override { return !wants_more || wants_more(); }
  bool ends_when_stalled() const override { return !is_kept_when_stalled; }
  void on_message(Call& call, std::string_view bytes) override {
    if (message) message(call, bytes);
  }
  void on_half_close(Call& call) override {
    if (half_close) half_close(call);
  }
  void on_writable(Call& call) override {
    if (writable) writable(call);
  }
  void on_end(Call& call) override {
    if (end) end(call);
  }
};

class LambdaRouter final : public Router {
 public:
  using Make = std::function<void(LambdaHandler&, Call&)>;
  void add(const std::string& path, Make make) { methods_[path] = std::move(make); }
  std::unique_ptr<CallHandler> route(std::string_view path, Call& call) override {
    const auto at = methods_.find(std::string(path));
    if (at == methods_.end()) return nullptr;
    auto handler = std::make_unique<LambdaHandler>();
    at->second(*handler, call);
    return handler;
  }
  bool has_service(std::string_view service) const override { return service == "test.Svc"; }

 private:
  std::map<std::string, Make> methods_;
};

struct LambdaHttp final : WholeBodyHandler {
  std::function<void(HttpRequest, EventLoop&, HttpRespond)> on_request;
  void handle(HttpRequest request, EventLoop& loop, HttpRespond respond) override {
    on_request(std::move(request), loop, std::move(respond));
  }
};

// "/test.Svc/Echo" answers with the message; counts the ends of calls.
class TestServer {
 public:
  explicit TestServer(ServerOptions options = {}) : options_(std::move(options)) {
    if (options_.listen.empty()) options_.listen.push_back({.address = "127.0.0.1:0"});
    router.add("/test.Svc/Echo", [this](LambdaHandler& handler, Call&) {
      handler.message = [](Call& call, std::string_view message) { call.reply(message); };
      handler.end = [this](Call&) { ++ends; };
    });
  }
  ~TestServer() { stop(); }

  // Its loops alone; start() comes later.
  void run() {
    server_ = std::make_unique<Server>(options_, &router, http.on_request ? &http : nullptr);
    server_->run();
    runs_ = true;
  }
  const std::string& start() {
    if (!std::exchange(runs_, false)) {
      server_ = std::make_unique<Server>(options_, &router, http.on_request ? &http : nullptr);
    }
    auto bound = server_->start();
    CAIRN_ASSERT(bound.has_value());
    addresses = *std::move(bound);
    return addresses.front();
  }
  void stop(int64_t grace_ns = 0) {
    if (server_ != nullptr) server_->stop(grace_ns);
  }
  Server& server() { return *server_; }

  LambdaRouter router;
  LambdaHttp http;
  std::atomic<int> ends{0};
  std::vector<std::string> addresses;

 private:
  ServerOptions options_;
  std::unique_ptr<Server> server_;
  bool runs_ = false;
};

// What `value` is once it stays the same over several turns of every loop: what can be done without the client is done.
// needs: it becomes more than 0
template <class Value>
auto settled(Server& server, const Value& value) {
  CAIRN_ASSERT(cairn::testing::wait_until([&] { return value() != 0; }));
  auto last = value();
  for (int calm = 0; calm < 10;) {
    for (EventLoop* const loop : server.loops()) {
      std::promise<void> turn;
      loop->post([&] { turn.set_value(); });
      turn.get_future().wait();
    }
    const auto now = value();
    calm = now == last ? calm + 1 : 0;
    last = now;
  }
  return last;
}

}  // namespace cairn::net
