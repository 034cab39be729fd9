// A server with TLS: both protocols, certificates of clients, files that change, handshakes that do not end.
#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <future>
#include <thread>

#include <poll.h>
#include <sys/un.h>

#include <gtest/gtest.h>

#include "net/listener.h"
#include "net/testing/certificates.h"
#include "net/testing/test_client.h"
#include "net/testing/test_server.h"
#include "net/testing/tls_client.h"
#include "net/tls/handshakes.h"
#include "net/tls/tls_context.h"
#include "testing/temp_dir.h"
#include "testing/wait.h"

namespace cairn::net {
namespace {

using cairn::testing::TempDir;
using cairn::testing::wait_until;

const std::string kHttp2 = "\x02h2";
const std::string kHttp1 = "\x08http/1.1";

struct Fixture {
  TempDir directory;
  Authority authority;
  Issued server = authority.issue();
  TlsSettings settings;

  Fixture() {
    write_file(directory / "cert", server.certificate_pem);
    write_file(directory / "key", server.key_pem);
    write_file(directory / "ca", authority.pem());
    settings.cert_file = directory / "cert";
    settings.key_file = directory / "key";
  }
  Fixture& asking_for_certificates() {
    settings.client_cert_auth = true;
    settings.trusted_ca_file = directory / "ca";
    return *this;
  }
};

// Tells over HTTP whether the request is secure and whose it is.
class TlsServer : public TestServer {
 public:
  explicit TlsServer(const TlsSettings& settings, const std::function<void(ServerOptions&)>& change = {})
      : TestServer(options(settings, change)) {
    http.on_request = [](const HttpRequest& request, EventLoop&, const HttpRespond& respond) {
      HttpResponse response;
      response.body = request.is_secure ? "secure" : "clear";
      if (request.peer_certificate != nullptr) response.body += " " + request.peer_certificate->common_name;
      respond(response);
    };
    router.add("/test.Svc/Whoami", [](LambdaHandler& handler, Call&) {
      handler.message = [](Call& call, std::string_view) {
        call.reply(call.peer_certificate() != nullptr ? call.peer_certificate()->common_name : "nobody");
      };
    });
  }

