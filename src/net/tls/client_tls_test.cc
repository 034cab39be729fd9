// An HttpClient over TLS: whom it trusts, what it shows, and what servers make of that.
#include <gtest/gtest.h>

#include "net/testing/certificates.h"
#include "net/testing/client_loop.h"
#include "net/testing/test_server.h"
#include "net/tls/tls_client_context.h"
#include "net/tls/tls_context.h"
#include "testing/temp_dir.h"
#include "testing/wait.h"

namespace cairn::net {
namespace {

using cairn::testing::TempDir;
using cairn::testing::wait_until;

// A member's files, and those of one that is of somebody else's.
struct Fixture {
  TempDir directory;
  Authority authority;
  Authority stranger{"stranger"};

  Fixture() {
    write_file(directory / "ca", authority.pem());
    write_file(directory / "stranger-ca", stranger.pem());
    put("member", authority.issue({.common_name = "member"}));
    put("stranger", stranger.issue({.common_name = "stranger"}));
  }
  void put(const std::string& name, const Issued& issued) {
    write_file(directory / (name + "-cert"), issued.certificate_pem);
    write_file(directory / (name + "-key"), issued.key_pem);
  }
  [[nodiscard]] TlsSettings settings(const std::string& name, const std::string& ca = "ca") const {
    TlsSettings out;
    out.cert_file = directory / (name + "-cert");
    out.key_file = directory / (name + "-key");
    if (!ca.empty()) out.trusted_ca_file = directory / ca;
    return out;
  }
};

// Says who asks.
class TlsServer : public TestServer {
 public:
  explicit TlsServer(const TlsSettings& settings) : TestServer(options(settings)) {
    http.on_request = [](const HttpRequest& request, EventLoop&, const HttpRespond& respond) {
      respond({.body = request.peer_certificate != nullptr ? request.peer_certificate->common_name : "nobody"});
    };
  }

 private:
  static ServerOptions options(const TlsSettings& settings) {
    auto context = TlsContext::open(settings);
    CAIRN_ASSERT(context.has_value());
    ServerOptions out;
    out.listen.push_back({.address = "127.0.0.1:0", .tls = {.context = *std::move(context), .is_for_peers = true}});
    return out;
  }
};

struct Outcome {
  std::string body;
  std::string error;
};

class TlsClient {
 public:
  explicit TlsClient(TlsClientContext::Options options) {
    auto context = TlsClientContext::open(std::move(options));
    CAIRN_ASSERT(context.has_value());
    context_ = *std::move(context);
    loop_ = std::make_unique<ClientLoop>(HttpClient::Options{.tls = context_.get()});
  }
  Outcome ask(const std::string& address) {
    Heard heard;
    auto call = loop_->start(
        {.endpoint = {.address = address, .is_secure = true}, .head = {.method = "GET", .path = "/"}}, heard);
    EXPECT_TRUE(wait_until([&] { return heard.outcome().has_value(); }));
    loop_->destroy(call);
    return {heard.body(), *heard.outcome() ? "" : heard.outcome()->error().message};
  }

