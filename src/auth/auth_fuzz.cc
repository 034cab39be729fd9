// What clients and flags bring to auth, as any bytes: tokens, claims of a JWT, --auth-token, hashed passwords. Nobody
// is let in by a token that was not given out. Claims are signed as well, so that their readers are reached.
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "auth/base64.h"
#include "auth/jwt.h"
#include "auth/password.h"
#include "auth/tokens.h"
#include "base/check.h"
#include "base/utf8.h"
#include "testing/manual_clock.h"

namespace {

using namespace cairn;

constexpr std::string_view kSecret = "a secret of the fuzzer";
constexpr std::string_view kGiven = "abcdefghijklmnop.12";

std::string sign(std::string_view header, std::string_view claims) {
  std::string token = auth::encode_base64_url(header) + "." + auth::encode_base64_url(claims);
  unsigned char out[EVP_MAX_MD_SIZE] = {};
  unsigned int size = 0;
  CAIRN_ASSERT(HMAC(EVP_sha256(), kSecret.data(), static_cast<int>(kSecret.size()),
                    reinterpret_cast<const unsigned char*>(token.data()), token.size(), out, &size) != nullptr);
  return token + "." + auth::encode_base64_url({reinterpret_cast<const char*>(out), size});
}

struct Providers {
  testing::ManualClock clock;
  auth::SimpleTokens simple{clock, 300'000'000'000};
  std::unique_ptr<auth::Tokens> jwt;
  auth::Rules rules{true, 9, {}};

  Providers() {
    simple.enable();
    simple.assign("alice", kGiven.substr(0, 16), 12);
    jwt = *auth::make_jwt_tokens({.sign_method = "HS256", .private_key = std::string(kSecret)}, clock);
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static Providers& providers = *new Providers();
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);

  // As they come from a client.
  for (auth::Tokens* const tokens : {static_cast<auth::Tokens*>(&providers.simple), providers.jwt.get()}) {
    auth::SessionMemo memo(*tokens, 42);
    const auto who = auth::identify({.token = bytes}, providers.rules, memo);
    constexpr std::string_view kBearer = "Bearer ";
    const std::string_view plain = bytes.starts_with(kBearer) ? bytes.substr(kBearer.size()) : bytes;
    CAIRN_ASSERT(!who || (tokens == &providers.simple && plain == kGiven));
  }

  // Claims, and a header, that somebody has signed who has the key.
  const auto claims = auth::parse_jwt_claims(bytes);
  const auto session = providers.jwt->find(sign(R"({"alg":"HS256","typ":"JWT"})", bytes));
  CAIRN_ASSERT(session == nullptr ||
               (claims && claims->user == session->user && claims->revision == session->revision));
  const auto other = providers.jwt->find(sign(bytes, R"({"username":"alice","revision":3})"));
  CAIRN_ASSERT(other == nullptr || other->user == "alice");

  // A name comes back as it was.
  if (is_utf8(bytes) && size < 1024) {
    const auto token = providers.jwt->sign(bytes, size);
    const auto found = token ? providers.jwt->find(*token) : nullptr;
    CAIRN_ASSERT(found != nullptr && found->user == bytes && found->revision == size);
  }

  if (const auto options = auth::parse_token_options(bytes))
    CAIRN_ASSERT(options->kind <= auth::TokenOptions::Kind::kNone);
  if (const auto text = auth::password_text("", bytes, auth::kBcryptCostMin)) {
    CAIRN_ASSERT(auth::decode_base64(auth::encode_base64(*text)) == *text);
  }
  return 0;
}
