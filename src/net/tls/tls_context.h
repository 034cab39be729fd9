// net/tls/tls_context.h: what a listener with TLS shows and asks for, read from files, and read again when they change.
//
// A new file is used by the handshakes that begin after it was noticed. One that cannot be used is told in the log, and
// the old one stays.
//
// Sessions are not resumed: each connection shows its certificate, so a list of revoked ones holds at once.
//
// Threads: opened by one thread, used by one (that of Handshakes) from then on.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "net/tls/context_parts.h"
#include "net/tls/credentials.h"
#include "net/tls/settings.h"

namespace cairn::net {

class TlsContext {
 public:
  // Reads and checks everything but the list of revoked certificates.
  //   errors: Go's and etcd's texts
  static Result<std::unique_ptr<TlsContext>> open(TlsSettings settings);
  TlsContext(const TlsContext&) = delete;
  TlsContext& operator=(const TlsContext&) = delete;

  // Looks at the files, if that was a second ago or more.
  void look_again(int64_t now_ns);
  // For a new handshake. The result may outlive the context; a handshake may not.
  [[nodiscard]] SslPtr new_session() const;

  // Whether none of the certificates is revoked, by their serial numbers. Asked when a client has shown some.
  [[nodiscard]] Status admit(const std::vector<std::string>& serials) const;

  [[nodiscard]] const TlsSettings& settings() const { return settings_; }

 private:
  explicit TlsContext(TlsSettings settings) : settings_(std::move(settings)) {}

  using Stamps = std::array<FileStamp, 3>;
  [[nodiscard]] Stamps stamps() const;

  [[nodiscard]] Result<SslContextPtr> build() const;
  void read_revoked();

  const TlsSettings settings_;
  SslContextPtr context_;
  Stamps seen_;  // certificate, key and authorities when they were read last, with whatever outcome
  FileStamp revoked_seen_;
  std::optional<Result<Serials>> revoked_;  // an error: no list could be read yet, and nobody with a certificate enters
  int64_t looked_ns_ = 0;
};

}  // namespace cairn::net
