// cmd/server/peer_probe.h: asks other members over HTTP/1.1, one question a connection, while a member starts.
//
// Threads: one; it waits.
#pragma once

#include <memory>
#include <string>

#include "member/recovery/peer_probe.h"
#include "net/tls/tls_client_context.h"

namespace cairn::cmd {

class HttpPeerProbe final : public member::PeerProbe {
 public:
  // No connection takes longer than `dial_timeout_ns` to come about. `tls` outlives this; null: https is refused.
  // `local_ip`: where connections come from; "": the system chooses.
  HttpPeerProbe(int64_t dial_timeout_ns, net::TlsClientContext* tls, std::string local_ip = "")
      : dial_timeout_ns_(dial_timeout_ns), tls_(tls), local_ip_(std::move(local_ip)) {}

  Result<member::PeerAnswer> get(const std::string& url, int64_t timeout_ns) override;

 private:
  const int64_t dial_timeout_ns_;
  net::TlsClientContext* const tls_;
  const std::string local_ip_;
};

}  // namespace cairn::cmd
