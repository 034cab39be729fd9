// Clients that take more than their share: of connections, descriptors, cancels, bytes, time. Bystanders are served.
#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <thread>

#include <sys/resource.h>

#include <gtest/gtest.h>

#include "base/log.h"
#include "net/testing/test_client.h"
#include "net/testing/test_server.h"
#include "testing/pauses.h"
#include "testing/scale.h"
#include "testing/wait.h"

namespace cairn::net {
namespace {

using cairn::testing::Pauses;
using cairn::testing::succeeds_unless_held_up;
using cairn::testing::wait_until;

constexpr std::string_view kGet = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

std::string ask(int fd) {
  ::send(fd, kGet.data(), kGet.size(), MSG_NOSIGNAL);
  return read_until(fd, [](const std::string& s) { return s.contains("\r\n\r\n"); });
}

TEST(ServerHostile, MoreConnectionsThanSeatsHearWhyAndGoAndLaterOnesAreServed) {
  TestServer server({.connections_max = 3});
  server.http.on_request = [](const HttpRequest&, EventLoop&, const HttpRespond& respond) { respond({}); };
  const std::string address = server.start();
  TestClient bystander(address);
  EXPECT_EQ(bystander.unary("/test.Svc/Echo", "x").code(), 0);
  std::vector<int> seated;
  for (int i = 0; i < 2; ++i) {
    seated.push_back(connect_to(address));
    EXPECT_TRUE(ask(seated.back()).starts_with("HTTP/1.1 200"));
  }
  for (int i = 0; i < 3; ++i) {
    const int http1 = connect_to(address);
    const std::string answer = ask(http1);
    EXPECT_TRUE(answer.starts_with("HTTP/1.1 503 Service Unavailable\r\n")) << answer;
    EXPECT_TRUE(answer.contains("\r\nConnection: close\r\n")) << answer;
    ::close(http1);
    TestClient http2(address);
    http2.start("/test.Svc/Echo");
    http2.pump_until([] { return false; });
    EXPECT_TRUE(http2.ended());
    EXPECT_EQ(http2.goaway_count, 1);
    EXPECT_EQ(http2.goaway_text, "too many connections");
  }
  EXPECT_EQ(server.server().stats().connections_refused, 6U);
  EXPECT_EQ(bystander.unary("/test.Svc/Echo", "x").code(), 0);
  ::close(seated.back());
  seated.pop_back();
  std::string answer;  // the seat is given back when the server has seen the end
  for (int i = 0; i < 1000 && !answer.starts_with("HTTP/1.1 200"); ++i) {
    const int fd = connect_to(address);
    answer = ask(fd);
    ::close(fd);
  }
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 200")) << answer;
  for (const int fd : seated) ::close(fd);
}

// Three seats: one is in the middle of an answer, one has begun a request, and strangers come and come.
TEST(ServerHostile, NewcomersTakeThePlaceOfWhoHasLeastToLose) {
  struct Streams final : HttpHandler {
    std::unique_ptr<ExchangeHandler> begin(Exchange& exchange) override {
      exchange.respond({}, std::nullopt);
      exchange.write("begun");
      if (exchange.request().path != "/stream") exchange.finish();
      return std::make_unique<ExchangeHandler>();
    }
  };
  Streams streaming_handler;
  TestServer server({.listen = {{.address = "127.0.0.1:0", .http_handler = &streaming_handler}},
                     .connections_max = 3,
                     .newcomers_displace = true});
  const std::string address = server.start();
  const int streaming = connect_to(address);
  const std::string_view kStream = "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n";
  ::send(streaming, kStream.data(), kStream.size(), MSG_NOSIGNAL);
  EXPECT_TRUE(
      read_until(streaming, [](const std::string& s) { return s.contains("begun"); }).starts_with("HTTP/1.1 200"));
  std::vector<int> strangers;
  for (int i = 0; i < 20; ++i) {
    strangers.push_back(connect_to(address));
    ::send(strangers.back(), "GET", 3, MSG_NOSIGNAL);
  }
  // The first of them have gone to make room, and a late one is served.
  EXPECT_EQ(read_until(strangers.front(), [](const std::string&) { return false; }), "");
  const int late = connect_to(address);
  EXPECT_TRUE(ask(late).starts_with("HTTP/1.1 200"));
  const auto is_open = [](int fd) {
    char byte = 0;
    return ::recv(fd, &byte, 1, MSG_DONTWAIT) == -1 && (errno == EAGAIN || errno == EWOULDBLOCK);
  };
  EXPECT_TRUE(is_open(streaming));
  EXPECT_EQ(server.server().stats().connections_refused, 0U);
  // Where all are in the middle of an answer the next one hears that there is no room.
  std::vector<int> streams;
  for (int i = 0; i < 2; ++i) {
    streams.push_back(connect_to(address));
    ::send(streams.back(), kStream.data(), kStream.size(), MSG_NOSIGNAL);
    EXPECT_TRUE(read_until(streams.back(), [](const std::string& s) {
                  return s.contains("begun");
                }).starts_with("HTTP/1.1 200"));
  }
  const int last = connect_to(address);
  EXPECT_TRUE(ask(last).starts_with("HTTP/1.1 503"));
  for (const int fd : strangers) ::close(fd);
  for (const int fd : streams) ::close(fd);
  for (const int fd : {streaming, late, last}) ::close(fd);
}

TEST(ServerHostile, MoreSilentConnectionsThanAreRefusedAtOnceAreClosed) {
  TestServer server({.connections_max = 1});
  server.http.on_request = [](const HttpRequest&, EventLoop&, const HttpRespond& respond) { respond({}); };
  const std::string address = server.start();
  const int seated = connect_to(address);
  EXPECT_TRUE(ask(seated).starts_with("HTTP/1.1 200"));
  const auto is_open = [](int fd) {
    char byte = 0;
    return ::recv(fd, &byte, 1, MSG_DONTWAIT) == -1 && (errno == EAGAIN || errno == EWOULDBLOCK);
  };
  // 32 are waited for a second; the others hear nothing but the end.
  EXPECT_TRUE(succeeds_unless_held_up(std::chrono::seconds(1), [&](Pauses& pauses) {
    std::vector<int> silent;
    for (int i = 0; i < 40; ++i) silent.push_back(connect_to(address));
    EXPECT_EQ(read_until(silent.back(), [](const std::string&) { return false; }), "");
    EXPECT_FALSE(is_open(silent.back()));
    const bool is_first_open = is_open(silent.front());
    pauses.look();
    for (const int fd : silent) {
      EXPECT_EQ(read_until(fd, [](const std::string&) { return false; }), "");
      EXPECT_FALSE(is_open(fd));
      ::close(fd);
    }
    pauses.skip();
    return is_first_open;
  }));
  EXPECT_TRUE(ask(seated).starts_with("HTTP/1.1 200"));
  ::close(seated);
}

TEST(ServerHostile, DescriptorsLeftForFilesAreEtcds) {
  EXPECT_EQ(connections_within(1024), 874U);
  EXPECT_EQ(connections_within(256), 106U);
  EXPECT_EQ(connections_within(151), 1U);
  EXPECT_EQ(connections_within(150), 0U);
  EXPECT_EQ(connections_within(0), 0U);
}

// Counts the log's lines about accepting, while it lives.
class AcceptFailures {
 public:
  AcceptFailures() {
    count = 0;
    log::set_sink(
        [](const log::Entry& entry) {
          if (entry.message.starts_with("accept failed")) ++count;
        },
        log::Level::kInfo);
  }
  ~AcceptFailures() { log::set_sink(nullptr, log::Level::kWarn); }
  static inline std::atomic<int> count{0};
};

TEST(ServerHostile, WithoutDescriptorsAcceptingNeitherSpinsNorChattersAndGoesOnLater) {
  TestServer server;
  const std::string address = server.start();
  TestClient bystander(address);
  EXPECT_EQ(bystander.unary("/test.Svc/Echo", "x").code(), 0);
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const int lowest_free = ::dup(0);
  ASSERT_GE(lowest_free, 0);
  ::close(lowest_free);
  const AcceptFailures failures;
  // One descriptor is left: the client takes it, and there is none to accept with.
  rlimit low = before;
  low.rlim_cur = static_cast<rlim_t>(lowest_free) + 1;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &low), 0);
  const int late = connect_to(address);
  EXPECT_TRUE(wait_until([] { return AcceptFailures::count != 0; }));
  const uint64_t turns = server.server().stats().turns;
  for (int i = 0; i < 5; ++i) EXPECT_EQ(bystander.unary("/test.Svc/Echo", "x").code(), 0);
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  EXPECT_LT(server.server().stats().turns - turns, 100U);
  EXPECT_EQ(AcceptFailures::count, 1);
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  ::send(late, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24, MSG_NOSIGNAL);
  EXPECT_GE(read_until(late, [](const std::string& s) { return s.size() >= 9; }).size(), 9U);
  ::close(late);
}

