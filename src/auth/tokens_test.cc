#include "auth/tokens.h"

#include <algorithm>
#include <cctype>

#include <gtest/gtest.h>

#include "base/errors.h"
#include "testing/manual_clock.h"

namespace cairn::auth {
namespace {

constexpr int64_t kSecondNs = 1'000'000'000;
constexpr int64_t kTtlNs = 300 * kSecondNs;

class SimpleToken : public ::testing::Test {
 protected:
  void SetUp() override { tokens_.enable(); }

  [[nodiscard]] bool is_good(std::string_view token) {
    const auto session = tokens_.find(token);
    return session != nullptr && tokens_.renew(*session);
  }

  testing::ManualClock clock_;
  SimpleTokens tokens_{clock_, kTtlNs};
};

TEST_F(SimpleToken, NamesItsUser) {
  tokens_.assign("alice", "abcdefghijklmnop", 12);
  const auto session = tokens_.find("abcdefghijklmnop.12");
  ASSERT_NE(session, nullptr);
  EXPECT_EQ(session->identity(7).user, "alice");
  EXPECT_EQ(session->identity(7).revision, 7u) << "of the rules of now";
  EXPECT_TRUE(session->identity(7).is_known);
}

TEST_F(SimpleToken, OfOthersIsNotGood) {
  tokens_.assign("alice", "abcdefghijklmnop", 12);
  for (const char* const forged :
       {"", ".", ".12", "abcdefghijklmnop", "abcdefghijklmnop.", "abcdefghijklmnop.13", "abcdefghijklmnoq.12",
        "abcdefghijklmno.12", "abcdefghijklmnop.012", "abcdefghijklmnop.12.", "abcdefghijklmnop.+12",
        "abcdefghijklmnop.-12", "abcdefghijklmnop.12 ", "abcdefghijklmnop.18446744073709551628", "12"}) {
    EXPECT_FALSE(is_good(forged)) << forged;
  }
  EXPECT_TRUE(is_good("abcdefghijklmnop.12"));
}

TEST_F(SimpleToken, LastsAsLongAsItIsUsed) {
  tokens_.assign("alice", "a", 1);
  for (int i = 0; i < 5; ++i) {
    clock_.now_ns += kTtlNs - 1;
    EXPECT_TRUE(is_good("a.1"));
  }
  clock_.now_ns += kTtlNs + kSecondNs;
  EXPECT_FALSE(is_good("a.1"));
  tokens_.assign("bob", "b", 2);
  EXPECT_EQ(tokens_.size(), 1u) << "those that are over are let go";
}

TEST_F(SimpleToken, LastsAsLongAsItIsUsedThoughItsTimeIsShort) {
  SimpleTokens tokens(clock_, kSecondNs);
  tokens.enable();
  tokens.assign("alice", "a", 1);
  const auto session = tokens.find("a.1");
  for (const int64_t part : {2, 3, 10, 1000}) {
    for (int64_t i = 0; i < 4 * part; ++i) {
      clock_.now_ns += kSecondNs / part;
      ASSERT_TRUE(tokens.renew(*session)) << part << " uses a second";
    }
  }
  clock_.now_ns += 2 * kSecondNs;
  EXPECT_FALSE(tokens.renew(*session));
}

TEST_F(SimpleToken, EndsWithItsUser) {
  tokens_.assign("alice", "a", 1);
  tokens_.assign("bob", "b", 2);
  const auto known = tokens_.find("a.1");
  tokens_.invalidate_user("alice");
  EXPECT_FALSE(is_good("a.1"));
  EXPECT_FALSE(tokens_.renew(*known)) << "also where it was seen before";
  EXPECT_TRUE(is_good("b.2"));
}

TEST_F(SimpleToken, EndsWhenAuthIsDisabled) {
  tokens_.assign("alice", "a", 1);
  tokens_.disable();
  EXPECT_FALSE(is_good("a.1"));
  tokens_.assign("alice", "b", 2);
  EXPECT_FALSE(is_good("b.2"));
  tokens_.enable();
  EXPECT_FALSE(is_good("a.1"));
}

TEST_F(SimpleToken, IsAnotherOneEachTime) {
  const std::string one = *tokens_.new_prefix();
  EXPECT_EQ(one.size(), 16u);
  EXPECT_TRUE(std::all_of(one.begin(), one.end(), [](unsigned char c) { return std::isalpha(c) != 0; }));
  EXPECT_NE(one, *tokens_.new_prefix());
}

TEST_F(SimpleToken, IsRememberedAndForgotten) {
  SessionMemo memo(tokens_, 42);
  tokens_.assign("alice", "a", 1);
  const Session* const first = memo.find("a.1");
  ASSERT_NE(first, nullptr);
  EXPECT_EQ(memo.find("a.1"), first);
  EXPECT_EQ(memo.find("a.2"), nullptr);
  EXPECT_EQ(memo.size(), 1u) << "what is no token is not kept";
  tokens_.invalidate_user("alice");
  EXPECT_EQ(memo.find("a.1"), nullptr);
  EXPECT_EQ(memo.size(), 0u);
}

TEST_F(SimpleToken, MemoHasABound) {
  SessionMemo memo(tokens_, 42);
  for (uint64_t i = 1; i <= 10'000; ++i) {
    tokens_.assign("alice", "a", i);
    ASSERT_NE(memo.find(simple_token("a", i)), nullptr);
  }
  EXPECT_LE(memo.size(), 4096u);
}

// --- what a call shows

class Identify : public SimpleToken {
 protected:
  void SetUp() override {
    SimpleToken::SetUp();
    tokens_.assign("alice", "a", 1);
  }
  Result<Identity> of(const Credentials& shown) { return identify(shown, rules_, memo_); }

