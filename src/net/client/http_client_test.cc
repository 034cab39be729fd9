// An HttpClient against servers of this module, and against sockets that do what no server does.
#include "net/client/http_client.h"

#include <atomic>
#include <future>
#include <memory>
#include <thread>

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include "net/listener.h"
#include "net/testing/client_loop.h"
#include "net/testing/test_server.h"
#include "testing/temp_dir.h"
#include "testing/wait.h"

namespace cairn::net {
namespace {

using cairn::testing::TempDir;
using cairn::testing::wait_until;

constexpr int64_t kMilli = 1'000'000;

HttpClient::Request get(const std::string& address, const std::string& path = "/") {
  return {.endpoint = {.address = address}, .head = {.method = "GET", .path = path}};
}

HttpClient::Request post(const std::string& address, std::string body) {
  return {.endpoint = {.address = address}, .head = {.method = "POST", .path = "/", .body = std::move(body)}};
}

// Starts, waits for the end, gives the call up.
struct Asked {
  Heard heard;
  Asked(ClientLoop& loop, HttpClient::Request request) {
    auto call = loop.start(std::move(request), heard);
    EXPECT_TRUE(wait_until([&] { return heard.outcome().has_value(); }));
    loop.destroy(call);
  }
  [[nodiscard]] Status outcome() const { return *heard.outcome(); }
  [[nodiscard]] Code code() const { return outcome() ? Code::kOk : outcome().error().code; }
};

// Answers with the method, the path and the body, and tells what it saw.
class EchoServer : public TestServer {
 public:
  explicit EchoServer(ServerOptions options = {}) : TestServer(std::move(options)) {
    http.on_request = [this](const HttpRequest& request, EventLoop&, const HttpRespond& respond) {
      ++requests;
      respond({.headers = {{"X-Seen", std::string(request.header("x-asked"))}},
               .body = request.method + " " + request.path + " " + request.body});
    };
  }
  std::atomic<int> requests{0};
};

// Accepts connections and does with each what the test says, one after another, on a thread of its own.
class Script {
 public:
  using Act = std::function<void(int fd)>;
  explicit Script(std::vector<Act> acts) {
    auto bound = listen_on("127.0.0.1:0");
    CAIRN_ASSERT(bound.has_value());
    fd_ = bound->fd;
    address_ = bound->address;
    thread_ = std::thread([this, acts = std::move(acts)] {
      for (const Act& act : acts) {
        const int fd = accept_one();
        if (fd < 0) return;
        act(fd);
        ::close(fd);
      }
    });
  }
  ~Script() {
    is_over_ = true;
    thread_.join();
    ::close(fd_);
  }
  [[nodiscard]] const std::string& address() const { return address_; }

  // Until the head of a request has come; false: the connection has ended.
  static bool read_head(int fd) {
    std::string in;
    char byte = 0;
    while (!in.ends_with("\r\n\r\n")) {
      if (::recv(fd, &byte, 1, 0) != 1) return false;
      in += byte;
    }
    return true;
  }
  static void say(int fd, std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return;
      bytes.remove_prefix(static_cast<size_t>(sent));
    }
  }
  static void wait_for_end(int fd) {
    char bytes[4096];
    while (::recv(fd, bytes, sizeof bytes, 0) > 0) {
    }
  }

