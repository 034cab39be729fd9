#include "net/tls/tls_transport.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iterator>
#include <utility>

#include <arpa/inet.h>
#include <fmt/format.h>
#include <linux/sockios.h>
#include <openssl/err.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/check.h"
#include "base/release.h"
#include "net/listener.h"
#include "net/tls/credentials.h"

namespace cairn::net {

namespace {

// As Go: messages that bring nothing (new keys above all, each of which takes arithmetic) end a connection. OpenSSL
// would go on with them, in one call, as long as they come.
constexpr unsigned kIdleMessagesMax = 16;

}  // namespace

// The functions through which OpenSSL reads and writes: TlsTransport in another syntax.
struct TlsBio {
  static TlsTransport& self(BIO* bio) { return *static_cast<TlsTransport*>(BIO_get_data(bio)); }

  static int write(BIO* bio, const char* bytes, size_t length, size_t* written) {
    TlsTransport& transport = self(bio);
    BIO_clear_retry_flags(bio);
    *written = 0;
    for (;;) {
      const ssize_t sent = ::send(transport.fd_, bytes, length, MSG_NOSIGNAL);
      if (sent >= 0) {
        *written = static_cast<size_t>(sent);
        transport.sent_bytes_ += *written;
        return 1;
      }
      if (errno == EINTR) continue;
      if (errno == EAGAIN || errno == EWOULDBLOCK) {
        BIO_set_retry_write(bio);
      } else {
        transport.socket_error_ = errno;
      }
      return -1;
    }
  }

  static int read(BIO* bio, char* into, size_t length, size_t* got) {
    TlsTransport& transport = self(bio);
    BIO_clear_retry_flags(bio);
    *got = 0;
    if (transport.idle_messages_ > kIdleMessagesMax) {
      transport.socket_error_ = EPROTO;
      return -1;
    }
    if (const size_t early = transport.early_.size() - transport.early_offset_; early > 0) {
      *got = std::min(early, length);
      std::memcpy(into, transport.early_.data() + transport.early_offset_, *got);
      transport.early_offset_ += *got;
      if (transport.early_offset_ == transport.early_.size()) {
        release(transport.early_);
        transport.early_offset_ = 0;
      }
      return 1;
    }
    for (;;) {
      const ssize_t bytes = ::recv(transport.fd_, into, length, 0);
      if (bytes > 0) {
        *got = static_cast<size_t>(bytes);
        return 1;
      }
      if (bytes == 0) {
        transport.socket_ended_ = true;
        return 0;
      }
      if (errno == EINTR) continue;
      if (errno == EAGAIN || errno == EWOULDBLOCK) {
        BIO_set_retry_read(bio);
      } else {
        transport.socket_error_ = errno;
      }
      return -1;
    }
  }

  static long control(BIO* bio, int command, long, void*) {
    if (command == BIO_CTRL_EOF) return self(bio).socket_ended_ ? 1 : 0;
    return command == BIO_CTRL_FLUSH || command == BIO_CTRL_DUP ? 1 : 0;
  }

  static BIO_METHOD* method() {
    static BIO_METHOD* const made = [] {
      BIO_METHOD* const out = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "cairn");
      BIO_meth_set_write_ex(out, write);
      BIO_meth_set_read_ex(out, read);
      BIO_meth_set_ctrl(out, control);
      return out;
    }();
    return made;
  }
};

namespace {

struct AlertName {
  int number;
  std::string_view go_text;
};

// Go's names of alerts.
constexpr AlertName kAlerts[] = {
    {0, "close notify"},
    {10, "unexpected message"},
    {20, "bad record MAC"},
    {21, "decryption failed"},
    {22, "record overflow"},
    {30, "decompression failure"},
    {40, "handshake failure"},
    {42, "bad certificate"},
    {43, "unsupported certificate"},
    {44, "revoked certificate"},
    {45, "expired certificate"},
    {46, "unknown certificate"},
    {47, "illegal parameter"},
    {48, "unknown certificate authority"},
    {49, "access denied"},
    {50, "error decoding message"},
    {51, "error decrypting message"},
    {60, "export restriction"},
    {70, "protocol version not supported"},
    {71, "insufficient security level"},
    {80, "internal error"},
    {86, "inappropriate fallback"},
    {90, "user canceled"},
    {100, "no renegotiation"},
    {109, "missing extension"},
    {110, "unsupported extension"},
    {112, "unrecognized name"},
    {116, "certificate required"},
    {120, "no application protocol"},
};

std::string alert_text(int number) {
  for (const AlertName& alert : kAlerts) {
    if (alert.number == number) return std::string(alert.go_text);
  }
  return fmt::format("tls: alert({})", number);
}

}  // namespace