  Rules rules_{true, 9, {}};
  SessionMemo memo_{tokens_, 42};
};

TEST_F(Identify, ByToken) {
  EXPECT_EQ(of({.token = "a.1"})->user, "alice");
  EXPECT_EQ(of({.token = "a.1"})->revision, 9u);
  EXPECT_EQ(of({.token = "Bearer a.1"})->user, "alice");
  EXPECT_EQ(of({.token = "bearer a.1"}).error(), errors::invalid_auth_token());
  EXPECT_EQ(of({.token = "a.2"}).error(), errors::invalid_auth_token());
  EXPECT_EQ(of({.token = ""}).error(), errors::invalid_auth_token());
}

TEST_F(Identify, ByTheCommonNameOfACertificate) {
  const auto who = of({.common_name = "bob"});
  EXPECT_EQ(who->user, "bob");
  EXPECT_EQ(who->revision, 9u);
  EXPECT_TRUE(who->is_known);
  EXPECT_TRUE(of({.common_name = ""})->is_known) << "as in etcd, a certificate that names nobody";
  EXPECT_FALSE(of({})->is_known);
  EXPECT_FALSE(of({.common_name = "b\xff"})->is_known) << "it could not stand in the log";
  EXPECT_EQ(of({.token = "a.1", .common_name = "bob"})->user, "alice") << "a token goes first";
  EXPECT_FALSE(of({.token = "a.2", .common_name = "bob"})) << "a bad token is not made good by a certificate";
}

// CVE-2018-16886: through the gateway everybody had the name in the gateway's certificate.
TEST_F(Identify, NotByTheCertificateOfTheGateway) {
  EXPECT_FALSE(of({.common_name = "root", .is_through_gateway = true})->is_known);
  EXPECT_EQ(of({.token = "a.1", .common_name = "root", .is_through_gateway = true})->user, "alice");
}

TEST_F(Identify, NobodyWithoutBoth) {
  EXPECT_FALSE(of({})->is_known);
  EXPECT_EQ(of({})->revision, 0u);
}

TEST_F(Identify, NobodyWhileAuthIsOff) {
  rules_ = Rules(false, 9, {});
  EXPECT_FALSE(of({.token = "a.1"})->is_known);
  EXPECT_TRUE(of({.token = "no token"})) << "as etcd, which does not look at it";
}

TEST(NoToken, IsGivenOrGood) {
  NoTokens tokens;
  EXPECT_EQ(tokens.find("a.1"), nullptr);
  EXPECT_EQ(tokens.new_prefix().error(), errors::auth_failed());
}

TEST(TokenOptions, AreThoseOfEtcd) {
  EXPECT_EQ(parse_token_options("simple")->kind, TokenOptions::Kind::kSimple);
  EXPECT_EQ(parse_token_options("")->kind, TokenOptions::Kind::kNone);
  const auto jwt = parse_token_options("jwt,pub-key=a.pem,priv-key=b.pem,sign-method=RS256,ttl=10m,else=x");
  ASSERT_TRUE(jwt);
  EXPECT_EQ(jwt->kind, TokenOptions::Kind::kJwt);
  EXPECT_EQ(jwt->public_key_file, "a.pem");
  EXPECT_EQ(jwt->private_key_file, "b.pem");
  EXPECT_EQ(jwt->sign_method, "RS256");
  EXPECT_EQ(jwt->ttl_ns, 600'000'000'000);
  EXPECT_EQ(jwt->unknown, std::vector<std::string>{"else"});
  EXPECT_EQ(parse_token_options("jwt,sign-method=RS256")->ttl_ns, 300'000'000'000);
  for (const char* const text :
       {"simples", "jwt,", "jwt,ttl", "jwt,ttl=x", "jwt,a=b=c", "jwt,ttl=1s,ttl=2s", "Simple"}) {
    const auto parsed = parse_token_options(text);
    ASSERT_FALSE(parsed) << text;
    EXPECT_EQ(parsed.error().message, "auth: invalid auth options");
  }
}

}  // namespace
}  // namespace cairn::auth
