#include "net/client/grpc_client.h"

#include <gtest/gtest.h>

#include "net/client/grpc_target.h"
#include "net/testing/test_server.h"

namespace cairn::net {
namespace {

constexpr int64_t kNever = INT64_MAX;

GrpcTarget target_of(const std::string& address) { return *parse_grpc_target(address); }

TEST(GrpcTarget, TakesWhatGrpcTakes) {
  const auto shown = [](std::string_view text) {
    const auto target = parse_grpc_target(text);
    return target ? target->host + "|" + target->port + "|" + target->unix_path + "|" + target->authority : "none";
  };
  EXPECT_EQ(shown("localhost:4317"), "localhost|4317||localhost:4317");
  EXPECT_EQ(shown("10.0.0.1"), "10.0.0.1|443||10.0.0.1");
  EXPECT_EQ(shown(":4317"), "localhost|4317||:4317");
  EXPECT_EQ(shown("[::1]:4317"), "::1|4317||[::1]:4317");
  EXPECT_EQ(shown("::1"), "::1|443||::1");
  EXPECT_EQ(shown("dns:///a:1"), "a|1||a:1");
  EXPECT_EQ(shown("dns://8.8.8.8/a:1"), "a|1||a:1");
  EXPECT_EQ(shown("passthrough:///a:1"), "a|1||a:1");
  EXPECT_EQ(shown("unix:a/b"), "||a/b|localhost");
  EXPECT_EQ(shown("unix:///a/b"), "||/a/b|localhost");
  for (const char* const text : {"", "a:", "[::1]x", "unix:", "unix://a/b", "dns:///"}) {
    EXPECT_EQ(shown(text), "none") << text;
  }
}

TEST(GrpcClient, CallsOfAllSizesOverOneConnection) {
  TestServer server({.max_request_message_bytes = 16 << 20});
  Patience patience;
  auto client = GrpcClient::connect(target_of(server.start()), patience, kNever);
  ASSERT_TRUE(client) << client.error().message;
  for (const size_t size : {size_t{0}, size_t{10}, size_t{70'000}, GrpcClient::kResponseBytesMax - 5, size_t{7}}) {
    const std::string message(size, 'x');
    const auto answer = (*client)->call("/test.Svc/Echo", message, kNever);
    ASSERT_TRUE(answer) << size << answer.error().message;
    EXPECT_EQ(*answer, message);
  }
  EXPECT_FALSE((*client)->call("/test.Svc/Echo", std::string(GrpcClient::kResponseBytesMax, 'x'), kNever))
      << "too long an answer";
  EXPECT_TRUE((*client)->is_open());
}

TEST(GrpcClient, GivesTheCallsStatus) {
  TestServer server;
  server.router.add("/test.Svc/Fail", [](LambdaHandler& handler, Call&) {
    handler.message = [](Call& call, std::string_view) { call.finish(Code::kNotFound, "100 % \xc3\xa9"); };
  });
  Patience patience;
  auto client = GrpcClient::connect(target_of(server.start()), patience, kNever);
  ASSERT_TRUE(client);
  const auto failed = (*client)->call("/test.Svc/Fail", "x", kNever);
  EXPECT_EQ(failed.error().code, Code::kNotFound);
  EXPECT_EQ(failed.error().message, "100 % \xc3\xa9");
  EXPECT_EQ((*client)->call("/test.Svc/None", "x", kNever).error().code, Code::kUnimplemented);
  EXPECT_TRUE((*client)->call("/test.Svc/Echo", "x", kNever));
}

TEST(GrpcClient, NoticesThatItsServerHasGone) {
  TestServer server;
  const std::string address = server.start();
  Patience patience;
  auto client = GrpcClient::connect(target_of(address), patience, kNever);
  ASSERT_TRUE(client);
  ASSERT_TRUE((*client)->call("/test.Svc/Echo", "x", kNever));
  server.stop();
  EXPECT_EQ((*client)->call("/test.Svc/Echo", "x", kNever).error().code, Code::kUnavailable);
  EXPECT_FALSE((*client)->is_open());
  EXPECT_EQ((*client)->call("/test.Svc/Echo", "x", kNever).error().code, Code::kUnavailable);
  EXPECT_EQ(GrpcClient::connect(target_of(address), patience, kNever).error().code, Code::kUnavailable);
}

TEST(GrpcClient, ItsPatienceEnds) {
  TestServer server;
  std::promise<void> asked;
  server.router.add("/test.Svc/Silent", [&](LambdaHandler& handler, Call&) {
    handler.message = [&](Call&, std::string_view) { asked.set_value(); };
  });
  Patience patience;
  auto client = GrpcClient::connect(target_of(server.start()), patience, kNever);
  ASSERT_TRUE(client);
  std::thread impatient([&] {
    asked.get_future().wait();
    patience.end_by(0);
  });
  const auto failed = (*client)->call("/test.Svc/Silent", "x", kNever);
  impatient.join();
  EXPECT_EQ(failed.error().code, Code::kDeadlineExceeded);
  EXPECT_FALSE((*client)->is_open());
  Patience fresh;
  EXPECT_FALSE(fresh.has_time(0));
  EXPECT_FALSE(fresh.wait(0, 0, monotonic_now_ns()));
}

}  // namespace
}  // namespace cairn::net
