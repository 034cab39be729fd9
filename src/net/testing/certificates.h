// net/testing/certificates.h: certificates made for a test.
#pragma once

#include <ctime>
#include <fstream>
#include <string>
#include <string_view>

#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "base/check.h"
#include "net/tls/credentials.h"

namespace cairn::net {

inline void write_file(const std::string& path, std::string_view bytes) {
  // In one step, as tools that renew certificates do it.
  {
    std::ofstream out(path + ".new", std::ios::binary);
    out << bytes;
  }
  CAIRN_ASSERT(std::rename((path + ".new").c_str(), path.c_str()) == 0);
}

struct Issued {
  std::string certificate_pem;
  std::string key_pem;
  long serial = 0;
};

struct CertificateWish {
  std::string common_name;
  std::string names = "IP:127.0.0.1,DNS:localhost";  // subjectAltName in OpenSSL's words; "": none
  std::string usage = "serverAuth,clientAuth";       // "": any
  long days_from = -1;
  long days_to = 30;
};

// Signs what it is asked for.
class Authority {
 public:
  explicit Authority(std::string_view name = "authority")
      : key_(EVP_EC_gen("P-256")), certificate_(begin(name, -1, 30)) {
    X509_set_issuer_name(certificate_.get(), X509_get_subject_name(certificate_.get()));
    X509_set_pubkey(certificate_.get(), key_.get());
    extend(NID_basic_constraints, "critical,CA:TRUE", *certificate_);
    CAIRN_ASSERT(X509_sign(certificate_.get(), key_.get(), EVP_sha256()) != 0);
  }

  [[nodiscard]] std::string pem() const { return pem_of(*certificate_); }

  Issued issue(const CertificateWish& wish = {}) {
    const KeyPtr key(EVP_EC_gen("P-256"));
    const X509Ptr out = begin(wish.common_name, wish.days_from, wish.days_to);
    ASN1_INTEGER_set(X509_get_serialNumber(out.get()), ++last_serial_);
    X509_set_issuer_name(out.get(), X509_get_subject_name(certificate_.get()));
    X509_set_pubkey(out.get(), key.get());
    if (!wish.names.empty()) extend(NID_subject_alt_name, wish.names, *out);
    if (!wish.usage.empty()) extend(NID_ext_key_usage, wish.usage, *out);
    CAIRN_ASSERT(X509_sign(out.get(), key_.get(), EVP_sha256()) != 0);
    return {.certificate_pem = pem_of(*out), .key_pem = pem_of(*key), .serial = last_serial_};
  }

  // DER
  [[nodiscard]] std::string revoked_list(std::initializer_list<long> serials) const {
    const CrlPtr list(X509_CRL_new());
    X509_CRL_set_version(list.get(), X509_CRL_VERSION_2);
    X509_CRL_set_issuer_name(list.get(), X509_get_subject_name(certificate_.get()));
    ASN1_TIME* const now = X509_gmtime_adj(nullptr, 0);
    X509_CRL_set1_lastUpdate(list.get(), now);
    X509_CRL_set1_nextUpdate(list.get(), now);
    for (const long serial : serials) {
      X509_REVOKED* const entry = X509_REVOKED_new();
      ASN1_INTEGER* const number = ASN1_INTEGER_new();
      ASN1_INTEGER_set(number, serial);
      X509_REVOKED_set_serialNumber(entry, number);
      X509_REVOKED_set_revocationDate(entry, now);
      ASN1_INTEGER_free(number);
      X509_CRL_add0_revoked(list.get(), entry);
    }
    ASN1_TIME_free(now);
    CAIRN_ASSERT(X509_CRL_sign(list.get(), key_.get(), EVP_sha256()) != 0);
    unsigned char* der = nullptr;
    const int length = i2d_X509_CRL(list.get(), &der);
    CAIRN_ASSERT(length > 0);
    std::string out(reinterpret_cast<const char*>(der), static_cast<size_t>(length));
    OPENSSL_free(der);
    return out;
  }

 private:
  static X509Ptr begin(std::string_view name, long days_from, long days_to) {
    constexpr long kDaySeconds = 24 * 3600;
    X509Ptr out(X509_new());
    X509_set_version(out.get(), X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(out.get()), 1);
    X509_gmtime_adj(X509_getm_notBefore(out.get()), days_from * kDaySeconds);
    X509_gmtime_adj(X509_getm_notAfter(out.get()), days_to * kDaySeconds);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(out.get()), "CN", MBSTRING_UTF8,
                               reinterpret_cast<const unsigned char*>(name.data()), static_cast<int>(name.size()), -1,
                               0);
    return out;
  }
  static void extend(int kind, const std::string& value, X509& certificate) {
    X509_EXTENSION* const extension = X509V3_EXT_conf_nid(nullptr, nullptr, kind, value.c_str());
    CAIRN_ASSERT(extension != nullptr);
    X509_add_ext(&certificate, extension, -1);
    X509_EXTENSION_free(extension);
  }
  template <class Write>
  static std::string pem_with(const Write& write) {
    const BioPtr out(BIO_new(BIO_s_mem()));
    CAIRN_ASSERT(write(out.get()) == 1);
    char* bytes = nullptr;
    const long length = BIO_get_mem_data(out.get(), &bytes);
    return {bytes, static_cast<size_t>(length)};
  }
  static std::string pem_of(X509& certificate) {
    return pem_with([&](BIO* out) { return PEM_write_bio_X509(out, &certificate); });
  }
  static std::string pem_of(EVP_PKEY& key) {
    return pem_with(
        [&](BIO* out) { return PEM_write_bio_PrivateKey(out, &key, nullptr, nullptr, 0, nullptr, nullptr); });
  }

  KeyPtr key_;
  X509Ptr certificate_;
  long last_serial_ = 1000;
};

}  // namespace cairn::net
