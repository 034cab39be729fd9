#include "auth/jwt.h"

#include <openssl/bio.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/decoder.h>
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <optional>

#include <boost/json.hpp>

#include "auth/base64.h"
#include "base/errors.h"
#include "base/json_text.h"
#include "base/utf8.h"

namespace cairn::auth {
namespace {

constexpr int64_t kSecondNs = 1'000'000'000;
constexpr size_t kTokenBytesMax = 64 << 10;  // as metadata may have

template <auto Free>
struct Freed {
  template <class T>
  void operator()(T* what) const {
    Free(what);
  }
};
using Key = std::unique_ptr<EVP_PKEY, Freed<EVP_PKEY_free>>;
using DigestContext = std::unique_ptr<EVP_MD_CTX, Freed<EVP_MD_CTX_free>>;
using Bio = std::unique_ptr<BIO, Freed<BIO_free_all>>;
using Signature = std::unique_ptr<ECDSA_SIG, Freed<ECDSA_SIG_free>>;

struct Method {
  std::string_view name;
  enum class Family : uint8_t { kRsa, kPss, kEc, kHmac, kEd } family;
  const EVP_MD* (*digest)();
  size_t ec_bytes = 0;  // of each half of an EC signature
  std::string_view curve = {};
};
constexpr auto kMethods = std::to_array<Method>({
    {"RS256", Method::Family::kRsa, EVP_sha256},
    {"RS384", Method::Family::kRsa, EVP_sha384},
    {"RS512", Method::Family::kRsa, EVP_sha512},
    {"PS256", Method::Family::kPss, EVP_sha256},
    {"PS384", Method::Family::kPss, EVP_sha384},
    {"PS512", Method::Family::kPss, EVP_sha512},
    {"ES256", Method::Family::kEc, EVP_sha256, 32, "prime256v1"},
    {"ES384", Method::Family::kEc, EVP_sha384, 48, "secp384r1"},
    {"ES512", Method::Family::kEc, EVP_sha512, 66, "secp521r1"},
    {"HS256", Method::Family::kHmac, EVP_sha256},
    {"HS384", Method::Family::kHmac, EVP_sha384},
    {"HS512", Method::Family::kHmac, EVP_sha512},
    {"EdDSA", Method::Family::kEd, nullptr},
});

// --- JSON

std::optional<boost::json::object> parse_object(std::string_view text) {
  boost::json::error_code error;
  boost::json::parse_options options;
  options.max_depth = 100;
  options.allow_invalid_utf8 = true;  // what is not read may be anything
  boost::json::value parsed = boost::json::parse({text.data(), text.size()}, error, {}, options);
  if (error || !parsed.is_object()) return std::nullopt;
  return std::move(parsed.as_object());
}

std::optional<double> number_of(const boost::json::value& value) {
  if (value.is_double()) return value.get_double();
  if (value.is_int64()) return static_cast<double>(value.get_int64());
  if (value.is_uint64()) return static_cast<double>(value.get_uint64());
  return std::nullopt;
}

// A date that may be missing, and counts as such when it is 0.
bool read_date(const boost::json::object& claims, std::string_view name, double& out) {
  const auto* const value = claims.if_contains({name.data(), name.size()});
  if (value == nullptr) return true;
  const auto number = number_of(*value);
  out = number.value_or(0);
  return number.has_value();
}

// --- keys

Bio open_bio(std::string_view text) { return Bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size()))); }

Key read_private_key(std::string_view pem) {
  const Bio bio = open_bio(pem);
  // Without a pass phrase: nobody is asked for one.
  return Key(PEM_read_bio_PrivateKey(bio.get(), nullptr, [](char*, int, int, void*) { return -1; }, nullptr));
}

