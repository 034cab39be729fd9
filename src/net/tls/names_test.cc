#include "net/tls/names.h"

#include <gtest/gtest.h>

namespace cairn::net {
namespace {

PeerCertificate named(std::vector<std::string> dns, std::vector<std::string> ips = {}, std::string common_name = "") {
  const bool has_names = !dns.empty() || !ips.empty();
  return {.common_name = std::move(common_name),
          .dns_names = std::move(dns),
          .ip_addresses = std::move(ips),
          .has_alternative_names = has_names};
}

bool is_for(const PeerCertificate& certificate, std::string_view host) {
  return !hostname_mismatch(certificate, host).has_value();
}

TEST(CertificateNames, AreComparedAsGoDoes) {
  struct Row {
    std::string name;
    std::string host;
    bool matches;
  };
  const Row rows[] = {
      {"a.example", "a.example", true},
      {"a.example", "A.EXAMPLE", true},
      {"A.Example", "a.example", true},
      {"a.example", "a.example.", true},
      {"a.example.", "a.example", false},
      {"a.example", "b.example", false},
      {"*.example", "a.example", true},
      {"*.example", "a.b.example", false},
      {"*.example", "example", false},
      {"*.example", ".example", false},
      {"a.*.example", "a.b.example", false},
      {"a*.example", "ab.example", false},
      {"*", "example", false},
      {"*", "*", true},
      {"a_b.example", "a_b.example", true},
      {"-a.example", "-a.example", true},
      {"a b", "a b", true},
      {"a b", "A B", true},
      {"a b", "a c", false},
      {"", "", false},
      {".", ".", false},
      {"a..b", "a..b", true},
      {"*.a b", "x.a b", false},
      {"127.0.0.1", "127.0.0.1", false},
  };
  for (const Row& row : rows) {
    EXPECT_EQ(is_for(named({row.name}), row.host), row.matches) << row.name << " " << row.host;
  }
}

TEST(CertificateNames, AddressesAreLookedForAmongAddresses) {
  const std::string four("\x7f\0\0\1", 4);
  const std::string mapped("\0\0\0\0\0\0\0\0\0\0\xff\xff\x7f\0\0\1", 16);
  const std::string six("\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1", 16);
  EXPECT_TRUE(is_for(named({}, {four}), "127.0.0.1"));
  EXPECT_TRUE(is_for(named({}, {mapped}), "127.0.0.1"));
  EXPECT_TRUE(is_for(named({}, {four}), "::ffff:127.0.0.1"));
  EXPECT_TRUE(is_for(named({}, {four}), "[127.0.0.1]"));
  EXPECT_TRUE(is_for(named({}, {six}), "::1"));
  EXPECT_TRUE(is_for(named({}, {six}), "[::1]"));
  EXPECT_FALSE(is_for(named({}, {four}), "127.0.0.2"));
  EXPECT_FALSE(is_for(named({}, {six}), "::2"));
}

TEST(CertificateNames, SayInGosWordsWhyNot) {
  const std::string four("\x7f\0\0\1", 4);
  EXPECT_EQ(hostname_mismatch(named({"a.example", "*.b"}), "c"),
            "x509: certificate is valid for a.example, *.b, not c");
  EXPECT_EQ(hostname_mismatch(named({}, {four}), "10.0.0.1"), "x509: certificate is valid for 127.0.0.1, not 10.0.0.1");
  EXPECT_EQ(hostname_mismatch(named({"a"}), "10.0.0.1"),
            "x509: cannot validate certificate for 10.0.0.1 because it doesn't contain any IP SANs");
  EXPECT_EQ(hostname_mismatch(named({}, {four}), "a"),
            "x509: certificate is not valid for any names, but wanted to match a");
  EXPECT_EQ(hostname_mismatch(named({}, {}, "a.example"), "a.example"),
            "x509: certificate relies on legacy Common Name field, use SANs instead");
  EXPECT_EQ(hostname_mismatch(named(std::vector<std::string>(100, "x")), "a"),
            "x509: certificate is valid for 100 names, but none matched a");
  EXPECT_EQ(ip_text("abc"), "?616263");
}

// DNS as a test has it.
NameLookup lookup_of(std::vector<std::string> names, std::vector<std::string> addresses, std::string failure = "") {
  return {.names_of =
              [names, failure](const std::string&, std::vector<std::string>& out) {
                out = names;
                return failure;
              },
          .addresses_of =
              [addresses, failure](const std::string&, std::vector<std::string>& out) {
                out = addresses;
                return failure;
              }};
}

TEST(RemoteNames, AreWhatTheCertificateSays) {
  const std::string four("\x7f\0\0\1", 4);
  const NameLookup nobody = lookup_of({}, {});
  EXPECT_EQ(remote_mismatch(named({}), "127.0.0.1", nobody), std::nullopt);
  EXPECT_EQ(remote_mismatch(named({}, {four}), "127.0.0.1", nobody), std::nullopt);
  EXPECT_EQ(remote_mismatch(named({}, {four}), "127.0.0.2", nobody),
            "x509: certificate is valid for 127.0.0.1, not 127.0.0.2");
  EXPECT_EQ(remote_mismatch(named({"a.b"}, {four}), "127.0.0.1", nobody), std::nullopt);
  EXPECT_EQ(remote_mismatch(named({"a.b"}), "10.0.0.1", lookup_of({"a.b."}, {})), std::nullopt);
  EXPECT_EQ(remote_mismatch(named({"*.b"}), "10.0.0.1", lookup_of({"x.y.b."}, {})), std::nullopt);
  EXPECT_EQ(remote_mismatch(named({"a.b"}), "10.0.0.1", lookup_of({}, {"10.0.0.1"})), std::nullopt);
  EXPECT_EQ(remote_mismatch(named({"*.b"}), "10.0.0.1", lookup_of({}, {"10.0.0.1"})),
            "tls: \"10.0.0.1\" does not match any of DNSNames [\"*.b\"]");
  EXPECT_EQ(remote_mismatch(named({"a", "b"}), "10.0.0.1", lookup_of({"c"}, {"10.0.0.2"}, "lookup a: no such host")),
            "tls: \"10.0.0.1\" does not match any of DNSNames [\"a\" \"b\"] (lookup a: no such host)");
}

}  // namespace
}  // namespace cairn::net
