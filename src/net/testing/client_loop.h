// net/testing/client_loop.h: a loop on a thread of its own, and an HttpClient on it that tests ask from outside.
#pragma once

#include <future>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "base/mutex.h"
#include "net/client/http_client.h"
#include "net/loop.h"

namespace cairn::net {

// What came of one request; looked at from any thread.
class Heard final : public HttpClient::Hearer {
 public:
  void on_writable() override {
    const MutexLock lock(mutex_);
    ++writable_;
  }
  void on_head(const HttpResponse& head) override {
    const MutexLock lock(mutex_);
    head_ = head;
  }
  void on_body(std::string_view bytes) override {
    const MutexLock lock(mutex_);
    body_.append(bytes);
  }
  void on_end(Status outcome) override {
    const MutexLock lock(mutex_);
    outcome_ = std::move(outcome);
  }

  [[nodiscard]] std::optional<HttpResponse> head() const {
    const MutexLock lock(mutex_);
    return head_;
  }
  [[nodiscard]] std::string body() const {
    const MutexLock lock(mutex_);
    return body_;
  }
  [[nodiscard]] std::optional<Status> outcome() const {
    const MutexLock lock(mutex_);
    return outcome_;
  }
  [[nodiscard]] int writable() const {
    const MutexLock lock(mutex_);
    return writable_;
  }

 private:
  mutable Mutex mutex_;
  std::optional<HttpResponse> head_ CAIRN_GUARDED_BY(mutex_);
  std::string body_ CAIRN_GUARDED_BY(mutex_);
  std::optional<Status> outcome_ CAIRN_GUARDED_BY(mutex_);
  int writable_ CAIRN_GUARDED_BY(mutex_) = 0;
};

class ClientLoop {
 public:
  explicit ClientLoop(const HttpClient::Options& options = {}, Resolver::Lookup lookup = Resolver::system_lookup())
      : loop_(std::make_shared<Loop>(0)),
        client_(std::make_unique<HttpClient>(*loop_, options, std::move(lookup))),
        thread_([this] { loop_->run(); }) {}
  ~ClientLoop() {
    run([this] { client_.reset(); });
    loop_->stop();
    thread_.join();
  }
  ClientLoop(const ClientLoop&) = delete;
  ClientLoop& operator=(const ClientLoop&) = delete;

  // On the loop's thread; waits for it.
  template <class What>
  void run(const What& what) {
    std::promise<void> done;
    loop_->post([&] {
      what();
      done.set_value();
    });
    done.get_future().wait();
  }
  [[nodiscard]] std::unique_ptr<HttpClient::Call> start(HttpClient::Request request, HttpClient::Hearer& hearer) {
    std::unique_ptr<HttpClient::Call> out;
    run([&] { out = client_->start(std::move(request), hearer); });
    return out;
  }
  void destroy(std::unique_ptr<HttpClient::Call>& call) {
    run([&] { call.reset(); });
  }
  HttpClient& client() { return *client_; }

 private:
  const std::shared_ptr<Loop> loop_;
  std::unique_ptr<HttpClient> client_;
  std::thread thread_;
};

}  // namespace cairn::net