 private:
  static ServerOptions options(const TlsSettings& settings, const std::function<void(ServerOptions&)>& change) {
    auto context = TlsContext::open(settings);
    CAIRN_ASSERT(context.has_value());
    ServerOptions out;
    out.io_threads = 2;
    out.listen.push_back({.address = "127.0.0.1:0", .tls = {.context = *std::move(context)}});
    if (change) change(out);
    return out;
  }
};

std::string get(TlsClient& client) {
  client.send("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  const std::string answer = client.read_to_end();
  const size_t end = answer.find("\r\n\r\n");
  return end == std::string::npos ? client.ended() : answer.substr(end + 4);
}

TEST(ServerTls, ServesHttp1) {
  const Fixture fixture;
  TlsServer server(fixture.settings);
  const std::string address = server.start();
  for (const std::string& alpn : {std::string(), kHttp1}) {
    TlsClient client(address, {.alpn = alpn});
    ASSERT_EQ(client.shake_hands(), "");
    EXPECT_EQ(client.protocol(), alpn.empty() ? "" : "http/1.1");
    EXPECT_EQ(get(client), "secure");
    EXPECT_EQ(client.ended(), "close notify");
  }
}

TEST(ServerTls, ServesGrpc) {
  const Fixture fixture;
  TlsServer server(fixture.settings);
  const std::string address = server.start();
  for (const std::string& alpn : {std::string(), kHttp2, kHttp1 + kHttp2}) {
    for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
      TlsTunnel tunnel(address, {.alpn = alpn, .version_max = version});
      TestClient client(tunnel.address());
      EXPECT_EQ(client.unary("/test.Svc/Echo", "hello").messages(), std::vector<std::string>{"hello"});
      EXPECT_EQ(client.unary("/test.Svc/Whoami", "").messages(), std::vector<std::string>{"nobody"});
    }
  }
}

TEST(ServerTls, CarriesLongMessagesBothWays) {
  const Fixture fixture;
  TlsServer server(fixture.settings, [](ServerOptions& options) { options.max_request_message_bytes = 8 << 20; });
  TlsTunnel tunnel(server.start(), {.alpn = kHttp2});
  TestClient client(tunnel.address());
  for (const size_t bytes : {1u, 16'000u, 300'000u, 4'000'000u}) {
    const std::string message(bytes, 'x');
    const TestClient::Stream& stream = client.unary("/test.Svc/Echo", message);
    EXPECT_EQ(stream.code(), 0);
    EXPECT_TRUE(stream.messages() == std::vector<std::string>{message}) << bytes;
  }
}

// A client that does not read: its answers wait, and come whole when it reads.
TEST(ServerTls, WaitsForAClientThatDoesNotRead) {
  const Fixture fixture;
  TlsServer server(fixture.settings);
  server.http.on_request = [](const HttpRequest&, EventLoop&, const HttpRespond& respond) {
    respond({.body = std::string(8 << 20, 'x')});
  };
  TlsClient client(server.start());
  ASSERT_EQ(client.shake_hands(), "");
  client.send("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  settled(server.server(), [&] { return server.server().stats().socket_bytes_out; });
  const std::string answer = client.read_to_end();
  EXPECT_EQ(answer.size() - answer.find("\r\n\r\n") - 4, 8u << 20);
  EXPECT_EQ(client.ended(), "close notify");
}

// Each takes the server some arithmetic, and none asks for anything.
TEST(ServerTls, AClientThatOnlyRenewsItsKeysIsClosed) {
  const Fixture fixture;
  TlsServer server(fixture.settings);
  const std::string address = server.start();
  const auto renew = [](TlsClient& client, int times) {
    for (int i = 0; i < times; ++i) {
      if (SSL_key_update(&client.ssl(), SSL_KEY_UPDATE_NOT_REQUESTED) != 1) return;
      if (SSL_do_handshake(&client.ssl()) != 1) return;
    }
  };
  TlsClient usual(address);
  ASSERT_EQ(usual.shake_hands(), "");
  renew(usual, 10);
  EXPECT_EQ(get(usual), "secure");
  TlsClient hostile(address);
  ASSERT_EQ(hostile.shake_hands(), "");
  renew(hostile, 5'000);
  EXPECT_NE(get(hostile), "secure");
}

TEST(ServerTls, RefusesAnUnknownProtocol) {
  const Fixture fixture;
  TlsServer server(fixture.settings);
  TlsClient client(server.start(), {.alpn = "\x03"
                                            "foo"});
  EXPECT_EQ(client.shake_hands(), "tlsv1 alert no application protocol");
}

TEST(ServerTls, ClosesWhatIsNoTls) {
  const Fixture fixture;
  TlsServer server(fixture.settings);
  const std::string address = server.start();
  const int fd = connect_to(address);
  ::send(fd, "GET / HTTP/1.1\r\n\r\n", 18, MSG_NOSIGNAL);
  EXPECT_EQ(read_until(fd, [](const std::string&) { return false; }), "");
  ::close(fd);
  TlsClient bystander(address);
  ASSERT_EQ(bystander.shake_hands(), "");
  EXPECT_EQ(get(bystander), "secure");
}

TEST(ServerTls, TakesClearTextToo) {
  const Fixture fixture;
  TlsServer server(fixture.settings, [](ServerOptions& options) { options.listen.front().tls.takes_clear = true; });
  const std::string address = server.start();
  const int fd = connect_to(address);
  const std::string_view request = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
  ::send(fd, request.data(), request.size(), MSG_NOSIGNAL);
  EXPECT_TRUE(read_until(fd, [](const std::string&) { return false; }).ends_with("\r\n\r\nclear"));
  ::close(fd);
  EXPECT_EQ(TestClient(address).unary("/test.Svc/Echo", "x").code(), 0);
  TlsClient client(address);
  ASSERT_EQ(client.shake_hands(), "");
  EXPECT_EQ(get(client), "secure");
}

TEST(ServerTls, VersionsAndSuitesAreThoseAskedFor) {
  Fixture fixture;
  fixture.settings.version_min = "TLS1.3";
  {
    TlsServer server(fixture.settings);
    const std::string address = server.start();
    EXPECT_EQ(TlsClient(address, {.version_max = TLS1_2_VERSION}).shake_hands(), "tlsv1 alert protocol version");
    EXPECT_EQ(TlsClient(address).shake_hands(), "");
  }
  fixture.settings.version_min = "TLS1.2";
  fixture.settings.version_max = "TLS1.2";
  fixture.settings.cipher_suites = {"TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"};
  TlsServer server(fixture.settings);
  const std::string address = server.start();
  TlsClient client(address);
  ASSERT_EQ(client.shake_hands(), "");
  EXPECT_STREQ(SSL_get_cipher_name(&client.ssl()), "ECDHE-ECDSA-AES256-GCM-SHA384");
  EXPECT_STREQ(SSL_get_version(&client.ssl()), "TLSv1.2");
  EXPECT_EQ(TlsClient(address, {.suites_up_to_12 = "ECDHE-ECDSA-AES128-GCM-SHA256"}).shake_hands(),
            "sslv3 alert handshake failure");
  EXPECT_EQ(TlsClient(address, {.version_max = TLS1_1_VERSION}).shake_hands(), "tlsv1 alert protocol version");
}

TEST(ServerTls, KnowsItsClientsByTheirCertificates) {
  Fixture fixture;
  TlsServer server(fixture.asking_for_certificates().settings);
  const std::string address = server.start();
  const Issued alice = fixture.authority.issue({.common_name = "alice"});
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    TlsClient client(address, {.certificate = alice, .version_max = version});
    ASSERT_EQ(client.shake_hands(), "");
    EXPECT_EQ(get(client), "secure alice");
    TlsTunnel tunnel(address, {.certificate = alice, .alpn = kHttp2, .version_max = version});
    EXPECT_EQ(TestClient(tunnel.address()).unary("/test.Svc/Whoami", "").messages(), std::vector<std::string>{"alice"});
  }
}

// What the client hears at the end of a TLS 1.3 handshake, or of a request after it.
std::string outcome(const std::string& address, const Issued& certificate) {
  TlsClient client(address, {.certificate = certificate});
  const std::string failure = client.shake_hands();
  return failure.empty() ? get(client) : failure;
}

TEST(ServerTls, RefusesClientsWithoutAGoodCertificate) {
  Fixture fixture;
  TlsServer server(fixture.asking_for_certificates().settings);
  const std::string address = server.start();
  EXPECT_EQ(outcome(address, {}), "tlsv13 alert certificate required");
  EXPECT_EQ(outcome(address, Authority("another").issue()), "tlsv1 alert unknown ca");
  EXPECT_EQ(outcome(address, fixture.authority.issue({.days_from = -10, .days_to = -5})),
            "sslv3 alert certificate expired");
  EXPECT_EQ(outcome(address, fixture.authority.issue({.usage = "serverAuth"})), "sslv3 alert unsupported certificate");
  EXPECT_EQ(outcome(address, fixture.authority.issue({.usage = ""})), "secure ");
}

TEST(ServerTls, OnlyAllowedNamesEnter) {
  Fixture fixture;
  fixture.settings.allowed_hostnames = {"other", "good.example"};
  TlsServer server(fixture.asking_for_certificates().settings);
  const std::string address = server.start();
  EXPECT_EQ(outcome(address, fixture.authority.issue({.names = "DNS:*.example"})), "secure ");
  EXPECT_EQ(outcome(address, fixture.authority.issue({.names = "DNS:bad.example"})), "sslv3 alert bad certificate");
  EXPECT_EQ(outcome(address, fixture.authority.issue({.common_name = "good.example", .names = ""})),
            "sslv3 alert bad certificate");
}

// Handshakes until one comes out as it should: a changed file is noticed within a second or two.
bool comes_to(const std::string& wanted, const std::function<std::string()>& ask) {
  return wait_until([&] { return ask() == wanted; });
}

TEST(ServerTls, RevokedCertificatesAreRefusedAsSoonAsTheListSaysSo) {
  Fixture fixture;
  fixture.settings.crl_file = fixture.directory / "crl";
  TlsServer server(fixture.asking_for_certificates().settings);
  const std::string address = server.start();
  const Issued one = fixture.authority.issue();
  const Issued other = fixture.authority.issue();
  const auto ask = [&](const Issued& who) { return outcome(address, who); };
  EXPECT_EQ(ask(one), "close notify");  // there is no list yet: nobody can be checked
  write_file(fixture.settings.crl_file, fixture.authority.revoked_list({other.serial}));
  EXPECT_TRUE(comes_to("secure ", [&] { return ask(one); }));
  EXPECT_EQ(ask(other), "close notify");
  write_file(fixture.settings.crl_file, fixture.authority.revoked_list({one.serial, other.serial}));
  EXPECT_TRUE(comes_to("close notify", [&] { return ask(one); }));
}

TEST(ServerTls, CertificatesAreReadAgain) {
  Fixture fixture;
  TlsServer server(fixture.settings);
  const std::string address = server.start();
  const auto serial = [&] {
    TlsClient client(address);
    EXPECT_EQ(client.shake_hands(), "");
    return client.server_serial();
  };
  const std::string first = serial();
  TlsTunnel tunnel(address, {.alpn = kHttp2});
  TestClient bystander(tunnel.address());
  EXPECT_EQ(bystander.unary("/test.Svc/Echo", "x").code(), 0);

  const Issued next = fixture.authority.issue();
  write_file(fixture.settings.cert_file, next.certificate_pem);  // without its key: of no use yet
  write_file(fixture.settings.key_file, next.key_pem);
  EXPECT_TRUE(wait_until([&] { return serial() != first; }));
  const std::string second = serial();
  EXPECT_EQ(bystander.unary("/test.Svc/Echo", "x").code(), 0);
}

// A context is asked as Handshakes does, with the time in the test's hand.
TEST(TlsContext, KeepsWhatItHasWhenANewFileIsBroken) {
  Fixture fixture;
  const auto context = *TlsContext::open(fixture.settings);
  const auto serial = [&] {
    const SslPtr session = context->new_session();
    return serial_of(*SSL_get_certificate(session.get()));
  };
  const std::string first = serial();
  write_file(fixture.settings.cert_file, "broken");
  const int64_t now_ns = 10'000'000'000;
  context->look_again(now_ns);
  EXPECT_EQ(serial(), first);
  const Issued next = fixture.authority.issue();
  write_file(fixture.settings.cert_file, next.certificate_pem);
  write_file(fixture.settings.key_file, next.key_pem);
  context->look_again(now_ns + 999'999'999);  // too soon
  EXPECT_EQ(serial(), first);
  context->look_again(now_ns + 1'000'000'000);
  EXPECT_NE(serial(), first);
}

TEST(ServerTls, DoesNotRenegotiate) {
  const Fixture fixture;
  TlsServer server(fixture.settings);
  TlsClient client(server.start(), {.version_max = TLS1_2_VERSION});
  ASSERT_EQ(client.shake_hands(), "");
  SSL_renegotiate(&client.ssl());
  EXPECT_NE(SSL_do_handshake(&client.ssl()), 1);
}

TEST(ServerTls, StopsWithOpenHandshakes) {
  const Fixture fixture;
  auto server = std::make_unique<TlsServer>(fixture.settings);
  const std::string address = server->start();
  const int silent = connect_to(address);
  const int half = connect_to(address);
  ::send(half, "\x16\x03\x01", 3, MSG_NOSIGNAL);
  TlsTunnel tunnel(address, {.alpn = kHttp2});
  TestClient client(tunnel.address());
  EXPECT_EQ(client.unary("/test.Svc/Echo", "x").code(), 0);
  // The client is told to go, and goes.
  std::thread stopper([&] { server->stop(600'000'000'000); });
  EXPECT_TRUE(client.pump_until([&] { return client.ended(); }));
  stopper.join();
  server.reset();
  ::close(silent);
  ::close(half);
}

TEST(ServerTls, RefusalsAreToldOverTls) {
  const Fixture fixture;
  TlsServer server(fixture.settings, [](ServerOptions& options) { options.connections_max = 1; });
  const std::string address = server.start();
  TlsClient first(address);
  ASSERT_EQ(first.shake_hands(), "");
  TlsClient second(address);
  ASSERT_EQ(second.shake_hands(), "");
  EXPECT_EQ(get(second), "too many connections\n");
}

TEST(ServerUnix, ServesOverASocketFileAndTakesItAway) {
  const TempDir directory;
  ServerOptions options;
  options.listen.push_back({.address = directory / "socket", .is_unix = true});
  TestServer server(options);
  std::string peer;
  server.http.on_request = [](const HttpRequest&, EventLoop&, const HttpRespond& respond) {
    respond({.body = "here"});
  };
  std::ofstream(directory / "socket") << "left behind";
  server.start();
  const int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
  (directory / "socket").copy(address.sun_path, sizeof address.sun_path - 1);
  ASSERT_EQ(::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  const std::string_view request = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
  ::send(fd, request.data(), request.size(), MSG_NOSIGNAL);
  EXPECT_TRUE(read_until(fd, [](const std::string&) { return false; }).ends_with("here"));
  ::close(fd);
  server.stop();
  EXPECT_FALSE(std::filesystem::exists(directory / "socket"));
}

// Handshakes by themselves, with times of a test.
struct LoneHandshakes {
  Fixture fixture;
  TlsListen listen;
  std::atomic<int> done{0};
  std::unique_ptr<Handshakes> handshakes;

  explicit LoneHandshakes(Handshakes::Options options) {
    fixture.asking_for_certificates();
    listen.context = *TlsContext::open(fixture.settings);
    handshakes = std::make_unique<Handshakes>(0, std::move(options));
    handshakes->start();
  }
  // The client's end.
  int begin() {
    int ends[2];
    CAIRN_ASSERT(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) == 0);
    handshakes->begin(ends[0], listen, nullptr, [this](int fd, std::unique_ptr<Transport>, const Seat&) {
      ::close(fd);
      ++done;
    });
    return ends[1];
  }
  // As begin(), for a client that is at 127.0.0.1.
  void accept_from(int listener) {
    pollfd waits{.fd = listener, .events = POLLIN, .revents = 0};
    CAIRN_ASSERT(::poll(&waits, 1, -1) == 1);
    const int fd = ::accept4(listener, nullptr, nullptr, SOCK_NONBLOCK);
    CAIRN_ASSERT(fd >= 0);
    handshakes->begin(fd, listen, nullptr, [this](int own, std::unique_ptr<Transport>, const Seat&) {
      ::close(own);
      ++done;
    });
  }
  static bool is_closed(int fd) {
    return !read_until(fd, [](const std::string& got) { return !got.empty(); }).empty() || is_at_end(fd);
  }
  static bool is_at_end(int fd) {
    char byte = 0;
    return ::recv(fd, &byte, 1, MSG_DONTWAIT) == 0;
  }
};

TEST(Handshakes, AreGivenUpInTime) {
  LoneHandshakes lone({.timeout_ns = 20'000'000});
  const int silent = lone.begin();
  const int half = lone.begin();
  ::send(half, "\x16\x03\x01\x02", 4, MSG_NOSIGNAL);
  EXPECT_TRUE(wait_until([&] { return LoneHandshakes::is_at_end(silent); }));
  EXPECT_TRUE(wait_until([&] { return LoneHandshakes::is_at_end(half); }));
  EXPECT_EQ(lone.done, 0);
  ::close(silent);
  ::close(half);
}

TEST(Handshakes, OfManyTheOldestGoes) {
  LoneHandshakes lone({.timeout_ns = 600'000'000'000, .open_max = 2});
  const int first = lone.begin();
  const int second = lone.begin();
  EXPECT_FALSE(LoneHandshakes::is_at_end(first));
  const int third = lone.begin();
  EXPECT_TRUE(wait_until([&] { return LoneHandshakes::is_at_end(first); }));
  EXPECT_FALSE(LoneHandshakes::is_at_end(second));
  for (const int fd : {first, second, third}) ::close(fd);
}

TEST(Handshakes, OfOthersGoOnWhileDnsIsSilentAboutAName) {
  std::promise<void> answers;
  std::atomic<int> asked{0};
  NameLookup lookup;
  lookup.names_of = [](const std::string&, std::vector<std::string>&) { return std::string(); };
  lookup.addresses_of = [&, answered = answers.get_future().share()](const std::string& name,
                                                                     std::vector<std::string>& ips) {
    if (name == "silent.example") {
      ++asked;
      answered.wait();
    }
    ips = {"127.0.0.1"};
    return std::string();
  };
  LoneHandshakes lone({.timeout_ns = 600'000'000'000, .lookup = lookup});
  lone.listen.checks_remote = true;
  const auto listener = listen_on("127.0.0.1:0", {});
  ASSERT_TRUE(listener.has_value());
  std::vector<std::unique_ptr<TlsClient>> clients;
  const auto come = [&](const std::string& names) {
    const TlsClientOptions options{.certificate = lone.fixture.authority.issue({.names = names})};
    clients.push_back(std::make_unique<TlsClient>(listener->address, options));
    lone.accept_from(listener->fd);
    EXPECT_EQ(clients.back()->shake_hands(), "");
  };
  for (int i = 0; i < 20; ++i) come("DNS:silent.example");
  come("DNS:known.example");
  come("IP:127.0.0.1,DNS:silent.example");
  EXPECT_TRUE(wait_until([&] { return lone.done == 2; }));
  answers.set_value();
  EXPECT_TRUE(wait_until([&] { return lone.done == 22; }));
  EXPECT_LE(asked, 2) << "who asks the same shares the answer";
  ::close(listener->fd);
}

}  // namespace
}  // namespace cairn::net
