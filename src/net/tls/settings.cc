#include "net/tls/settings.h"

#include <algorithm>
#include <array>
#include <string_view>

namespace cairn::net {
namespace {

enum class Kind : uint8_t {
  kDefault,   // used when nothing is said
  kOnDemand,  // Go's "insecure" ones
  kMissing,   // the same, and OpenSSL does not have it
  kTls13,     // always used where TLS 1.3 is
  kAlias,     // another name of one above
};

struct Suite {
  std::string_view name;     // Go's
  std::string_view openssl;  // "": it has none
  Kind kind = Kind::kDefault;
};

using enum Kind;

// In Go's order of preference on a processor with AES instructions.
constexpr auto kSuites = std::to_array<Suite>({
    {"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256"},
    {"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "ECDHE-RSA-AES128-GCM-SHA256"},
    {"TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "ECDHE-ECDSA-AES256-GCM-SHA384"},
    {"TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "ECDHE-RSA-AES256-GCM-SHA384"},
    {"TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305"},
    {"TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", "ECDHE-RSA-CHACHA20-POLY1305"},
    {"TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA", "ECDHE-ECDSA-AES128-SHA"},
    {"TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA", "ECDHE-RSA-AES128-SHA"},
    {"TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA", "ECDHE-ECDSA-AES256-SHA"},
    {"TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA", "ECDHE-RSA-AES256-SHA"},
    {"TLS_RSA_WITH_AES_128_GCM_SHA256", "AES128-GCM-SHA256", kOnDemand},
    {"TLS_RSA_WITH_AES_256_GCM_SHA384", "AES256-GCM-SHA384", kOnDemand},
    {"TLS_RSA_WITH_AES_128_CBC_SHA", "AES128-SHA", kOnDemand},
    {"TLS_RSA_WITH_AES_256_CBC_SHA", "AES256-SHA", kOnDemand},
    {"TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA", "", kMissing},
    {"TLS_RSA_WITH_3DES_EDE_CBC_SHA", "", kMissing},
    {"TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256", "ECDHE-ECDSA-AES128-SHA256", kOnDemand},
    {"TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256", "ECDHE-RSA-AES128-SHA256", kOnDemand},
    {"TLS_RSA_WITH_AES_128_CBC_SHA256", "AES128-SHA256", kOnDemand},
    {"TLS_ECDHE_ECDSA_WITH_RC4_128_SHA", "", kMissing},
    {"TLS_ECDHE_RSA_WITH_RC4_128_SHA", "", kMissing},
    {"TLS_RSA_WITH_RC4_128_SHA", "", kMissing},
    {"TLS_AES_128_GCM_SHA256", "", kTls13},
    {"TLS_AES_256_GCM_SHA384", "", kTls13},
    {"TLS_CHACHA20_POLY1305_SHA256", "", kTls13},
    {"TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305", "ECDHE-RSA-CHACHA20-POLY1305", kAlias},
    {"TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305", "ECDHE-ECDSA-CHACHA20-POLY1305", kAlias},
});

bool contains(const std::vector<std::string>& suites, std::string_view name) {
  return std::ranges::find(suites, name) != suites.end();
}

// 0: none is asked for.
Result<int> version_number(std::string_view text) {
  if (text.empty()) return 0;
  if (text == "TLS1.2") return 12;
  if (text == "TLS1.3") return 13;
  return fail(Code::kInvalidArgument, "unexpected TLS version \"{}\" (must be one of: TLS1.2, TLS1.3)", text);
}

}  // namespace

Status check_versions(const TlsSettings& settings) {
  CAIRN_TRY(const int least, version_number(settings.version_min));
  CAIRN_TRY(const int most, version_number(settings.version_max));
  if (most != 0 && least > most) {
    return fail(Code::kInvalidArgument, "min version ({}) is greater than max version ({})", settings.version_min,
                settings.version_max);
  }
  if (least == 13 && !settings.cipher_suites.empty()) {
    return fail(Code::kInvalidArgument, "cipher suites cannot be configured when only TLS1.3 is enabled");
  }
  return {};
}

Status check_cipher_suites(const std::vector<std::string>& suites) {
  for (const std::string& name : suites) {
    if (std::ranges::find(kSuites, name, &Suite::name) == kSuites.end()) {
      return fail(Code::kInvalidArgument, "unexpected TLS cipher suite \"{}\"", name);
    }
  }
  return {};
}

Status check_http2_suites(const TlsSettings& settings) {
  if (settings.cipher_suites.empty() || settings.version_min == "TLS1.3") return {};
  if (contains(settings.cipher_suites, "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256") ||
      contains(settings.cipher_suites, "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256")) {
    return {};
  }
  return fail(Code::kInvalidArgument,
              "http2: TLSConfig.CipherSuites is missing an HTTP/2-required AES_128_GCM_SHA256 cipher (need at least "
              "one of TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 or TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256)");
}

SuiteNames openssl_suites(const std::vector<std::string>& suites) {
  const auto asks_for = [&](const Suite& suite) {
    if (suites.empty()) return suite.kind == kDefault;
    if (contains(suites, suite.name)) return true;
    return std::ranges::any_of(kSuites, [&](const Suite& other) {
      return other.kind == kAlias && other.openssl == suite.openssl && contains(suites, other.name);
    });
  };
  SuiteNames out;
  for (const Suite& suite : kSuites) {
    if (suite.kind == kTls13 || suite.kind == kAlias || !asks_for(suite)) continue;
    if (suite.openssl.empty()) {
      out.unknown.emplace_back(suite.name);
    } else {
      out.up_to_12.append(out.up_to_12.empty() ? "" : ":").append(suite.openssl);
    }
  }
  return out;
}

}  // namespace cairn::net
