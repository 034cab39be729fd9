// net/tls/credentials.h: certificates, keys and lists of revoked certificates, read from files.
//
// The texts of failures are those of Go's os, crypto/tls and crypto/x509, which operators know from etcd.
#pragma once

#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "net/peer_certificate.h"
#include "net/tls/openssl.h"

namespace cairn::net {

//   errors: kNotFound when there is no such file, kUnavailable else: "open PATH: why" or "read PATH: why"
[[nodiscard]] Result<std::string> read_whole_file(const std::string& path);

// A certificate, those that lead to its authority, and its key.
struct KeyPair {
  X509Ptr leaf;
  std::vector<X509Ptr> chain;
  KeyPtr key;
};
[[nodiscard]] Result<KeyPair> parse_key_pair(std::string_view certificate_pem, std::string_view key_pem);
[[nodiscard]] Result<KeyPair> read_key_pair(const std::string& cert_file, const std::string& key_file);

// Every certificate of a file; none is not an error.
[[nodiscard]] Result<std::vector<X509Ptr>> parse_certificates(std::string_view pem);

// The serial numbers of a list of revoked certificates: big-endian, without leading zeros. Neither the list's signature
// nor its issuer nor its age count, as in etcd.
using Serials = std::set<std::string, std::less<>>;
[[nodiscard]] Result<Serials> parse_revoked(std::string_view bytes);
[[nodiscard]] std::string serial_of(const X509& certificate);

[[nodiscard]] PeerCertificate describe(const X509& certificate);

}  // namespace cairn::net
