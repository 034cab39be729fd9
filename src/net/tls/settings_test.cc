#include "net/tls/settings.h"

#include <gtest/gtest.h>

namespace cairn::net {
namespace {

std::string why(const Status& status) { return status ? "" : status.error().message; }

TEST(TlsSettings, VersionsAreCheckedAsEtcdDoes) {
  EXPECT_EQ(why(check_versions({})), "");
  EXPECT_EQ(why(check_versions({.version_min = "", .version_max = "TLS1.2"})), "");
  EXPECT_EQ(why(check_versions({.version_min = "TLS1.3", .version_max = "TLS1.3"})), "");
  EXPECT_EQ(why(check_versions({.version_min = "TLS1.1"})),
            "unexpected TLS version \"TLS1.1\" (must be one of: TLS1.2, TLS1.3)");
  EXPECT_EQ(why(check_versions({.version_max = "tls1.3"})),
            "unexpected TLS version \"tls1.3\" (must be one of: TLS1.2, TLS1.3)");
  EXPECT_EQ(why(check_versions({.version_min = "TLS1.3", .version_max = "TLS1.2"})),
            "min version (TLS1.3) is greater than max version (TLS1.2)");
  EXPECT_EQ(why(check_versions({.cipher_suites = {"TLS_AES_128_GCM_SHA256"}, .version_min = "TLS1.3"})),
            "cipher suites cannot be configured when only TLS1.3 is enabled");
}

TEST(TlsSettings, SuitesHaveGosNames) {
  EXPECT_EQ(why(check_cipher_suites(
                {"TLS_AES_128_GCM_SHA256", "TLS_RSA_WITH_RC4_128_SHA", "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305"})),
            "");
  EXPECT_EQ(why(check_cipher_suites({"ECDHE-RSA-AES128-GCM-SHA256"})),
            "unexpected TLS cipher suite \"ECDHE-RSA-AES128-GCM-SHA256\"");
  EXPECT_EQ(openssl_suites({}).up_to_12,
            "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"
            "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:"
            "ECDHE-ECDSA-AES128-SHA:ECDHE-RSA-AES128-SHA:ECDHE-ECDSA-AES256-SHA:ECDHE-RSA-AES256-SHA");
  // In Go's order, whatever the list's.
  const SuiteNames some = openssl_suites({"TLS_RSA_WITH_AES_128_CBC_SHA", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
                                          "TLS_RSA_WITH_3DES_EDE_CBC_SHA", "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305"});
  EXPECT_EQ(some.up_to_12, "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-CHACHA20-POLY1305:AES128-SHA");
  EXPECT_EQ(some.unknown, std::vector<std::string>{"TLS_RSA_WITH_3DES_EDE_CBC_SHA"});
  EXPECT_EQ(openssl_suites({"TLS_AES_128_GCM_SHA256"}).up_to_12, "");
}

TEST(TlsSettings, Http2NeedsItsSuite) {
  EXPECT_EQ(why(check_http2_suites({})), "");
  EXPECT_EQ(why(check_http2_suites({.cipher_suites = {"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"}})), "");
  EXPECT_EQ(why(check_http2_suites({.cipher_suites = {"TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"}})),
            "http2: TLSConfig.CipherSuites is missing an HTTP/2-required AES_128_GCM_SHA256 cipher (need at least one "
            "of TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 or TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256)");
}

}  // namespace
}  // namespace cairn::net
