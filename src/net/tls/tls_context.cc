#include "net/tls/tls_context.h"

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <utility>

#include <fmt/format.h>
#include <openssl/err.h>

#include "base/log.h"
#include "net/tls/context_parts.h"
#include "net/tls/tls_transport.h"

namespace cairn::net {
namespace {

constexpr int64_t kLookNs = 1'000'000'000;
constexpr unsigned kVersionsExtension = 43;
constexpr size_t kSuitesShownMax = 100;

// As Go: h2 whenever the client has it; a client that names nothing we speak is refused.
int choose_protocol(SSL* ssl, const unsigned char** chosen, unsigned char* chosen_length, const unsigned char* offered,
                    unsigned offered_length, void*) {
  const unsigned char* http1 = nullptr;
  std::string shown;
  for (unsigned at = 0; at < offered_length; at += 1u + offered[at]) {
    const std::string_view name(reinterpret_cast<const char*>(offered) + at + 1, offered[at]);
    if (name == "h2") {
      *chosen = offered + at + 1;
      *chosen_length = offered[at];
      return SSL_TLSEXT_ERR_OK;
    }
    if (name == "http/1.1") http1 = offered + at;
    shown.append(shown.empty() ? "\"" : " \"").append(name).append("\"");
  }
  if (http1 == nullptr) {
    transport_of(ssl)->note_failure(
        fmt::format("tls: client requested unsupported application protocols ([{}])", shown));
    return SSL_TLSEXT_ERR_ALERT_FATAL;
  }
  *chosen = http1 + 1;
  *chosen_length = *http1;
  return SSL_TLSEXT_ERR_OK;
}

// What the client speaks, for the log, should it be nothing of ours.
int note_offer(SSL* ssl, int*, void*) {
  const auto add = [](std::string& shown, unsigned number) {
    fmt::format_to(std::back_inserter(shown), "{}{:x}", shown.empty() ? "" : " ", number);
  };
  std::string versions;
  const unsigned char* list = nullptr;
  size_t length = 0;
  if (SSL_client_hello_get0_ext(ssl, kVersionsExtension, &list, &length) == 1 && length > 0) {
    for (size_t at = 1; at + 1 < length; at += 2) add(versions, list[at] * 256u + list[at + 1]);
  } else {
    unsigned version = SSL_client_hello_get0_legacy_version(ssl);
    for (version = std::min<unsigned>(version, TLS1_3_VERSION); version >= TLS1_VERSION; --version) {
      add(versions, version);
    }
  }
  std::string suites;
  length = SSL_client_hello_get0_ciphers(ssl, &list);
  length = std::min(length, kSuitesShownMax * 2);
  for (size_t at = 0; at + 1 < length; at += 2) add(suites, list[at] * 256u + list[at + 1]);
  transport_of(ssl)->note_offer(std::move(versions), std::move(suites));
  return SSL_CLIENT_HELLO_SUCCESS;
}

// The chain, then the names that the client may have.
int verify(X509_STORE_CTX* store, void* argument) {
  TlsTransport& transport = *transport_of(session_of(store));
  return verify_chain(store, transport) && verify_allowed(store, *static_cast<const TlsSettings*>(argument), transport);
}

}  // namespace

Result<std::unique_ptr<TlsContext>> TlsContext::open(TlsSettings settings) {
  CAIRN_CHECK(check_versions(settings));
  CAIRN_CHECK(check_cipher_suites(settings.cipher_suites));
  if (settings.cert_file.empty() || settings.key_file.empty()) {
    return fail(Code::kInvalidArgument, "KeyFile and CertFile must both be present[key: {}, cert: {}]",
                settings.key_file, settings.cert_file);
  }
  std::unique_ptr<TlsContext> out(new TlsContext(std::move(settings)));
  out->seen_ = out->stamps();
  CAIRN_TRY(out->context_, out->build());
  if (!out->settings_.crl_file.empty()) out->read_revoked();
  if (const SuiteNames suites = openssl_suites(out->settings_.cipher_suites); !suites.unknown.empty()) {
    log::warn("cipher suites that this build does not have are left out", {{"cipher-suites", suites.unknown}});
  }
  return out;
}

Result<SslContextPtr> TlsContext::build() const {
  CAIRN_TRY(const KeyPair pair, read_key_pair(settings_.cert_file, settings_.key_file));
  if (settings_.client_key_file.empty() != settings_.client_cert_file.empty()) {
    return fail(Code::kInvalidArgument,
                "ClientKeyFile and ClientCertFile must both be present or both absent: key: {}, cert: {}]",
                settings_.client_key_file, settings_.client_cert_file);
  }
  if (!settings_.client_cert_file.empty()) {
    CAIRN_CHECK(read_key_pair(settings_.client_cert_file, settings_.client_key_file));
  }
  SslContextPtr context(SSL_CTX_new(TLS_server_method()));
  if (context == nullptr) return fail(Code::kUnavailable, "tls: {}", openssl_error());
  SSL_CTX_set_options(context.get(), SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
  SSL_CTX_set_num_tickets(context.get(), 0);
  CAIRN_CHECK(prepare_context(*context, settings_));
  CAIRN_CHECK(set_key_pair(*context, pair));
  SSL_CTX_set_alpn_select_cb(context.get(), choose_protocol, nullptr);
  SSL_CTX_set_client_hello_cb(context.get(), note_offer, nullptr);
  if (settings_.wants_client_certificates()) {
    if (settings_.trusted_ca_file.empty()) {
      SSL_CTX_set_default_verify_paths(context.get());
    } else {
      CAIRN_TRY(const std::vector<X509Ptr> authorities, set_authorities(*context, settings_.trusted_ca_file));
      for (const X509Ptr& each : authorities) SSL_CTX_add_client_CA(context.get(), each.get());
    }
    SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
    SSL_CTX_set_cert_verify_callback(context.get(), verify, const_cast<TlsSettings*>(&settings_));
  }
  return context;
}

TlsContext::Stamps TlsContext::stamps() const {
  return {stamp_of(settings_.cert_file), stamp_of(settings_.key_file), stamp_of(settings_.trusted_ca_file)};
}

void TlsContext::look_again(int64_t now_ns) {
  if (now_ns - looked_ns_ < kLookNs) return;
  looked_ns_ = now_ns;
  if (const Stamps found = stamps(); found != seen_) {
    seen_ = found;
    if (auto built = build()) {
      context_ = *std::move(built);
      log::info("certificates were read again", {{"cert-file", settings_.cert_file},
                                                 {"key-file", settings_.key_file},
                                                 {"trusted-ca-file", settings_.trusted_ca_file}});
    } else {
      const bool is_missing = built.error().code == Code::kNotFound;
      log::warn(is_missing ? "failed to find peer cert files" : "failed to create peer certificate",
                {{"cert-file", settings_.cert_file},
                 {"key-file", settings_.key_file},
                 {"trusted-ca-file", settings_.trusted_ca_file},
                 {"error", built.error().message},
                 {"kept", "what was read before"}});
    }
  }
  if (!settings_.crl_file.empty() && stamp_of(settings_.crl_file) != revoked_seen_) read_revoked();
}

void TlsContext::read_revoked() {
  revoked_seen_ = stamp_of(settings_.crl_file);
  const auto bytes = read_whole_file(settings_.crl_file);
  auto serials = bytes ? parse_revoked(*bytes) : Result<Serials>(std::unexpected(bytes.error()));
  if (!serials) {
    log::warn("failed to read the list of revoked certificates",
              {{"client-crl-file", settings_.crl_file},
               {"error", serials.error().message},
               {"kept", revoked_ && *revoked_ ? "the list that was read before" : "no list: no certificate is taken"}});
    if (revoked_ && *revoked_) return;
  }
  revoked_ = std::move(serials);
}

SslPtr TlsContext::new_session() const { return SslPtr(SSL_new(context_.get())); }

Status TlsContext::admit(const std::vector<std::string>& serials) const {
  if (!revoked_ || serials.empty()) return {};
  if (!*revoked_) return std::unexpected(revoked_->error());
  for (const std::string& serial : serials) {
    if (!(*revoked_)->contains(serial)) continue;
    std::string shown;
    for (const char c : serial) fmt::format_to(std::back_inserter(shown), "{:02x}", static_cast<unsigned char>(c));
    return fail(Code::kPermissionDenied, "transport: certificate serial {} revoked", shown);
  }
  return {};
}

}  // namespace cairn::net