 private:
  std::unique_ptr<TlsClientContext> context_;
  std::unique_ptr<ClientLoop> loop_;
};

std::string port_of(const std::string& address) { return address.substr(address.rfind(':')); }

TEST(ClientTls, BothSidesKnowEachOther) {
  const Fixture fixture;
  TlsServer server(fixture.settings("member"));
  const std::string address = server.start();
  TlsClient client({.settings = fixture.settings("member")});
  EXPECT_EQ(client.ask(address).body, "member");
  EXPECT_EQ(client.ask("localhost" + port_of(address)).body, "member");
}

TEST(ClientTls, AServerOfAnUnknownAuthorityIsRefused) {
  const Fixture fixture;
  TlsServer server(fixture.settings("stranger", ""));
  TlsClient client({.settings = fixture.settings("member")});
  EXPECT_EQ(client.ask(server.start()).error,
            "tls: failed to verify certificate: x509: certificate signed by unknown authority");
}

TEST(ClientTls, AServerOfAnotherHostIsRefused) {
  Fixture fixture;
  fixture.put("elsewhere", fixture.authority.issue({.names = "IP:127.9.9.9,DNS:elsewhere"}));
  TlsServer server(fixture.settings("elsewhere", ""));
  const std::string address = server.start();
  TlsClient client({.settings = fixture.settings("member")});
  EXPECT_EQ(client.ask(address).error,
            "tls: failed to verify certificate: x509: certificate is valid for 127.9.9.9, not 127.0.0.1");
  EXPECT_EQ(client.ask("localhost" + port_of(address)).error,
            "tls: failed to verify certificate: x509: certificate is valid for elsewhere, not localhost");
}

TEST(ClientTls, AServerWhoseCertificateIsOverIsRefused) {
  Fixture fixture;
  fixture.put("old", fixture.authority.issue({.days_from = -3, .days_to = -1}));
  TlsServer server(fixture.settings("old", ""));
  TlsClient client({.settings = fixture.settings("member")});
  EXPECT_NE(client.ask(server.start()).error.find("certificate has expired"), std::string::npos);
}

TEST(ClientTls, OnlyAllowedNamesAreTaken) {
  const Fixture fixture;
  TlsServer server(fixture.settings("member"));
  const std::string address = server.start();
  TlsSettings settings = fixture.settings("member");
  settings.allowed_common_names = {"other", "member"};
  EXPECT_EQ(TlsClient({.settings = settings}).ask(address).body, "member");
  settings.allowed_common_names = {"other"};
  EXPECT_EQ(TlsClient({.settings = settings}).ask(address).error, "client certificate authentication failed");
  settings.allowed_common_names = {};
  settings.allowed_hostnames = {"elsewhere"};
  EXPECT_EQ(TlsClient({.settings = settings}).ask(address).error, "client certificate authentication failed");
  settings.allowed_hostnames = {"localhost"};
  EXPECT_EQ(TlsClient({.settings = settings}).ask(address).body, "member");
}

TEST(ClientTls, AServerTakesOnlyAllowedCommonNames) {
  Fixture fixture;
  fixture.put("other", fixture.authority.issue({.common_name = "other"}));
  TlsSettings settings = fixture.settings("member");
  settings.allowed_common_names = {"member"};
  TlsServer server(settings);
  const std::string address = server.start();
  EXPECT_EQ(TlsClient({.settings = fixture.settings("member")}).ask(address).body, "member");
  EXPECT_NE(TlsClient({.settings = fixture.settings("other")}).ask(address).error, "");
}

TEST(ClientTls, TheCertificateForClientsIsShown) {
  Fixture fixture;
  fixture.put("client", fixture.authority.issue({.common_name = "client"}));
  TlsServer server(fixture.settings("member"));
  TlsSettings settings = fixture.settings("member");
  settings.client_cert_file = fixture.directory / "client-cert";
  settings.client_key_file = fixture.directory / "client-key";
  TlsClient client({.settings = settings});
  EXPECT_EQ(client.ask(server.start()).body, "client");
}

TEST(ClientTls, AStrangerIsRefusedByTheServer) {
  const Fixture fixture;
  TlsServer server(fixture.settings("member"));
  TlsClient client({.settings = fixture.settings("stranger")});
  EXPECT_NE(client.ask(server.start()).error, "");
}

TEST(ClientTls, ARevokedCertificateIsRefusedByTheServer) {
  Fixture fixture;
  const Issued revoked = fixture.authority.issue({.common_name = "revoked"});
  fixture.put("revoked", revoked);
  TlsSettings settings = fixture.settings("member");
  settings.crl_file = fixture.directory / "crl";
  write_file(settings.crl_file, fixture.authority.revoked_list({revoked.serial}));
  TlsServer server(settings);
  const std::string address = server.start();
  EXPECT_NE(TlsClient({.settings = fixture.settings("revoked")}).ask(address).error, "");
  EXPECT_EQ(TlsClient({.settings = fixture.settings("member")}).ask(address).body, "member");
}

TEST(ClientTls, TrustsAllWhereCertificatesAreMadeByThemselves) {
  const Fixture fixture;
  TlsServer server(fixture.settings("stranger", ""));
  TlsClient client({.settings = fixture.settings("member", ""), .trusts_all = true});
  EXPECT_EQ(client.ask(server.start()).body, "nobody");
}

TEST(ClientTls, ShowsANewCertificateOnceTheFileHasChanged) {
  Fixture fixture;
  TlsServer server(fixture.settings("member"));
  const std::string address = server.start();
  TlsSettings settings = fixture.settings("member");
  settings.client_cert_file = fixture.directory / "client-cert";
  settings.client_key_file = fixture.directory / "client-key";
  fixture.put("client", fixture.authority.issue({.common_name = "first"}));
  TlsClient client({.settings = settings});
  EXPECT_EQ(client.ask(address).body, "first");
  fixture.put("client", fixture.authority.issue({.common_name = "second"}));
  EXPECT_TRUE(wait_until([&] { return client.ask(address).body == "second"; }));
  write_file(settings.client_cert_file, "nonsense");
  EXPECT_EQ(client.ask(address).body, "second");  // what was read before stays
}

TEST(ClientTls, FilesThatCannotBeUsedAreTold) {
  const Fixture fixture;
  TlsSettings settings = fixture.settings("none");
  EXPECT_FALSE(TlsClientContext::open({.settings = settings}));
  settings = fixture.settings("member", "no-ca");
  EXPECT_FALSE(TlsClientContext::open({.settings = settings}));
  settings = fixture.settings("member");
  settings.key_file.clear();
  EXPECT_EQ(TlsClientContext::open({.settings = settings}).error().message.substr(0, 12), "KeyFile and ");
  settings = {};
  EXPECT_TRUE(TlsClientContext::open({.settings = settings}));  // nothing is shown
}

}  // namespace
}  // namespace cairn::net