 private:
  int accept_one() const {
    for (;;) {
      const int fd = ::accept(fd_, nullptr, nullptr);  // does not block
      if (fd >= 0 || is_over_) return fd;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }

  int fd_ = -1;
  std::string address_;
  std::atomic<bool> is_over_{false};
  std::thread thread_;
};

TEST(HttpClient, AsksAndHearsTheAnswer) {
  EchoServer server;
  const std::string address = server.start();
  ClientLoop loop;
  HttpClient::Request request = get(address, "/where");
  request.head.headers = {{"X-Asked", "a\r\nX-Other: b"}};
  const Asked asked(loop, std::move(request));
  EXPECT_TRUE(asked.outcome());
  EXPECT_EQ(asked.heard.body(), "GET /where ");
  ASSERT_TRUE(asked.heard.head());
  EXPECT_EQ(asked.heard.head()->status, 200);
  const HttpFields headers = asked.heard.head()->headers;
  // A line break makes no header of its own.
  EXPECT_NE(std::ranges::find(headers, std::pair<std::string, std::string>("X-Seen", "a  X-Other: b")), headers.end());
}

TEST(HttpClient, KeepsAConnectionForTheNextRequest) {
  EchoServer server;
  const std::string address = server.start();
  ClientLoop loop({.idle_max = 2});
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(Asked(loop, post(address, std::to_string(i))).heard.body(), "POST / " + std::to_string(i));
  }
  EXPECT_EQ(server.server().stats().connections_opened, 1u);
  ClientLoop other;
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(Asked(other, get(address)).outcome());
  EXPECT_EQ(server.server().stats().connections_opened, 4u);  // nothing is kept
}

TEST(HttpClient, SaysThatNobodyListens) {
  std::string address;
  {
    EchoServer server;
    address = server.start();
  }
  ClientLoop loop;
  const Asked asked(loop, get(address));
  EXPECT_EQ(asked.code(), Code::kAborted);
  EXPECT_EQ(asked.outcome().error().message, "dial tcp " + address + ": connect: connection refused");
  HttpClient::Request request = get("/no/such/socket");
  request.endpoint.is_unix = true;
  EXPECT_EQ(Asked(loop, std::move(request)).code(), Code::kAborted);
  EXPECT_EQ(Asked(loop, get("no port")).code(), Code::kInvalidArgument);
}

TEST(HttpClient, ReachesAUnixSocket) {
  const TempDir directory;
  ServerOptions options;
  options.listen.push_back({.address = directory / "socket", .is_unix = true});
  EchoServer server(std::move(options));
  HttpClient::Request request = get(server.start(), "/unix");
  request.endpoint.is_unix = true;
  ClientLoop loop;
  EXPECT_EQ(Asked(loop, std::move(request)).heard.body(), "GET /unix ");
}

TEST(HttpClient, TriesEachAddressOfAName) {
  EchoServer server;
  const std::string address = server.start();
  std::string closed;
  {
    EchoServer gone;
    closed = gone.start();
  }
  const auto parse = [](const std::string& text) {
    SocketAddress out;
    const auto parts = split_address(text);
    auto* v4 = reinterpret_cast<sockaddr_in*>(&out.storage);
    v4->sin_family = AF_INET;
    v4->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    v4->sin_port = htons(static_cast<uint16_t>(std::stoi(parts->port)));
    out.length = sizeof *v4;
    return out;
  };
  ClientLoop loop({}, [&](const std::string& host, const std::string&) -> Result<std::vector<SocketAddress>> {
    if (host == "both") return std::vector{parse(closed), parse(address)};
    return fail(Code::kUnavailable, "lookup {}: no such host", host);
  });
  EXPECT_EQ(Asked(loop, get("both:1", "/second")).heard.body(), "GET /second ");
  EXPECT_EQ(Asked(loop, get("none:1")).outcome().error().message, "dial tcp none:1: lookup none: no such host");
}

TEST(HttpClient, ComesFromTheAddressThatItWasGiven) {
  std::promise<uint32_t> seen;
  const Script script({[&](int fd) {
    sockaddr_in from{};
    socklen_t length = sizeof from;
    ::getpeername(fd, reinterpret_cast<sockaddr*>(&from), &length);
    seen.set_value(ntohl(from.sin_addr.s_addr));
  }});
  ClientLoop loop({.local_ip = "127.0.0.2"});
  const Asked asked(loop, get(script.address()));
  EXPECT_EQ(seen.get_future().get(), INADDR_LOOPBACK + 1);
  ClientLoop elsewhere({.local_ip = "192.0.2.1"});
  EXPECT_EQ(Asked(elsewhere, get(script.address())).outcome().error().message,
            "dial tcp " + script.address() + ": bind: cannot assign requested address");
}

TEST(HttpClient, ReachesOthersWhileDnsIsSilentAboutAName) {
  EchoServer server;
  const std::string address = server.start();
  std::promise<void> release;
  const std::shared_future<void> released = release.get_future().share();
  const auto lookups = std::make_shared<std::atomic<int>>(0);
  {
    ClientLoop loop({.dial_timeout_ns = 20 * kMilli}, [=](const std::string& host, const std::string& port) {
      if (host == "known") return Resolver::system_lookup()("127.0.0.1", port);
      ++*lookups;
      released.wait();
      return Result<std::vector<SocketAddress>>(fail(Code::kUnavailable, "late"));
    });
    for (size_t i = 0; i < Resolver::kLookupsMax; ++i) {
      EXPECT_EQ(Asked(loop, get("silent:1")).code(), Code::kDeadlineExceeded);
    }
    EXPECT_EQ(*lookups, 1);
    const std::string known = "known" + address.substr(address.rfind(':'));
    // A slow machine may not dial within its time.
    EXPECT_TRUE(wait_until([&] { return Asked(loop, get(known, "/k")).heard.body() == "GET /k "; }));
  }
  release.set_value();
}

TEST(HttpClient, WaitsForANameNoLongerThanForADial) {
  std::promise<void> release;
  const std::shared_future<void> released = release.get_future().share();
  {
    ClientLoop loop({.dial_timeout_ns = 20 * kMilli}, [released](const std::string&, const std::string&) {
      released.wait();
      return Result<std::vector<SocketAddress>>(fail(Code::kUnavailable, "late"));
    });
    EXPECT_EQ(Asked(loop, get("slow:1")).code(), Code::kDeadlineExceeded);
  }
  release.set_value();  // whoever asked has gone
}

TEST(HttpClient, GivesUpAtItsDeadline) {
  Script script({[](int fd) { Script::wait_for_end(fd); }});
  ClientLoop loop;
  HttpClient::Request request = get(script.address());
  request.deadline_ns = 20 * kMilli;
  EXPECT_EQ(Asked(loop, std::move(request)).code(), Code::kDeadlineExceeded);
}

TEST(HttpClient, GivesUpOnASilentServer) {
  Script script({[](int fd) {
    Script::read_head(fd);
    Script::say(fd, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
    Script::wait_for_end(fd);
  }});
  ClientLoop loop({.read_timeout_ns = 50 * kMilli});
  const Asked asked(loop, get(script.address()));
  EXPECT_EQ(asked.code(), Code::kDeadlineExceeded);
  EXPECT_EQ(asked.heard.body(), "abc");
}

TEST(HttpClient, GivesUpOnAServerThatTakesNothing) {
  std::promise<void> release;
  const std::shared_future<void> released = release.get_future().share();
  Script script({[released](int) { released.wait(); }});
  ClientLoop loop({.write_timeout_ns = 200 * kMilli});
  EXPECT_EQ(Asked(loop, post(script.address(), std::string(64 << 20, 'x'))).code(), Code::kDeadlineExceeded);
  release.set_value();
}

TEST(HttpClient, ToldFromACutAnswerIsAnAnswerThatEnds) {
  const auto answers = [](const std::string& text) {
    return [text](int fd) {
      Script::read_head(fd);
      Script::say(fd, text);
    };
  };
  Script script({answers("HTTP/1.1 200 OK\r\n\r\nto the end"),
                 answers("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort"),
                 answers("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n"),
                 answers("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"),
                 answers("SSH-2.0-OpenSSH_9.2\r\n\r\n"), answers("")});
  ClientLoop loop;
  const Asked whole(loop, get(script.address()));
  EXPECT_TRUE(whole.outcome());
  EXPECT_EQ(whole.heard.body(), "to the end");
  const Asked counted(loop, get(script.address()));
  EXPECT_EQ(counted.code(), Code::kUnavailable);
  EXPECT_EQ(counted.heard.body(), "short");
  EXPECT_EQ(Asked(loop, get(script.address())).code(), Code::kUnavailable);
  const Asked interim(loop, get(script.address()));
  EXPECT_TRUE(interim.outcome());
  EXPECT_EQ(interim.heard.head()->status, 204);
  EXPECT_EQ(Asked(loop, get(script.address())).code(), Code::kInternal);
  EXPECT_EQ(Asked(loop, get(script.address())).code(), Code::kUnavailable);
}

// Two connections are kept and both are closed by the server just when they are used again.
TEST(HttpClient, AsksAgainWhereAKeptConnectionWasClosed) {
  const std::string ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
  const auto answers_once = [ok](int fd) {
    Script::read_head(fd);
    Script::say(fd, ok);
    Script::read_head(fd);  // and closes without an answer to the second
  };
  Script script({answers_once, answers_once, [ok](int fd) {
                   Script::read_head(fd);
                   Script::say(fd, ok);
                   Script::wait_for_end(fd);
                 }});
  ClientLoop loop({.idle_max = 1});
  EXPECT_TRUE(Asked(loop, get(script.address())).outcome());
  EXPECT_TRUE(Asked(loop, get(script.address())).outcome());  // sent again, on the second connection
  // What is no GET might have been carried out.
  EXPECT_EQ(Asked(loop, post(script.address(), "x")).code(), Code::kUnavailable);
  EXPECT_TRUE(Asked(loop, get(script.address())).outcome());
}

TEST(HttpClient, DropsAKeptConnectionWhenItEnds) {
  const std::string ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
  const auto answers = [ok](int fd) {
    Script::read_head(fd);
    Script::say(fd, ok);
  };
  Script script({answers, answers});
  ClientLoop loop({.idle_max = 1});
  EXPECT_TRUE(Asked(loop, get(script.address())).outcome());
  EXPECT_TRUE(wait_until([&] {
    size_t idle = 1;
    loop.run([&] { idle = loop.client().idle_count(); });
    return idle == 0;
  }));
  EXPECT_TRUE(Asked(loop, post(script.address(), "x")).outcome());
}

// Answers a stream that does not end; what is written is the test's.
class StreamServer : public HttpHandler {
 public:
  std::unique_ptr<ExchangeHandler> begin(Exchange& exchange) override {
    exchange.respond({.content_type = ""}, std::nullopt);
    loop = &exchange.loop();
    id = exchange.id().value;
    struct Handler final : ExchangeHandler {
      explicit Handler(StreamServer& of) : owner(of) {}
      void on_end(Exchange&) override { owner.has_ended = true; }
      StreamServer& owner;
    };
    return std::make_unique<Handler>(*this);
  }
  void write(const std::vector<std::string_view>& pieces) {
    EventLoop* const target = loop;
    std::promise<void> done;
    target->post([&] {
      target->find(ExchangeId{id})->write_pieces(pieces);
      done.set_value();
    });
    done.get_future().wait();
  }

  std::atomic<EventLoop*> loop{nullptr};
  std::atomic<uint64_t> id{0};
  std::atomic<bool> has_ended{false};
};

TEST(HttpClient, HearsAStreamAsItComes) {
  StreamServer stream;
  Server server({.listen = {{.address = "127.0.0.1:0", .http_limits = {.read_timeout_ns = 100 * kMilli}}}}, nullptr,
                &stream);
  const auto addresses = server.start();
  ClientLoop loop;
  Heard heard;
  auto call = loop.start(get(addresses->front()), heard);
  ASSERT_TRUE(wait_until([&] { return heard.head().has_value(); }));
  std::string expected;
  for (int i = 0; i < 100; ++i) {
    const std::string number = std::to_string(i);
    stream.write({"<", number, ">"});
    expected += "<" + number + ">";
    ASSERT_TRUE(wait_until([&] { return heard.body() == expected; }));
  }
  // The client has nothing to say: its silence is no reason to end.
  std::this_thread::sleep_for(std::chrono::milliseconds(250));
  stream.write({"still there"});
  ASSERT_TRUE(wait_until([&] { return heard.body() == expected + "still there"; }));
  EXPECT_FALSE(stream.has_ended);
  loop.destroy(call);
  EXPECT_TRUE(wait_until([&] { return stream.has_ended.load(); }));
  server.stop(0);
}

TEST(HttpClient, HeldItReadsNothing) {
  StreamServer stream;
  Server server({.listen = {{.address = "127.0.0.1:0"}}}, nullptr, &stream);
  const auto addresses = server.start();
  ClientLoop loop;
  Heard heard;
  auto call = loop.start(get(addresses->front()), heard);
  ASSERT_TRUE(wait_until([&] { return heard.head().has_value(); }));
  loop.run([&] { call->hold(true); });
  stream.write({"later"});
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_EQ(heard.body(), "");
  loop.run([&] { call->hold(false); });
  EXPECT_TRUE(wait_until([&] { return heard.body() == "later"; }));
  loop.destroy(call);
  server.stop(0);
}

// Takes a body at the pace that the test says, and keeps its size and sum.
class BodyServer : public HttpHandler {
 public:
  std::unique_ptr<ExchangeHandler> begin(Exchange& exchange) override {
    exchange.stream_body();
    if (refuses) {
      respond_whole(exchange, {.status = 412, .body = "cluster ID mismatch\n"});
      return nullptr;
    }
    exchange.hold_body(holds);
    loop = &exchange.loop();
    id = exchange.id().value;
    struct Handler final : ExchangeHandler {
      explicit Handler(BodyServer& of) : owner(of) {}
      void on_body(Exchange&, std::string_view piece) override {
        for (const char c : piece) owner.sum += static_cast<unsigned char>(c);
        owner.bytes += piece.size();
      }
      void on_body_end(Exchange& exchange) override { respond_whole(exchange, {.status = 204, .content_type = ""}); }
      BodyServer& owner;
    };
    return std::make_unique<Handler>(*this);
  }

  std::atomic<bool> refuses{false};
  std::atomic<bool> holds{false};
  std::atomic<EventLoop*> loop{nullptr};
  std::atomic<uint64_t> id{0};
  std::atomic<uint64_t> bytes{0};
  std::atomic<uint64_t> sum{0};
};

// Writes pieces while few bytes wait.
class Feeding final : public HttpClient::Hearer {
 public:
  explicit Feeding(uint64_t bytes) : left_(bytes) {}
  void on_writable() override {
    while (left_ > 0 && call->queued_bytes() < kQueuedMax) {
      const std::string piece(std::min<uint64_t>(left_, kPieceBytes), static_cast<char>('a' + left_ % 7));
      for (const char c : piece) sum += static_cast<unsigned char>(c);
      left_ -= piece.size();
      call->write(piece);
    }
    queued_most = std::max(queued_most.load(), call->queued_bytes());
    if (left_ == 0 && !std::exchange(finished_, true)) call->finish();
  }
  void on_head(const HttpResponse& head) override { status = head.status; }
  void on_end(Status outcome) override { ended = outcome ? 1 : 2; }

  static constexpr uint64_t kPieceBytes = 100'000;
  static constexpr uint64_t kQueuedMax = 500'000;
  HttpClient::Call* call = nullptr;
  std::atomic<uint64_t> queued_most{0};
  std::atomic<uint64_t> sum{0};
  std::atomic<int> status{0};
  std::atomic<int> ended{0};

 private:
  uint64_t left_;
  bool finished_ = false;
};

TEST(HttpClient, SendsABodyAsItIsMade) {
  constexpr uint64_t kBytes = 50'000'000;
  BodyServer body;
  body.holds = true;
  Server server({.listen = {{.address = "127.0.0.1:0"}}}, nullptr, &body);
  const auto addresses = server.start();
  ClientLoop loop;
  Feeding feeding(kBytes);
  HttpClient::Request request = post(addresses->front(), "");
  request.streams_body = true;
  std::unique_ptr<HttpClient::Call> call;
  loop.run([&] {
    call = loop.client().start(std::move(request), feeding);
    feeding.call = call.get();
  });
  ASSERT_TRUE(wait_until([&] { return body.id.load() != 0; }));
  EXPECT_EQ(body.bytes, 0u);
  body.loop.load()->post([&] { body.loop.load()->find(ExchangeId{body.id})->hold_body(false); });
  ASSERT_TRUE(wait_until([&] { return feeding.ended.load() != 0; }));
  EXPECT_EQ(feeding.ended, 1);
  EXPECT_EQ(feeding.status, 204);
  EXPECT_EQ(body.bytes, kBytes);
  EXPECT_EQ(body.sum, feeding.sum);
  EXPECT_LT(feeding.queued_most, Feeding::kQueuedMax + 2 * Feeding::kPieceBytes);
  loop.destroy(call);
  server.stop(0);
}

TEST(HttpClient, HearsAnAnswerThatComesBeforeTheBodyIsSent) {
  BodyServer body;
  body.refuses = true;
  Server server({.listen = {{.address = "127.0.0.1:0"}}}, nullptr, &body);
  const auto addresses = server.start();
  ClientLoop loop({.idle_max = 1});
  HttpClient::Request request = post(addresses->front(), "");
  request.streams_body = true;
  Heard heard;
  auto call = loop.start(std::move(request), heard);
  ASSERT_TRUE(wait_until([&] { return heard.outcome().has_value(); }));
  EXPECT_TRUE(*heard.outcome());
  EXPECT_EQ(heard.head()->status, 412);
  EXPECT_EQ(heard.body(), "cluster ID mismatch\n");
  EXPECT_EQ(loop.client().idle_count(), 0u);  // the request was not whole
  loop.destroy(call);
  server.stop(0);
}

TEST(HttpClient, AServerClosesAConnectionThatSaysNothing) {
  EchoServer server({.listen = {{.address = "127.0.0.1:0", .http_limits = {.read_timeout_ns = 50 * kMilli}}}});
  const std::string address = server.start();
  ClientLoop loop({.idle_max = 1});
  EXPECT_TRUE(Asked(loop, get(address)).outcome());
  EXPECT_TRUE(wait_until([&] { return server.server().stats().connections_open == 0; }));
  EXPECT_TRUE(Asked(loop, post(address, "x")).outcome());
  // A body that does not come.
  Heard heard;
  HttpClient::Request request = post(address, "");
  request.streams_body = true;
  auto call = loop.start(std::move(request), heard);
  ASSERT_TRUE(wait_until([&] { return heard.outcome().has_value(); }));
  EXPECT_FALSE(*heard.outcome());
  loop.destroy(call);
}

TEST(HttpClient, EndpointsAreReadFromUrls) {
  const auto http = endpoint_of("http://[::1]:2380");
  ASSERT_TRUE(http);
  EXPECT_EQ(*http, (Endpoint{.address = "[::1]:2380"}));
  EXPECT_EQ(*endpoint_of("https://h:1/path"), (Endpoint{.address = "h:1", .is_secure = true}));
  EXPECT_EQ(*endpoint_of("unixs://h:1/p"), (Endpoint{.address = "h:1/p", .is_unix = true, .is_secure = true}));
  EXPECT_FALSE(endpoint_of("ftp://h:1"));
  EXPECT_FALSE(endpoint_of("h:1"));
}

}  // namespace
}  // namespace cairn::net
