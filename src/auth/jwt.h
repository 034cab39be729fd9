// auth/jwt.h: JSON web tokens: signed by the member that checked the password, checked by any that has the key.
//
// The claims are etcd's: "username", "revision" (of the rules it was signed under) and "exp". A token ends with "exp",
// and in effect with the next change of users or roles: a request with an older revision is refused.
//
// Threads: any.
// Source:  RFC 7515, 7518, 8037; etcd's JWT provider, with golang-jwt v5.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "auth/tokens.h"
#include "base/error.h"
#include "env/clock.h"

namespace cairn::auth {

struct JwtOptions {
  // RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, HS256, HS384, HS512 or EdDSA.
  std::string sign_method;
  std::string public_key;   // PEM; without the private one this member checks tokens and gives none
  std::string private_key;  // PEM; of an HS method the key itself
  int64_t ttl_ns = 0;
};
//   errors: kInvalidArgument: an unknown method, no key, keys that do not fit together or the method
[[nodiscard]] Result<std::unique_ptr<Tokens>> make_jwt_tokens(const JwtOptions& options, const env::Clock& clock);

// The claims of a token's middle part. nullopt: it is not JSON, or has not what etcd asks for.
struct JwtClaims {
  std::string user;
  uint64_t revision = 0;
  double ends_s = 0;    // since 1970; 0: never
  double begins_s = 0;  // "nbf"; 0: at once
};
[[nodiscard]] std::optional<JwtClaims> parse_jwt_claims(std::string_view json);

}  // namespace cairn::auth