// Letters without end.
class Letters final : public MessageProducer {
 public:
  explicit Letters(uint64_t length) : left_(length) {}
  Result<Piece> produce(std::span<char> out) override {
    const size_t bytes = std::min<uint64_t>(left_, out.size());
    std::fill_n(out.data(), bytes, 'x');
    left_ -= bytes;
    return Piece{.bytes = bytes, .outcome = left_ == 0 ? Outcome::kDone : Outcome::kMore};
  }

 private:
  uint64_t left_;
};

TEST(ServerHostile, ASmallAnswerDoesNotWaitForALargeOneOfItsConnection) {
  constexpr uint64_t kLargeBytes = cairn::testing::scaled(100'000'000U);
  for (const bool is_produced : {true, false}) {
    SCOPED_TRACE(is_produced);
    TestServer server;
    server.router.add("/test.Svc/List", [&](LambdaHandler& handler, Call&) {
      handler.message = [&](Call& call, std::string_view) {
        if (!is_produced) return call.reply(std::string(kLargeBytes, 'x'));
        call.send(kLargeBytes, std::make_unique<Letters>(kLargeBytes));
        call.finish();
      };
    });
    TestClient client(server.start(), {.stream_window_bytes = 0x7fffffff, .receive_buffer_bytes = 256 * 1024});
    nghttp2_session_set_local_window_size(client.session(), NGHTTP2_FLAG_NONE, 0, 0x7fffffff);
    const int32_t list = client.start("/test.Svc/List");
    client.stream(list).keep_data = false;
    client.send(list, "x");
    client.half_close(list);
    ASSERT_TRUE(client.pump_until([&] { return client.stream(list).data_bytes > 0; }));
    for (int i = 0; i < 5; ++i) {
      const uint64_t before = client.stream(list).data_bytes;
      const int32_t get = client.start("/test.Svc/Echo");
      client.send(get, "small");
      client.half_close(get);
      ASSERT_TRUE(client.pump_until([&] { return client.stream(get).closed; }));
      EXPECT_EQ(client.stream(get).code(), 0);
      // What sockets and buffers held already may come first; not the list.
      EXPECT_LT(client.stream(list).data_bytes - before, 12'000'000U);
    }
    ASSERT_TRUE(client.pump_until([&] { return client.stream(list).closed; }));
    EXPECT_EQ(client.stream(list).data_bytes, kLargeBytes + kPrefixBytes);
    EXPECT_EQ(client.stream(list).code(), 0);
  }
}