// Of a public key or of a certificate.
Key read_public_key(std::string_view pem) {
  EVP_PKEY* read = nullptr;
  OSSL_DECODER_CTX* const decoder =
      OSSL_DECODER_CTX_new_for_pkey(&read, "PEM", nullptr, nullptr, EVP_PKEY_PUBLIC_KEY, nullptr, nullptr);
  const Bio bio = open_bio(pem);
  const bool is_read = decoder != nullptr && OSSL_DECODER_from_bio(decoder, bio.get()) == 1;
  OSSL_DECODER_CTX_free(decoder);
  if (is_read) return Key(read);
  const Bio again = open_bio(pem);
  const std::unique_ptr<X509, Freed<X509_free>> certificate(PEM_read_bio_X509(again.get(), nullptr, nullptr, nullptr));
  return certificate == nullptr ? nullptr : Key(X509_get_pubkey(certificate.get()));
}

bool fits(const Method& method, const EVP_PKEY& key) {
  switch (method.family) {
    case Method::Family::kRsa:
    case Method::Family::kPss: return EVP_PKEY_get_base_id(&key) == EVP_PKEY_RSA;
    case Method::Family::kEd: return EVP_PKEY_get_base_id(&key) == EVP_PKEY_ED25519;
    case Method::Family::kEc: {
      char curve[64] = {};
      return EVP_PKEY_get_base_id(&key) == EVP_PKEY_EC &&
             EVP_PKEY_get_group_name(&key, curve, sizeof curve, nullptr) == 1 && method.curve == curve;
    }
    case Method::Family::kHmac: break;
  }
  return false;
}

// --- signatures

const unsigned char* bytes_of(std::string_view text) { return reinterpret_cast<const unsigned char*>(text.data()); }

bool set_padding(const Method& method, EVP_PKEY_CTX* context, int salt_bytes) {
  if (method.family != Method::Family::kPss) return true;
  return EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_PSS_PADDING) == 1 &&
         EVP_PKEY_CTX_set_rsa_pss_saltlen(context, salt_bytes) == 1;
}

// The two numbers of an EC signature, each as `bytes` bytes, from and to the form that OpenSSL writes.
std::optional<std::string> to_halves(std::string_view der, size_t bytes) {
  const unsigned char* at = bytes_of(der);
  const Signature signature(d2i_ECDSA_SIG(nullptr, &at, static_cast<long>(der.size())));
  if (signature == nullptr) return std::nullopt;
  std::string out(2 * bytes, '\0');
  auto* const to = reinterpret_cast<unsigned char*>(out.data());
  const int width = static_cast<int>(bytes);
  if (BN_bn2binpad(ECDSA_SIG_get0_r(signature.get()), to, width) != width) return std::nullopt;
  if (BN_bn2binpad(ECDSA_SIG_get0_s(signature.get()), to + bytes, width) != width) return std::nullopt;
  return out;
}
std::optional<std::string> from_halves(std::string_view halves, size_t bytes) {
  if (halves.size() != 2 * bytes) return std::nullopt;
  const Signature signature(ECDSA_SIG_new());
  const int width = static_cast<int>(bytes);
  BIGNUM* const r = BN_bin2bn(bytes_of(halves), width, nullptr);
  BIGNUM* const s = BN_bin2bn(bytes_of(halves) + bytes, width, nullptr);
  if (signature == nullptr || ECDSA_SIG_set0(signature.get(), r, s) != 1) {
    BN_free(r);
    BN_free(s);
    return std::nullopt;
  }
  unsigned char* der = nullptr;
  const int size = i2d_ECDSA_SIG(signature.get(), &der);
  if (size <= 0) return std::nullopt;
  std::string out(reinterpret_cast<const char*>(der), static_cast<size_t>(size));
  OPENSSL_free(der);
  return out;
}

class JwtTokens final : public Tokens {
 public:
  JwtTokens(const Method& method, Key key, std::string secret, bool verify_only, int64_t ttl_ns,
            const env::Clock& clock)
      : method_(method),
        key_(std::move(key)),
        secret_(std::move(secret)),
        verify_only_(verify_only),
        ttl_ns_(ttl_ns),
        clock_(clock) {}
  ~JwtTokens() override { OPENSSL_cleanse(secret_.data(), secret_.size()); }

