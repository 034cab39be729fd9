// net/tls/names.h: whether a certificate is for a host, with the rules and texts of Go's crypto/x509 and of etcd.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "net/peer_certificate.h"

namespace cairn::net {

// nullopt: the certificate is valid for `host`, a name or an address ("[::1]" too). Else Go's text.
[[nodiscard]] std::optional<std::string> hostname_mismatch(const PeerCertificate& certificate, std::string_view host);

// An address as Go shows it; "?" and hexadecimal digits when it is neither 4 nor 16 bytes long.
[[nodiscard]] std::string ip_text(std::string_view bytes);

// What DNS says. Each gives "" or the reason why nothing was found.
struct NameLookup {
  std::function<std::string(const std::string& ip, std::vector<std::string>& names)> names_of;
  std::function<std::string(const std::string& name, std::vector<std::string>& ips)> addresses_of;
};
[[nodiscard]] NameLookup system_lookup();

// etcd's rule for clients of the listeners of peers and metrics: a certificate that names addresses or hosts is only
// good from there. `remote_host`: an address as text. nullopt: it is. Else etcd's text. Asks DNS, which may last.
[[nodiscard]] std::optional<std::string> remote_mismatch(const PeerCertificate& certificate,
                                                         const std::string& remote_host, const NameLookup& lookup);

// Whether that takes DNS: the addresses in the certificate do not say it.
[[nodiscard]] bool asks_dns(const PeerCertificate& certificate, const std::string& remote_host);

}  // namespace cairn::net
