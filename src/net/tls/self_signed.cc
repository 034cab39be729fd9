#include "net/tls/self_signed.h"

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <filesystem>
#include <memory>

#include <arpa/inet.h>
#include <fcntl.h>
#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "net/tls/openssl.h"

namespace cairn::net {
namespace {

constexpr int64_t kYearSeconds = int64_t{365} * 24 * 3600;
constexpr uint32_t kYearsMax = 5000;  // the calendar of certificates ends with the year 9999
constexpr int kSerialBits = 127;

bool is_file(const std::string& path) {
  struct stat found{};
  return ::stat(path.c_str(), &found) == 0;
}

bool is_ip(const std::string& host) {
  char bytes[16];
  return ::inet_pton(AF_INET, host.c_str(), bytes) == 1 || ::inet_pton(AF_INET6, host.c_str(), bytes) == 1;
}

Status add_extension(X509& certificate, int kind, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, &certificate, &certificate, nullptr, nullptr, 0);
  const std::unique_ptr<X509_EXTENSION, FreedBy<X509_EXTENSION_free>> extension(
      X509V3_EXT_conf_nid(nullptr, &context, kind, value.c_str()));
  if (extension == nullptr || X509_add_ext(&certificate, extension.get(), -1) != 1) {
    return fail(Code::kUnavailable, "tls: {}", openssl_error());
  }
  return {};
}

Result<X509Ptr> make_certificate(EVP_PKEY& key, const std::vector<std::string>& hosts, int64_t seconds) {
  X509Ptr certificate(X509_new());
  X509_set_version(certificate.get(), X509_VERSION_3);
  const std::unique_ptr<BIGNUM, FreedBy<BN_free>> serial(BN_new());
  BN_rand(serial.get(), kSerialBits, BN_RAND_TOP_ANY, BN_RAND_BOTTOM_ANY);
  BN_to_ASN1_INTEGER(serial.get(), X509_get_serialNumber(certificate.get()));
  const time_t now = std::time(nullptr);
  ASN1_TIME_set(X509_getm_notBefore(certificate.get()), now);
  ASN1_TIME_set(X509_getm_notAfter(certificate.get()), now + seconds);
  X509_NAME* const name = X509_get_subject_name(certificate.get());
  X509_NAME_add_entry_by_txt(name, "O", MBSTRING_ASC, reinterpret_cast<const unsigned char*>("etcd"), -1, -1, 0);
  X509_set_issuer_name(certificate.get(), name);
  X509_set_pubkey(certificate.get(), &key);
  CAIRN_CHECK(add_extension(*certificate, NID_basic_constraints, "critical,CA:TRUE"));
  CAIRN_CHECK(add_extension(*certificate, NID_key_usage, "critical,digitalSignature,keyEncipherment,cRLSign"));
  CAIRN_CHECK(add_extension(*certificate, NID_ext_key_usage, "serverAuth"));
  CAIRN_CHECK(add_extension(*certificate, NID_subject_key_identifier, "hash"));
  std::string names;
  for (const std::string& host : hosts) {
    // A name with a comma would be read as two.
    if (host.empty() || host.find(',') != std::string::npos) continue;
    names.append(names.empty() ? "" : ",").append(is_ip(host) ? "IP:" : "DNS:").append(host);
  }
  if (!names.empty()) CAIRN_CHECK(add_extension(*certificate, NID_subject_alt_name, names));
  if (X509_sign(certificate.get(), &key, EVP_sha512()) == 0) {
    return fail(Code::kUnavailable, "tls: {}", openssl_error());
  }
  return certificate;
}

Status write_pem(const std::string& path, mode_t mode, BIO& pem) {
  char* bytes = nullptr;
  const long length = BIO_get_mem_data(&pem, &bytes);
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
  if (fd < 0) return fail_errno(errno, "open " + path);
  const bool is_written = ::write(fd, bytes, static_cast<size_t>(length)) == length;
  const int error = errno;
  ::close(fd);
  if (!is_written) return fail_errno(error, "write " + path);
  return {};
}

}  // namespace

Result<SelfSigned> self_signed(const std::string& directory, const std::vector<std::string>& hosts, uint32_t years) {
  if (years == 0) {
    return fail(Code::kInvalidArgument, "selfSignedCertValidity is invalid,it should be greater than 0");
  }
  std::error_code error;
  const std::filesystem::path base = std::filesystem::absolute(directory, error);
  for (std::filesystem::path made; const auto& part : base) {
    made /= part;
    if (::mkdir(made.c_str(), 0700) != 0 && errno != EEXIST && !is_file(made)) {
      return fail_errno(errno, "mkdir " + made.string());
    }
  }
  SelfSigned out{base / "cert.pem", base / "key.pem"};
  if (is_file(out.cert_file) && is_file(out.key_file)) return out;
  const int64_t seconds = int64_t{std::min(years, kYearsMax)} * kYearSeconds;
  log::warn("automatically generate certificates", {{"certificate-validity-seconds", seconds}});
  const KeyPtr key(EVP_EC_gen("P-521"));
  if (key == nullptr) return fail(Code::kUnavailable, "tls: {}", openssl_error());
  CAIRN_TRY(const X509Ptr certificate, make_certificate(*key, hosts, seconds));
  const BioPtr certificate_pem(BIO_new(BIO_s_mem()));
  const BioPtr key_pem(BIO_new(BIO_s_mem()));
  if (PEM_write_bio_X509(certificate_pem.get(), certificate.get()) != 1 ||
      PEM_write_bio_PrivateKey_traditional(key_pem.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr) != 1) {
    return fail(Code::kUnavailable, "tls: {}", openssl_error());
  }
  CAIRN_CHECK(write_pem(out.cert_file, 0666, *certificate_pem));
  log::info("created cert file", {{"path", out.cert_file}});
  CAIRN_CHECK(write_pem(out.key_file, 0600, *key_pem));
  log::info("created key file", {{"path", out.key_file}});
  return out;
}

}  // namespace cairn::net
