// Time that passes while nothing happens: what is measured from a moment after idle time is measured from that moment,
// not from when the loop went to sleep.
#include <chrono>
#include <thread>

#include <gtest/gtest.h>

#include "env/clock.h"
#include "net/testing/test_client.h"
#include "net/testing/test_server.h"
#include "testing/pauses.h"

namespace cairn::net {
namespace {

using cairn::testing::Pauses;
using cairn::testing::succeeds_unless_held_up;

constexpr int64_t kMilli = 1'000'000;
constexpr auto kIdle = std::chrono::milliseconds(400);   // twice each limit below, and more
constexpr auto kLimit = std::chrono::milliseconds(200);  // of a client's time

const Listen kListen = {.address = "127.0.0.1:0", .http_limits = {.header_timeout_ns = 200 * kMilli}};

void idle() { std::this_thread::sleep_for(kIdle); }

TEST(ServerIdle, ACallHasItsWholeTimeout) {
  TestServer server;
  std::atomic<int64_t> deadline_ns{0};
  server.router.add("/test.Svc/Left", [&](LambdaHandler& handler, Call&) {
    handler.message = [&](Call& call, std::string_view message) {
      deadline_ns = call.deadline_ns().value();
      call.reply(message);
    };
  });
  TestClient client(server.start());
  EXPECT_EQ(client.unary("/test.Svc/Echo", "x").code(), 0);
  idle();
  const int64_t before_ns = env::PosixClock().monotonic_ns();
  EXPECT_EQ(client.unary("/test.Svc/Left", "x", {{"grpc-timeout", "60S"}}).code(), 0);
  EXPECT_GE(deadline_ns, before_ns + 60'000 * kMilli);
  EXPECT_LE(deadline_ns, env::PosixClock().monotonic_ns() + 60'000 * kMilli);
}

TEST(ServerIdle, AConnectionHasItsWholeTimeToSpeak) {
  for (const unsigned io_threads : {1U, 2U}) {  // adopted by the loop that accepted it; by another one
    TestServer server({.listen = {kListen}, .io_threads = io_threads});
    server.http.on_request = [](HttpRequest, EventLoop&, HttpRespond respond) { respond({}); };
    const std::string address = server.start();
    for (unsigned i = 0; i < io_threads; ++i) {
      EXPECT_TRUE(succeeds_unless_held_up(kLimit, [&](Pauses& pauses) {
        idle();
        pauses.skip();
        const int fd = connect_to(address);
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
        constexpr std::string_view kRequest = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
        ::send(fd, kRequest.data(), kRequest.size(), MSG_NOSIGNAL);
        const std::string got = read_until(fd, [](const std::string& s) { return s.contains("\r\n\r\n"); });
        ::close(fd);
        return got.starts_with("HTTP/1.1 200");
      }));
    }
  }
}

TEST(ServerIdle, ARequestOfAKeptConnectionHasItsWholeTimeForTheHeaders) {
  TestServer server({.listen = {kListen}});
  server.http.on_request = [](HttpRequest, EventLoop&, HttpRespond respond) { respond({}); };
  const std::string address = server.start();
  EXPECT_TRUE(succeeds_unless_held_up(kLimit, [&](Pauses& pauses) {
    const int fd = connect_to(address);
    bool is_served = true;
    for (int i = 0; i < 2 && is_served; ++i) {
      for (const std::string_view part : {"GET / HTTP/1.1\r\n", "Host: x\r\n\r\n"}) {
        ::send(fd, part.data(), part.size(), MSG_NOSIGNAL);
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
      }
      const std::string got = read_until(fd, [](const std::string& s) { return s.contains("\r\n\r\n"); });
      is_served = got.starts_with("HTTP/1.1 200");
      pauses.look();
      if (i == 0) idle();
      pauses.skip();
    }
    ::close(fd);
    return is_served;
  }));
}

TEST(ServerIdle, APingAsOftenAsAllowedIsNoOffence) {
  TestServer server({.keepalive = {.min_time_ns = 150 * kMilli}});
  TestClient client(server.start());
  client.start("/test.Svc/Echo");  // an open call
  for (int i = 1; i <= 5; ++i) {
    client.ping();
    ASSERT_TRUE(client.pump_until([&] { return client.ping_acks == i; }));
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
  }
  EXPECT_EQ(client.goaway_count, 0);
}

TEST(ServerIdle, AClientThatAnswersPingsStays) {
  TestServer server({.keepalive = {.interval_ns = 200 * kMilli, .timeout_ns = 200 * kMilli}});
  const std::string address = server.start();
  EXPECT_TRUE(succeeds_unless_held_up(kLimit, [&](Pauses& pauses) {
    TestClient client(address);
    const auto has_been_asked = [&] {
      pauses.look();
      return client.pings >= 4;
    };
    return client.pump_until(has_been_asked) && client.unary("/test.Svc/Echo", "x").code() == 0;
  }));
}

TEST(ServerIdle, ATimerThatAHandlerSetsWaitsItsWholeTime) {
  TestServer server;
  std::unique_ptr<EventLoop::Timer> timer;
  std::atomic<int64_t> took_ns{0};
  server.router.add("/test.Svc/Later", [&](LambdaHandler& handler, Call&) {
    handler.message = [&](Call& call, std::string_view) {
      const int64_t begin_ns = env::PosixClock().monotonic_ns();
      timer = call.loop().after(100 * kMilli, [&took_ns, begin_ns, &loop = call.loop(), id = call.id()] {
        took_ns = env::PosixClock().monotonic_ns() - begin_ns;
        if (Call* const found = loop.find(id)) found->reply("late");
      });
    };
  });
  TestClient client(server.start());
  EXPECT_EQ(client.unary("/test.Svc/Echo", "x").code(), 0);
  idle();
  EXPECT_EQ(client.unary("/test.Svc/Later", "x").code(), 0);
  EXPECT_GE(took_ns, 100 * kMilli);
}

}  // namespace
}  // namespace cairn::net
