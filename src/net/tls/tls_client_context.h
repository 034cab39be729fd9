// net/tls/tls_client_context.h: what this member shows and asks for where it connects to others over TLS.
//
// The server's certificate must lead to a trusted authority and be for the host that was dialled; and its subject is
// one of those that the settings allow, if they name any, as etcd has it.
//
// The own certificate is read again when its file changes. Authorities are read once, as by etcd.
//
// Threads: opened by one thread, used by one from then on.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>

#include "base/error.h"
#include "net/tls/context_parts.h"
#include "net/tls/settings.h"
#include "net/tls/tls_transport.h"

namespace cairn::net {

class TlsClientContext {
 public:
  struct Options {
    TlsSettings settings;  // without certificate and key none is shown
    // The certificates of all are made by themselves (--peer-auto-tls): what the server shows is not looked at.
    bool trusts_all = false;
  };
  //   errors: Go's and etcd's texts
  static Result<std::unique_ptr<TlsClientContext>> open(Options options);
  TlsClientContext(const TlsClientContext&) = delete;
  TlsClientContext& operator=(const TlsClientContext&) = delete;

  // Looks at the files, if that was a second ago or more.
  void look_again(int64_t now_ns);
  // Does not own `fd`. The handshake may not outlive the context.
  [[nodiscard]] std::unique_ptr<TlsTransport> new_transport(int fd, std::string server_host) const;

 private:
  explicit TlsClientContext(Options options) : options_(std::move(options)) {}

  using Stamps = std::array<FileStamp, 2>;
  [[nodiscard]] const std::string& cert_file() const;
  [[nodiscard]] const std::string& key_file() const;
  [[nodiscard]] Stamps stamps() const { return {stamp_of(cert_file()), stamp_of(key_file())}; }
  [[nodiscard]] Status show_certificate() const;

  const Options options_;
  SslContextPtr context_;
  // The system's authorities are read when somebody is dialled: that takes long, and many members never do.
  mutable bool lacks_authorities_ = false;
  Stamps seen_;  // when they were read last, with whatever outcome
  int64_t looked_ns_ = 0;
};

}  // namespace cairn::net
