// The one part of the configuration that asks the outside: what is in the file, do two host names mean the same
// address, and what is ours?
#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include <chrono>
#include <memory>
#include <thread>

#include "base/go_duration.h"
#include "base/log.h"
#include "cmd/server/config.h"

namespace cairn::cmd {

namespace {

using std::chrono::seconds;
using std::chrono::steady_clock;

constexpr seconds kResolvingMax{30};
constexpr seconds kResolvingPause{1};

Result<std::string> resolve_host(std::string_view host) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (const int error = getaddrinfo(std::string(host).c_str(), nullptr, &hints, &found); error != 0) {
    const bool is_unknown = error == EAI_NONAME;
    return fail(Code::kUnavailable, "lookup {}: {}", host, is_unknown ? "no such host" : gai_strerror(error));
  }
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

// The address that the system would send from to somewhere outside; nothing is sent.
Result<std::string> outgoing_address(int family, const char* somewhere) {
  addrinfo hints{};
  hints.ai_family = family;
  hints.ai_socktype = SOCK_DGRAM;
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  if (getaddrinfo(somewhere, "9", &hints, &found) != 0) return fail(Code::kUnavailable, "no such address family");
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> holder(found, &freeaddrinfo);
  const int fd = ::socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return fail_errno(errno, "socket");
  sockaddr_storage own{};
  socklen_t length = sizeof own;
  const bool is_routed = ::connect(fd, found->ai_addr, found->ai_addrlen) == 0 &&
                         ::getsockname(fd, reinterpret_cast<sockaddr*>(&own), &length) == 0;
  const int error = errno;
  ::close(fd);
  if (!is_routed) return fail_errno(error, "could not find default route");
  char text[NI_MAXHOST];
  if (getnameinfo(reinterpret_cast<sockaddr*>(&own), length, text, sizeof text, nullptr, 0, NI_NUMERICHOST) != 0) {
    return fail(Code::kUnavailable, "could not find default host");
  }
  return family == AF_INET6 ? "[" + std::string(text) + "]" : std::string(text);
}

// As Go writes the errors of system calls.
std::string lower_case(std::string text) {
  for (char& c : text) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return text;
}

}  // namespace

cluster::Resolver patient_resolver() {
  return [until = steady_clock::time_point{}](std::string_view host) mutable -> Result<std::string> {
    if (until == steady_clock::time_point{}) until = steady_clock::now() + kResolvingMax;
    while (true) {
      auto found = resolve_host(host);
      if (found) {
        log::info("resolved URL Host", {{"host", host}, {"resolved-addr", *found}});
        return found;
      }
      log::warn("failed to resolve URL Host",
                {{"host", host}, {"retry-interval", go_duration(kResolvingPause)}, {"error", found.error().message}});
      if (steady_clock::now() + kResolvingPause > until) return found;
      std::this_thread::sleep_for(kResolvingPause);
    }
  };
}

// Addresses of the documentation: they are nobody's, so only the default route leads there.
Result<std::string> find_default_host() {
  auto host = outgoing_address(AF_INET, "198.51.100.1");
  return host ? host : outgoing_address(AF_INET6, "2001:db8::1");
}

Result<std::string> read_config_file(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return fail(Code::kUnknown, "open {}: {}", path, lower_case(std::strerror(errno)));
  std::string out;
  char piece[4096];
  ssize_t count = 0;
  while ((count = ::read(fd, piece, sizeof piece)) > 0) out.append(piece, static_cast<size_t>(count));
  const int error = errno;
  ::close(fd);
  if (count < 0) return fail(Code::kUnknown, "read {}: {}", path, lower_case(std::strerror(error)));
  return out;
}

Status verify_bootstrap(const Config& config) {
  if (!config.is_new_cluster()) return cluster::check_joined_cluster(config.initial_cluster, config.name);
  std::vector<std::string> advertised;
  for (const cluster::Url& url : config.initial_advertise_peer_urls) advertised.push_back(url.text);
  return cluster::check_initial_cluster(config.initial_cluster, config.name, advertised, patient_resolver());
}

}  // namespace cairn::cmd
