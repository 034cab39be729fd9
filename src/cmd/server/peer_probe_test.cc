// Asking members that run, over HTTP and TLS.
#include "cmd/server/peer_probe.h"

#include <string>

#include <gtest/gtest.h>

#include "net/testing/certificates.h"
#include "net/testing/test_server.h"
#include "net/tls/tls_context.h"
#include "testing/temp_dir.h"

namespace cairn::cmd {
namespace {

constexpr int64_t kPatienceNs = 60'000'000'000;

class Answering : public net::TestServer {
 public:
  explicit Answering(std::shared_ptr<net::TlsContext> tls = nullptr) : TestServer(options(std::move(tls))) {
    http.on_request = [](const net::HttpRequest& request, net::EventLoop&, const net::HttpRespond& respond) {
      if (request.path == "/silent") return;
      respond({.status = request.path == "/members" ? 200 : 404,
               .headers = {{"x-etcd-cluster-id", "c1a5"}},
               .body = request.method + " " + request.path});
    };
  }

 private:
  static net::ServerOptions options(std::shared_ptr<net::TlsContext> tls) {
    net::ServerOptions out;
    out.listen.push_back({.address = "127.0.0.1:0", .tls = {.context = std::move(tls), .is_for_peers = true}});
    return out;
  }
};

TEST(PeerProbeTest, SaysWhatWasAnswered) {
  Answering server;
  const std::string url = "http://" + server.start();
  HttpPeerProbe probe(kPatienceNs, nullptr);
  const auto members = probe.get(url + "/members", kPatienceNs);
  ASSERT_TRUE(members.has_value()) << members.error().message;
  EXPECT_EQ(members->status, 200);
  EXPECT_EQ(members->cluster_id, "c1a5");
  EXPECT_EQ(members->body, "GET /members");
  const auto other = probe.get(url + "/other", kPatienceNs);
  ASSERT_TRUE(other.has_value());
  EXPECT_EQ(other->status, 404);
}

TEST(PeerProbeTest, SaysWhenThereIsNoAnswer) {
  Answering server;
  const std::string address = server.start();
  HttpPeerProbe probe(kPatienceNs, nullptr);
  const auto silent = probe.get("http://" + address + "/silent", 50'000'000);
  ASSERT_FALSE(silent.has_value());
  EXPECT_EQ(silent.error().code, Code::kDeadlineExceeded);
  server.stop();
  EXPECT_FALSE(probe.get("http://" + address + "/members", kPatienceNs).has_value());
  EXPECT_FALSE(probe.get("https://" + address + "/members", kPatienceNs).has_value());
  const auto bad = probe.get("gopher://" + address + "/members", kPatienceNs);
  ASSERT_FALSE(bad.has_value());
  EXPECT_EQ(bad.error().code, Code::kInvalidArgument);
}

TEST(PeerProbeTest, TrustsWhomTheFlagsTrust) {
  const cairn::testing::TempDir folder;
  net::Authority authority;
  net::Authority stranger{"stranger"};
  const net::Issued issued = authority.issue({.common_name = "member"});
  net::write_file(folder / "ca", authority.pem());
  net::write_file(folder / "other-ca", stranger.pem());
  net::write_file(folder / "cert", issued.certificate_pem);
  net::write_file(folder / "key", issued.key_pem);
  net::TlsSettings settings;
  settings.cert_file = folder / "cert";
  settings.key_file = folder / "key";
  settings.trusted_ca_file = folder / "ca";
  auto serving = net::TlsContext::open(settings);
  ASSERT_TRUE(serving.has_value());
  Answering server(*std::move(serving));
  const std::string url = "https://" + server.start();
  const auto ask = [&](const std::string& ca) {
    settings.trusted_ca_file = folder / ca;
    const auto tls = net::TlsClientContext::open({.settings = settings});
    EXPECT_TRUE(tls.has_value());
    HttpPeerProbe probe(kPatienceNs, tls->get());
    const auto answer = probe.get(url + "/members", kPatienceNs);
    return answer ? answer->body : "error: " + answer.error().message;
  };
  EXPECT_EQ(ask("ca"), "GET /members");
  EXPECT_EQ(ask("other-ca").substr(0, 6), "error:");
}

}  // namespace
}  // namespace cairn::cmd
