// Requests over HTTP to methods that are lambdas: what reaches the method, and what comes of its answers.
#include "gateway/v3/json_api.h"

#include <future>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gateway/v3/websocket.h"
#include "net/testing/test_client.h"
#include "net/testing/test_server.h"
#include "proto/rpc.pb.h"
#include "testing/wait.h"

namespace cairn::gateway::v3 {
namespace {

using net::Call;
using net::LambdaHandler;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

struct Api final : net::HttpHandler {
  explicit Api(net::Router& router) : api(router, {.message_bytes_max = 1000}) {}
  std::unique_ptr<net::ExchangeHandler> begin(net::Exchange& exchange) override {
    return api.begin(exchange, exchange.request().path, headers);
  }
  const net::HttpFields headers = {{"X-Each", "has it"}};
  JsonApi api;
};

class JsonApiTest : public ::testing::Test {
 protected:
  void start(uint64_t body_bytes_max = 1 << 20) {
    net::ServerOptions options;
    options.listen.push_back({.address = "127.0.0.1:0", .http_limits = {.body_bytes_max = body_bytes_max}});
    server_ = std::make_unique<net::Server>(options, &router_, &api_);
    address_ = server_->start()->front();
  }
  void TearDown() override {
    if (server_ != nullptr) server_->stop(1'000'000'000);
  }

  static std::string request(const std::string& path, const std::string& body, const std::string& headers = {}) {
    return "POST " + path + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + headers +
           "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
  }
  static void send(int fd, std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      ASSERT_GT(sent, 0);
      bytes.remove_prefix(static_cast<size_t>(sent));
    }
  }
  std::string ask(const std::string& bytes) {
    const int fd = net::connect_to(address_);
    send(fd, bytes);
    const std::string got = net::read_until(fd, [](const std::string&) { return false; });
    ::close(fd);
    return got;
  }
  std::string post(const std::string& path, const std::string& body, const std::string& headers = {}) {
    return ask(request(path, body, headers));
  }

  net::LambdaRouter router_;
  Api api_{router_};
  std::unique_ptr<net::Server> server_;
  std::string address_;
};

TEST_F(JsonApiTest, AUnaryCallAndItsAnswer) {
  router_.add("/etcdserverpb.KV/Range", [](LambdaHandler& handler, Call&) {
    handler.message = [](Call& call, std::string_view bytes) {
      etcdserverpb::RangeRequest request;
      ASSERT_TRUE(request.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())));
      etcdserverpb::RangeResponse response;
      response.add_kvs()->set_key(request.key() + "!");
      response.set_count(request.limit());
      call.reply(response.SerializeAsString());
    };
  });
  start();
  const std::string got = post("/v3/kv/range", R"( {"key":"YQ==","limit":"3"} what follows counts for nothing)");
  EXPECT_THAT(got, StartsWith("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Each: has it\r\n"
                              "Grpc-Metadata-Content-Type: application/grpc\r\n"));
  EXPECT_THAT(got, EndsWith("\r\n\r\n{\"kvs\":[{\"key\":\"YSE=\"}],\"count\":\"3\"}"));
  EXPECT_THAT(post("/v3/kv/range", ""), EndsWith("{\"kvs\":[{\"key\":\"IQ==\"}]}")) << "no body: no fields";
  EXPECT_EQ(server_->stats().methods.size(), 1u) << "counted as calls of the method";
}

