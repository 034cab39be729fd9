#include "auth/password.h"

#include <crypt.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

#include <cstring>
#include <memory>
#include <optional>

#include "auth/base64.h"
#include "base/errors.h"

namespace cairn::auth {
namespace {

constexpr size_t kSaltBytes = 16;
constexpr size_t kPasswordBytesMax = 72;
constexpr size_t kTextBytes = 60;    // "$2a$10$", 22 of salt, 31 of hash
constexpr size_t kPrefixBytes = 29;  // up to the hash
constexpr size_t kVersionAt = 2;

// bcrypt's text under `setting`, which is a text, or the beginning of one up to its salt.
//   nullopt: the setting is none
std::optional<std::string> run_bcrypt(std::string_view password, std::string setting) {
  // With "2a" libcrypt hashes some passwords differently, so that a flaw of its past is not used. Go's "2a" is what it
  // calls "2b".
  setting[kVersionAt] = 'b';
  const auto data = std::make_unique<crypt_data>();  // 32 KB
  const char* const text = crypt_r(std::string(password).c_str(), setting.c_str(), data.get());
  OPENSSL_cleanse(data->input, sizeof data->input);
  if (text == nullptr || std::strlen(text) != kTextBytes) return std::nullopt;
  std::string out(text);
  out[kVersionAt] = 'a';
  return out;
}

Result<std::string> with_salt(std::string_view password, int cost, const unsigned char* salt) {
  char setting[CRYPT_GENSALT_OUTPUT_SIZE] = {};
  if (crypt_gensalt_rn("$2b$", static_cast<unsigned long>(cost), reinterpret_cast<const char*>(salt), kSaltBytes,
                       setting, sizeof setting) == nullptr) {
    return fail(Code::kInternal, "auth: no bcrypt setting for cost {}", cost);
  }
  auto text = run_bcrypt(password, setting);
  if (!text) return fail(Code::kInternal, "auth: bcrypt failed");
  return *std::move(text);
}

}  // namespace

Status check_password_length(std::string_view password) {
  if (password.size() <= kPasswordBytesMax) return {};
  return fail(Code::kUnknown, "bcrypt: password length exceeds {} bytes", kPasswordBytesMax);
}

Result<std::string> hash_password(std::string_view password, int cost) {
  CAIRN_CHECK(check_password_length(password));
  // compat: etcd takes it. libcrypt would see only what stands before it.
  if (password.find('\0') != std::string_view::npos) {
    return fail(Code::kInvalidArgument, "cairn: a password cannot hold a zero byte");
  }
  unsigned char salt[kSaltBytes] = {};
  if (RAND_bytes(salt, sizeof salt) != 1) return fail(Code::kInternal, "auth: no random bytes");
  return with_salt(password, cost, salt);
}

bool is_password(std::string_view password, std::string_view hashed) {
  if (hashed.size() != kTextBytes || !hashed.starts_with("$2") || password.find('\0') != std::string_view::npos) {
    return false;
  }
  // As Go, which reads no more of a longer one; none can have been stored.
  const auto text = run_bcrypt(password.substr(0, kPasswordBytesMax), std::string(hashed));
  // The salt's last bits have no meaning, and may be written differently: only the hash is compared.
  return text &&
         CRYPTO_memcmp(text->data() + kPrefixBytes, hashed.data() + kPrefixBytes, kTextBytes - kPrefixBytes) == 0;
}

Result<std::string> password_text(std::string_view password, std::string_view hashed, int cost) {
  if (!hashed.empty() || password.empty()) {
    auto text = decode_base64(hashed);
    if (!text) return std::unexpected(errors::no_password_user());
    return *std::move(text);
  }
  unsigned char salt[EVP_MAX_MD_SIZE] = {};
  unsigned int salt_bytes = 0;
  const std::string seed = "cairn auth salt " + std::string(password);
  if (EVP_Digest(seed.data(), seed.size(), salt, &salt_bytes, EVP_sha256(), nullptr) != 1) {
    return fail(Code::kInternal, "auth: SHA-256 failed");
  }
  return with_salt(password, cost, salt);
}

}  // namespace cairn::auth
