// The one part of the configuration that asks the outside: do two host names mean the same address?
#include <netdb.h>
#include <sys/socket.h>

#include <memory>

#include "server/config.h"

namespace cairn::server {
namespace {

std::string resolve_host(std::string_view host) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (getaddrinfo(std::string(host).c_str(), nullptr, &hints, &found) != 0) return std::string(host);
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> holder(found, &freeaddrinfo);
  // IPv4 first, as Go prefers it.
  const addrinfo* chosen = found;
  for (const addrinfo* each = found; each != nullptr; each = each->ai_next) {
    if (each->ai_family == AF_INET) {
      chosen = each;
      break;
    }
  }
  char text[NI_MAXHOST];
  if (getnameinfo(chosen->ai_addr, chosen->ai_addrlen, text, sizeof text, nullptr, 0, NI_NUMERICHOST) != 0) {
    return std::string(host);
  }
  return text;
}

}  // namespace

Status verify_bootstrap(const Config& config) {
  if (!config.is_new_cluster) return cluster::check_joined_cluster(config.initial_cluster, config.name);
  std::vector<std::string> advertised;
  for (const cluster::Url& url : config.initial_advertise_peer_urls) advertised.push_back(url.text);
  return cluster::check_initial_cluster(config.initial_cluster, config.name, advertised, resolve_host);
}

}  // namespace cairn::server
