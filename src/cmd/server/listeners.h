// cmd/server/listeners.h: from the flags to the addresses that are listened on, with their certificates.
#pragma once

#include <memory>
#include <vector>

#include "base/error.h"
#include "cmd/server/config.h"
#include "net/server.h"
#include "net/tls/tls_client_context.h"

namespace cairn::cmd {

// What is listened on: --listen-client-urls and --listen-client-http-urls, an address that stands there more than once
// being one listener; then --listen-metrics-urls, one each. Reads certificates, or makes them for --auto-tls.
//   errors: etcd's texts
[[nodiscard]] Result<std::vector<net::Listen>> client_listeners(const Config& config);

// TLS between peers: with certificates that are made for --peer-auto-tls where there are none.
//   errors: etcd's texts
struct PeerTls {
  net::TlsSettings settings;
  bool is_made = false;  // by all members for themselves: nobody vouches for them
};
[[nodiscard]] Result<PeerTls> settings_of_peers(const Config& config);
// --feature-gates=SetMemberLocalAddr: where this member's connections to others come from, the first address that it
// advertises to them and that others can reach. "": the system chooses.
[[nodiscard]] std::string peer_local_ip(const Config& config);
// What is listened on for other members: --listen-peer-urls, one each.
[[nodiscard]] Result<std::vector<net::Listen>> peer_listeners(const Config& config, const PeerTls& tls);
// What this member shows and asks for where it dials others.
[[nodiscard]] Result<std::unique_ptr<net::TlsClientContext>> peer_client_context(const PeerTls& tls);

// What etcd says once it serves.
void log_serving(const Config& config, const std::vector<net::Listen>& listeners);

}  // namespace cairn::cmd
