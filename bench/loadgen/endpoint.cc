#include "loadgen/endpoint.h"

namespace cairn::bench {

std::string address_of(const LoadOptions& options) {
  const bool is_ipv6 = options.host.find(':') != std::string::npos;
  return fmt::format("{}{}{}:{}", is_ipv6 ? "[" : "", options.host, is_ipv6 ? "]" : "", options.port);
}

Result<std::unique_ptr<net::ClientTls>> client_tls(const LoadOptions& options, const std::string& protocol) {
  if (!options.tls) return nullptr;
  return net::ClientTls::make(
      {.cert_file = options.cert_file, .key_file = options.key_file, .protocol = protocol, .resumes = options.resumes});
}

}  // namespace cairn::bench
