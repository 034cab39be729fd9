#include "net/client/client_socket.h"

#include <cerrno>
#include <csignal>
#include <utility>

#include <fcntl.h>
#include <openssl/err.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"
#include "net/client/dial.h"

namespace cairn::net {

Result<std::unique_ptr<ClientTls>> ClientTls::make(const Options& options) {
  std::signal(SIGPIPE, SIG_IGN);  // OpenSSL writes without asking for that
  std::unique_ptr<ClientTls> out(new ClientTls);
  out->context_.reset(SSL_CTX_new(TLS_client_method()));
  SSL_CTX* const context = out->context_.get();
  CAIRN_ASSERT(context != nullptr);
  SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  SSL_CTX_set_read_ahead(context, 1);
  if (!options.cert_file.empty() &&
      (SSL_CTX_use_certificate_chain_file(context, options.cert_file.c_str()) != 1 ||
       SSL_CTX_use_PrivateKey_file(context, options.key_file.c_str(), SSL_FILETYPE_PEM) != 1)) {
    return fail(Code::kInvalidArgument, "net: {} and {}: {}", options.cert_file, options.key_file, openssl_error());
  }
  if (!options.protocol.empty()) {
    const std::string offered = static_cast<char>(options.protocol.size()) + options.protocol;
    SSL_CTX_set_alpn_protos(context, reinterpret_cast<const unsigned char*>(offered.data()),
                            static_cast<unsigned>(offered.size()));
  }
  if (options.resumes) {
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_set_app_data(context, out.get());
    SSL_CTX_sess_set_new_cb(context, [](SSL* ssl, SSL_SESSION* session) {
      static_cast<ClientTls*>(SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl)))->last_.reset(session);
      return 1;  // taken
    });
  }
  return out;
}

SslPtr ClientTls::new_session() const {
  SslPtr out(SSL_new(context_.get()));
  CAIRN_ASSERT(out != nullptr);
  if (last_ != nullptr) SSL_set_session(out.get(), last_.get());
  SSL_set_connect_state(out.get());
  return out;
}

ClientSocket::ClientSocket(int fd, const ClientTls* tls) : fd_(fd) {
  if (tls == nullptr) return;
  session_ = tls->new_session();
  SSL_set_fd(session_.get(), fd_);
}

ClientSocket::~ClientSocket() {
  // Without a word of farewell OpenSSL would not resume the session.
  if (session_ != nullptr && SSL_is_init_finished(session_.get()) == 1) SSL_shutdown(session_.get());
  ERR_clear_error();
  session_.reset();
  if (fd_ >= 0) ::close(fd_);
}

ClientSocket::ClientSocket(ClientSocket&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), session_(std::move(other.session_)) {}

ClientSocket::Outcome ClientSocket::shake_hands() {
  if (session_ == nullptr) return Outcome::kDone;
  ERR_clear_error();
  const int result = SSL_do_handshake(session_.get());
  if (result == 1) return Outcome::kDone;
  switch (SSL_get_error(session_.get(), result)) {
    case SSL_ERROR_WANT_READ: return Outcome::kWantsReadable;
    case SSL_ERROR_WANT_WRITE: return Outcome::kWantsWritable;
    default: return Outcome::kFailed;
  }
}

bool ClientSocket::was_resumed() const { return session_ != nullptr && SSL_session_reused(session_.get()) == 1; }

ssize_t ClientSocket::outcome_of(int result) {
  switch (SSL_get_error(session_.get(), result)) {
    case SSL_ERROR_ZERO_RETURN: return 0;
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE: errno = EAGAIN; return -1;
    case SSL_ERROR_SYSCALL:
      if (errno == 0) errno = ECONNRESET;
      return -1;
    default: errno = EPROTO; return -1;
  }
}

ssize_t ClientSocket::read(char* into, size_t length) {
  if (session_ == nullptr) return ::recv(fd_, into, length, 0);
  ERR_clear_error();
  errno = 0;
  size_t bytes = 0;
  const int result = SSL_read_ex(session_.get(), into, length, &bytes);
  return result == 1 ? static_cast<ssize_t>(bytes) : outcome_of(result);
}

ssize_t ClientSocket::write(std::string_view bytes) {
  if (session_ == nullptr) return ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
  ERR_clear_error();
  errno = 0;
  size_t taken = 0;
  const int result = SSL_write_ex(session_.get(), bytes.data(), bytes.size(), &taken);
  return result == 1 ? static_cast<ssize_t>(taken) : outcome_of(result);
}

bool ClientSocket::has_unread() const { return session_ != nullptr && SSL_has_pending(session_.get()) == 1; }

Result<ClientSocket> connect_socket(std::string_view address, const ClientTls* tls, bool blocking) {
  CAIRN_TRY(const int fd, dial(address));
  ClientSocket out(fd, tls);
  if (out.shake_hands() != ClientSocket::Outcome::kDone) {
    return fail(Code::kUnavailable, "net: TLS with {}: {}", address, openssl_error());
  }
  if (!blocking) (void)::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK);
  return out;
}

}  // namespace cairn::net