TEST(ServerHostile, CancelsDoNotEndTheConnection) {
  TestServer server;
  std::atomic<int> ends{0};
  server.router.add("/test.Svc/Wait", [&](LambdaHandler& handler, Call&) { handler.end = [&](Call&) { ++ends; }; });
  TestClient client(server.start());
  constexpr int kCancels = 5000;
  for (int i = 0; i < kCancels; ++i) {
    const int32_t id = client.start("/test.Svc/Wait");
    client.flush();
    client.reset(id);
    if (i % 100 == 0) client.pump(0);
  }
  ASSERT_TRUE(client.pump_until([&] { return ends == kCancels; }));
  EXPECT_EQ(client.unary("/test.Svc/Echo", "still alive").code(), 0);
  EXPECT_EQ(client.goaway_count, 0);
}

TEST(ServerHostile, OfSeveralMessagesOfAUnaryCallTheFirstCounts) {
  struct Unary final : CallHandler {
    explicit Unary(std::atomic<int>& carried_out) : count(carried_out) {}
    void on_message(Call& call, std::string_view message) override {
      ++count;
      // Answered later, as a put is: what comes meanwhile is not carried out.
      timer = call.loop().after(50'000'000, [&loop = call.loop(), id = call.id(), text = std::string(message)] {
        if (Call* const found = loop.find(id)) found->reply(text);
      });
    }
    std::atomic<int>& count;
    std::unique_ptr<EventLoop::Timer> timer;
  };
  struct UnaryRouter final : Router {
    std::unique_ptr<CallHandler> route(std::string_view, Call&) override { return std::make_unique<Unary>(count); }
    bool has_service(std::string_view) const override { return true; }
    std::atomic<int> count{0};
  };
  UnaryRouter router;
  Server server({.listen = {{.address = "127.0.0.1:0"}}}, &router, nullptr);
  const auto bound = server.start();
  ASSERT_TRUE(bound);
  TestClient client(bound->front());
  for (const bool in_one_piece : {true, false}) {
    const int32_t id = client.start("/test.Svc/Put");
    for (int i = 0; i < 5; ++i) {
      client.send(id, "message " + std::to_string(i));
      if (!in_one_piece) client.pump(1);
    }
    client.send_bytes(id, "\0\0\1");  // and the beginning of a sixth
    client.half_close(id);
    ASSERT_TRUE(client.pump_until([&] { return client.stream(id).closed; }));
    EXPECT_EQ(client.stream(id).code(), 0) << client.stream(id).message();
    EXPECT_EQ(client.stream(id).messages(), std::vector<std::string>{"message 0"});
  }
  EXPECT_EQ(router.count, 2);
  server.stop(0);
}

