// net/tls/self_signed.h: a certificate that its own key has signed, for --auto-tls.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/error.h"

namespace cairn::net {

struct SelfSigned {
  std::string cert_file;
  std::string key_file;
};

// DIRECTORY/cert.pem and key.pem, for `hosts` (names and addresses), made when one of them is not there. The directory
// is made too, for the owner only.
//   errors: kInvalidArgument when `years` is 0, kUnavailable when something cannot be written
[[nodiscard]] Result<SelfSigned> self_signed(const std::string& directory, const std::vector<std::string>& hosts,
                                             uint32_t years);

}  // namespace cairn::net
