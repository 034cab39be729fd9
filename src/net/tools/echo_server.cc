// tools/echo_server.cc: a server that does nothing but answer: what the network layer itself costs.
//
//   cairn_net_echo [port] [io threads]
//   /bench.Echo/Unary     any message    -> 64 bytes
//   /bench.Echo/Download  u32 (LE) MB    -> one message of so many MB, produced while it is sent
//   /bench.Echo/Upload    any messages   -> an empty one at the end
// On SIGINT or SIGTERM: prints calls, CPU per call, system calls, and ends.

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include <sys/resource.h>

#include "base/bytes.h"
#include "net/server.h"

namespace {

using namespace cairn;
using namespace cairn::net;

class Unary final : public CallHandler {
 public:
  void on_message(Call& call, std::string_view) override { call.reply(kAnswer); }

 private:
  static constexpr char kAnswerBytes[65] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
  static constexpr std::string_view kAnswer{kAnswerBytes, 64};
};

class Zeros final : public MessageProducer {
 public:
  explicit Zeros(uint64_t length) : left_(length) {}
  Result<Piece> produce(std::span<char> out) override {
    const size_t bytes = std::min<uint64_t>(left_, out.size());
    std::memset(out.data(), 0, bytes);
    left_ -= bytes;
    return Piece{.bytes = bytes, .outcome = left_ == 0 ? Outcome::kDone : Outcome::kMore};
  }

 private:
  uint64_t left_;
};

class Download final : public CallHandler {
 public:
  void on_message(Call& call, std::string_view message) override {
    const uint64_t length = message.size() < 4 ? 0 : uint64_t{load_le<uint32_t>(message.data())} << 20;
    call.send(length, std::make_unique<Zeros>(length));
    call.finish();
  }
};

class Upload final : public CallHandler {
 public:
  void on_message(Call&, std::string_view) override {}
  void on_half_close(Call& call) override { call.reply({}); }
};

class EchoRouter final : public Router {
 public:
  std::unique_ptr<CallHandler> route(std::string_view path, Call&) override {
    if (path == "/bench.Echo/Unary") return std::make_unique<Unary>();
    if (path == "/bench.Echo/Download") return std::make_unique<Download>();
    if (path == "/bench.Echo/Upload") return std::make_unique<Upload>();
    return nullptr;
  }
  bool has_service(std::string_view service) const override { return service == "bench.Echo"; }
};

class Ok final : public WholeBodyHandler {
 public:
  void handle(HttpRequest, EventLoop&, HttpRespond respond) override {
    respond(HttpResponse{.headers = {}, .body = "ok\n"});
  }
};

double seconds(const timeval& time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string port = argc > 1 ? argv[1] : "0";
  const unsigned threads = argc > 2 ? static_cast<unsigned>(std::atoi(argv[2])) : 1;
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  sigprocmask(SIG_BLOCK, &signals, nullptr);

  EchoRouter router;
  Ok http;
  Server server({.listen = {{.address = "127.0.0.1:" + port}}, .io_threads = threads}, &router, &http);
  const auto addresses = server.start();
  if (!addresses) {
    std::fprintf(stderr, "%s\n", addresses.error().message.c_str());
    return 1;
  }
  std::printf("%s\n", addresses->front().c_str());
  std::fflush(stdout);

  int received = 0;
  sigwait(&signals, &received);
  server.stop(100'000'000);
  rusage used{};
  getrusage(RUSAGE_SELF, &used);
  const ServerStats stats = server.stats();
  uint64_t calls = 0;
  for (const MethodStats& method : stats.methods) calls += method.handled[0];
  const double cpu = seconds(used.ru_utime) + seconds(used.ru_stime);
  const auto n = static_cast<double>(calls > 0 ? calls : 1);
  std::printf(
      "calls %llu, cpu %.2f s (user %.2f, system %.2f), %.3f us a call, turns %llu, reads %.3f and writes %.3f a "
      "call\n",
      static_cast<unsigned long long>(calls), cpu, seconds(used.ru_utime), seconds(used.ru_stime), cpu * 1e6 / n,
      static_cast<unsigned long long>(stats.turns), static_cast<double>(stats.socket_reads) / n,
      static_cast<double>(stats.socket_writes) / n);
  return 0;
}