  std::shared_ptr<Session> find(std::string_view token) override {
    if (token.size() > kTokenBytesMax) return nullptr;
    const size_t first = token.find('.');
    const size_t second = first == std::string_view::npos ? first : token.find('.', first + 1);
    if (second == std::string_view::npos || token.find('.', second + 1) != std::string_view::npos) return nullptr;
    const auto header_text = decode_base64_url(token.substr(0, first));
    const auto claims_text = decode_base64_url(token.substr(first + 1, second - first - 1));
    const auto signature = decode_base64_url(token.substr(second + 1));
    if (!header_text || !claims_text || !signature) return nullptr;
    const auto header = parse_object(*header_text);
    const auto* const alg = header ? header->if_contains("alg") : nullptr;
    // The method is ours, never the token's: "none", or a public key taken for an HMAC's, gets nobody in.
    if (alg == nullptr || !alg->is_string() || std::string_view(alg->get_string()) != method_.name) return nullptr;
    if (!is_signed(token.substr(0, second), *signature)) return nullptr;
    const auto claims = parse_jwt_claims(*claims_text);
    if (!claims || std::floor(claims->begins_s) * kSecondNs > static_cast<double>(clock_.wall_ns())) return nullptr;
    auto session = std::make_shared<Session>();
    session->token = token;
    session->user = claims->user;
    session->revision = claims->revision;
    const double ends_ns = std::floor(claims->ends_s) * kSecondNs;
    const bool has_end = claims->ends_s != 0 && ends_ns < static_cast<double>(std::numeric_limits<int64_t>::max());
    session->ends_ns = has_end ? static_cast<int64_t>(std::max(ends_ns, 0.0)) : std::numeric_limits<int64_t>::max();
    return session;
  }
  bool renew(Session& session) const override {
    return clock_.wall_ns() < session.ends_ns.load(std::memory_order_relaxed);
  }

  std::string assign(std::string_view, std::string_view, uint64_t) override { return {}; }
  bool signs() const override { return true; }
  Result<std::string> sign(std::string_view user, uint64_t revision) override {
    if (verify_only_) return std::unexpected(errors::verify_only());
    std::string claims =
        fmt::format(R"({{"exp":{},"revision":{},"username":)", (clock_.wall_ns() + ttl_ns_) / kSecondNs, revision);
    append_json_text(claims, user);
    claims += '}';
    const std::string header = fmt::format(R"({{"alg":"{}","typ":"JWT"}})", method_.name);
    std::string token = encode_base64_url(header) + '.' + encode_base64_url(claims);
    const auto signature = signature_of(token);
    if (!signature) return fail(Code::kUnknown, "auth: a token cannot be signed");
    return token + '.' + encode_base64_url(*signature);
  }

 private:
  [[nodiscard]] std::string hmac_of(std::string_view text) const {
    unsigned char out[EVP_MAX_MD_SIZE] = {};
    unsigned int size = 0;
    if (HMAC(method_.digest(), secret_.data(), static_cast<int>(secret_.size()), bytes_of(text), text.size(), out,
             &size) == nullptr) {
      return {};
    }
    return {reinterpret_cast<const char*>(out), size};
  }

  [[nodiscard]] bool is_signed(std::string_view text, std::string_view signature) const {
    if (method_.family == Method::Family::kHmac) {
      const std::string wanted = hmac_of(text);
      return !wanted.empty() && wanted.size() == signature.size() &&
             CRYPTO_memcmp(wanted.data(), signature.data(), wanted.size()) == 0;
    }
    std::string der;
    if (method_.family == Method::Family::kEc) {
      auto halves = from_halves(signature, method_.ec_bytes);
      if (!halves) return false;
      der = *std::move(halves);
      signature = der;
    }
    const DigestContext context(EVP_MD_CTX_new());
    EVP_PKEY_CTX* key_context = nullptr;
    const EVP_MD* const digest = method_.digest == nullptr ? nullptr : method_.digest();
    const bool is_good =
        EVP_DigestVerifyInit(context.get(), &key_context, digest, nullptr, key_.get()) == 1 &&
        set_padding(method_, key_context, RSA_PSS_SALTLEN_AUTO) &&
        EVP_DigestVerify(context.get(), bytes_of(signature), signature.size(), bytes_of(text), text.size()) == 1;
    ERR_clear_error();
    return is_good;
  }

