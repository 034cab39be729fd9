// net/peer_certificate.h: who the other side of a TLS connection is, by its certificate.
#pragma once

#include <string>
#include <vector>

namespace cairn::net {

// Of a client that was asked for a certificate and gave one that a trusted authority has signed.
struct PeerCertificate {
  std::string common_name;                // of the subject, the last one where there are several; "": none
  std::vector<std::string> dns_names;     // the subject's alternative names
  std::vector<std::string> ip_addresses;  // the same, 4 or 16 bytes each, as they stand in the certificate
  bool has_alternative_names = false;     // of any kind
};

}  // namespace cairn::net
