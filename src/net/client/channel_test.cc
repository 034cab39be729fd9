// The client's side against the server's.
#include <map>
#include <string>

#include <gtest/gtest.h>
#include <poll.h>

#include "net/client/client_socket.h"
#include "net/client/dial.h"
#include "net/client/http1_channel.h"
#include "net/client/http2_channel.h"
#include "net/http2/framing.h"
#include "net/testing/certificates.h"
#include "net/testing/test_client.h"
#include "net/testing/test_server.h"
#include "net/tls/tls_context.h"
#include "testing/temp_dir.h"

namespace cairn::net {
namespace {

TEST(Dial, SaysWhyNot) {
  EXPECT_EQ(dial("127.0.0.1").error().code, Code::kInvalidArgument);
  EXPECT_EQ(dial("::1:80").error().code, Code::kInvalidArgument);
  TestServer server;
  const std::string address = server.start();
  const auto fd = dial("localhost:" + address.substr(address.rfind(':') + 1));
  ASSERT_TRUE(fd);
  ::close(*fd);
  server.stop();
  const auto refused = dial(address);
  EXPECT_EQ(refused.error().code, Code::kUnavailable);
  EXPECT_EQ(refused.error().message, "net: dial " + address + ": Connection refused");
}

struct Answers final : ResponseSink {
  void on_data(uint32_t slot, std::string_view bytes) override { data[slot] += bytes; }
  void on_end(uint32_t slot, int grpc_status) override { status[slot] = grpc_status; }
  std::map<uint32_t, std::string> data;
  std::map<uint32_t, int> status;
};

// Writes and reads until so many calls have ended.
Status run(Http2Channel& channel, Answers& answers, size_t ends) {
  while (answers.status.size() < ends) {
    CAIRN_TRY(const bool waits, channel.flush());
    pollfd ready{.fd = channel.fd(), .events = static_cast<short>(POLLIN | (waits ? POLLOUT : 0)), .revents = 0};
    if (::poll(&ready, 1, 5000) == 0) return fail(Code::kDeadlineExceeded, "no answer");
    CAIRN_CHECK(channel.receive(answers));
  }
  return {};
}

TEST(Http2Channel, CallsOfAllSizesAndOutcomes) {
  TestServer server;
  server.router.add("/test.Svc/Fail", [](LambdaHandler& handler, Call&) {
    handler.message = [](Call& call, std::string_view message) { call.finish(Code::kNotFound, message); };
  });
  auto channel = Http2Channel::connect({.address = server.start(), .streams_max = 10});
  ASSERT_TRUE(channel);
  Answers answers;
  ASSERT_TRUE(run(**channel, answers, 0));
  uint32_t slot = 0;
  for (int round = 0; round < 50; ++round) {
    std::map<uint32_t, std::string> sent;
    for (int i = 0; i < 10; ++i) {
      // Paths in turns, so that blocks of header fields are made and used again.
      const bool fails = (round + i) % 3 == 0;
      const std::string body = framed(std::string(static_cast<size_t>(i * i * 150), static_cast<char>('a' + i)));
      if (!(*channel)->can_send(body.size())) continue;
      (*channel)->call(slot, fails ? "/test.Svc/Fail" : "/test.Svc/Echo", body);
      if (!fails) sent[slot] = body;
      ++slot;
    }
    ASSERT_TRUE(run(**channel, answers, slot));
    for (const auto& [at, body] : sent) {
      EXPECT_EQ(answers.status[at], 0);
      EXPECT_EQ(answers.data[at], body);
    }
  }
  EXPECT_GT(slot, 400U);
  int failed = 0;
  for (const auto& [at, status] : answers.status) failed += status == 5 ? 1 : 0;
  EXPECT_GT(failed, 100);
}

TEST(Http2Channel, MetadataGoesWithEachCall) {
  TestServer server;
  for (const char* const path : {"/test.Svc/One", "/test.Svc/Other"}) {
    server.router.add(path, [](LambdaHandler& handler, Call&) {
      handler.message = [](Call& call, std::string_view) { call.reply(call.metadata("token").value_or("none")); };
    });
  }
  const std::string token(500, 't');
  auto channel = Http2Channel::connect({.address = server.start(), .streams_max = 10, .metadata = {{"token", token}}});
  ASSERT_TRUE(channel);
  Answers answers;
  for (uint32_t slot = 0; slot < 6; ++slot) {
    (*channel)->call(slot, slot % 2 == 0 ? "/test.Svc/One" : "/test.Svc/Other", framed(""));
    ASSERT_TRUE(run(**channel, answers, slot + 1));
    EXPECT_EQ(answers.data[slot], framed(token)) << slot;
    EXPECT_EQ(answers.status[slot], 0) << slot;
  }
}

// A server that asks for a certificate and takes any; its key pair is in `directory`.
ServerOptions over_tls(const cairn::testing::TempDir& directory, Authority& authority) {
  const Issued pair = authority.issue({.common_name = "server"});
  const std::string cert = directory / "cert";
  const std::string key = directory / "key";
  const std::string authorities = directory / "ca";
  write_file(cert, pair.certificate_pem);
  write_file(key, pair.key_pem);
  write_file(authorities, authority.pem());
  auto context = TlsContext::open({.cert_file = cert, .key_file = key, .trusted_ca_file = authorities});
  CAIRN_ASSERT(context.has_value());
  ServerOptions out;
  out.listen.push_back({.address = "127.0.0.1:0", .tls = {.context = *std::move(context)}});
  return out;
}

TEST(Http2Channel, CallsOverTls) {
  const cairn::testing::TempDir directory;
  Authority authority;
  TestServer server(over_tls(directory, authority));
  server.router.add("/test.Svc/Who", [](LambdaHandler& handler, Call&) {
    handler.message = [](Call& call, std::string_view) { call.reply(call.peer_certificate()->common_name); };
  });
  const std::string address = server.start();
  const auto tls = ClientTls::make({.cert_file = directory / "cert", .key_file = directory / "key"});
  ASSERT_TRUE(tls);
  auto channel = Http2Channel::connect({.address = address, .streams_max = 40, .tls = tls->get()});
  ASSERT_TRUE(channel);
  Answers answers;
  // Bodies of many records, in both directions at a time.
  std::map<uint32_t, std::string> sent;
  for (uint32_t slot = 0; slot < 30; ++slot) {
    sent[slot] = framed(std::string(slot * 2000, static_cast<char>('a' + slot % 26)));
    while (!(*channel)->can_send(sent[slot].size())) ASSERT_TRUE(run(**channel, answers, answers.status.size() + 1));
    (*channel)->call(slot, "/test.Svc/Echo", sent[slot]);
  }
  ASSERT_TRUE(run(**channel, answers, 30));
  for (const auto& [slot, body] : sent) EXPECT_EQ(answers.data[slot], body) << slot;
  (*channel)->call(30, "/test.Svc/Who", framed(""));
  ASSERT_TRUE(run(**channel, answers, 31));
  EXPECT_EQ(answers.data[30], framed("server"));
}

TEST(ClientSocket, SaysWhyNotOverTls) {
  EXPECT_EQ(ClientTls::make({.cert_file = "/nowhere", .key_file = "/nowhere"}).error().code, Code::kInvalidArgument);
  TestServer server;
  const auto tls = ClientTls::make({});
  const auto refused = connect_socket(server.start(), tls->get(), true);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::kUnavailable);
  EXPECT_NE(refused.error().message.find("net: TLS with 127.0.0.1:"), std::string::npos) << refused.error().message;
}

TEST(Http2Channel, TheEndOfTheServerIsAnError) {
  TestServer server;
  auto channel = Http2Channel::connect({.address = server.start()});
  ASSERT_TRUE(channel);
  server.stop();
  Answers answers;
  EXPECT_FALSE(run(**channel, answers, 1));
}

TEST(Http1Channel, AsksOverOneConnection) {
  TestServer server;
  server.http.on_request = [](HttpRequest request, EventLoop&, HttpRespond respond) {
    respond({.status = request.path == "/missing" ? 404 : 200,
             .headers = {{"X-Own", std::string(request.header("x-name"))}},
             .body = request.method + " " + request.path + " " + request.query + " " + request.body});
  };
  auto channel = Http1Channel::connect(server.start());
  ASSERT_TRUE(channel);
  for (const std::string& body : {std::string(), std::string("body"), std::string(300'000, 'b')}) {
    const auto answer =
        (*channel)->ask({.method = "POST", .path = "/a", .query = "q=1", .headers = {{"X-Name", "n"}}, .body = body});
    ASSERT_TRUE(answer) << answer.error().message;
    EXPECT_EQ(answer->status, 200);
    EXPECT_EQ(answer->content_type, "text/plain; charset=utf-8");
    EXPECT_EQ(answer->body, "POST /a q=1 " + body);
  }
  EXPECT_EQ((*channel)->ask({.method = "HEAD", .path = "/missing"})->status, 404);
  EXPECT_EQ((*channel)->ask({.method = "GET", .path = "/missing"})->body, "GET /missing  ");
  EXPECT_EQ(server.server().stats().connections_opened, 1U);
  server.stop();
  EXPECT_FALSE((*channel)->ask({.method = "GET", .path = "/"}));
}

TEST(Http1Channel, WaitsNoLongerThanItMay) {
  TestServer server;
  server.http.on_request = [](HttpRequest, EventLoop&, const HttpRespond&) {};
  auto channel = Http1Channel::connect(server.start());
  ASSERT_TRUE(channel);
  EXPECT_EQ((*channel)->ask({.method = "GET", .path = "/"}, 50).error().code, Code::kDeadlineExceeded);
}

}  // namespace
}  // namespace cairn::net
