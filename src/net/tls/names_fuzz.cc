// Any names in a certificate, and any host: the rules hold among each other, and nothing is read past its end.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/check.h"
#include "net/tls/credentials.h"
#include "net/tls/names.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using cairn::net::PeerCertificate;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  // The first line is the host, the others are names; 4 or 16 bytes stand for an address, too.
  PeerCertificate certificate{.has_alternative_names = true};
  std::string_view rest = bytes;
  const auto line = [&rest] {
    const std::string_view out = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(out.size() + 1, rest.size()));
    return out;
  };
  const std::string host(line());
  while (!rest.empty()) {
    const std::string_view name = line();
    certificate.dns_names.emplace_back(name);
    if (name.size() == 4 || name.size() == 16) certificate.ip_addresses.emplace_back(name);
  }
  const bool matches = !cairn::net::hostname_mismatch(certificate, host).has_value();
  // One name alone matches, or none does.
  bool any = false;
  for (const std::string& name : certificate.dns_names) {
    any |= !cairn::net::hostname_mismatch({.dns_names = {name}, .has_alternative_names = true}, host).has_value();
  }
  for (const std::string& address : certificate.ip_addresses) {
    any |= !cairn::net::hostname_mismatch({.ip_addresses = {address}, .has_alternative_names = true}, host).has_value();
  }
  CAIRN_ASSERT(any == matches);
  // The list of revoked certificates and a certificate are outside bytes, too.
  static_cast<void>(cairn::net::parse_revoked(bytes));
  if (const auto certificates = cairn::net::parse_certificates(bytes)) {
    for (const auto& each : *certificates) static_cast<void>(cairn::net::describe(*each));
  }
  return 0;
}
