#include "net/tls/names.h"

#include <algorithm>
#include <iterator>
#include <memory>
#include <ranges>

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

namespace cairn::net {
namespace {

constexpr size_t kNamesShownMax = 100;
constexpr std::string_view kMappedPrefix{"\0\0\0\0\0\0\0\0\0\0\xff\xff", 12};

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return out;
}

std::string_view without_dot(std::string_view host) {
  if (host.ends_with('.')) host.remove_suffix(1);
  return host;
}

std::vector<std::string_view> labels(std::string_view host) {
  std::vector<std::string_view> out;
  for (;;) {
    const size_t dot = host.find('.');
    out.push_back(host.substr(0, dot));
    if (dot == std::string_view::npos) return out;
    host.remove_prefix(dot + 1);
  }
}

bool is_label_character(char c, bool is_first) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c == '-' && !is_first) ||
         c == '_';
}

// As RFC 6125 has it, a little more generous. `is_pattern`: the first label may be "*".
bool is_valid_host(std::string_view host, bool is_pattern) {
  if (!is_pattern) host = without_dot(host);
  if (host.empty() || host == "*") return false;
  bool is_first = true;
  for (const std::string_view label : labels(host)) {
    const bool is_wildcard = is_pattern && is_first && label == "*";
    is_first = false;
    if (is_wildcard) continue;
    if (label.empty()) return false;
    for (size_t i = 0; i < label.size(); ++i) {
      if (!is_label_character(label[i], i == 0)) return false;
    }
  }
  return true;
}

bool matches_pattern(std::string_view pattern_text, std::string_view lower_host) {
  const std::string pattern = lower(pattern_text);
  if (pattern.empty()) return false;
  const auto wanted = labels(pattern);
  const auto given = labels(without_dot(lower_host));
  if (wanted.size() != given.size()) return false;
  for (size_t i = 0; i < wanted.size(); ++i) {
    if (i == 0 && wanted[i] == "*") continue;
    if (wanted[i] != given[i]) return false;
  }
  return true;
}

bool matches_exactly(std::string_view name, std::string_view lower_host) {
  if (name.empty() || name == "." || lower_host.empty() || lower_host == ".") return false;
  return lower(name) == lower_host;
}

// 4 or 16 bytes; nullopt: no address. An IPv4 address in IPv6's clothes gives 4.
std::optional<std::string> parse_ip(const std::string& text) {
  char bytes[16];
  if (::inet_pton(AF_INET, text.c_str(), bytes) == 1) return std::string(bytes, 4);
  if (::inet_pton(AF_INET6, text.c_str(), bytes) != 1) return std::nullopt;
  const std::string_view whole(bytes, 16);
  return std::string(whole.starts_with(kMappedPrefix) ? whole.substr(12) : whole);
}

std::string_view unmapped(std::string_view bytes) {
  return bytes.size() == 16 && bytes.starts_with(kMappedPrefix) ? bytes.substr(12) : bytes;
}

// `host` as it was asked for; `ip`: it is an address.
std::string mismatch_text(const PeerCertificate& certificate, std::string_view host, bool is_ip) {
  if (!certificate.has_alternative_names && matches_pattern(certificate.common_name, lower(host))) {
    return "x509: certificate relies on legacy Common Name field, use SANs instead";
  }
  std::string valid;
  if (is_ip) {
    const auto& addresses = certificate.ip_addresses;
    if (addresses.empty()) {
      return fmt::format("x509: cannot validate certificate for {} because it doesn't contain any IP SANs", host);
    }
    if (addresses.size() >= kNamesShownMax) {
      return fmt::format("x509: certificate is valid for {} IP SANs, but none matched {}", addresses.size(), host);
    }
    for (const std::string& address : addresses) valid.append(valid.empty() ? "" : ", ").append(ip_text(address));
  } else {
    const auto& names = certificate.dns_names;
    if (names.size() >= kNamesShownMax) {
      return fmt::format("x509: certificate is valid for {} names, but none matched {}", names.size(), host);
    }
    valid = fmt::format("{}", fmt::join(names, ", "));
  }
  if (valid.empty()) return fmt::format("x509: certificate is not valid for any names, but wanted to match {}", host);
  return fmt::format("x509: certificate is valid for {}, not {}", valid, host);
}

