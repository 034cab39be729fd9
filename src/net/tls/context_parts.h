// net/tls/context_parts.h: what the contexts of servers and clients have in common: versions, suites, chains of trust,
// key pairs, and files that change.
//
// Threads: any one at a time.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/error.h"
#include "net/tls/credentials.h"
#include "net/tls/openssl.h"
#include "net/tls/settings.h"

namespace cairn::net {

class TlsTransport;

// Versions, suites and modes.
//   errors: kInvalidArgument
[[nodiscard]] Status prepare_context(SSL_CTX& context, const TlsSettings& settings);
[[nodiscard]] Status set_key_pair(SSL_CTX& context, const KeyPair& pair);
// Trusts what is in the file, self-signed or not; returns it.
[[nodiscard]] Result<std::vector<X509Ptr>> set_authorities(SSL_CTX& context, const std::string& path);

// For functions that verify. Failures are noted in Go's words.
[[nodiscard]] TlsTransport* transport_of(const SSL* session);
[[nodiscard]] const SSL* session_of(X509_STORE_CTX* store);
[[nodiscard]] bool verify_chain(X509_STORE_CTX* store, TlsTransport& transport);
// The names that the settings allow, if they name any.
[[nodiscard]] bool verify_allowed(X509_STORE_CTX* store, const TlsSettings& settings, TlsTransport& transport);

// What tells that a file is another one.
struct FileStamp {
  uint64_t device = 0;
  uint64_t inode = 0;
  int64_t size = -1;  // -1: there is none
  int64_t modified_ns = 0;
  int64_t changed_ns = 0;
  friend bool operator==(const FileStamp&, const FileStamp&) = default;
};
[[nodiscard]] FileStamp stamp_of(const std::string& path);

}  // namespace cairn::net