TEST(ServerHostile, AnErrorsTextIsCutToWhatHeadersMayHold) {
  TestServer server;
  server.router.add("/test.Svc/Fail", [](LambdaHandler& handler, Call&) {
    handler.message = [](Call& call, std::string_view message) {
      if (message.starts_with("later")) call.send("first");
      call.finish(Code::kInvalidArgument, message);
    };
  });
  const std::string address = server.start();
  for (const std::string_view begin : {"now", "later"}) {
    for (const size_t length : {60'000UL, 70'000UL, 1'000'000UL}) {
      SCOPED_TRACE(length);
      TestClient client(address);
      const std::string text = std::string(begin) + std::string(length, 't');
      const auto& answer = client.unary("/test.Svc/Fail", text);
      EXPECT_TRUE(answer.closed);
      EXPECT_EQ(answer.code(), 3);
      EXPECT_EQ(answer.message(), text.substr(0, 60 * 1024));
    }
  }
  // What the client itself allows counts, too.
  TestClient modest(address);
  const nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, 8192}};
  nghttp2_submit_settings(modest.session(), NGHTTP2_FLAG_NONE, settings, 1);
  const auto& answer = modest.unary("/test.Svc/Fail", std::string(20'000, '%'));
  EXPECT_EQ(answer.code(), 3);
  EXPECT_EQ(answer.message(), std::string((8192 - 512) / 3, '%'));
}

TEST(ServerHostile, AHeadThatCannotBeSentResetsItsStream) {
  TestServer server;
  TestClient client(server.start());
  // The answer's content type is the request's.
  const int32_t id = client.start("/test.Svc/Echo", {}, false, "application/grpc+" + std::string(65'500, 's'));
  client.send(id, "x");
  client.half_close(id);
  ASSERT_TRUE(client.pump_until([&] { return client.stream(id).closed; }));
  EXPECT_EQ(client.stream(id).error, NGHTTP2_INTERNAL_ERROR);
  EXPECT_EQ(client.unary("/test.Svc/Echo", "still alive").code(), 0);
}

TEST(ServerHostile, AClientThatTakesTooLittleIsClosedAndOneThatIsSlowIsNot) {
  TestServer server({.reader_stall_ns = 300'000'000, .reader_rate_min = 100'000});  // 30 KB each 0.3 s
  server.http.on_request = [](const HttpRequest&, EventLoop&, const HttpRespond& respond) {
    respond({.headers = {}, .body = std::string().append(20'000'000, 'b')});
  };
  const std::string address = server.start();
  EXPECT_TRUE(succeeds_unless_held_up(std::chrono::milliseconds(150), [&](Pauses& pauses) {
    const int slow = connect_to(address, 4096);
    const int stopped = connect_to(address, 4096);
    ::send(slow, kGet.data(), kGet.size(), MSG_NOSIGNAL);
    ::send(stopped, kGet.data(), kGet.size(), MSG_NOSIGNAL);
    std::string buffer(20'000, '\0');
    // More than 100 KB a second, for more than four times the limit.
    bool is_served = true;
    const auto read_on = [&] {
      is_served = is_served && ::recv(slow, buffer.data(), buffer.size(), MSG_WAITALL) > 0;
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      pauses.look();
    };
    for (int i = 0; i < 65; ++i) read_on();
    EXPECT_TRUE(wait_until([&] {
      read_on();
      return server.server().stats().connections_open <= 1;
    }));
    is_served = is_served && server.server().stats().connections_open == 1;
    ::close(slow);
    ::close(stopped);
    EXPECT_TRUE(wait_until([&] { return server.server().stats().connections_open == 0; }));
    pauses.skip();
    return is_served;
  }));
}

// Calls whose client gives no window.
class WindowOfZero {
 public:
  explicit WindowOfZero(const std::string& address) : client_(address, {.stream_window_bytes = 0}) {}
  int32_t ask(const std::string& path, std::string_view message = "x") {
    const int32_t id = client_.start(path);
    client_.send(id, message);
    client_.half_close(id);
    client_.flush();
    return id;
  }
  TestClient& client() { return client_; }

 private:
  TestClient client_;
};

void add_answers_of(TestServer& server, size_t bytes) {
  server.router.add("/test.Svc/Large", [bytes](LambdaHandler& handler, Call&) {
    handler.message = [bytes](Call& call, std::string_view) { call.reply(std::string(bytes, 'x')); };
  });
}

// What the process does not see while it stands still is no fault of its clients.
TEST(ServerHostile, AClientThatTakesItsAnswerDuringAPauseOfTheProcessIsNotStalled) {
  constexpr int64_t kStallNs = 200'000'000;
  TestServer server({.reader_stall_ns = kStallNs});
  add_answers_of(server, 1'500'000);
  const std::string address = server.start();
  EXPECT_TRUE(succeeds_unless_held_up(std::chrono::nanoseconds(kStallNs), [&](Pauses& pauses) {
    WindowOfZero client(address);
    const int32_t id = client.ask("/test.Svc/Large");
    EXPECT_TRUE(client.client().pump_until([&] { return client.client().stream(id).headers.contains(":status"); }));
    std::atomic<bool> stands_still{false};
    server.server().loops()[0]->post([&] {
      stands_still = true;
      std::this_thread::sleep_for(std::chrono::nanoseconds(3 * kStallNs));
    });
    EXPECT_TRUE(wait_until([&] { return stands_still.load(); }));
    nghttp2_submit_window_update(client.client().session(), 0, id, 2'000'000);
    client.client().flush();
    pauses.look();
    EXPECT_TRUE(client.client().pump_until([&] { return client.client().stream(id).closed; }));
    pauses.skip();
    return client.client().stream(id).code() == 0;
  }));
}

TEST(ServerHostile, AnswersThatAreNotTakenStayWithinTheConnectionsBudget) {
  TestServer server({.answers = {.connection_bytes_max = 8'000'000}});
  add_answers_of(server, 1'500'000);
  const std::string address = server.start();
  WindowOfZero hostile(address);
  std::vector<int32_t> ids;
  for (int i = 0; i < 40; ++i) ids.push_back(hostile.ask("/test.Svc/Large"));
  const auto refused = [&] {
    return std::count_if(ids.begin(), ids.end(), [&](int32_t id) { return hostile.client().stream(id).closed; });
  };
  ASSERT_TRUE(hostile.client().pump_until([&] { return refused() == 35; }));
  EXPECT_EQ(hostile.client().stream(ids.back()).code(), 8);
  EXPECT_EQ(hostile.client().stream(ids.back()).message(),
            "cairn: too many bytes of answers wait for clients to take them");
  EXPECT_LE(server.server().stats().answer_bytes_held, 8'000'000U);
  // Others have a budget of their own.
  TestClient bystander(address);
  EXPECT_EQ(bystander.unary("/test.Svc/Large", "x").code(), 0);
  // Taken, it is free again.
  nghttp2_submit_window_update(hostile.client().session(), 0, ids.front(), 2'000'000);
  for (int i = 1; i < 5; ++i) {
    nghttp2_submit_window_update(hostile.client().session(), 0, ids[static_cast<size_t>(i)], 2'000'000);
  }
  ASSERT_TRUE(hostile.client().pump_until([&] { return refused() == 40; }));
  EXPECT_EQ(hostile.client().stream(ids.front()).code(), 0);
  EXPECT_EQ(server.server().stats().answer_bytes_held, 0U);
}

TEST(ServerHostile, AnswersThatAreNotTakenStayWithinTheProcessesBudget) {
  TestServer server({.io_threads = 2, .answers = {.bytes_max = 8'000'000}});
  add_answers_of(server, 1'500'000);
  const std::string address = server.start();
  std::vector<std::unique_ptr<WindowOfZero>> clients;
  for (int i = 0; i < 20; ++i) {
    clients.push_back(std::make_unique<WindowOfZero>(address));
    TestClient& client = clients.back()->client();
    const uint64_t before = server.server().stats().answer_bytes_held;
    const int32_t id = clients.back()->ask("/test.Svc/Large");
    ASSERT_TRUE(client.pump_until(
        [&] { return client.stream(id).closed || server.server().stats().answer_bytes_held > before; }));
  }
  EXPECT_LE(server.server().stats().answer_bytes_held, 8'000'000U + 1'500'000U);
  EXPECT_GE(server.server().stats().answer_bytes_held, 6'000'000U);
  TestClient bystander(address);
  EXPECT_EQ(bystander.unary("/test.Svc/Echo", "small ones pass").code(), 0);
  clients.clear();
  EXPECT_TRUE(wait_until([&] { return server.server().stats().answer_bytes_held == 0; }));
}

TEST(ServerHostile, AnAnswerAboveTheBudgetPassesWhileLittleWaits) {
  TestServer server({.answers = {.connection_bytes_max = 1'000'000, .bytes_max = 1'000'000}});
  add_answers_of(server, 5'000'000);
  TestClient client(server.start());
  EXPECT_EQ(client.unary("/test.Svc/Large", "x").code(), 0);
  EXPECT_EQ(client.unary("/test.Svc/Large", "x").code(), 0);
}

TEST(ServerHostile, AHandlerCanAskForTheRoomBeforeItMakesAnAnswer) {
  TestServer server({.answers = {.connection_bytes_max = 8'000'000}});
  std::atomic<uint64_t> room{0};
  server.router.add("/test.Svc/Room", [&](LambdaHandler& handler, Call&) {
    handler.message = [&](Call& call, std::string_view) {
      room = call.room_bytes();
      call.reply("x");
    };
  });
  add_answers_of(server, 3'000'000);
  const std::string address = server.start();
  WindowOfZero hostile(address);
  hostile.ask("/test.Svc/Large");
  hostile.ask("/test.Svc/Large");
  hostile.ask("/test.Svc/Room");
  ASSERT_TRUE(hostile.client().pump_until([&] { return room != 0; }));
  EXPECT_EQ(room, 8'000'000U - 2 * (3'000'000U + kPrefixBytes));
}

TEST(ServerHostile, MessagesThatDoNotEndShareABudget) {
  TestServer server({.io_threads = 2, .request_bytes_max = 8'000'000});
  const std::string address = server.start();
  TestClient bystander(address);
  EXPECT_EQ(bystander.unary("/test.Svc/Echo", std::string(1'500'000, 'b')).code(), 0);
  std::vector<std::unique_ptr<TestClient>> clients;
  int refused = 0;
  for (int c = 0; c < 5; ++c) {
    clients.push_back(std::make_unique<TestClient>(address));
    std::vector<int32_t> ids;
    for (int i = 0; i < 4; ++i) {
      ids.push_back(clients.back()->start("/test.Svc/Echo"));
      clients.back()->send_bytes(ids.back(), framed(std::string(1'000'000, 'm')).substr(0, 900'000));
    }
    // Each arrives whole but for its end, or is refused.
    TestClient& client = *clients.back();
    ASSERT_TRUE(client.pump_until([&] {
      return std::ranges::all_of(ids, [&](int32_t id) { return client.stream(id).closed || client.has_sent(id); });
    }));
    client.ping();
    ASSERT_TRUE(client.pump_until([&] { return client.ping_acks == 1; }));
    for (const int32_t id : ids) {
      if (!clients.back()->stream(id).closed) continue;
      ++refused;
      EXPECT_EQ(clients.back()->stream(id).code(), 8);
      EXPECT_EQ(clients.back()->stream(id).message(), "cairn: too many bytes of unfinished requests");
    }
  }
  EXPECT_GE(refused, 10);
  EXPECT_LE(refused, 14);
  EXPECT_LE(server.server().stats().request_bytes_held, 8'000'000U);
  EXPECT_EQ(bystander.unary("/test.Svc/Echo", "small").code(), 0);
  clients.clear();
  EXPECT_TRUE(wait_until([&] { return server.server().stats().request_bytes_held == 0; }));
}

TEST(ServerHostile, EveryCallWhoseClientStandsStillEnds) {
  TestServer server({.reader_stall_ns = 200'000'000, .reader_rate_min = 100'000});  // 20 KB each 0.2 s
  add_answers_of(server, 1'500'000);
  server.router.add("/test.Svc/List", [&](LambdaHandler& handler, Call&) {
    handler.message = [](Call& call, std::string_view) {
      call.send(1'000'000, std::make_unique<Letters>(1'000'000));
      call.finish();
    };
  });
  server.router.add("/test.Svc/Keep", [&](LambdaHandler& handler, Call&) {
    handler.is_kept_when_stalled = true;
    handler.message = [](Call& call, std::string_view) { call.send(std::string(100'000, 'k')); };
  });
  const std::string address = server.start();
  EXPECT_TRUE(succeeds_unless_held_up(std::chrono::milliseconds(50), [&](Pauses& pauses) {
    WindowOfZero hostile(address);
    const int32_t unary = hostile.ask("/test.Svc/Large");
    const int32_t list = hostile.ask("/test.Svc/List");
    const int32_t kept = hostile.ask("/test.Svc/Keep");
    const int32_t trickle = hostile.ask("/test.Svc/Large");  // a byte now and then is no progress
    const int32_t slow = hostile.ask("/test.Svc/Large");     // 250 KB a second is
    TestClient& client = hostile.client();
    const std::array<int32_t, 3> stalled = {unary, list, trickle};
    const auto have_ended = [&] {
      return std::ranges::all_of(stalled, [&](int32_t id) { return client.stream(id).closed; });
    };
    for (int i = 0; i < 1000 && !have_ended(); ++i) {
      client.pump(10);
      if (!client.stream(trickle).closed) nghttp2_submit_window_update(client.session(), 0, trickle, 1);
      nghttp2_submit_window_update(client.session(), 0, slow, 5'000);
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
      pauses.look();
    }
    for (const int32_t id : stalled) {
      EXPECT_TRUE(client.stream(id).closed);
      EXPECT_EQ(client.stream(id).error, NGHTTP2_ENHANCE_YOUR_CALM);
    }
    EXPECT_FALSE(client.stream(kept).closed);
    return client.stream(slow).error == 0;
  }));
}

}  // namespace
}  // namespace cairn::net