// Whether DNS connects the address with one of the names, by either direction. `why`: what failed last.
bool is_host_of(const std::string& host, const std::vector<std::string>& dns_names, const NameLookup& lookup,
                std::string& why) {
  std::vector<std::string> found;
  why = lookup.names_of(host, found);
  for (const std::string& each : found) {
    const std::string_view name = without_dot(each);
    for (const std::string& wanted : dns_names) {
      if (wanted.starts_with("*.") ? name.ends_with(std::string_view(wanted).substr(1)) : name == wanted) return true;
    }
  }
  for (const std::string& wanted : dns_names) {
    if (wanted.starts_with("*.")) continue;
    std::vector<std::string> addresses;
    if (std::string failure = lookup.addresses_of(wanted, addresses); !failure.empty()) {
      why = std::move(failure);
      continue;
    }
    if (std::ranges::find(addresses, host) != addresses.end()) return true;
  }
  return false;
}

}  // namespace

std::string ip_text(std::string_view bytes) {
  const std::string_view address = unmapped(bytes);
  char text[INET6_ADDRSTRLEN];
  if (address.size() == 4 || address.size() == 16) {
    ::inet_ntop(address.size() == 4 ? AF_INET : AF_INET6, address.data(), text, sizeof text);
    return text;
  }
  std::string out = "?";
  for (const char c : address) fmt::format_to(std::back_inserter(out), "{:02x}", static_cast<unsigned char>(c));
  return out;
}

std::optional<std::string> hostname_mismatch(const PeerCertificate& certificate, std::string_view host) {
  const bool is_bracketed = host.size() >= 3 && host.front() == '[' && host.back() == ']';
  const std::string address_part(is_bracketed ? host.substr(1, host.size() - 2) : host);
  if (const auto ip = parse_ip(address_part)) {
    // Addresses are only looked for among addresses. See RFC 6125, appendix B.2.
    for (const std::string& each : certificate.ip_addresses) {
      if (unmapped(each) == *ip) return std::nullopt;
    }
    return mismatch_text(certificate, address_part, true);
  }
  const std::string wanted = lower(host);
  const bool is_valid = is_valid_host(wanted, false);
  for (const std::string& name : certificate.dns_names) {
    const bool is_both_valid = is_valid && is_valid_host(name, true);
    if (is_both_valid ? matches_pattern(name, wanted) : matches_exactly(name, wanted)) return std::nullopt;
  }
  return mismatch_text(certificate, host, false);
}

bool asks_dns(const PeerCertificate& certificate, const std::string& remote_host) {
  if (certificate.dns_names.empty()) return false;
  return certificate.ip_addresses.empty() || hostname_mismatch(certificate, remote_host).has_value();
}

std::optional<std::string> remote_mismatch(const PeerCertificate& certificate, const std::string& remote_host,
                                           const NameLookup& lookup) {
  if (!certificate.ip_addresses.empty()) {
    auto mismatch = hostname_mismatch(certificate, remote_host);
    if (!mismatch || certificate.dns_names.empty()) return mismatch;
  }
  if (certificate.dns_names.empty()) return std::nullopt;
  std::string why;
  if (is_host_of(remote_host, certificate.dns_names, lookup, why)) return std::nullopt;
  if (!why.empty()) why = " (" + why + ")";
  return fmt::format("tls: \"{}\" does not match any of DNSNames [\"{}\"]{}", remote_host,
                     fmt::join(certificate.dns_names, "\" \""), why);
}

NameLookup system_lookup() {
  const auto find = [](const std::string& host, int flags, std::string& why) {
    addrinfo hints{};
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = flags;
    addrinfo* found = nullptr;
    const int outcome = ::getaddrinfo(host.c_str(), nullptr, &hints, &found);
    if (outcome != 0) why = fmt::format("lookup {}: {}", host, ::gai_strerror(outcome));
    return std::unique_ptr<addrinfo, void (*)(addrinfo*)>(outcome == 0 ? found : nullptr, [](addrinfo* list) {
      if (list != nullptr) ::freeaddrinfo(list);
    });
  };
  NameLookup out;
  out.names_of = [find](const std::string& ip, std::vector<std::string>& names) {
    std::string why;
    const auto address = find(ip, AI_NUMERICHOST, why);
    if (address == nullptr) return why;
    char name[NI_MAXHOST];
    const int outcome =
        ::getnameinfo(address->ai_addr, address->ai_addrlen, name, sizeof name, nullptr, 0, NI_NAMEREQD);
    if (outcome != 0) return fmt::format("lookup {}: {}", ip, ::gai_strerror(outcome));
    names.emplace_back(name);
    return std::string();
  };
  out.addresses_of = [find](const std::string& host, std::vector<std::string>& ips) {
    std::string why;
    const auto list = find(host, 0, why);
    for (const addrinfo* each = list.get(); each != nullptr; each = each->ai_next) {
      char text[NI_MAXHOST];
      if (::getnameinfo(each->ai_addr, each->ai_addrlen, text, sizeof text, nullptr, 0, NI_NUMERICHOST) == 0) {
        ips.emplace_back(text);
      }
    }
    return why;
  };
  return out;
}

}  // namespace cairn::net
