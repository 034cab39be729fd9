#include "net/tls/context_parts.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include "net/tls/names.h"
#include "net/tls/tls_transport.h"

namespace cairn::net {
namespace {

// Of 80 bits and more, as Go takes keys. Debian's own level refuses RSA keys of 1024 bits.
constexpr int kSecurityLevel = 1;
constexpr const char* kGroups = "X25519:P-256:P-384:P-521";
constexpr const char* kTls13Suites = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";

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

}  // namespace

TlsTransport* transport_of(const SSL* session) { return static_cast<TlsTransport*>(SSL_get_app_data(session)); }

const SSL* session_of(X509_STORE_CTX* store) {
  return static_cast<const SSL*>(X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx()));
}

bool verify_chain(X509_STORE_CTX* store, TlsTransport& transport) {
  if (X509_verify_cert(store) == 1) return true;
  transport.note_failure("tls: failed to verify certificate: " + verify_failure(store));
  return false;
}

bool verify_allowed(X509_STORE_CTX* store, const TlsSettings& settings, TlsTransport& transport) {
  if (settings.allowed_hostnames.empty() && settings.allowed_common_names.empty()) return true;
  const PeerCertificate certificate = describe(*X509_STORE_CTX_get0_cert(store));
  for (const std::string& allowed : settings.allowed_common_names) {
    if (certificate.common_name == allowed) return true;
  }
  for (const std::string& allowed : settings.allowed_hostnames) {
    if (!hostname_mismatch(certificate, allowed)) return true;
  }
  transport.note_failure("client certificate authentication failed");
  X509_STORE_CTX_set_error(store, X509_V_ERR_CERT_REJECTED);
  return false;
}

Result<std::vector<X509Ptr>> set_authorities(SSL_CTX& context, const std::string& path) {
  CAIRN_TRY(const std::string pem, read_whole_file(path));
  CAIRN_TRY(std::vector<X509Ptr> authorities, parse_certificates(pem));
  StorePtr store(X509_STORE_new());
  // What is in the file is trusted, self-signed or not, as in Go.
  X509_STORE_set_flags(store.get(), X509_V_FLAG_PARTIAL_CHAIN);
  for (const X509Ptr& each : authorities) X509_STORE_add_cert(store.get(), each.get());
  SSL_CTX_set_cert_store(&context, store.release());
  return authorities;
}

Status prepare_context(SSL_CTX& context, const TlsSettings& settings) {
  SSL_CTX_set_security_level(&context, kSecurityLevel);
  SSL_CTX_set_options(&context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION);
  SSL_CTX_set_session_cache_mode(&context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_mode(&context,
                   SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_read_ahead(&context, 1);
  return set_versions_and_suites(context, settings);
}

Status set_key_pair(SSL_CTX& context, const KeyPair& pair) {
  if (SSL_CTX_use_certificate(&context, pair.leaf.get()) != 1 ||
      SSL_CTX_use_PrivateKey(&context, pair.key.get()) != 1) {
    return fail(Code::kInvalidArgument, "tls: {}", openssl_error());
  }
  for (const X509Ptr& each : pair.chain) SSL_CTX_add1_chain_cert(&context, each.get());
  return {};
}

FileStamp stamp_of(const std::string& path) {
  struct stat found{};
  if (path.empty() || ::stat(path.c_str(), &found) != 0) return {};
  const auto ns = [](const timespec& time) { return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec; };
  return {.device = found.st_dev,
          .inode = found.st_ino,
          .size = found.st_size,
          .modified_ns = ns(found.st_mtim),
          .changed_ns = ns(found.st_ctim)};
}

}  // namespace cairn::net