TEST_F(JsonApiTest, ErrorsHaveTheirStatus) {
  router_.add("/etcdserverpb.KV/Put", [](LambdaHandler& handler, Call&) {
    handler.message = [](Call& call, std::string_view bytes) {
      etcdserverpb::PutRequest request;
      ASSERT_TRUE(request.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())));
      call.finish(static_cast<Code>(request.lease()), "no \"good\"");
    };
  });
  start();
  const auto outcome = [&](Code code) {
    return post("/v3/kv/put", fmt::format(R"({{"lease":{}}})", static_cast<int>(code)));
  };
  const std::string not_found = outcome(Code::kNotFound);
  EXPECT_THAT(not_found, StartsWith("HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\n"));
  EXPECT_THAT(not_found, EndsWith("\r\n\r\n{\"code\":5,\"message\":\"no \\\"good\\\"\"}"));
  EXPECT_THAT(not_found, Not(HasSubstr("Grpc-Metadata")));
  EXPECT_THAT(outcome(Code::kUnauthenticated), HasSubstr("HTTP/1.1 401 Unauthorized\r\n"));
  EXPECT_THAT(outcome(Code::kUnauthenticated), HasSubstr("\r\nWww-Authenticate: no \"good\"\r\n"));
  EXPECT_THAT(outcome(Code::kFailedPrecondition), StartsWith("HTTP/1.1 400 "));
  EXPECT_THAT(outcome(Code::kCancelled), StartsWith("HTTP/1.1 499 "));
  EXPECT_THAT(outcome(Code::kUnavailable), StartsWith("HTTP/1.1 503 "));
}

