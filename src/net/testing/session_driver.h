// net/testing/session_driver.h: an HTTP/2 session fed with bytes, without sockets: for fuzzing and for hostile input.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/check.h"
#include "net/http2/http2_session.h"
#include "net/loop.h"
#include "net/testing/test_server.h"

namespace cairn::net {

// Handlers that answer in every way there is; counts calls begun and ended.
class SessionDriver {
 public:
  explicit SessionDriver(std::shared_ptr<Loop> loop = std::make_shared<Loop>(0)) : loop_(std::move(loop)) {
    router_.add("/test.Svc/Echo", [this](LambdaHandler& handler, Call&) {
      handler.message = [](Call& call, std::string_view message) { call.reply(message); };
      count(handler);
    });
    router_.add("/test.Svc/Chat", [this](LambdaHandler& handler, Call&) {
      handler.message = [](Call& call, std::string_view message) { call.send(message); };
      handler.half_close = [](Call& call) { call.finish(Code::kAborted, "enough\n"); };
      count(handler);
    });
    router_.add("/test.Svc/Produce", [this](LambdaHandler& handler, Call&) {
      handler.half_close = [](Call& call) {
        call.send(100'000, std::make_unique<Letters>());
        call.finish();
      };
      count(handler);
    });
    http_.on_request = [](HttpRequest request, EventLoop&, HttpRespond respond) {
      respond({.status = request.method == "GET" ? 200 : 404, .headers = {}, .body = std::move(request.body)});
    };
    session_ = std::make_unique<Http2Session>(*loop_, options_, limits_, &router_, &http_, host_);
  }
  ~SessionDriver() {
    session_->on_closed();
    CAIRN_ASSERT(begun_ == ended_);
    if (loop_.use_count() == 1) CAIRN_ASSERT(loop_->calls().open_count() == 0);
  }

  // False: the session wants to be closed.
  bool feed(std::string_view bytes) {
    const bool good = session_->receive(bytes);
    Output& out = loop_->output();
    for (int i = 0; i < 8; ++i) {
      out.clear();
      session_->output(out);
      CAIRN_ASSERT(out.size() <= Output::kBytesMax);
      if (out.size() == 0) break;
      sent_bytes += out.size();
    }
    loop_->turn();
    return good && !session_->wants_close();
  }

  uint64_t sent_bytes = 0;
  int begun() const { return begun_; }
  int ended() const { return ended_; }

 private:
  class Letters final : public MessageProducer {
   public:
    Result<Piece> produce(std::span<char> out) override {
      const size_t bytes = std::min<size_t>(out.size(), left_);
      std::fill_n(out.data(), bytes, 'x');
      left_ -= bytes;
      return Piece{.bytes = bytes, .outcome = left_ == 0 ? Outcome::kDone : Outcome::kMore};
    }

   private:
    size_t left_ = 100'000;
  };
  struct Host final : ProtocolHost {
    void wake() override {}
    bool is_blocked() const override { return false; }
    std::string peer_address() const override { return "nowhere"; }
  };

  void count(LambdaHandler& handler) {
    ++begun_;
    handler.end = [this](Call&) { ++ended_; };
  }

  ServerOptions options_{.max_concurrent_streams = 100, .max_request_message_bytes = 10'000};
  HttpLimits limits_{.body_bytes_max = 10'000};
  LambdaRouter router_;
  LambdaHttp http_;
  Host host_;
  std::shared_ptr<Loop> loop_;
  std::unique_ptr<Http2Session> session_;
  int begun_ = 0;
  int ended_ = 0;
};

}  // namespace cairn::net