  [[nodiscard]] std::optional<std::string> signature_of(std::string_view text) const {
    if (method_.family == Method::Family::kHmac) {
      std::string made = hmac_of(text);
      return made.empty() ? std::nullopt : std::optional(std::move(made));
    }
    const DigestContext context(EVP_MD_CTX_new());
    EVP_PKEY_CTX* key_context = nullptr;
    const EVP_MD* const digest = method_.digest == nullptr ? nullptr : method_.digest();
    size_t size = 0;
    if (EVP_DigestSignInit(context.get(), &key_context, digest, nullptr, key_.get()) != 1 ||
        !set_padding(method_, key_context, RSA_PSS_SALTLEN_DIGEST) ||
        EVP_DigestSign(context.get(), nullptr, &size, bytes_of(text), text.size()) != 1) {
      return std::nullopt;
    }
    std::string out(size, '\0');
    if (EVP_DigestSign(context.get(), reinterpret_cast<unsigned char*>(out.data()), &size, bytes_of(text),
                       text.size()) != 1) {
      return std::nullopt;
    }
    out.resize(size);
    return method_.family == Method::Family::kEc ? to_halves(out, method_.ec_bytes) : std::optional(std::move(out));
  }

  const Method& method_;
  Key key_;
  std::string secret_;  // of an HS method
  const bool verify_only_;
  const int64_t ttl_ns_;
  const env::Clock& clock_;
};

}  // namespace

std::optional<JwtClaims> parse_jwt_claims(std::string_view json) {
  const auto found = parse_object(json);
  if (!found) return std::nullopt;
  JwtClaims claims;
  const auto* const user = found->if_contains("username");
  const auto* const revision = found->if_contains("revision");
  if (user == nullptr || !user->is_string() || revision == nullptr) return std::nullopt;
  const auto number = number_of(*revision);
  if (!number || !(*number >= 0 && *number < 0x1p63)) return std::nullopt;
  claims.user = std::string_view(user->get_string());
  if (!is_utf8(claims.user)) return std::nullopt;  // it goes into log entries
  claims.revision = static_cast<uint64_t>(*number);
  if (!read_date(*found, "exp", claims.ends_s) || !read_date(*found, "nbf", claims.begins_s)) return std::nullopt;
  // As etcd: Go counts seconds since the year 1, and what overflows there is in the past.
  if (claims.ends_s >= 0x1p63 - 62'135'596'800) return std::nullopt;
  return claims;
}

Result<std::unique_ptr<Tokens>> make_jwt_tokens(const JwtOptions& options, const env::Clock& clock) {
  const auto method = std::ranges::find(kMethods, std::string_view(options.sign_method), &Method::name);
  if (method == kMethods.end()) return fail(Code::kInvalidArgument, "auth: invalid auth options");
  const auto missing = [] { return fail(Code::kInvalidArgument, "auth: missing key data"); };
  if (method->family == Method::Family::kHmac) {
    if (options.private_key.empty()) return missing();
    return std::make_unique<JwtTokens>(*method, nullptr, options.private_key, false, options.ttl_ns, clock);
  }
  Key both;
  Key open;
  const auto read = [&](const std::string& text, Key (*reader)(std::string_view), Key& to) -> Status {
    if (text.empty()) return {};
    to = reader(text);
    ERR_clear_error();
    if (to == nullptr || !fits(*method, *to)) {
      return fail(Code::kInvalidArgument, "auth: not a key for {}", method->name);
    }
    return {};
  };
  CAIRN_CHECK(read(options.private_key, read_private_key, both));
  CAIRN_CHECK(read(options.public_key, read_public_key, open));
  if (both == nullptr && open == nullptr) return missing();
  if (both != nullptr && open != nullptr && EVP_PKEY_eq(both.get(), open.get()) != 1) {
    return fail(Code::kInvalidArgument, "auth: public and private keys don't match");
  }
  const bool verify_only = both == nullptr;
  return std::make_unique<JwtTokens>(*method, verify_only ? std::move(open) : std::move(both), "", verify_only,
                                     options.ttl_ns, clock);
}

}  // namespace cairn::auth
