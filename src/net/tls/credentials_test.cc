#include "net/tls/credentials.h"

#include <sys/stat.h>

#include <gtest/gtest.h>

#include "net/testing/certificates.h"
#include "net/tls/self_signed.h"
#include "net/tls/tls_context.h"
#include "testing/temp_dir.h"

namespace cairn::net {
namespace {

template <class T>
std::string why(const Result<T>& result) {
  return result ? "" : result.error().message;
}

TEST(Credentials, FailInGosWords) {
  Authority authority;
  const Issued one = authority.issue();
  const Issued other = authority.issue();
  EXPECT_EQ(why(parse_key_pair(one.certificate_pem, one.key_pem)), "");
  EXPECT_EQ(why(parse_key_pair(one.certificate_pem, other.key_pem)), "tls: private key does not match public key");
  EXPECT_EQ(why(parse_key_pair("", one.key_pem)), "tls: failed to find any PEM data in certificate input");
  EXPECT_EQ(why(parse_key_pair(one.key_pem, one.key_pem)),
            "tls: failed to find certificate PEM data in certificate input, but did find a private key; PEM inputs may "
            "have been switched");
  EXPECT_EQ(why(parse_key_pair(one.certificate_pem, "x")), "tls: failed to find any PEM data in key input");
  EXPECT_EQ(why(parse_key_pair(one.certificate_pem, one.certificate_pem)),
            "tls: found a certificate rather than a key in the PEM for the private key");
  const std::string odd = "-----BEGIN ODD-----\nAAAA\n-----END ODD-----\n";
  EXPECT_EQ(why(parse_key_pair(odd, one.key_pem)),
            "tls: failed to find \"CERTIFICATE\" PEM block in certificate input after skipping PEM blocks of the "
            "following types: [ODD]");
  EXPECT_EQ(why(parse_key_pair(one.certificate_pem, odd + odd)),
            "tls: failed to find PEM block with type ending in \"PRIVATE KEY\" in key input after skipping PEM blocks "
            "of the following types: [ODD ODD]");
  EXPECT_EQ(why(parse_key_pair("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", one.key_pem)),
            "x509: malformed certificate");
  EXPECT_EQ(why(parse_key_pair(one.certificate_pem, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")),
            "tls: failed to parse private key");
  EXPECT_EQ(why(read_key_pair("/nowhere/x", "/nowhere/y")), "open /nowhere/x: no such file or directory");
}

TEST(Credentials, KeysComeInEveryUsualForm) {
  for (const char* const kind : {"EC", "RSA", "ED25519"}) {
    const KeyPtr key(std::string_view(kind) == "EC"    ? EVP_EC_gen("P-384")
                     : std::string_view(kind) == "RSA" ? EVP_RSA_gen(2048)
                                                       : EVP_PKEY_Q_keygen(nullptr, nullptr, kind));
    const X509Ptr certificate(X509_new());
    X509_set_pubkey(certificate.get(), key.get());
    X509_gmtime_adj(X509_getm_notBefore(certificate.get()), 0);
    X509_gmtime_adj(X509_getm_notAfter(certificate.get()), 100);
    X509_sign(certificate.get(), key.get(), std::string_view(kind) == "ED25519" ? nullptr : EVP_sha256());
    const BioPtr certificate_pem(BIO_new(BIO_s_mem()));
    PEM_write_bio_X509(certificate_pem.get(), certificate.get());
    for (const bool is_traditional : {false, true}) {
      if (is_traditional && std::string_view(kind) == "ED25519") continue;
      const BioPtr key_pem(BIO_new(BIO_s_mem()));
      const auto write = is_traditional ? PEM_write_bio_PrivateKey_traditional : nullptr;
      write != nullptr ? write(key_pem.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr)
                       : PEM_write_bio_PKCS8PrivateKey(key_pem.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr);
      const auto text = [](BIO& bio) {
        char* bytes = nullptr;
        const long length = BIO_get_mem_data(&bio, &bytes);
        return std::string_view(bytes, static_cast<size_t>(length));
      };
      EXPECT_EQ(why(parse_key_pair(text(*certificate_pem), text(*key_pem))), "") << kind << is_traditional;
    }
  }
}

TEST(Credentials, NamesAreRead) {
  Authority authority;
  const Issued one = authority.issue({.common_name = "alice", .names = "DNS:a.example,IP:127.0.0.1,IP:::1"});
  const auto pair = parse_key_pair(one.certificate_pem, one.key_pem);
  ASSERT_TRUE(pair);
  const PeerCertificate found = describe(*pair->leaf);
  EXPECT_EQ(found.common_name, "alice");
  EXPECT_EQ(found.dns_names, std::vector<std::string>{"a.example"});
  ASSERT_EQ(found.ip_addresses.size(), 2u);
  EXPECT_EQ(found.ip_addresses[0], std::string("\x7f\0\0\1", 4));
  EXPECT_EQ(found.ip_addresses[1].size(), 16u);
  EXPECT_TRUE(found.has_alternative_names);
  const Issued bare = authority.issue({.common_name = "", .names = ""});
  EXPECT_FALSE(describe(*parse_key_pair(bare.certificate_pem, bare.key_pem)->leaf).has_alternative_names);
}

TEST(Credentials, RevokedSerialsAreRead) {
  const Authority authority;
  const auto list = parse_revoked(authority.revoked_list({1, 256, 65535}));
  ASSERT_TRUE(list);
  EXPECT_EQ(*list, (Serials{std::string("\1"), std::string("\1\0", 2), std::string("\xff\xff")}));
  EXPECT_EQ(why(parse_revoked("no list")), "x509: malformed crl");
  EXPECT_EQ(why(parse_revoked("")), "x509: malformed crl");
}

TEST(SelfSigned, IsMadeOnceAndIsUsable) {
  const cairn::testing::TempDir directory;
  const auto made = self_signed(directory / "fixtures/client", {"127.0.0.1", "localhost", "::1", ""}, 2);
  ASSERT_TRUE(made) << made.error().message;
  EXPECT_EQ(made->cert_file, directory / "fixtures/client/cert.pem");
  struct stat found{};
  ASSERT_EQ(::stat(made->key_file.c_str(), &found), 0);
  EXPECT_EQ(found.st_mode & 0777, 0600u);
  const auto pair = read_key_pair(made->cert_file, made->key_file);
  ASSERT_TRUE(pair) << pair.error().message;
  const PeerCertificate names = describe(*pair->leaf);
  EXPECT_EQ(names.dns_names, std::vector<std::string>{"localhost"});
  EXPECT_EQ(names.ip_addresses.size(), 2u);
  int days = 0;
  int seconds = 0;
  ASN1_TIME_diff(&days, &seconds, X509_get0_notBefore(pair->leaf.get()), X509_get0_notAfter(pair->leaf.get()));
  EXPECT_EQ(days, 730);
  const std::string before = serial_of(*pair->leaf);
  ASSERT_TRUE(self_signed(directory / "fixtures/client", {}, 1));
  EXPECT_EQ(serial_of(*read_key_pair(made->cert_file, made->key_file)->leaf), before);
  EXPECT_TRUE(TlsContext::open({.cert_file = made->cert_file, .key_file = made->key_file}));
  EXPECT_EQ(why(self_signed(directory / "x", {}, 0)), "selfSignedCertValidity is invalid,it should be greater than 0");
}

TEST(TlsContext, RefusesWhatCannotBeServed) {
  const cairn::testing::TempDir directory;
  Authority authority;
  const Issued issued = authority.issue();
  write_file(directory / "cert", issued.certificate_pem);
  write_file(directory / "key", issued.key_pem);
  write_file(directory / "odd", "odd");
  const TlsSettings good{.cert_file = directory / "cert", .key_file = directory / "key"};
  const auto open_with = [&good](auto change) {
    TlsSettings settings = good;
    change(settings);
    return why(TlsContext::open(settings));
  };
  EXPECT_EQ(open_with([](TlsSettings&) {}), "");
  EXPECT_EQ(open_with([](TlsSettings& it) { it.key_file = ""; }),
            "KeyFile and CertFile must both be present[key: , cert: " + good.cert_file + "]");
  EXPECT_EQ(open_with([](TlsSettings& it) { it.client_cert_file = "/x"; }),
            "ClientKeyFile and ClientCertFile must both be present or both absent: key: , cert: /x]");
  EXPECT_EQ(open_with([](TlsSettings& it) { it.client_cert_file = it.client_key_file = "/x"; }),
            "open /x: no such file or directory");
  EXPECT_EQ(open_with([](TlsSettings& it) { it.trusted_ca_file = "/x"; }), "open /x: no such file or directory");
  EXPECT_EQ(open_with([&](TlsSettings& it) { it.trusted_ca_file = directory / "odd"; }), "");  // nobody is trusted
  EXPECT_EQ(open_with([](TlsSettings& it) { it.crl_file = "/x"; }), "");                       // nobody enters
  EXPECT_EQ(open_with([](TlsSettings& it) { it.version_max = "TLS9"; }),
            "unexpected TLS version \"TLS9\" (must be one of: TLS1.2, TLS1.3)");
  EXPECT_EQ(open_with([](TlsSettings& it) { it.cipher_suites = {"TLS_AES_128_GCM_SHA256"}; }), "");
}

}  // namespace
}  // namespace cairn::net
