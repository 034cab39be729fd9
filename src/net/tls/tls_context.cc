#include "net/tls/tls_context.h"

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <utility>

#include <fmt/format.h>
#include <openssl/err.h>
#include <sys/stat.h>

#include "base/log.h"
#include "net/tls/names.h"
#include "net/tls/tls_transport.h"

namespace cairn::net {
namespace {

constexpr int64_t kLookNs = 1'000'000'000;
// Of 80 bits and more, as Go takes keys. Debian's own level refuses RSA keys of 1024 bits.
constexpr int kSecurityLevel = 1;
constexpr const char* kGroups = "X25519:P-256:P-384:P-521";
constexpr const char* kTls13Suites = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";
constexpr unsigned kVersionsExtension = 43;
constexpr size_t kSuitesShownMax = 100;

TlsTransport* transport_of(const SSL* ssl) { return static_cast<TlsTransport*>(SSL_get_app_data(ssl)); }

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

std::string time_text(const ASN1_TIME* time) {
  tm parts{};
  if (ASN1_TIME_to_tm(time, &parts) != 1) return "?";
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z", parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday,
                     parts.tm_hour, parts.tm_min, parts.tm_sec);
}

std::string verify_failure(X509_STORE_CTX* store) {
  const int error = X509_STORE_CTX_get_error(store);
  const X509* const certificate = X509_STORE_CTX_get_current_cert(store);
  switch (error) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
    case X509_V_ERR_CERT_NOT_YET_VALID: {
      if (certificate == nullptr) break;
      const bool is_over = error == X509_V_ERR_CERT_HAS_EXPIRED;
      ASN1_TIME* const now = X509_gmtime_adj(nullptr, 0);
      std::string text =
          fmt::format("x509: certificate has expired or is not yet valid: current time {} is {} {}", time_text(now),
                      is_over ? "after" : "before",
                      time_text(is_over ? X509_get0_notAfter(certificate) : X509_get0_notBefore(certificate)));
      ASN1_TIME_free(now);
      return text;
    }
    case X509_V_ERR_INVALID_PURPOSE: return "x509: certificate specifies an incompatible key usage";
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN: return "x509: certificate signed by unknown authority";
    default: break;
  }
  return fmt::format("x509: {}", X509_verify_cert_error_string(error));
}

// The chain, then the names that the client may have.
int verify(X509_STORE_CTX* store, void* argument) {
  const auto& settings = *static_cast<const TlsSettings*>(argument);
  const auto* const ssl =
      static_cast<const SSL*>(X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx()));
  if (X509_verify_cert(store) != 1) {
    transport_of(ssl)->note_failure("tls: failed to verify certificate: " + verify_failure(store));
    return 0;
  }
  if (settings.allowed_hostnames.empty()) return 1;
  const PeerCertificate certificate = describe(*X509_STORE_CTX_get0_cert(store));
  for (const std::string& allowed : settings.allowed_hostnames) {
    if (!hostname_mismatch(certificate, allowed)) return 1;
  }
  transport_of(ssl)->note_failure("client certificate authentication failed");
  X509_STORE_CTX_set_error(store, X509_V_ERR_CERT_REJECTED);
  return 0;
}

Status set_authorities(SSL_CTX& context, const std::string& path) {
  CAIRN_TRY(const std::string pem, read_whole_file(path));
  CAIRN_TRY(const std::vector<X509Ptr> authorities, parse_certificates(pem));
  StorePtr store(X509_STORE_new());
  // What is in the file is trusted, self-signed or not, as in Go.
  X509_STORE_set_flags(store.get(), X509_V_FLAG_PARTIAL_CHAIN);
  for (const X509Ptr& each : authorities) {
    X509_STORE_add_cert(store.get(), each.get());
    SSL_CTX_add_client_CA(&context, each.get());
  }
  SSL_CTX_set_cert_store(&context, store.release());
  return {};
}

int protocol_number(const std::string& version, int otherwise) {
  return version == "TLS1.2" ? TLS1_2_VERSION : version == "TLS1.3" ? TLS1_3_VERSION : otherwise;
}

Status set_versions_and_suites(SSL_CTX& context, const TlsSettings& settings) {
  const SuiteNames suites = openssl_suites(settings.cipher_suites);
  int least = protocol_number(settings.version_min, TLS1_2_VERSION);
  const int most = protocol_number(settings.version_max, TLS1_3_VERSION);
  if (suites.up_to_12.empty()) {
    // Only suites of TLS 1.3 are named: nothing is left for TLS 1.2, and OpenSSL takes no empty list.
    if (most < TLS1_3_VERSION) return fail(Code::kInvalidArgument, "tls: no usable cipher suite for TLS1.2");
    least = TLS1_3_VERSION;
  } else if (SSL_CTX_set_cipher_list(&context, suites.up_to_12.c_str()) != 1) {
    return fail(Code::kInvalidArgument, "tls: {}", openssl_error());
  }
  SSL_CTX_set_ciphersuites(&context, kTls13Suites);
  SSL_CTX_set1_groups_list(&context, kGroups);
  SSL_CTX_set_min_proto_version(&context, least);
  SSL_CTX_set_max_proto_version(&context, most);
  return {};
}

Status set_key_pair(SSL_CTX& context, const KeyPair& pair) {
  if (SSL_CTX_use_certificate(&context, pair.leaf.get()) != 1 ||
      SSL_CTX_use_PrivateKey(&context, pair.key.get()) != 1) {
    return fail(Code::kInvalidArgument, "tls: {}", openssl_error());
  }
  for (const X509Ptr& each : pair.chain) SSL_CTX_add1_chain_cert(&context, each.get());
  return {};
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
  SSL_CTX_set_security_level(context.get(), kSecurityLevel);
  SSL_CTX_set_options(context.get(), SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION |
                                         SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
  SSL_CTX_set_session_cache_mode(context.get(), SSL_SESS_CACHE_OFF);
  SSL_CTX_set_num_tickets(context.get(), 0);
  SSL_CTX_set_mode(context.get(),
                   SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_read_ahead(context.get(), 1);
  CAIRN_CHECK(set_versions_and_suites(*context, settings_));
  CAIRN_CHECK(set_key_pair(*context, pair));
  SSL_CTX_set_alpn_select_cb(context.get(), choose_protocol, nullptr);
  SSL_CTX_set_client_hello_cb(context.get(), note_offer, nullptr);
  if (settings_.wants_client_certificates()) {
    if (settings_.trusted_ca_file.empty()) {
      SSL_CTX_set_default_verify_paths(context.get());
    } else {
      CAIRN_CHECK(set_authorities(*context, settings_.trusted_ca_file));
    }
    SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
    SSL_CTX_set_cert_verify_callback(context.get(), verify, const_cast<TlsSettings*>(&settings_));
  }
  return context;
}

TlsContext::Stamp TlsContext::stamp_of(const std::string& path) {
  struct stat found{};
  if (path.empty() || ::stat(path.c_str(), &found) != 0) return {};
  const auto ns = [](const timespec& time) { return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec; };
  return {.device = found.st_dev,
          .inode = found.st_ino,
          .size = found.st_size,
          .modified_ns = ns(found.st_mtim),
          .changed_ns = ns(found.st_ctim)};
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
