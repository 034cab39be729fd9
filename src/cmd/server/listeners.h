// cmd/server/listeners.h: from the flags to the addresses that are listened on, with their certificates.
#pragma once

#include <vector>

#include "base/error.h"
#include "cmd/server/config.h"
#include "net/server.h"

namespace cairn::cmd {

// What is listened on: --listen-client-urls and --listen-client-http-urls, an address that stands there more than once
// being one listener; then --listen-metrics-urls, one each. Reads certificates, or makes them for --auto-tls.
//   errors: etcd's texts
[[nodiscard]] Result<std::vector<net::Listen>> client_listeners(const Config& config);

// TLS between peers is checked, where etcd would do so, and has no effect yet. Its settings: with certificates that are
// made for --peer-auto-tls where there are none. The first check is asked before clients' addresses are bound, the
// second afterwards.
//   errors: etcd's texts
[[nodiscard]] Result<net::TlsSettings> settings_of_peers(const Config& config);
[[nodiscard]] Status check_peer_listeners(const Config& config, const net::TlsSettings& tls);
[[nodiscard]] Status check_peer_files(const Config& config, const net::TlsSettings& tls);

// What etcd says once it serves.
void log_serving(const Config& config, const std::vector<net::Listen>& listeners);

}  // namespace cairn::cmd
