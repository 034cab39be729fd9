#include "net/tls/tls_client_context.h"

#include <utility>

#include "base/log.h"
#include "net/tls/names.h"

namespace cairn::net {
namespace {

constexpr int64_t kLookNs = 1'000'000'000;

// The chain, the host that was dialled, and the names that the server may have.
int verify(X509_STORE_CTX* store, void* argument) {
  TlsTransport& transport = *transport_of(session_of(store));
  if (!verify_chain(store, transport)) return 0;
  const PeerCertificate certificate = describe(*X509_STORE_CTX_get0_cert(store));
  if (const auto mismatch = hostname_mismatch(certificate, transport.server_host())) {
    transport.note_failure("tls: failed to verify certificate: " + *mismatch);
    X509_STORE_CTX_set_error(store, X509_V_ERR_HOSTNAME_MISMATCH);
    return 0;
  }
  return verify_allowed(store, *static_cast<const TlsSettings*>(argument), transport) ? 1 : 0;
}

}  // namespace

Result<std::unique_ptr<TlsClientContext>> TlsClientContext::open(Options options) {
  CAIRN_CHECK(check_versions(options.settings));
  CAIRN_CHECK(check_cipher_suites(options.settings.cipher_suites));
  std::unique_ptr<TlsClientContext> out(new TlsClientContext(std::move(options)));
  const TlsSettings& settings = out->options_.settings;
  if (settings.cert_file.empty() != settings.key_file.empty()) {
    return fail(Code::kInvalidArgument, "KeyFile and CertFile must both be present[key: {}, cert: {}]",
                settings.key_file, settings.cert_file);
  }
  if (settings.client_key_file.empty() != settings.client_cert_file.empty()) {
    return fail(Code::kInvalidArgument,
                "ClientKeyFile and ClientCertFile must both be present or both absent: key: {}, cert: {}]",
                settings.client_key_file, settings.client_cert_file);
  }
  out->context_.reset(SSL_CTX_new(TLS_client_method()));
  if (out->context_ == nullptr) return fail(Code::kUnavailable, "tls: {}", openssl_error());
  SSL_CTX& context = *out->context_;
  CAIRN_CHECK(prepare_context(context, settings));
  if (!settings.trusted_ca_file.empty()) {
    CAIRN_CHECK(set_authorities(context, settings.trusted_ca_file));
  } else {
    out->lacks_authorities_ = !out->options_.trusts_all;
  }
  if (out->options_.trusts_all) {
    SSL_CTX_set_verify(&context, SSL_VERIFY_NONE, nullptr);
  } else {
    SSL_CTX_set_verify(&context, SSL_VERIFY_PEER, nullptr);
    SSL_CTX_set_cert_verify_callback(&context, verify, const_cast<TlsSettings*>(&settings));
  }
  out->seen_ = out->stamps();
  if (!out->cert_file().empty()) CAIRN_CHECK(out->show_certificate());
  return out;
}

const std::string& TlsClientContext::cert_file() const {
  const TlsSettings& settings = options_.settings;
  return settings.client_cert_file.empty() ? settings.cert_file : settings.client_cert_file;
}

const std::string& TlsClientContext::key_file() const {
  const TlsSettings& settings = options_.settings;
  return settings.client_cert_file.empty() ? settings.key_file : settings.client_key_file;
}

Status TlsClientContext::show_certificate() const {
  CAIRN_TRY(const KeyPair pair, read_key_pair(cert_file(), key_file()));
  SSL_CTX_clear_chain_certs(context_.get());
  return set_key_pair(*context_, pair);
}

void TlsClientContext::look_again(int64_t now_ns) {
  if (cert_file().empty() || now_ns - looked_ns_ < kLookNs) return;
  looked_ns_ = now_ns;
  const Stamps found = stamps();
  if (found == seen_) return;
  seen_ = found;
  const Status shown = show_certificate();
  if (shown) {
    log::info("certificates were read again", {{"cert-file", cert_file()}, {"key-file", key_file()}});
    return;
  }
  const bool is_missing = shown.error().code == Code::kNotFound;
  log::warn(is_missing ? "failed to find client cert files" : "failed to create client certificate",
            {{"cert-file", cert_file()},
             {"key-file", key_file()},
             {"error", shown.error().message},
             {"kept", "what was read before"}});
}

std::unique_ptr<TlsTransport> TlsClientContext::new_transport(int fd, std::string server_host) const {
  if (std::exchange(lacks_authorities_, false)) SSL_CTX_set_default_verify_paths(context_.get());
  return TlsTransport::of_client(fd, SslPtr(SSL_new(context_.get())), std::move(server_host));
}

}  // namespace cairn::net