TlsTransport::TlsTransport(int fd, SslPtr session, std::string early)
    : fd_(fd), session_(std::move(session)), early_(std::move(early)) {
  BIO* const bio = BIO_new(TlsBio::method());
  CAIRN_ASSERT(session_ != nullptr && bio != nullptr);
  BIO_set_data(bio, this);
  BIO_set_init(bio, 1);
  SSL_set_bio(session_.get(), bio, bio);  // takes it
  SSL_set_app_data(session_.get(), this);
  SSL_set_accept_state(session_.get());
  SSL_set_msg_callback(session_.get(), on_message);
  SSL_set_msg_callback_arg(session_.get(), this);
}

std::unique_ptr<TlsTransport> TlsTransport::of_client(int fd, SslPtr session, std::string server_host) {
  auto out = std::make_unique<TlsTransport>(fd, std::move(session), std::string());
  SSL_set_connect_state(out->session_.get());
  // An address is no name of a server (RFC 6066, 3).
  in6_addr parsed{};
  const bool is_address = ::inet_pton(AF_INET, server_host.c_str(), &parsed) == 1 ||
                          ::inet_pton(AF_INET6, server_host.c_str(), &parsed) == 1;
  if (!is_address) SSL_set_tlsext_host_name(out->session_.get(), server_host.c_str());
  out->server_host_ = std::move(server_host);
  return out;
}

void TlsTransport::on_message(int is_written, int, int type, const void*, size_t, SSL*, void* transport) {
  if (is_written == 0 && type == SSL3_RT_HANDSHAKE) ++static_cast<TlsTransport*>(transport)->idle_messages_;
}

TlsTransport::~TlsTransport() = default;

Transport::Outcome TlsTransport::outcome_of(int result) const {
  switch (SSL_get_error(session_.get(), result)) {
    case SSL_ERROR_WANT_READ: return Outcome::kWantsReadable;
    case SSL_ERROR_WANT_WRITE: return Outcome::kWantsWritable;
    default: return Outcome::kClosed;
  }
}

Transport::Outcome TlsTransport::shake_hands() {
  ERR_clear_error();
  const int result = SSL_do_handshake(session_.get());
  if (result == 1) {
    idle_messages_ = 0;
    note_certificates();
    note_offer({}, {});
    // What came with the client's last words is here already, or in OpenSSL.
    may_have_unread_ = SSL_has_pending(session_.get()) == 1 || early_offset_ < early_.size();
    return Outcome::kDone;
  }
  const Outcome outcome = outcome_of(result);
  if (outcome == Outcome::kClosed) {
    note_failure(handshake_error());
    ERR_clear_error();
  }
  return outcome;
}

void TlsTransport::note_failure(std::string text) {
  if (failure_.empty()) failure_ = std::move(text);
}

