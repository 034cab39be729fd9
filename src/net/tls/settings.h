// net/tls/settings.h: what the flags about TLS say, for one kind of listener.
#pragma once

#include <string>
#include <vector>

#include "base/error.h"

namespace cairn::net {

struct TlsSettings {
  std::string cert_file;
  std::string key_file;
  std::string client_cert_file;  // what this member shows as a client; "": cert_file and key_file
  std::string client_key_file;
  std::string trusted_ca_file;  // not empty: clients must show a certificate, as with client_cert_auth
  std::string crl_file;
  bool client_cert_auth = false;                  // without trusted_ca_file: the system's authorities count
  std::vector<std::string> allowed_hostnames;     // not empty: the client's certificate is for one of these
  std::vector<std::string> allowed_common_names;  // not empty: its subject has one of these names
  std::vector<std::string> cipher_suites;         // Go's names; empty: Go's defaults
  std::string version_min = "TLS1.2";             // TLS1.2, TLS1.3; "": TLS1.2
  std::string version_max;                        // "": the newest

  [[nodiscard]] bool empty() const { return cert_file.empty() && key_file.empty(); }
  [[nodiscard]] bool wants_client_certificates() const { return client_cert_auth || !trusted_ca_file.empty(); }
};

// As etcd checks them before anything is read, in two parts.
//   errors: kInvalidArgument, etcd's text
[[nodiscard]] Status check_versions(const TlsSettings& settings);
[[nodiscard]] Status check_cipher_suites(const std::vector<std::string>& suites);
// What Go's HTTP/2 asks of the suites where plain HTTP is served.
[[nodiscard]] Status check_http2_suites(const TlsSettings& settings);

// The suites in OpenSSL's words, best first, as Go orders them whatever their order in the list.
struct SuiteNames {
  std::string up_to_12;              // of TLS 1.2; "": none. TLS 1.3's suites cannot be chosen
  std::vector<std::string> unknown;  // to OpenSSL: RC4, 3DES
};
[[nodiscard]] SuiteNames openssl_suites(const std::vector<std::string>& suites);

}  // namespace cairn::net
