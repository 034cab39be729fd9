// Connections: garbage, keepalive, timeouts, stopping.
#include <chrono>
#include <thread>

#include <gtest/gtest.h>

#include "base/random.h"
#include "net/listener.h"
#include "net/testing/test_client.h"
#include "net/testing/test_server.h"
#include "testing/pauses.h"
#include "testing/wait.h"

namespace cairn::net {
namespace {

using cairn::testing::Pauses;
using cairn::testing::succeeds_unless_held_up;
using cairn::testing::wait_until;

constexpr int64_t kMilli = 1'000'000;

// What has come already has been read.
bool is_closed(int fd) {
  char byte = 0;
  return ::recv(fd, &byte, 1, MSG_DONTWAIT) == 0 || (errno != EAGAIN && errno != EWOULDBLOCK);
}

bool closes(int fd) {
  read_until(fd, [](const std::string&) { return false; });
  return is_closed(fd);
}

TEST(ServerConnection, GarbageIsClosedAndHarmsNobody) {
  TestServer server;
  server.http.on_request = [](HttpRequest, EventLoop&, HttpRespond respond) { respond({}); };
  const std::string address = server.start();
  TestClient bystander(address);
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    std::string bytes = seed % 2 == 0 ? "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" : "";
    for (int i = 0; i < 300; ++i) bytes.push_back(static_cast<char>(random.below(256)));
    const int fd = connect_to(address);
    ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    ::shutdown(fd, SHUT_WR);
    EXPECT_TRUE(closes(fd));
    ::close(fd);
  }
  EXPECT_EQ(bystander.unary("/test.Svc/Echo", "x").code(), 0);
}

TEST(ServerConnection, ItsLoopsRunBeforeItListens) {
  TestServer server({.listen = {}, .io_threads = 2});
  server.run();
  for (EventLoop* const loop : server.server().loops()) {
    std::promise<void> turn;
    loop->post([&] { turn.set_value(); });
    turn.get_future().wait();
  }
  TestClient client(server.start());
  EXPECT_EQ(client.unary("/test.Svc/Echo", "x").code(), 0);
}

TEST(ServerConnection, ABadPrefaceIsClosed) {
  TestServer server;
  const std::string address = server.start();
  for (const std::string_view bytes :
       {"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", "PRI nonsense and more of it than a preface"}) {
    const int fd = connect_to(address);
    ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    EXPECT_TRUE(closes(fd)) << bytes;
    ::close(fd);
  }
}

TEST(ServerConnection, APrefaceInPiecesIsHttp2) {
  TestServer server;
  server.http.on_request = [](HttpRequest, EventLoop&, HttpRespond respond) { respond({}); };
  const int fd = connect_to(server.start());
  uint64_t sent = 0;
  for (const char c : std::string_view("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")) {
    ::send(fd, &c, 1, MSG_NOSIGNAL);
    ++sent;
    ASSERT_TRUE(wait_until([&] { return server.server().stats().socket_bytes_in == sent; }));
  }
  const std::string settings("\0\0\0\4\0\0\0\0\0", 9);
  ::send(fd, settings.data(), settings.size(), MSG_NOSIGNAL);
  const std::string got = read_until(fd, [](const std::string& s) { return s.size() >= 9; });
  ASSERT_GE(got.size(), 9U);
  EXPECT_EQ(got[3], 4);  // a SETTINGS frame
  ::close(fd);
}

TEST(ServerConnection, AnAddressServesWhatItIsFor) {
  TestServer server({.listen = {{.address = "127.0.0.1:0", .http = false}, {.address = "127.0.0.1:0", .grpc = false}}});
  server.http.on_request = [](HttpRequest, EventLoop&, HttpRespond respond) { respond({}); };
  server.start();
  constexpr std::string_view kRequest = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
  const int grpc = connect_to(server.addresses[0]);
  ::send(grpc, kRequest.data(), kRequest.size(), MSG_NOSIGNAL);
  EXPECT_EQ(read_until(grpc, [](const std::string&) { return false; }), "");
  ::close(grpc);
  const int http = connect_to(server.addresses[1]);
  ::send(http, kRequest.data(), kRequest.size(), MSG_NOSIGNAL);
  EXPECT_TRUE(read_until(http, [](const std::string& s) {
                return s.find("\r\n\r\n") != std::string::npos;
              }).starts_with("HTTP/1.1 200 OK\r\n"));
  ::close(http);
  // Also over HTTP/2, where a gRPC call is but a request.
  TestClient client(server.addresses[1]);
  const auto& answer = client.unary("/test.Svc/Echo", "x");
  EXPECT_EQ(answer.headers.at(":status"), "200");
  EXPECT_EQ(answer.code(), -1);
}

TEST(ServerConnection, SilenceBeforeTheFirstByteEnds) {
  TestServer server({.listen = {{.address = "127.0.0.1:0", .http_limits = {.header_timeout_ns = 50 * kMilli}}}});
  const int fd = connect_to(server.start());
  EXPECT_TRUE(closes(fd));
  ::close(fd);
}

TEST(ServerConnection, TooManyPings) {
  TestServer server;
  TestClient client(server.start());
  const int32_t id = client.start("/test.Svc/Echo");
  client.pump_until([&] { return client.ping_acks >= 0; });
  for (int i = 0; i < 10 && !client.ended() && client.goaway_count == 0; ++i) {
    client.ping();
    const int acks = client.ping_acks;
    client.pump_until([&] { return client.ping_acks > acks || client.goaway_count > 0; });
  }
  EXPECT_EQ(client.goaway_count, 1);
  EXPECT_EQ(client.goaway_error, NGHTTP2_ENHANCE_YOUR_CALM);
  EXPECT_EQ(client.goaway_text, "too_many_pings");
  client.pump_until([] { return false; });
  EXPECT_TRUE(client.ended());
  (void)id;
}

TEST(ServerConnection, KeepaliveAsksTheSilentAndClosesTheDead) {
  TestServer server({.keepalive = {.interval_ns = 100 * kMilli, .timeout_ns = 100 * kMilli}});
  const std::string address = server.start();
  EXPECT_TRUE(succeeds_unless_held_up(std::chrono::milliseconds(100), [&](Pauses& pauses) {
    TestClient alive(address);
    TestClient dead(address);
    alive.pump(1);
    dead.flush();
    const auto is_dead_closed = [&] {
      pauses.look();
      char received[4096];
      for (;;) {
        const ssize_t bytes = ::recv(dead.fd(), received, sizeof received, MSG_DONTWAIT);
        if (bytes <= 0) return bytes == 0;
      }
    };
    // Who answers stays.
    return alive.pump_until([&] { return is_dead_closed() && alive.pings >= 3; }) &&
           alive.unary("/test.Svc/Echo", "x").code() == 0;
  }));
}

TEST(ServerConnection, StoppingLetsOpenCallsEnd) {
  TestServer server;
  std::atomic<bool> asked{false};
  server.router.add("/test.Svc/Slow", [&](LambdaHandler& handler, Call&) {
    auto timer = std::make_shared<std::unique_ptr<EventLoop::Timer>>();
    handler.message = [&asked, timer](Call& call, std::string_view) {
      asked = true;
      EventLoop* loop = &call.loop();
      *timer = loop->after(200 * kMilli, [loop, id = call.id()] {
        if (Call* found = loop->find(id)) found->reply("late");
      });
    };
  });
  const std::string address = server.start();
  TestClient client(address);
  TestClient idle(address);
  EXPECT_EQ(idle.unary("/test.Svc/Echo", "x").code(), 0);
  const int32_t id = client.start("/test.Svc/Slow");
  client.send(id, "x");
  client.half_close(id);
  ASSERT_TRUE(client.pump_until([&] { return asked.load(); }));
  const auto begin = std::chrono::steady_clock::now();
  constexpr std::chrono::seconds kGrace(100);
  std::thread stopper([&] { server.stop(std::chrono::nanoseconds(kGrace).count()); });
  ASSERT_TRUE(client.pump_until([&] { return client.stream(id).closed; }));
  EXPECT_EQ(client.stream(id).messages(), std::vector<std::string>{"late"});
  EXPECT_GE(client.goaway_count, 1);
  EXPECT_EQ(client.goaway_error, NGHTTP2_NO_ERROR);
  std::thread pumper([&] { idle.pump_until([] { return false; }); });
  client.pump_until([] { return false; });
  EXPECT_EQ(client.goaway_text, "graceful_stop") << "with the second one, which names the last call";
  client.close();
  pumper.join();
  idle.close();
  stopper.join();
  EXPECT_LT(std::chrono::steady_clock::now() - begin, kGrace);
}

TEST(ServerConnection, StoppingEndsWhatDoesNotEnd) {
  TestServer server;
  std::atomic<int> ends{0};
  std::atomic<int> begun{0};
  server.router.add("/test.Svc/Watch", [&](LambdaHandler& handler, Call& call) {
    ++begun;
    call.send("created");
    handler.end = [&](Call&) { ++ends; };
  });
  TestClient client(server.start());
  client.start("/test.Svc/Watch");
  ASSERT_TRUE(client.pump_until([&] { return begun == 1; }));
  server.stop(100 * kMilli);  // returns
  EXPECT_EQ(ends, 1);
}

TEST(ServerConnection, AddressesThatAreNone) {
  LambdaRouter router;
  const auto start = [&](const std::string& address) {
    Server server({.listen = {{.address = address}}}, &router, nullptr);
    const auto bound = server.start();
    return bound ? std::string("bound ") + bound->front() : bound.error().message;
  };
  EXPECT_EQ(start("127.0.0.1"), "net: no port in address 127.0.0.1");
  EXPECT_EQ(start("::1:80"), "net: too many colons in address ::1:80");
  EXPECT_EQ(start("127.0.0.1:http"), "net: invalid port in address 127.0.0.1:http");
  EXPECT_TRUE(start("localhost:0").starts_with("bound 127.0.0.1:"));
  Server first({.listen = {{.address = "127.0.0.1:0"}}}, &router, nullptr);
  const std::string taken = first.start().value().front();
  EXPECT_EQ(start(taken), "listen tcp " + taken + ": bind: address already in use");
  first.stop(0);
}

TEST(ServerConnection, ASocketThatListensAlreadyIsTaken) {
  const auto early = listen_on("127.0.0.1:0");
  ASSERT_TRUE(early);
  const int client = connect_to(early->address);  // waits in the socket's queue
  constexpr std::string_view kRequest = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
  ::send(client, kRequest.data(), kRequest.size(), MSG_NOSIGNAL);
  TestServer server({.listen = {{.address = early->address, .fd = early->fd}}});
  server.http.on_request = [](HttpRequest, EventLoop&, HttpRespond respond) { respond({}); };
  server.start();
  EXPECT_EQ(server.addresses[0], early->address);
  EXPECT_TRUE(
      read_until(client, [](const std::string& s) { return s.contains("\r\n\r\n"); }).starts_with("HTTP/1.1 200"));
  ::close(client);
}

TEST(ServerConnection, PostsAndTimersRunInOrder) {
  LambdaRouter router;
  Server server({.listen = {{.address = "127.0.0.1:0"}}}, &router, nullptr);
  ASSERT_TRUE(server.start());
  EventLoop* loop = server.loops()[0];
  std::vector<int> seen;
  std::atomic<bool> done{false};
  std::unique_ptr<EventLoop::Timer> late;
  std::unique_ptr<EventLoop::Timer> never;
  for (int i = 0; i < 1000; ++i) loop->post([&, i] { seen.push_back(i); });
  loop->post([&] {
    never = loop->after(5 * kMilli, [&] { seen.push_back(-1); });
    late = loop->after(20 * kMilli, [&] {
      seen.push_back(1000);
      done = true;
    });
    never.reset();
  });
  EXPECT_TRUE(wait_until([&] { return done.load(); }));
  server.stop(0);
  ASSERT_EQ(seen.size(), 1001U);
  for (int i = 0; i <= 1000; ++i) EXPECT_EQ(seen[static_cast<size_t>(i)], i);
}

}  // namespace
}  // namespace cairn::net