std::string TlsTransport::handshake_error() const {
  if (socket_error_ != 0) {
    std::string why = std::strerror(socket_error_);
    if (why[0] >= 'A' && why[0] <= 'Z') why[0] = static_cast<char>(why[0] - 'A' + 'a');
    return fmt::format("read tcp {}->{}: read: {}", socket_address(fd_, true), socket_address(fd_, false), why);
  }
  const unsigned long error = ERR_peek_error();
  const int reason = ERR_GET_LIB(error) == ERR_LIB_SSL ? ERR_GET_REASON(error) : 0;
  if (reason >= SSL_AD_REASON_OFFSET) {
    return "remote error: tls: " + alert_text(reason - SSL_AD_REASON_OFFSET);
  }
  switch (reason) {
    case SSL_R_UNEXPECTED_EOF_WHILE_READING: return "EOF";
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE: return "tls: client didn't provide a certificate";
    case SSL_R_NO_SHARED_CIPHER:
      return fmt::format("tls: no cipher suite supported by both client and server; client offered: [{}]",
                         offered_suites_);
    case SSL_R_UNSUPPORTED_PROTOCOL:
    case SSL_R_VERSION_TOO_LOW:
    case SSL_R_NO_PROTOCOLS_AVAILABLE:
      return fmt::format("tls: client offered only unsupported versions: [{}]", offered_versions_);
    default: break;
  }
  if (error == 0) return "EOF";
  const char* const text = ERR_reason_error_string(error);
  return fmt::format("tls: {}", text != nullptr ? text : "handshake failed");
}

void TlsTransport::note_certificates() {
  const X509* const leaf = SSL_get0_peer_certificate(session_.get());
  if (leaf == nullptr) return;
  certificate_ = std::make_shared<const PeerCertificate>(describe(*leaf));
  shown_serials_.push_back(serial_of(*leaf));
  STACK_OF(X509)* const chain = SSL_get_peer_cert_chain(session_.get());
  for (int i = 0; i < sk_X509_num(chain); ++i) {
    const X509* const each = sk_X509_value(chain, i);
    if (X509_cmp(each, leaf) != 0) shown_serials_.push_back(serial_of(*each));
  }
}

std::string TlsTransport::server_name() const {
  const char* const name = SSL_get_servername(session_.get(), TLSEXT_NAMETYPE_host_name);
  return name == nullptr ? "" : name;
}

Transport::Moved TlsTransport::read(std::span<char> into) {
  ERR_clear_error();
  size_t total = 0;
  for (;;) {
    size_t bytes = 0;
    const int result = SSL_read_ex(session_.get(), into.data() + total, into.size() - total, &bytes);
    if (result != 1) {
      const Outcome outcome = outcome_of(result);
      // With something read, the end is told by the next call; the socket may have nothing more to say then.
      may_have_unread_ = total > 0 && outcome == Outcome::kClosed;
      if (total > 0) return {.bytes = total};
      return {.outcome = outcome};
    }
    total += bytes;
    idle_messages_ = 0;
    may_have_unread_ = SSL_has_pending(session_.get()) == 1;
    if (!may_have_unread_ || total == into.size()) return {.bytes = total};
  }
}

// A record that the socket took in part must be offered again, first: it is, for the caller offers what was not taken.
Transport::Moved TlsTransport::write(std::string_view bytes) {
  ERR_clear_error();
  size_t total = 0;
  while (total < bytes.size()) {
    size_t taken = 0;
    const int result = SSL_write_ex(session_.get(), bytes.data() + total, bytes.size() - total, &taken);
    total += taken;
    if (result != 1) return {.outcome = outcome_of(result), .bytes = total};
  }
  return {.bytes = total};
}

uint64_t TlsTransport::taken_bytes() const {
  int waiting = 0;
  const bool is_known = ::ioctl(fd_, SIOCOUTQ, &waiting) == 0 && waiting > 0;
  return sent_bytes_ - (is_known ? static_cast<uint64_t>(waiting) : 0);
}

void TlsTransport::close_write() {
  ERR_clear_error();
  SSL_shutdown(session_.get());  // as far as the socket takes it
  ERR_clear_error();
  ::shutdown(fd_, SHUT_WR);
}

Transport::Spoken TlsTransport::spoken() const {
  const unsigned char* name = nullptr;
  unsigned length = 0;
  SSL_get0_alpn_selected(session_.get(), &name, &length);
  if (length == 0) return Spoken::kUnsaid;
  return std::string_view(reinterpret_cast<const char*>(name), length) == "h2" ? Spoken::kHttp2 : Spoken::kHttp1;
}

std::string TlsTransport::peer_address() const { return socket_address(fd_, false); }
std::string TlsTransport::local_address() const { return socket_address(fd_, true); }

}  // namespace cairn::net
