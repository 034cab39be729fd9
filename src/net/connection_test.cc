// A connection over a transport that is not a plain socket: what TLS does, done on purpose.
#include "net/connection.h"

#include <deque>
#include <string>

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/loop.h"
#include "net/testing/test_client.h"
#include "net/testing/test_server.h"

namespace cairn::net {
namespace {

// Reads ahead into a buffer of its own; now and then reading wants the socket writable, and writing wants it readable.
class CrossedTransport final : public Transport {
 public:
  struct Counts {
    int reads_crossed = 0;
    int writes_crossed = 0;
    int reads_from_buffer = 0;
  };
  CrossedTransport(int fd, Counts& counts) : fd_(fd), socket_(clear_transport(fd)), counts_(counts) {}

  Moved read(std::span<char> into) override {
    if (++reads_ % 3 == 0) {
      ++counts_.reads_crossed;
      return {.outcome = Outcome::kWantsWritable};
    }
    if (unread_.empty()) {
      unread_.resize(kReadAheadBytes);
      const Moved moved = socket_->read(unread_);
      unread_.resize(moved.bytes);
      if (moved.outcome != Outcome::kDone) return moved;
    } else {
      ++counts_.reads_from_buffer;
    }
    const size_t bytes = std::min({into.size(), unread_.size(), size_t{100}});
    std::copy_n(unread_.data(), bytes, into.data());
    unread_.erase(0, bytes);
    return {.bytes = bytes};
  }
  Moved write(std::string_view bytes) override {
    // Only while there is something to read: nobody would wake us else.
    char byte = 0;
    if (++writes_ % 3 == 0 && ::recv(fd_, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 1) {
      ++counts_.writes_crossed;
      return {.outcome = Outcome::kWantsReadable};
    }
    return socket_->write(bytes.substr(0, 5000));
  }
  bool has_unread() const override { return !unread_.empty(); }
  uint64_t taken_bytes() const override { return socket_->taken_bytes(); }
  void close_write() override { socket_->close_write(); }
  Spoken spoken() const override { return socket_->spoken(); }
  std::string peer_address() const override { return socket_->peer_address(); }
  std::string local_address() const override { return socket_->local_address(); }
  bool is_secure() const override { return socket_->is_secure(); }
  const std::shared_ptr<const PeerCertificate>& peer_certificate() const override {
    return socket_->peer_certificate();
  }

 private:
  static constexpr size_t kReadAheadBytes = 3000;
  int fd_;
  std::unique_ptr<Transport> socket_;
  Counts& counts_;
  std::string unread_;
  int reads_ = 0;
  int writes_ = 0;
};

TEST(Connection, ATransportMayWaitForTheOtherDirectionAndHoldBytes) {
  int fds[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
  const auto loop = std::make_shared<Loop>(0);
  const ServerOptions options;
  const HttpLimits limits;
  LambdaHttp http;
  http.on_request = [](const HttpRequest& request, EventLoop&, const HttpRespond& respond) {
    respond({.headers = {}, .body = request.path + std::string(200'000, 'b') + request.body});
  };
  CrossedTransport::Counts counts;
  loop->adopt(std::make_unique<Connection>(*loop, fds[0], std::make_unique<CrossedTransport>(fds[0], counts), nullptr,
                                           options, Services{.http = &http, .limits = &limits}));
  // Several requests one behind the other, each with more than the session reads ahead.
  constexpr int kRequests = 4;
  const auto body = [](int i) { return std::string(100'000, static_cast<char>('0' + i)); };
  std::string out;
  for (int i = 0; i < kRequests; ++i) {
    out += fmt::format("POST /p{} HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n{}", i, body(i));
  }
  std::string got;
  for (int turn = 0; turn < 100'000 && !got.ends_with(body(kRequests - 1)); ++turn) {
    loop->turn();
    const ssize_t sent = ::send(fds[1], out.data(), out.size(), 0);
    if (sent > 0) out.erase(0, static_cast<size_t>(sent));
    char buffer[4096];
    const ssize_t bytes = ::recv(fds[1], buffer, sizeof buffer, 0);
    if (bytes > 0) got.append(buffer, static_cast<size_t>(bytes));
  }
  size_t at = 0;
  for (int i = 0; i < kRequests; ++i) {
    at = got.find(fmt::format("\r\n\r\n/p{}{}{}", i, std::string(200'000, 'b'), body(i)), at);
    ASSERT_NE(at, std::string::npos) << i;
  }
  EXPECT_GT(counts.reads_crossed, 10);
  EXPECT_GT(counts.writes_crossed, 3);
  EXPECT_GT(counts.reads_from_buffer, 30);
  ::close(fds[1]);
}

// What is done at the turn's end, proposals for example, has been done for every request when nothing is left to do:
// the loop sleeps then. Requests are also read while answers are written, from what the session or the transport holds.
TEST(Connection, NoRequestIsForgottenBehindTheTurnsEnd) {
  for (const bool is_held : {false, true}) {
    SCOPED_TRACE(is_held);
    int fds[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    const auto loop = std::make_shared<Loop>(0);
    const ServerOptions options;
    const HttpLimits limits;
    LambdaHttp http;
    std::vector<HttpRespond> gathered;
    http.on_request = [&](const HttpRequest&, EventLoop&, HttpRespond respond) {
      gathered.push_back(std::move(respond));
    };
    loop->set_turn_end([&] {
      for (HttpRespond& respond : std::exchange(gathered, {})) respond({.headers = {}, .body = "done"});
    });
    CrossedTransport::Counts counts;
    std::unique_ptr<Transport> transport = clear_transport(fds[0]);
    if (is_held) transport = std::make_unique<CrossedTransport>(fds[0], counts);
    loop->adopt(std::make_unique<Connection>(*loop, fds[0], std::move(transport), nullptr, options,
                                             Services{.http = &http, .limits = &limits}));
    constexpr size_t kRequests = 20;
    std::string out;
    for (size_t i = 0; i < kRequests; ++i) out += "GET /a HTTP/1.1\r\nHost: x\r\n\r\n";
    ASSERT_EQ(::send(fds[1], out.data(), out.size(), 0), static_cast<ssize_t>(out.size()));
    std::string got;
    int idle_turns = 0;
    while (idle_turns < 3) {
      if (loop->turn()) {
        idle_turns = 0;
      } else {
        ++idle_turns;
        ASSERT_TRUE(gathered.empty());
      }
      char buffer[4096];
      const ssize_t bytes = ::recv(fds[1], buffer, sizeof buffer, 0);
      if (bytes > 0) got.append(buffer, static_cast<size_t>(bytes));
    }
    size_t answers = 0;
    for (size_t at = got.find("done"); at != std::string::npos; at = got.find("done", at + 1)) ++answers;
    EXPECT_EQ(answers, kRequests);
    ::close(fds[1]);
    while (loop->turn()) {
    }
  }
}

}  // namespace
}  // namespace cairn::net
