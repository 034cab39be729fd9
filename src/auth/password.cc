#include <crypt.h>

#include <cstring>
#include <string>

#include <openssl/evp.h>

#include "auth/store.h"

namespace cairn::auth {
namespace {

Result<std::string> decode_base64(std::string_view text) {
  if (text.size() % 4 != 0) return fail(Code::kInvalidArgument, "auth: password hash is not base64");
  std::string out(text.size() / 4 * 3, '\0');
  const int size = EVP_DecodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                                   reinterpret_cast<const unsigned char*>(text.data()), static_cast<int>(text.size()));
  if (size < 0) return fail(Code::kInvalidArgument, "auth: password hash is not base64");
  size_t padding = 0;
  while (padding < 2 && padding < text.size() && text[text.size() - 1 - padding] == '=') ++padding;
  out.resize(static_cast<size_t>(size) - padding);
  return out;
}

}  // namespace

Result<std::string> password_text(std::string_view password, std::string_view hashed, int cost) {
  if (!hashed.empty()) return decode_base64(hashed);
  unsigned char salt[EVP_MAX_MD_SIZE] = {};
  unsigned int salt_bytes = 0;
  const std::string seed = "cairn auth salt " + std::string(password);
  if (EVP_Digest(seed.data(), seed.size(), salt, &salt_bytes, EVP_sha256(), nullptr) != 1) {
    return fail(Code::kInternal, "auth: SHA-256 failed");
  }
  char setting[CRYPT_GENSALT_OUTPUT_SIZE] = {};
  if (crypt_gensalt_rn("$2a$", static_cast<unsigned long>(cost), reinterpret_cast<const char*>(salt), 16, setting,
                       sizeof setting) == nullptr) {
    return fail(Code::kInternal, "auth: no bcrypt setting for cost {}", cost);
  }
  crypt_data data{};
  const char* const text = crypt_r(std::string(password).c_str(), setting, &data);
  if (text == nullptr || text[0] == '*') return fail(Code::kInternal, "auth: bcrypt failed");
  return std::string(text);
}

}  // namespace cairn::auth
