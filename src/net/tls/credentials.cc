#include "net/tls/credentials.h"

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>
#include <iterator>
#include <utility>

#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <unistd.h>

namespace cairn::net {
namespace {

constexpr size_t kFileBytesMax = 64 << 20;

struct PemBlock {
  std::string type;
  std::string bytes;
};

// What is no block is passed over.
std::vector<PemBlock> pem_blocks(std::string_view pem) {
  std::vector<PemBlock> out;
  if (pem.size() > INT_MAX) return out;
  const BioPtr in(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  char* type = nullptr;
  char* header = nullptr;
  unsigned char* bytes = nullptr;
  long length = 0;
  while (PEM_read_bio(in.get(), &type, &header, &bytes, &length) == 1) {
    out.push_back({type, std::string(reinterpret_cast<const char*>(bytes), static_cast<size_t>(length))});
    OPENSSL_free(type);
    OPENSSL_free(header);
    OPENSSL_free(bytes);
  }
  ERR_clear_error();
  return out;
}

std::string types_of(const std::vector<PemBlock>& blocks) {
  std::string out;
  for (const PemBlock& block : blocks) out.append(out.empty() ? "[" : " ").append(block.type);
  return out + "]";
}

// Go reads no certificates with keys on other curves.
bool is_on_foreign_curve(const X509& certificate) {
  const EVP_PKEY* const key = X509_get0_pubkey(&certificate);
  if (key == nullptr || EVP_PKEY_base_id(key) != EVP_PKEY_EC) return false;
  char name[64] = "";
  EVP_PKEY_get_group_name(key, name, sizeof name, nullptr);
  constexpr std::string_view kCurves[] = {"secp224r1", "prime256v1", "secp384r1", "secp521r1"};
  return std::ranges::find(kCurves, std::string_view(name)) == std::end(kCurves);
}

Result<X509Ptr> parse_certificate(std::string_view der) {
  const auto* at = reinterpret_cast<const unsigned char*>(der.data());
  X509Ptr out(d2i_X509(nullptr, &at, static_cast<long>(der.size())));
  ERR_clear_error();
  if (out == nullptr || at != reinterpret_cast<const unsigned char*>(der.data()) + der.size()) {
    return fail(Code::kInvalidArgument, "x509: malformed certificate");
  }
  if (is_on_foreign_curve(*out)) return fail(Code::kInvalidArgument, "x509: unsupported elliptic curve");
  ERR_clear_error();
  return out;
}

Result<KeyPtr> parse_key(std::string_view der) {
  const auto* at = reinterpret_cast<const unsigned char*>(der.data());
  KeyPtr out(d2i_AutoPrivateKey(nullptr, &at, static_cast<long>(der.size())));
  ERR_clear_error();
  const int kind = out == nullptr ? EVP_PKEY_NONE : EVP_PKEY_base_id(out.get());
  if (kind == EVP_PKEY_RSA || kind == EVP_PKEY_EC || kind == EVP_PKEY_ED25519) return out;
  if (kind == EVP_PKEY_X25519) {
    return fail(Code::kInvalidArgument, "tls: found unknown private key type in PKCS#8 wrapping");
  }
  return fail(Code::kInvalidArgument, "tls: failed to parse private key");
}

Result<std::vector<PemBlock>> certificate_blocks(std::string_view pem) {
  std::vector<PemBlock> found;
  std::vector<PemBlock> skipped;
  for (PemBlock& block : pem_blocks(pem)) {
    (block.type == "CERTIFICATE" ? found : skipped).push_back(std::move(block));
  }
  if (!found.empty()) return found;
  if (skipped.empty()) {
    return fail(Code::kInvalidArgument, "tls: failed to find any PEM data in certificate input");
  }
  if (skipped.size() == 1 && skipped.front().type.ends_with("PRIVATE KEY")) {
    return fail(Code::kInvalidArgument,
                "tls: failed to find certificate PEM data in certificate input, but did find a private key; PEM inputs "
                "may have been switched");
  }
  return fail(Code::kInvalidArgument,
              "tls: failed to find \"CERTIFICATE\" PEM block in certificate input after skipping PEM blocks of the "
              "following types: {}",
              types_of(skipped));
}

Result<PemBlock> key_block(std::string_view pem) {
  std::vector<PemBlock> skipped;
  for (PemBlock& block : pem_blocks(pem)) {
    if (block.type == "PRIVATE KEY" || block.type.ends_with(" PRIVATE KEY")) return std::move(block);
    skipped.push_back(std::move(block));
  }
  if (skipped.empty()) return fail(Code::kInvalidArgument, "tls: failed to find any PEM data in key input");
  if (skipped.size() == 1 && skipped.front().type == "CERTIFICATE") {
    return fail(Code::kInvalidArgument, "tls: found a certificate rather than a key in the PEM for the private key");
  }
  return fail(Code::kInvalidArgument,
              "tls: failed to find PEM block with type ending in \"PRIVATE KEY\" in key input after skipping PEM "
              "blocks of the following types: {}",
              types_of(skipped));
}

Status check_match(const X509& leaf, const EVP_PKEY& key) {
  const int outcome = EVP_PKEY_eq(X509_get0_pubkey(&leaf), &key);
  ERR_clear_error();
  if (outcome == 1) return {};
  if (outcome == 0) return fail(Code::kInvalidArgument, "tls: private key does not match public key");
  return fail(Code::kInvalidArgument, "tls: private key type does not match public key type");
}

std::string text_of(const ASN1_STRING* text) {
  unsigned char* utf8 = nullptr;
  const int length = ASN1_STRING_to_UTF8(&utf8, text);
  if (length < 0) return {};
  std::string out(reinterpret_cast<const char*>(utf8), static_cast<size_t>(length));
  OPENSSL_free(utf8);
  return out;
}

std::string bytes_of(const ASN1_STRING* text) {
  return {reinterpret_cast<const char*>(ASN1_STRING_get0_data(text)), static_cast<size_t>(ASN1_STRING_length(text))};
}

std::string serial_text(const ASN1_INTEGER* serial) {
  std::string out = bytes_of(serial);
  out.erase(0, out.find_first_not_of('\0'));
  return out;
}

}  // namespace

std::string openssl_error() {
  char text[256];
  ERR_error_string_n(ERR_peek_error(), text, sizeof text);
  ERR_clear_error();
  return text;
}

Result<std::string> read_whole_file(const std::string& path) {
  const auto failed = [&path](std::string_view what, int error) {
    std::string why = std::strerror(error);  // Go's texts begin with a small letter
    if (why[0] >= 'A' && why[0] <= 'Z') why[0] = static_cast<char>(why[0] - 'A' + 'a');
    return fail(error == ENOENT ? Code::kNotFound : Code::kUnavailable, "{} {}: {}", what, path, why);
  };
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // a pipe must not hold the thread
  if (fd < 0) return failed("open", errno);
  std::string out;
  char buffer[16 * 1024];
  ssize_t bytes = 0;
  while (out.size() < kFileBytesMax && (bytes = ::read(fd, buffer, sizeof buffer)) != 0) {
    if (bytes < 0 && errno == EINTR) continue;
    if (bytes < 0) {
      const int error = errno;
      ::close(fd);
      return failed("read", error);
    }
    out.append(buffer, static_cast<size_t>(bytes));
  }
  ::close(fd);
  return out;
}

Result<KeyPair> parse_key_pair(std::string_view certificate_pem, std::string_view key_pem) {
  CAIRN_TRY(const std::vector<PemBlock> certificates, certificate_blocks(certificate_pem));
  CAIRN_TRY(const PemBlock key, key_block(key_pem));
  KeyPair out;
  CAIRN_TRY(out.leaf, parse_certificate(certificates.front().bytes));
  CAIRN_TRY(out.key, parse_key(key.bytes));
  CAIRN_CHECK(check_match(*out.leaf, *out.key));
  for (size_t i = 1; i < certificates.size(); ++i) {
    CAIRN_TRY(X509Ptr next, parse_certificate(certificates[i].bytes));
    out.chain.push_back(std::move(next));
  }
  return out;
}

Result<KeyPair> read_key_pair(const std::string& cert_file, const std::string& key_file) {
  CAIRN_TRY(const std::string certificate, read_whole_file(cert_file));
  CAIRN_TRY(const std::string key, read_whole_file(key_file));
  return parse_key_pair(certificate, key);
}

Result<std::vector<X509Ptr>> parse_certificates(std::string_view pem) {
  std::vector<X509Ptr> out;
  for (const PemBlock& block : pem_blocks(pem)) {
    CAIRN_TRY(X509Ptr certificate, parse_certificate(block.bytes));
    out.push_back(std::move(certificate));
  }
  return out;
}

Result<Serials> parse_revoked(std::string_view bytes) {
  // compat: etcd 3.7 takes DER alone; up to 3.5 it took PEM too, and so do we.
  const std::vector<PemBlock> blocks = pem_blocks(bytes);
  const std::string_view der = blocks.empty() ? bytes : std::string_view(blocks.front().bytes);
  const auto* at = reinterpret_cast<const unsigned char*>(der.data());
  const CrlPtr list(d2i_X509_CRL(nullptr, &at, static_cast<long>(der.size())));
  ERR_clear_error();
  if (list == nullptr) return fail(Code::kInvalidArgument, "x509: malformed crl");
  Serials out;
  const STACK_OF(X509_REVOKED)* const revoked = X509_CRL_get_REVOKED(list.get());
  for (int i = 0; i < sk_X509_REVOKED_num(revoked); ++i) {
    out.insert(serial_text(X509_REVOKED_get0_serialNumber(sk_X509_REVOKED_value(revoked, i))));
  }
  return out;
}

std::string serial_of(const X509& certificate) { return serial_text(X509_get0_serialNumber(&certificate)); }

PeerCertificate describe(const X509& certificate) {
  PeerCertificate out;
  const X509_NAME* const subject = X509_get_subject_name(&certificate);
  for (int at = -1; (at = X509_NAME_get_index_by_NID(subject, NID_commonName, at)) >= 0;) {
    out.common_name = text_of(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
  }
  out.has_alternative_names = X509_get_ext_by_NID(&certificate, NID_subject_alt_name, -1) >= 0;
  auto* const names =
      static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(&certificate, NID_subject_alt_name, nullptr, nullptr));
  for (int i = 0; i < sk_GENERAL_NAME_num(names); ++i) {
    const GENERAL_NAME* const name = sk_GENERAL_NAME_value(names, i);
    if (name->type == GEN_DNS) out.dns_names.push_back(bytes_of(name->d.dNSName));
    if (name->type == GEN_IPADD) out.ip_addresses.push_back(bytes_of(name->d.iPAddress));
  }
  GENERAL_NAMES_free(names);
  ERR_clear_error();
  return out;
}

}  // namespace cairn::net