TEST_F(JsonApiTest, RequestsThatAreNoneReachNoMethod) {
  router_.add("/etcdserverpb.KV/Put", [](LambdaHandler&, Call&) { ADD_FAILURE(); });
  router_.add("/etcdserverpb.Maintenance/Snapshot", [](LambdaHandler&, Call&) { ADD_FAILURE(); });
  start();
  EXPECT_THAT(post("/v3/kv/put", "{"), EndsWith("{\"code\":3,\"message\":\"unexpected EOF\"}"));
  EXPECT_THAT(post("/v3/kv/put", "x"),
              EndsWith("{\"code\":3,\"message\":\"invalid character 'x' looking for beginning of value\"}"));
  EXPECT_THAT(post("/v3/kv/put", "[]"),
              EndsWith("{\"code\":3,\"message\":\"proto: syntax error (line 1:1): unexpected token [\"}"));
  EXPECT_THAT(post("/v3/maintenance/snapshot", "x"),
              EndsWith("{\"code\":3,\"message\":\"invalid character 'x' looking for beginning of value\"}"));
  EXPECT_THAT(post("/v3/kv/put", "{}", "Grpc-Timeout: 1x\r\n"),
              EndsWith("{\"code\":3,\"message\":\"invalid grpc-timeout: 1x\"}"));
  EXPECT_THAT(post("/v3/kv/nothing", "{}"), StartsWith("HTTP/1.1 404 "));
  EXPECT_THAT(post("/v3/kv/nothing", "{}"), EndsWith("{\"code\":5,\"message\":\"Not Found\"}"));
  const std::string get = ask("GET /v3/kv/put HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  EXPECT_THAT(get, StartsWith("HTTP/1.1 501 "));
  EXPECT_THAT(get, EndsWith("{\"code\":12,\"message\":\"Method Not Allowed\"}"));
  const std::string form = "Content-Type: application/x-www-form-urlencoded\r\nX-HTTP-Method-Override: put\r\n";
  EXPECT_THAT(post("/v3/kv/put", "{}", form), StartsWith("HTTP/1.1 501 "));
}

TEST_F(JsonApiTest, AMessageThatIsTooLargeForGrpcIsTooLargeHere) {
  router_.add("/etcdserverpb.KV/Put",
              [](LambdaHandler& handler, Call&) { handler.message = [](Call&, std::string_view) { ADD_FAILURE(); }; });
  start();
  const std::string got = post("/v3/kv/put", "{\"value\":\"" + std::string(2000, 'A') + "\"}");
  EXPECT_THAT(got, StartsWith("HTTP/1.1 429 "));
  EXPECT_THAT(got, EndsWith("{\"code\":8,\"message\":\"grpc: received message larger than max (1503 vs. 1000)\"}"));
}

TEST_F(JsonApiTest, TheCallHasTheRequestsMetadataAndDeadline) {
  std::promise<std::vector<std::string>> told;
  router_.add("/etcdserverpb.KV/Put", [&](LambdaHandler&, Call& call) {
    std::vector<std::string> all;
    for (const char* const name : {"authorization", "token", "hasleader", "host", "grpcgateway-accept", "odd"}) {
      all.emplace_back(call.metadata(name).value_or("-"));
    }
    all.emplace_back(call.peer_address().starts_with("127.0.0.1:") ? "peer" : "no peer");
    told.set_value(all);
  });
  start();
  const std::string got = post("/v3/kv/put", "{}",
                               "authorization: t1\r\nGrpc-Metadata-Token: t2\r\nGRPC-METADATA-hasleader: true\r\n"
                               "Accept: any\r\nGrpc-Metadata-Odd: \xff\r\nGrpc-Timeout: 50m\r\n");
  EXPECT_THAT(told.get_future().get(), ::testing::ElementsAre("t1", "t2", "true", "-", "any", "-", "peer"));
  EXPECT_THAT(got, StartsWith("HTTP/1.1 504 ")) << "nobody answers";
  EXPECT_THAT(got, EndsWith("{\"code\":4,\"message\":\"context deadline exceeded\"}"));
}

TEST_F(JsonApiTest, ALongAnswerComesInPieces) {
  router_.add("/etcdserverpb.KV/Range", [](LambdaHandler& handler, Call&) {
    handler.message = [](Call& call, std::string_view) {
      etcdserverpb::RangeResponse response;
      for (int i = 0; i < 50; ++i) response.add_kvs()->set_value(std::string(20'000, 'v'));
      call.reply(response.SerializeAsString());
    };
  });
  start();
  const std::string got = post("/v3/kv/range", "{}");
  EXPECT_THAT(got, HasSubstr("\r\nTransfer-Encoding: chunked\r\n"));
  EXPECT_GT(got.size(), 50u * 26'668);
  EXPECT_THAT(got, EndsWith("\r\n0\r\n\r\n"));
}

TEST_F(JsonApiTest, AStreamBothWays) {
  router_.add("/etcdserverpb.Lease/LeaseKeepAlive", [](LambdaHandler& handler, Call&) {
    handler.message = [](Call& call, std::string_view bytes) {
      etcdserverpb::LeaseKeepAliveRequest request;
      ASSERT_TRUE(request.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())));
      if (request.id() == 13) return call.finish(Code::kNotFound, "<13>");
      etcdserverpb::LeaseKeepAliveResponse response;
      response.set_id(request.id());
      call.send(response.SerializeAsString());
    };
    handler.half_close = [](Call& call) { call.finish(); };
  });
  start();
  const std::string two = post("/v3/lease/keepalive", R"({"ID":"1"}{"ID":2} 3)");
  EXPECT_THAT(two, HasSubstr("{\"result\":{\"ID\":\"1\"}}"));
  EXPECT_THAT(two, HasSubstr("{\"result\":{\"ID\":\"2\"}}"));
  EXPECT_THAT(two, EndsWith("\n\r\n0\r\n\r\n")) << "3 is no message: the requests end there";
  const std::string none = post("/v3/lease/keepalive", "");
  EXPECT_THAT(none, StartsWith("HTTP/1.1 200 "));
  EXPECT_THAT(none, Not(HasSubstr("Content-Type")));
  EXPECT_THAT(none, EndsWith("\r\n\r\n0\r\n\r\n"));
  const std::string first_fails = post("/v3/lease/keepalive", R"({"ID":13})");
  EXPECT_THAT(first_fails, StartsWith("HTTP/1.1 404 "));
  EXPECT_THAT(first_fails, HasSubstr("{\"error\":{\"code\":5,\"message\":\"\\u003c13\\u003e\"}}"));
  const std::string second_fails = post("/v3/lease/keepalive", R"({"ID":12}{"ID":13}{"ID":14})");
  EXPECT_THAT(second_fails, StartsWith("HTTP/1.1 200 "));
  EXPECT_THAT(second_fails, HasSubstr("{\"result\":{\"ID\":\"12\"}}"));
  EXPECT_THAT(second_fails, HasSubstr("{\"error\":{\"code\":5,"));
  EXPECT_THAT(second_fails, Not(HasSubstr("\"ID\":\"14\"")));
}

TEST_F(JsonApiTest, AStreamAnswersWhileItsRequestsCome) {
  std::promise<void> ended;
  router_.add("/etcdserverpb.Watch/Watch", [&](LambdaHandler& handler, Call&) {
    handler.message = [](Call& call, std::string_view) {
      etcdserverpb::WatchResponse response;
      response.set_created(true);
      call.send(response.SerializeAsString());
    };
    handler.end = [&](Call&) { ended.set_value(); };
  });
  start(100);
  const int fd = net::connect_to(address_);
  send(fd, "POST /v3/watch HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
  std::string got;
  for (size_t count = 1; count <= 30; ++count) {  // more than a body may have
    send(fd, "17\r\n{\"create_request\":{} } \r\n");
    const auto has_come = [&](const std::string& more) {
      const std::string all = got + more;
      size_t lines = 0;
      for (size_t at = 0; (at = all.find("{\"result\":{\"created\":true}}\n", at)) != std::string::npos; ++at) ++lines;
      return lines >= count;
    };
    got += net::read_until(fd, has_come);
    ASSERT_TRUE(has_come("")) << got;
  }
  ::close(fd);
  ended.get_future().get();
}

TEST_F(JsonApiTest, AStreamWaitsForAClientThatDoesNotRead) {
  constexpr uint64_t kBlobs = 3000;
  std::atomic<uint64_t> sent = 0;
  std::promise<void> ended;
  router_.add("/etcdserverpb.Maintenance/Snapshot", [&](LambdaHandler& handler, Call&) {
    const auto send_on = [&](Call& call) {
      etcdserverpb::SnapshotResponse response;
      response.set_blob(std::string(32 * 1024, 'b'));
      while (sent < kBlobs && call.queued_bytes() == 0) {
        ++sent;
        call.send(response.SerializeAsString());
      }
      if (sent == kBlobs) call.finish();
    };
    handler.half_close = send_on;
    handler.writable = send_on;
    handler.end = [&](Call&) { ended.set_value(); };
  });
  start();
  const int fd = net::connect_to(address_, 16 * 1024);
  send(fd, request("/v3/maintenance/snapshot", "{}"));
  ASSERT_TRUE(cairn::testing::wait_until([&] { return sent > 0; }));
  const std::string got = net::read_until(fd, [](const std::string& so_far) { return so_far.size() > 1000; });
  EXPECT_THAT(got, HasSubstr("{\"result\":{\"blob\":\"YmJi"));
  EXPECT_LT(sent, kBlobs) << "some hundred megabytes are not in memory";
  ::close(fd);
  ended.get_future().get();
}

TEST_F(JsonApiTest, NobodyIsAskedOnceTheClientIsGone) {
  std::promise<void> began;
  std::promise<void> ended;
  router_.add("/etcdserverpb.KV/Put", [&](LambdaHandler& handler, Call&) {
    handler.message = [&](Call&, std::string_view) { began.set_value(); };
    handler.end = [&](Call&) { ended.set_value(); };
  });
  start();
  const int fd = net::connect_to(address_);
  send(fd, request("/v3/kv/put", "{}"));
  began.get_future().get();
  ::close(fd);
  ended.get_future().get();
}

// --- over a WebSocket

class WebSocketTest : public JsonApiTest {
 protected:
  void TearDown() override {
    if (fd_ >= 0) ::close(fd_);
    JsonApiTest::TearDown();
  }
  // What it is answered.
  std::string open(const std::string& path, const std::string& headers = {}) {
    fd_ = net::connect_to(address_);
    send(fd_, "GET " + path + " HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
                  "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" + headers + "\r\n");
    const std::string got = net::read_until(fd_, [](const std::string& all) { return all.contains("\r\n\r\n"); });
    const size_t end = got.find("\r\n\r\n");
    got_ = got.substr(std::min(got.size(), end + 4));
    return got.substr(0, end);
  }
  // Masked with zeros.
  void say(unsigned first, std::string_view payload) {
    std::string frame = websocket_frame(WebSocketFrame::kText, true, payload);
    frame[0] = static_cast<char>(first);
    frame[1] = static_cast<char>(static_cast<uint8_t>(frame[1]) | 0x80u);
    send(fd_, frame.insert(frame.size() - payload.size(), std::string(4, '\0')));
  }
  // The next frame, of a payload below 126 bytes, with its first byte in hexadecimal. "": the connection is closed.
  std::string hear() {
    const auto is_whole = [&](const std::string& more) {
      const std::string all = got_ + more;
      return all.size() >= 2 && all.size() >= 2u + static_cast<uint8_t>(all[1]);
    };
    got_ += net::read_until(fd_, is_whole);
    if (!is_whole("")) return got_;
    const size_t length = static_cast<uint8_t>(got_[1]);
    std::string frame = fmt::format("{:02x} ", static_cast<uint8_t>(got_[0])) + got_.substr(2, length);
    got_.erase(0, 2 + length);
    return frame;
  }
  void serve_renewals() {
    router_.add("/etcdserverpb.Lease/LeaseKeepAlive", [](LambdaHandler& handler, Call&) {
      handler.message = [](Call& call, std::string_view bytes) {
        etcdserverpb::LeaseKeepAliveRequest request;
        ASSERT_TRUE(request.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())));
        if (request.id() == 13) return call.finish(Code::kNotFound, "13");
        etcdserverpb::LeaseKeepAliveResponse response;
        response.set_id(request.id());
        call.send(response.SerializeAsString());
      };
    });
  }

  int fd_ = -1;
  std::string got_;
};

TEST_F(WebSocketTest, EachLineOfTheAnswerIsAMessage) {
  serve_renewals();
  start();
  EXPECT_EQ(open("/v3/lease/keepalive"),
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
  say(0x81, R"({"ID":1} {"ID":2})");
  EXPECT_EQ(hear(), R"(81 {"result":{"ID":"1"}})");
  EXPECT_EQ(hear(), R"(81 {"result":{"ID":"2"}})");
  say(0x01, R"({"I)");
  say(0x89, "ping");
  say(0x80, R"(D":3})");
  EXPECT_EQ(hear(), "8a ping");
  EXPECT_EQ(hear(), R"(81 {"result":{"ID":"3"}})");
  say(0x82, R"({"ID":)");
  say(0x82, "4}");
  EXPECT_EQ(hear(), R"(81 {"result":{"ID":"4"}})") << "messages are a stream";
  say(0x81, R"({"ID":13})");
  EXPECT_EQ(hear(), R"(81 {"error":{"code":5,"message":"13"}})");
  EXPECT_EQ(hear(), "");
}

TEST_F(WebSocketTest, IsClosedByEither) {
  std::promise<void> ended;
  router_.add("/etcdserverpb.Watch/Watch",
              [&](LambdaHandler& handler, Call&) { handler.end = [&](Call&) { ended.set_value(); }; });
  serve_renewals();
  start();
  open("/v3/watch");
  say(0x88, "\x03\xe8 bye");
  EXPECT_EQ(hear(), "88 \x03\xe8");
  EXPECT_EQ(hear(), "");
  ended.get_future().get();
  ::close(fd_);
  open("/v3/lease/keepalive");
  send(fd_, "\x81\x01x");
  EXPECT_EQ(hear(),
            "88 \x03\xea"
            "bad MASK");
  EXPECT_EQ(hear(), "");
}

TEST_F(WebSocketTest, AMethodThatTakesOneRequestIsCalledOnceItHasCome) {
  router_.add("/etcdserverpb.KV/Range", [](LambdaHandler& handler, Call&) {
    handler.message = [](Call& call, std::string_view) {
      etcdserverpb::RangeResponse response;
      response.set_count(7);
      call.reply(response.SerializeAsString());
    };
  });
  start();
  open("/v3/kv/range");
  say(0x81, "{}");
  EXPECT_EQ(hear(), R"(81 {"count":"7"})");
  EXPECT_EQ(hear(), "");
  ::close(fd_);
  open("/v3/kv/range");
  say(0x81, "x");
  EXPECT_THAT(hear(), HasSubstr("looking for beginning of value"));
  EXPECT_EQ(hear(), "");
  ::close(fd_);
  open("/v3/nothing");
  EXPECT_EQ(hear(), R"(81 {"code":5,"message":"Not Found"})");
  EXPECT_EQ(hear(), "");
}

TEST_F(WebSocketTest, TheTokenIsInTheSubprotocolsOrInACookie) {
  std::vector<std::string> tokens;
  router_.add("/etcdserverpb.KV/Range", [&](LambdaHandler& handler, Call& call) {
    tokens.emplace_back(call.metadata("authorization").value_or("-"));
    handler.message = [](Call& answered, std::string_view) { answered.reply({}); };
  });
  start();
  const auto ask_with = [&](const std::string& headers) {
    const std::string answer = open("/v3/kv/range", headers);
    say(0x81, "{}");
    EXPECT_EQ(hear(), "81 {}");
    ::close(std::exchange(fd_, -1));
    return answer;
  };
  EXPECT_THAT(ask_with("Sec-WebSocket-Protocol: Bearer, t1\r\n"), EndsWith("\r\nSec-WebSocket-Protocol: Bearer"));
  ask_with("Sec-WebSocket-Protocol: Bearer,t2 \r\nAuthorization: t0\r\n");
  EXPECT_THAT(ask_with("Sec-WebSocket-Protocol: chat\r\n"), Not(HasSubstr("Sec-WebSocket-Protocol")));
  ask_with("Cookie: a=b; token=t3\r\nSec-WebSocket-Protocol: Bearer, t4\r\n");
  ask_with("Authorization: t5\r\n");
  EXPECT_THAT(tokens, ::testing::ElementsAre("Bearer t1", "Bearer t2", "", "Bearer t3", "-"));
}

TEST_F(WebSocketTest, AHandshakeThatIsNoneIsRefused) {
  start();
  const std::string ask_upgrade = "Connection: Upgrade, close\r\nUpgrade: websocket\r\n";
  const std::string no_version = ask("GET /v3/watch HTTP/1.1\r\nHost: x\r\n" + ask_upgrade + "\r\n");
  EXPECT_THAT(no_version, StartsWith("HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n"));
  EXPECT_THAT(no_version, HasSubstr("\r\nSec-Websocket-Version: 13\r\n"));
  EXPECT_THAT(no_version, EndsWith("\r\n\r\nBad Request\n"));
  EXPECT_THAT(post("/v3/watch", "", ask_upgrade), StartsWith("HTTP/1.1 405 "));
}

TEST_F(WebSocketTest, ALongLineComesInSeveralFrames) {
  router_.add("/etcdserverpb.Maintenance/Snapshot", [](LambdaHandler& handler, Call&) {
    handler.half_close = [](Call& call) {
      etcdserverpb::SnapshotResponse response;
      response.set_blob(std::string(300'000, 'b'));
      call.send(response.SerializeAsString());
      call.finish();
    };
  });
  start();
  open("/v3/maintenance/snapshot");
  say(0x81, "{}");
  got_ += net::read_until(fd_, [](const std::string&) { return false; });
  std::string line;
  std::string kinds;
  for (std::string_view rest = got_; rest.size() > 4;) {
    kinds += fmt::format("{:02x} ", static_cast<uint8_t>(rest[0]));
    const unsigned told = static_cast<uint8_t>(rest[1]);
    const size_t head = told == 127 ? 10 : told == 126 ? 4 : 2;
    size_t length = told < 126 ? told : 0;
    for (size_t i = 2; i < head; ++i) length = length << 8 | static_cast<uint8_t>(rest[i]);
    line += rest.substr(head, length);
    rest.remove_prefix(std::min(rest.size(), head + length));
  }
  EXPECT_THAT(kinds, StartsWith("01 00 "));
  EXPECT_THAT(kinds, EndsWith("80 "));
  EXPECT_THAT(line, StartsWith("{\"result\":{\"blob\":\"YmJi"));
  EXPECT_THAT(line, EndsWith("\"}}"));
  EXPECT_EQ(line.size(), 400'000u + 22);
}

}  // namespace
}  // namespace cairn::gateway::v3
