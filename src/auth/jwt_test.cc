// Keys are made here; that etcd takes our tokens and we take etcd's is tested in tests/integration/auth_test.py.
#include "auth/jwt.h"

#include <gtest/gtest.h>
#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include "base/errors.h"
#include "testing/manual_clock.h"

namespace cairn::auth {
namespace {

constexpr int64_t kSecondNs = 1'000'000'000;

struct KeyPair {
  std::string both;
  std::string open;
};

KeyPair pem_of(EVP_PKEY* key) {
  const auto text = [](const auto& write) {
    BIO* const bio = BIO_new(BIO_s_mem());
    write(bio);
    char* data = nullptr;
    const long size = BIO_get_mem_data(bio, &data);
    std::string out(data, static_cast<size_t>(size));
    BIO_free(bio);
    return out;
  };
  KeyPair pair;
  pair.both = text([&](BIO* bio) { PEM_write_bio_PrivateKey(bio, key, nullptr, nullptr, 0, nullptr, nullptr); });
  pair.open = text([&](BIO* bio) { PEM_write_bio_PUBKEY(bio, key); });
  EVP_PKEY_free(key);
  return pair;
}

KeyPair rsa_keys() { return pem_of(EVP_PKEY_Q_keygen(nullptr, nullptr, "RSA", size_t{2048})); }
KeyPair ec_keys(const char* curve) { return pem_of(EVP_PKEY_Q_keygen(nullptr, nullptr, "EC", curve)); }
KeyPair ed_keys() { return pem_of(EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519")); }

KeyPair keys_for(std::string_view method) {
  static const KeyPair rsa = rsa_keys();  // takes a while
  if (method.starts_with("RS") || method.starts_with("PS")) return rsa;
  if (method == "ES256") return ec_keys("P-256");
  if (method == "ES384") return ec_keys("P-384");
  if (method == "ES512") return ec_keys("P-521");
  if (method.starts_with("HS")) return {"a shared secret", ""};
  return ed_keys();
}

class Jwt : public ::testing::Test {
 protected:
  std::unique_ptr<Tokens> make(const std::string& method, const std::string& both, const std::string& open = "") {
    auto made = make_jwt_tokens(
        {.sign_method = method, .public_key = open, .private_key = both, .ttl_ns = 60 * kSecondNs}, clock_);
    EXPECT_TRUE(made) << method << ": " << made.error().message;
    return made ? *std::move(made) : nullptr;
  }
  [[nodiscard]] static bool is_good(Tokens& tokens, std::string_view token) {
    const auto session = tokens.find(token);
    return session != nullptr && tokens.renew(*session);
  }

  testing::ManualClock clock_;
};

class JwtMethod : public Jwt, public ::testing::WithParamInterface<const char*> {};

TEST_P(JwtMethod, SignsWhatItChecks) {
  const KeyPair keys = keys_for(GetParam());
  const auto tokens = make(GetParam(), keys.both, keys.open);
  ASSERT_NE(tokens, nullptr);
  for (int i = 0; i < 20; ++i) {  // signatures with a number that has fewer digits, too
    const auto token = tokens->sign("alice \"<ä>\"", static_cast<uint64_t>(i));
    ASSERT_TRUE(token) << token.error().message;
    const auto session = tokens->find(*token);
    ASSERT_NE(session, nullptr) << *token;
    EXPECT_EQ(session->identity(1000).user, "alice \"<ä>\"");
    EXPECT_EQ(session->identity(1000).revision, static_cast<uint64_t>(i)) << "that it was signed under";
    EXPECT_TRUE(tokens->renew(*session));
  }
}

TEST_P(JwtMethod, RefusesWhatWasChanged) {
  const KeyPair keys = keys_for(GetParam());
  const auto tokens = make(GetParam(), keys.both, keys.open);
  ASSERT_NE(tokens, nullptr);
  const std::string token = *tokens->sign("alice", 3);
  const std::string other = *tokens->sign("root", 3);
  ASSERT_TRUE(is_good(*tokens, token));
  const auto part = [](const std::string& of, int which) {
    const size_t first = of.find('.');
    const size_t second = of.find('.', first + 1);
    return which == 0   ? of.substr(0, first)
           : which == 1 ? of.substr(first + 1, second - first - 1)
                        : of.substr(second + 1);
  };
  EXPECT_FALSE(is_good(*tokens, part(token, 0) + "." + part(other, 1) + "." + part(token, 2)));
  EXPECT_FALSE(is_good(*tokens, part(token, 0) + "." + part(token, 1) + "." + part(other, 2)));
  EXPECT_FALSE(is_good(*tokens, part(token, 0) + "." + part(token, 1) + "."));
  EXPECT_FALSE(is_good(*tokens, part(token, 0) + "." + part(token, 1)));
  EXPECT_FALSE(is_good(*tokens, token + "."));
  EXPECT_FALSE(is_good(*tokens, token + "AAAA"));
  EXPECT_FALSE(is_good(*tokens, ""));
  EXPECT_FALSE(is_good(*tokens, ".."));
  // {"alg":"none","typ":"JWT"}
  EXPECT_FALSE(is_good(*tokens, "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0." + part(token, 1) + "."));
  if (keys.open.empty()) {
    EXPECT_FALSE(is_good(*make(GetParam(), "another secret"), token));
  }
}

TEST_P(JwtMethod, EndsInTime) {
  const KeyPair keys = keys_for(GetParam());
  const auto tokens = make(GetParam(), keys.both, keys.open);
  ASSERT_NE(tokens, nullptr);
  const std::string token = *tokens->sign("alice", 3);
  clock_.now_ns += 59 * kSecondNs;
  EXPECT_TRUE(is_good(*tokens, token));
  clock_.now_ns += kSecondNs;
  EXPECT_FALSE(is_good(*tokens, token));
}

INSTANTIATE_TEST_SUITE_P(All, JwtMethod,
                         ::testing::Values("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384",
                                           "ES512", "HS256", "HS384", "HS512", "EdDSA"));

// Anybody has the public key.
TEST_F(Jwt, APublicKeyIsNoSharedSecret) {
  const KeyPair keys = rsa_keys();
  const auto tokens = make("RS256", keys.both, keys.open);
  const auto forger = make("HS256", keys.open);
  ASSERT_NE(tokens, nullptr);
  ASSERT_NE(forger, nullptr);
  EXPECT_FALSE(is_good(*tokens, *forger->sign("root", 1)));
}

TEST_F(Jwt, WithThePublicKeyAloneIsOnlyChecked) {
  const KeyPair keys = ec_keys("P-256");
  const auto signer = make("ES256", keys.both);
  const auto checker = make("ES256", "", keys.open);
  ASSERT_NE(checker, nullptr);
  EXPECT_TRUE(is_good(*checker, *signer->sign("alice", 1)));
  EXPECT_EQ(checker->sign("alice", 1).error(), errors::verify_only());
}

TEST_F(Jwt, MayBeAsLongAsMetadata) {
  const auto tokens = make("HS256", "a secret");
  EXPECT_TRUE(is_good(*tokens, *tokens->sign(std::string(40'000, 'a'), 1)));
  EXPECT_FALSE(is_good(*tokens, *tokens->sign(std::string(50'000, 'a'), 1)));
}

TEST_F(Jwt, WithoutFittingKeysDoesNotStart) {
  const KeyPair rsa = rsa_keys();
  const auto refused = [&](const char* method, const std::string& both, const std::string& open) {
    const auto made = make_jwt_tokens({.sign_method = method, .public_key = open, .private_key = both}, clock_);
    return made ? std::string() : made.error().message;
  };
  EXPECT_EQ(refused("RS256", "", ""), "auth: missing key data");
  EXPECT_EQ(refused("HS256", "", rsa.open), "auth: missing key data");
  EXPECT_EQ(refused("none", rsa.both, rsa.open), "auth: invalid auth options");
  EXPECT_EQ(refused("", rsa.both, rsa.open), "auth: invalid auth options");
  EXPECT_EQ(refused("RS256", rsa.both, rsa_keys().open), "auth: public and private keys don't match");
  EXPECT_EQ(refused("ES256", rsa.both, ""), "auth: not a key for ES256");
  EXPECT_EQ(refused("ES256", ec_keys("P-384").both, ""), "auth: not a key for ES256");
  EXPECT_EQ(refused("RS256", "no key", ""), "auth: not a key for RS256");
  EXPECT_EQ(refused("RS256", "", rsa.open), "");
}

TEST(JwtClaims, AreThoseThatEtcdAsksFor) {
  const auto claims = parse_jwt_claims(R"({"exp":1700000000,"revision":12,"username":"alice","more":[1,{"a":2}]})");
  ASSERT_TRUE(claims);
  EXPECT_EQ(claims->user, "alice");
  EXPECT_EQ(claims->revision, 12u);
  EXPECT_EQ(claims->ends_s, 1'700'000'000);
  EXPECT_TRUE(parse_jwt_claims(R"({"revision":1e1,"username":""})"));
  for (const char* const text :
       {"", "{", "[]", "null", "1", R"({"username":"a"})", R"({"revision":1})", R"({"revision":"1","username":"a"})",
        R"({"revision":1,"username":1})", R"({"revision":-1,"username":"a"})", R"({"revision":1e300,"username":"a"})",
        R"({"revision":1,"username":"a","exp":"soon"})", R"({"revision":1,"username":"a","nbf":"soon"})",
        R"({"revision":1,"username":"a"}x)", R"({"revision":1,"username":"a","exp":1e19})",
        "{\"revision\":1,\"username\":\"\xff\"}"}) {
    EXPECT_FALSE(parse_jwt_claims(text)) << text;
  }
}

// A token of somebody else's may say more than etcd asks for.
TEST(JwtClaims, MaySayAnythingElse) {
  const std::string nested = std::string(90, '[') + std::string(90, ']');
  for (const std::string& more : {nested, std::string("\"\xff\""), '"' + std::string(50'000, 'x') + '"'}) {
    EXPECT_TRUE(parse_jwt_claims(R"({"revision":1,"username":"a","more":)" + more + "}")) << more.substr(0, 99);
  }
}

}  // namespace
}  // namespace cairn::auth
