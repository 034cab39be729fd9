#include "cmd/server/listeners.h"

#include <algorithm>
#include <memory>
#include <utility>

#include <arpa/inet.h>
#include <netinet/in.h>

#include "base/log.h"
#include "cmd/server/flag_values.h"
#include "net/tls/credentials.h"
#include "net/tls/self_signed.h"
#include "net/tls/tls_context.h"

namespace cairn::cmd {
namespace {

std::string address_of(const cluster::Url& url) { return url.is_unix() ? url.socket_path() : url.address; }

std::string tls_info(const net::TlsSettings& tls) {
  return fmt::format(
      "cert = {}, key = {}, client-cert={}, client-key={}, trusted-ca = {}, client-cert-auth = {}, crl-file = {}",
      tls.cert_file, tls.key_file, tls.client_cert_file, tls.client_key_file, tls.trusted_ca_file, tls.client_cert_auth,
      tls.crl_file);
}

// Certificates for --auto-tls, made where there are none yet.
Result<net::TlsSettings> settings_of_clients(const Config& config) {
  net::TlsSettings tls = config.client_tls;
  if (!config.auto_tls) return tls;
  if (!tls.empty()) {
    log::warn("ignoring client auto TLS since certs given");
    return tls;
  }
  std::vector<std::string> hosts;
  for (const auto* urls : {&config.listen_client_urls, &config.listen_client_http_urls}) {
    for (const cluster::Url& url : *urls) hosts.push_back(url.host);
  }
  CAIRN_TRY(const net::SelfSigned made,
            net::self_signed(config.data_dir + "/fixtures/client", hosts, config.self_signed_cert_validity));
  tls.cert_file = tls.client_cert_file = made.cert_file;
  tls.key_file = tls.client_key_file = made.key_file;
  // compat: etcd forgets --client-cert-auth, --trusted-ca-file and the like beside --auto-tls. They protect.
  return tls;
}

void warn_of_clear_urls(const std::vector<cluster::Url>& urls, const net::TlsSettings& tls) {
  for (const cluster::Url& url : urls) {
    if (url.is_tls()) continue;
    if (!tls.empty()) {
      log::warn("scheme is http or unix while key and cert files are present; ignoring key and cert files",
                {{"client-url", url.text}});
    }
    if (tls.client_cert_auth) {
      log::warn("scheme is http or unix while --client-cert-auth is enabled; ignoring client cert auth for this URL",
                {{"client-url", url.text}});
    }
  }
}

// An IP address, and neither every one of the machine nor one that only the machine itself can reach.
bool is_specific_ip(const std::string& host) {
  in_addr v4{};
  if (::inet_pton(AF_INET, host.c_str(), &v4) == 1) {
    const uint32_t address = ntohl(v4.s_addr);
    return address != INADDR_ANY && address >> IN_CLASSA_NSHIFT != IN_LOOPBACKNET;
  }
  in6_addr v6{};
  return ::inet_pton(AF_INET6, host.c_str(), &v6) == 1 && !IN6_IS_ADDR_UNSPECIFIED(&v6) && !IN6_IS_ADDR_LOOPBACK(&v6);
}

// Collects the listeners of clients. A URL whose address is there already joins it.
class Listeners {
 public:
  Listeners(const Config& config, std::shared_ptr<net::TlsContext> context, bool http_is_apart)
      : config_(config), context_(std::move(context)), http_is_apart_(http_is_apart) {}

  Status add(const cluster::Url& url, bool is_http) {
    const std::string address = address_of(url);
    const auto at = std::ranges::find(out_, address, &net::Listen::address);
    if (at == out_.end()) {
      out_.push_back({.address = address,
                      .is_unix = url.is_unix(),
                      .grpc = !is_http,
                      .http = is_http || !http_is_apart_,
                      .tls = {.context = url.is_tls() ? context_ : nullptr},
                      .reuse_port = config_.socket_reuse_port});
      return {};
    }
    if (is_http && at->grpc) {
      return fail(Code::kInvalidArgument,
                  "cannot bind both --listen-client-urls and --listen-client-http-urls on the same url {}", url.text);
    }
    if (url.is_tls() != (at->tls.context != nullptr)) at->tls = {.context = context_, .takes_clear = true};
    return {};
  }

