// Plain HTTP of a real member.
#include "gateway/gateway.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "member/quota.h"
#include "member/requests.h"
#include "member/testing/member.h"
#include "net/server.h"
#include "net/testing/test_client.h"
#include "proto/rpc.pb.h"
#include "testing/stuck_disk.h"
#include "testing/wait.h"

namespace cairn::gateway {
namespace {

using cairn::testing::StuckDisk;
using cairn::testing::wait_until;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

class GatewayTest : public ::testing::Test {
 protected:
  explicit GatewayTest(int64_t request_timeout_ns = 60'000'000'000) : request_timeout_ns_(request_timeout_ns) {}

  void SetUp() override {
    gateway_ = std::make_unique<Gateway>(
        *member_.node, member_.registry,
        Gateway::Options{.request_timeout_ns = request_timeout_ns_, .hosts = {"x", "::1"}, .profiles = true});
    net::ServerOptions options;
    options.listen.push_back({.address = "127.0.0.1:0"});
    options.listen.push_back({.address = "127.0.0.1:0", .grpc = false, .http_handler = &gateway_->probes()});
    server_ = std::make_unique<net::Server>(options, nullptr, gateway_.get());
    gateway_->attach(server_->loops());
    member_.start([this](unsigned loop, const member::AnswerBatch& batch) {
      if (loop == Health::kAnswersTo) gateway_->deliver(batch);
    });
    addresses_ = *server_->start();
  }
  void TearDown() override {
    server_->stop(1'000'000'000);
    member_.stop();  // what it answers yet goes to the server's loops
  }

  std::string ask(const std::string& method, const std::string& target, size_t listener = 0,
                  const std::string& host = "x") {
    const int fd = net::connect_to(addresses_[listener]);
    const std::string request = method + " " + target + " HTTP/1.1\r\nHost: " + host + "\r\nConnection: close\r\n\r\n";
    EXPECT_EQ(::send(fd, request.data(), request.size(), MSG_NOSIGNAL), static_cast<ssize_t>(request.size()));
    const std::string got = net::read_until(fd, [](const std::string&) { return false; });
    ::close(fd);
    return got;
  }
  std::string get(const std::string& target, size_t listener = 0) { return ask("GET", target, listener); }

  // Until all threads see it.
  void raise(uint32_t type) {
    const auto reader = member_.node->published().register_thread();
    EXPECT_TRUE(wait_until([&] {
      member_.node->raise_alarm(type);  // at most once a second
      return reader->enter()->has_alarm(type);
    }));
  }

  StuckDisk disk_;
  static constexpr uint64_t kBufferEntries = 10;  // of each of the two write buffers
  static void change(member::NodeOptions& options) {
    options.bootstrap.wal.sync = true;
    options.apply.buffer_entries_max = kBufferEntries;
  }

  const int64_t request_timeout_ns_;
  member::testing::Member member_{change, disk_};
  std::unique_ptr<Gateway> gateway_;
  std::unique_ptr<net::Server> server_;
  std::vector<std::string> addresses_;
};

TEST_F(GatewayTest, HealthIsJsonThatDoesNotSaySo) {
  const std::string answer = get("/health");
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 200 "));
  EXPECT_THAT(answer, HasSubstr("Content-Type: text/plain; charset=utf-8\r\n"));
  EXPECT_THAT(answer, EndsWith(R"({"health":"true","reason":""})"));
}

TEST_F(GatewayTest, HealthFailsForAnAlarmThatIsNotExcluded) {
  raise(member::kAlarmNoSpace);
  const std::string answer = get("/health");
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 503 "));
  EXPECT_THAT(answer, HasSubstr("X-Content-Type-Options: nosniff\r\n"));
  EXPECT_THAT(answer, EndsWith("{\"health\":\"false\",\"reason\":\"ALARM NOSPACE\"}\n"));
  EXPECT_THAT(get("/health?exclude=NOSPACE"), StartsWith("HTTP/1.1 200 "));
  EXPECT_THAT(get("/health?exclude=CORRUPT"), StartsWith("HTTP/1.1 503 "));
  EXPECT_THAT(get("/health?exclude=CORRUPT&exclude=NOSPACE&serializable=true"), StartsWith("HTTP/1.1 200 "));
  EXPECT_THAT(get("/readyz"), StartsWith("HTTP/1.1 200 ")) << "no room does not take a member out of service";
  raise(member::kAlarmCorrupt);
  EXPECT_THAT(get("/health"), HasSubstr("ALARM NOSPACE")) << "of several the first is said";
  EXPECT_THAT(get("/health?exclude=NOSPACE"), HasSubstr("ALARM CORRUPT"));
}

TEST_F(GatewayTest, AnAlarmWithoutANameIsItsNumber) {
  const auto minus_one = static_cast<uint32_t>(-1);
  raise(member::kAlarmCorrupt);
  raise(7);
  raise(minus_one);
  EXPECT_THAT(get("/health?exclude=CORRUPT&exclude=7"),
              EndsWith("{\"health\":\"false\",\"reason\":\"ALARM UNKNOWN\"}\n"));
  EXPECT_THAT(get("/health?exclude=CORRUPT&exclude=7&exclude=-1&serializable=true"), StartsWith("HTTP/1.1 200 "));
}

TEST_F(GatewayTest, HostsThatAreNotListedAreRefused) {
  for (const char* const host : {"x", "x:2379", "[::1]:80"}) {
    EXPECT_THAT(ask("GET", "/version", 0, host), StartsWith("HTTP/1.1 200 ")) << host;
  }
  for (const char* const host : {"y", "y:80", "[::1]", ""}) {
    const std::string answer = ask("GET", "/version", 0, host);
    EXPECT_THAT(answer, StartsWith("HTTP/1.1 421 Misdirected Request\r\n")) << host;
    EXPECT_THAT(answer, HasSubstr("etcd --host-whitelist \"")) << host;
    EXPECT_THAT(answer, Not(HasSubstr("Access-Control"))) << host;
  }
  EXPECT_THAT(ask("GET", "/health", 1, "y"), StartsWith("HTTP/1.1 200 ")) << "as etcd, not on a metrics address";
  // An absolute form names the host, whatever the header says.
  EXPECT_THAT(ask("GET", "http://y/version"), StartsWith("HTTP/1.1 421 "));
  EXPECT_THAT(ask("GET", "http://x@y/version"), StartsWith("HTTP/1.1 421 "));
  EXPECT_THAT(ask("GET", "http://x:80/version", 0, "y"), StartsWith("HTTP/1.1 200 "));
}

TEST_F(GatewayTest, BodiesAreNotKept) {
  for (const std::string& address : addresses_) {
    const int fd = net::connect_to(address);
    const std::string request = "POST /v3/kv/put HTTP/1.1\r\nHost: x\r\nContent-Length: 500001\r\n\r\n";
    ASSERT_EQ(::send(fd, request.data(), request.size(), MSG_NOSIGNAL), static_cast<ssize_t>(request.size()));
    const uint64_t before = server_->stats().socket_bytes_in;
    const std::string body(500'000, '{');
    for (size_t sent = 0; sent < body.size();) {
      const ssize_t bytes = ::send(fd, body.data() + sent, body.size() - sent, MSG_NOSIGNAL);
      ASSERT_GT(bytes, 0);
      sent += static_cast<size_t>(bytes);
    }
    EXPECT_TRUE(wait_until([&] { return server_->stats().socket_bytes_in >= before + body.size(); }));
    EXPECT_EQ(server_->stats().request_bytes_held, 0U);
    EXPECT_EQ(::send(fd, "}", 1, MSG_NOSIGNAL), 1);
    const std::string got = net::read_until(fd, [](const std::string& s) { return s.contains("\r\n\r\n"); });
    EXPECT_THAT(got, StartsWith("HTTP/1.1 404 "));
    EXPECT_THAT(got, Not(HasSubstr("Connection: close"))) << "a client may go on";
    ::close(fd);
  }
}

TEST_F(GatewayTest, ReadyzFailsForCorruptDataOnly) {
  raise(member::kAlarmCorrupt);
  const std::string answer = get("/readyz");
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 503 "));
  EXPECT_THAT(answer, HasSubstr("[-]data_corruption failed: alarm activated: CORRUPT\n"));
  EXPECT_THAT(answer, HasSubstr("[+]linearizable_read ok\n"));
  EXPECT_THAT(get("/readyz/linearizable_read"), StartsWith("HTTP/1.1 200 "));
  EXPECT_THAT(get("/readyz?exclude=data_corruption"), StartsWith("HTTP/1.1 200 "));
  EXPECT_THAT(get("/livez"), StartsWith("HTTP/1.1 200 "));
}

TEST_F(GatewayTest, ChecksAreListedWhenAskedFor) {
  EXPECT_THAT(get("/livez"), EndsWith("\r\n\r\nok\n"));
  EXPECT_THAT(get("/livez?verbose"), EndsWith("\r\n\r\n[+]serializable_read ok\nok\n"));
  EXPECT_THAT(get("/livez?verbose&exclude=serializable_read"), EndsWith("\r\n\r\nok\n"));
  EXPECT_THAT(get("/readyz/nothing"), StartsWith("HTTP/1.1 404 "));
  EXPECT_THAT(get("/livez/"), StartsWith("HTTP/1.1 404 "));
}

TEST_F(GatewayTest, QueriesAreDecoded) {
  EXPECT_THAT(get("/livez?%76erbose"), EndsWith("\r\n\r\n[+]serializable_read ok\nok\n"));
  EXPECT_THAT(get("/livez?verbose&exclude=serializable%5fread"), EndsWith("\r\n\r\nok\n"));
  EXPECT_THAT(get("/livez?verbose&exclude=serializable%5"), EndsWith("[+]serializable_read ok\nok\n"));
  EXPECT_THAT(get("/livez?verbose&exclude=serializable_read;"), EndsWith("[+]serializable_read ok\nok\n"));
  EXPECT_THAT(get("/livez?verbose&exclude=serializable+read"), EndsWith("[+]serializable_read ok\nok\n"));
}

TEST_F(GatewayTest, PathsThatAreNotCleanAreSentOn) {
  const std::string answer = get("//health?serializable=true&x");
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 307 Temporary Redirect\r\n"));
  EXPECT_THAT(answer, HasSubstr("Content-Type: text/html; charset=utf-8\r\n"));
  EXPECT_THAT(answer, HasSubstr("Location: /health?serializable=true&x\r\n"));
  EXPECT_THAT(answer, EndsWith("<a href=\"/health?serializable=true&amp;x\">Temporary Redirect</a>.\n\n"));
  EXPECT_THAT(get("//metrics", 1), HasSubstr("Location: /metrics\r\n"));
  EXPECT_THAT(get("/x/.././version"), HasSubstr("Location: /version\r\n"));
  EXPECT_THAT(get("/../livez//"), HasSubstr("Location: /livez/\r\n"));
  EXPECT_THAT(get("/x/.."), HasSubstr("Location: /\r\n"));
  const std::string put = ask("PUT", "//health");
  EXPECT_THAT(put, StartsWith("HTTP/1.1 307 "));
  EXPECT_THAT(put, EndsWith("\r\n\r\n"));
  EXPECT_THAT(put, Not(HasSubstr("Content-Type")));
}

// What is refused here is refused after a short while; what passes is asked for until it does.
class StalledGatewayTest : public GatewayTest {
 protected:
  StalledGatewayTest() : GatewayTest(200'000'000) {}

  bool passes(const std::string& target) {
    return wait_until([&] { return get(target).starts_with("HTTP/1.1 200 "); });
  }
  // They wait for nobody.
  void put(uint64_t count) {
    etcdserverpb::PutRequest request;
    request.set_key("a");
    std::vector<member::Proposal> puts;
    for (; count > 0; --count) {
      puts.push_back(std::make_shared<const raft::Payload>(
          raft::Payload{.bytes = member::join_request(member::RequestKind::kPut, request.SerializeAsString(),
                                                      member_.node->next_request_id())}));
    }
    member_.node->propose(std::move(puts));
  }
  void expect_unhealthy() {
    const std::string health = get("/health");
    EXPECT_THAT(health, StartsWith("HTTP/1.1 503 "));
    EXPECT_THAT(health, EndsWith("{\"health\":\"false\",\"reason\":\"RANGE ERROR:context deadline exceeded\"}\n"));
    const std::string ready = get("/readyz");
    EXPECT_THAT(ready, StartsWith("HTTP/1.1 503 "));
    EXPECT_THAT(ready, HasSubstr("[-]linearizable_read failed: etcdserver: request timed out\n"));
    EXPECT_THAT(ready, HasSubstr("[+]serializable_read ok\n"));
    EXPECT_THAT(get("/readyz?exclude=linearizable_read"), StartsWith("HTTP/1.1 200 "));
    EXPECT_THAT(get("/health?serializable=true"), StartsWith("HTTP/1.1 200 ")) << "the process itself is well";
    EXPECT_THAT(get("/livez"), StartsWith("HTTP/1.1 200 "));
  }
};

TEST_F(StalledGatewayTest, AMemberWhoseDiskTakesNoWriteIsNotHealthy) {
  disk_.set_stuck(StuckDisk::Part::kSyncs);
  member_.node->raise_alarm(member::kAlarmNoSpace);  // some write
  disk_.wait_for_victim();
  expect_unhealthy();
  const std::string page = get("/metrics");
  EXPECT_THAT(page, HasSubstr("etcd_server_health_failures 1"));
  EXPECT_THAT(page, HasSubstr("etcd_server_healthcheck{name=\"linearizable_read\",type=\"readyz\"} 0"));
  EXPECT_THAT(
      page, HasSubstr("etcd_server_healthchecks_total{name=\"linearizable_read\",status=\"error\",type=\"readyz\"} 1"));
  disk_.set_stuck(StuckDisk::Part::kNone);
  EXPECT_TRUE(passes("/readyz"));
  EXPECT_TRUE(passes("/health?exclude=NOSPACE"));
}

// The db behind the log: writes go on into the buffers, and so the member is ready, until both are full.
TEST_F(StalledGatewayTest, AMemberWhoseDbTakesNothingIsReadyWhileWritesGoOn) {
  const auto reader = member_.node->published().register_thread();
  const auto applied = [&] { return reader->enter()->applied; };
  disk_.set_stuck(StuckDisk::Part::kWritesOfTheDb);
  put(kBufferEntries + 1);
  disk_.wait_for_victim();
  EXPECT_TRUE(passes("/readyz"));
  EXPECT_TRUE(passes("/health"));
  const Index full = applied() + kBufferEntries + 1;
  put(kBufferEntries + 1);
  ASSERT_TRUE(wait_until([&] { return applied() >= full; }));  // what comes now waits
  put(1);
  const Index all = full + 1;
  ASSERT_TRUE(wait_until([&] { return member_.node->committed() >= all; }));
  ASSERT_LT(applied(), all);
  expect_unhealthy();
  disk_.set_stuck(StuckDisk::Part::kNone);
  EXPECT_TRUE(passes("/readyz"));
  EXPECT_TRUE(passes("/health"));
  EXPECT_GE(applied(), all) << "a check passes behind what was written before it";
}

TEST_F(GatewayTest, VersionNamesServerClusterAndStorage) {
  const std::string answer = get("/version");
  EXPECT_THAT(answer, HasSubstr("Content-Type: application/json\r\n"));
  EXPECT_THAT(answer, EndsWith(R"({"etcdserver":"3.7.1","etcdcluster":"3.7.0","storage":"3.7.0"})"));
}

TEST_F(GatewayTest, OtherMethodsAreRefusedButOptionsAreAlwaysWelcome) {
  const std::string answer = ask("PUT", "/health");
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 405 "));
  EXPECT_THAT(answer, HasSubstr("Allow: GET\r\n"));
  EXPECT_THAT(answer, EndsWith("\r\n\r\nMethod Not Allowed\n"));
  const std::string options = ask("OPTIONS", "/anything");
  EXPECT_THAT(options, StartsWith("HTTP/1.1 200 "));
  EXPECT_THAT(options, HasSubstr("Access-Control-Allow-Origin: *\r\n"));
  EXPECT_THAT(options, Not(HasSubstr("Content-Type")));
}

TEST_F(GatewayTest, UnknownPathsAreNotFound) {
  EXPECT_THAT(get("/nothing"), StartsWith("HTTP/1.1 404 "));
  EXPECT_THAT(get("/nothing"), EndsWith("\r\n\r\n404 page not found\n"));
}

TEST_F(GatewayTest, ManyScrapersAtOnceAllGetAPage) {
  std::vector<int> scrapers;
  for (int i = 0; i < 50; ++i) {
    scrapers.push_back(net::connect_to(addresses_[0]));
    constexpr std::string_view kRequest = "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    ::send(scrapers.back(), kRequest.data(), kRequest.size(), MSG_NOSIGNAL);
  }
  for (const int fd : scrapers) {
    EXPECT_THAT(net::read_until(fd, [](const std::string&) { return false; }), HasSubstr("etcd_server_has_leader 1"));
    ::close(fd);
  }
}

TEST_F(GatewayTest, AProfileEndsWhenItsClientGoes) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "a sanitizer delivers signals late";
#endif
  const int fd = net::connect_to(addresses_[0]);
  constexpr std::string_view kRequest = "GET /debug/pprof/profile?seconds=1000000000 HTTP/1.1\r\nHost: x\r\n\r\n";
  const auto another = [&] { return get("/debug/pprof/profile?seconds=1"); };
  ASSERT_TRUE(wait_until([&] {
    ::send(fd, kRequest.data(), kRequest.size(), MSG_NOSIGNAL);  // again, if the other one came first
    return another().starts_with("HTTP/1.1 500 ");
  }));
  ::close(fd);
  EXPECT_TRUE(wait_until([&] { return another().starts_with("HTTP/1.1 200 "); }));
}

TEST_F(GatewayTest, NamesOfFunctionsAreLookedUp) {
  EXPECT_THAT(get("/debug/pprof/symbol"), EndsWith("\r\n\r\nnum_symbols: 1\n"));
  EXPECT_THAT(get("/debug/pprof/symbol?0x1+2+none"), EndsWith("\r\n\r\nnum_symbols: 1\n"));
}

TEST_F(GatewayTest, TheSameOverHttp2) {
  net::TestClient client(addresses_[0]);
  const auto get_over_http2 = [&](const std::string& path) {
    const int32_t id = client.start(path, {}, true, "", "GET");
    EXPECT_TRUE(client.pump_until([&] { return client.stream(id).closed; }));
    return client.stream(id);
  };
  const auto health = get_over_http2("/health");
  EXPECT_EQ(health.headers.at(":status"), "200");
  EXPECT_EQ(health.data, R"({"health":"true","reason":""})");
  EXPECT_THAT(get_over_http2("/metrics").data, HasSubstr("etcd_server_has_leader 1"));
  EXPECT_THAT(get_over_http2("/version").data, HasSubstr(R"("etcdserver":"3.7.1")"));
  EXPECT_EQ(get_over_http2("/nothing").headers.at(":status"), "404");
}

TEST_F(GatewayTest, TheMetricsListenerHasProbesAndMetricsOnly) {
  EXPECT_THAT(get("/metrics", 1), HasSubstr("etcd_server_has_leader 1"));
  EXPECT_THAT(get("/health", 1), StartsWith("HTTP/1.1 200 "));
  EXPECT_THAT(get("/readyz", 1), StartsWith("HTTP/1.1 200 "));
  EXPECT_THAT(get("/health", 1), Not(HasSubstr("Access-Control")));
  EXPECT_THAT(get("/version", 1), StartsWith("HTTP/1.1 404 "));
}

}  // namespace
}  // namespace cairn::gateway