  [[nodiscard]] std::vector<net::Listen> take() { return std::move(out_); }

 private:
  const Config& config_;
  const std::shared_ptr<net::TlsContext> context_;
  const bool http_is_apart_;
  std::vector<net::Listen> out_;
};

Status check_certificates_are_there(const Config& config, const net::TlsSettings& tls) {
  if (!tls.empty()) return {};
  for (const auto* urls : {&config.listen_client_urls, &config.listen_client_http_urls}) {
    for (const cluster::Url& url : *urls) {
      if (!url.is_tls()) continue;
      return fail(Code::kInvalidArgument,
                  "TLS key/cert (--cert-file, --key-file) must be provided for client url {} with HTTPS scheme",
                  url.text);
    }
  }
  if (std::ranges::any_of(config.listen_metrics_urls, &cluster::Url::is_tls)) {
    return fail(Code::kInvalidArgument,
                "client TLS key/cert (--cert-file, --key-file) must be provided for metrics secure url");
  }
  return {};
}

}  // namespace

Result<std::vector<net::Listen>> client_listeners(const Config& config) {
  CAIRN_TRY(const net::TlsSettings tls, settings_of_clients(config));
  warn_of_clear_urls(config.listen_client_urls, tls);
  warn_of_clear_urls(config.listen_client_http_urls, tls);
  CAIRN_CHECK(check_certificates_are_there(config, tls));
  // Files that no URL asks for are not read, as in etcd.
  std::shared_ptr<net::TlsContext> context;
  const auto are_any_tls = [](const std::vector<cluster::Url>& urls) {
    return std::ranges::any_of(urls, &cluster::Url::is_tls);
  };
  if (are_any_tls(config.listen_client_urls) || are_any_tls(config.listen_client_http_urls) ||
      are_any_tls(config.listen_metrics_urls)) {
    CAIRN_TRY(context, net::TlsContext::open(tls));
    CAIRN_CHECK(net::check_http2_suites(tls));
  }
  if (!tls.empty()) {
    log::info("starting with client TLS", {{"tls-info", tls_info(tls)}, {"cipher-suites", tls.cipher_suites}});
  }
  const bool http_is_apart = !config.listen_client_http_urls.empty();
  Listeners listeners(config, context, http_is_apart);
  for (const cluster::Url& url : config.listen_client_urls) CAIRN_CHECK(listeners.add(url, false));
  for (const cluster::Url& url : config.listen_client_http_urls) CAIRN_CHECK(listeners.add(url, true));
  std::vector<net::Listen> out = listeners.take();
  for (const cluster::Url& url : config.listen_metrics_urls) {
    out.push_back({.address = address_of(url),
                   .is_unix = url.is_unix(),
                   .grpc = false,
                   .tls = {.context = url.is_tls() ? context : nullptr, .checks_remote = true},
                   .reuse_port = config.socket_reuse_port});
  }
  return out;
}

namespace {

std::string go_list(const std::vector<std::string>& texts) {
  std::string out;
  for (const std::string& text : texts) out += fmt::format("{}\"{}\"", out.empty() ? "" : " ", text);
  return "[" + out + "]";
}

// As etcd looks at them before it listens.
Result<std::shared_ptr<net::TlsContext>> peer_context(const net::TlsSettings& tls) {
  if (!tls.allowed_common_names.empty() && !tls.allowed_hostnames.empty()) {
    return fail(Code::kInvalidArgument, "AllowedCNs and AllowedHostnames are mutually exclusive (cns={}, hostnames={})",
                go_list(tls.allowed_common_names), go_list(tls.allowed_hostnames));
  }
  return net::TlsContext::open(tls);
}

}  // namespace

std::string peer_local_ip(const Config& config) {
  if (!gate_is_on(config.feature_gates, "SetMemberLocalAddr")) return "";
  const auto& urls = config.initial_advertise_peer_urls;
  std::vector<std::string> advertised;
  for (const cluster::Url& url : urls) advertised.push_back(url.text);
  log::info("searching for a suitable member local address in AdvertisePeerURLs",
            {{"advertise-peer-urls", advertised}});
  for (const cluster::Url& url : urls) {
    if (url.is_unix() || !is_specific_ip(url.host)) continue;
    log::info("setting member local address", {{"LocalAddr", url.host}});
    return url.host;
  }
  log::warn("unable to set a member local address due to lack of suitable local addresses",
            {{"advertise-peer-urls", advertised}});
  return "";
}

Result<PeerTls> settings_of_peers(const Config& config) {
  PeerTls out{.settings = config.peer_tls};
  net::TlsSettings& tls = out.settings;
  tls.allowed_common_names = config.peer_cert_allowed_cn;
  if (!config.peer_auto_tls) return out;
  if (!tls.empty()) {
    log::warn("ignoring peer auto TLS since certs given");
    return out;
  }
  std::vector<std::string> hosts;
  for (const cluster::Url& url : config.listen_peer_urls) hosts.push_back(url.host);
  CAIRN_TRY(const net::SelfSigned made,
            net::self_signed(config.data_dir + "/fixtures/peer", hosts, config.self_signed_cert_validity));
  // What was said of certificates is forgotten: nobody could have vouched for those that each member makes for itself.
  tls = {.cert_file = made.cert_file,
         .key_file = made.key_file,
         .client_cert_file = made.cert_file,
         .client_key_file = made.key_file,
         .cipher_suites = std::move(tls.cipher_suites),
         .version_min = std::move(tls.version_min),
         .version_max = std::move(tls.version_max)};
  out.is_made = true;
  return out;
}

Result<std::vector<net::Listen>> peer_listeners(const Config& config, const PeerTls& peer_tls) {
  const net::TlsSettings& tls = peer_tls.settings;
  if (!tls.empty()) {
    log::info("starting with peer TLS", {{"tls-info", tls_info(tls)}, {"cipher-suites", tls.cipher_suites}});
  }
  std::vector<net::Listen> out;
  std::shared_ptr<net::TlsContext> context;
  for (const cluster::Url& url : config.listen_peer_urls) {
    net::Listen listen{
        .address = address_of(url), .is_unix = url.is_unix(), .grpc = false, .reuse_port = config.socket_reuse_port};
    if (url.is_tls()) {
      if (tls.empty()) {
        return fail(Code::kInvalidArgument, "cannot listen on TLS for {}: KeyFile and CertFile are not presented",
                    url.address);
      }
      if (context == nullptr) {
        CAIRN_TRY(context, peer_context(tls));
      }
      listen.tls = {
          .context = context, .is_for_peers = true, .checks_remote = !config.peer_skip_client_san_verification};
    } else if (url.scheme == "http") {
      if (!tls.empty()) {
        log::warn("scheme is HTTP while key and cert files are present; ignoring key and cert files",
                  {{"peer-url", url.text}});
      }
      if (tls.client_cert_auth) {
        log::warn("scheme is HTTP while --peer-client-cert-auth is enabled; ignoring client cert auth for this URL",
                  {{"peer-url", url.text}});
      }
    }
    out.push_back(std::move(listen));
  }
  return out;
}

Result<std::unique_ptr<net::TlsClientContext>> peer_client_context(const PeerTls& tls) {
  if (!tls.settings.empty()) CAIRN_CHECK(peer_context(tls.settings));
  return net::TlsClientContext::open({.settings = tls.settings, .trusts_all = tls.is_made});
}

void log_serving(const Config& config, const std::vector<net::Listen>& listeners) {
  const size_t clients = listeners.size() - config.listen_metrics_urls.size();
  for (size_t i = 0; i < clients; ++i) {
    const net::Listen& each = listeners[i];
    const std::string traffic = each.grpc ? (each.http ? "grpc+http" : "grpc") : "http";
    if (each.tls.context == nullptr || each.tls.takes_clear) {
      log::info("serving client traffic insecurely; this is strongly discouraged!",
                {{"traffic", traffic}, {"address", each.address}});
    }
    if (each.tls.context != nullptr) {
      log::info("serving client traffic securely", {{"traffic", traffic}, {"address", each.address}});
    }
  }
  for (const cluster::Url& url : config.listen_metrics_urls) log::info("serving metrics", {{"address", url.text}});
}

}  // namespace cairn::cmd
