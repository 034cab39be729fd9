// net/client/client_socket.h: the client's end of a connection, in clear text or over TLS, for load generators and
// tests.
//
// The server's certificate is not looked at.
//
// Threads: none; whether the socket blocks is its owner's to say. A ClientTls is for sockets of one thread.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include <sys/types.h>

#include "base/error.h"
#include "net/tls/openssl.h"

namespace cairn::net {

struct SessionFree {
  void operator()(SSL_SESSION* session) const { SSL_SESSION_free(session); }
};

// What the connections of a client over TLS have in common.
class ClientTls {
 public:
  struct Options {
    std::string cert_file = {};  // shown to a server that asks; "": none
    std::string key_file = {};
    std::string protocol = "h2";  // offered; "": none
    bool resumes = false;         // a new connection offers the session that a server has given to an older one
  };
  //   errors: kInvalidArgument when certificate and key cannot be used
  static Result<std::unique_ptr<ClientTls>> make(const Options& options);
  ClientTls(const ClientTls&) = delete;
  ClientTls& operator=(const ClientTls&) = delete;

  [[nodiscard]] SslPtr new_session() const;

 private:
  ClientTls() = default;

  SslContextPtr context_;
  std::unique_ptr<SSL_SESSION, SessionFree> last_;  // that a server has given
};

class ClientSocket {
 public:
  // Takes `fd`. `tls`: null for clear text; outlives the socket.
  explicit ClientSocket(int fd, const ClientTls* tls = nullptr);
  ~ClientSocket();
  ClientSocket(ClientSocket&& other) noexcept;
  ClientSocket& operator=(ClientSocket&&) = delete;

  [[nodiscard]] int fd() const { return fd_; }
  [[nodiscard]] bool is_secure() const { return session_ != nullptr; }

  enum class Outcome : uint8_t { kDone, kWantsReadable, kWantsWritable, kFailed };
  // Goes on with the handshake. In clear text there is none.
  Outcome shake_hands();
  // After a handshake that is done: an older connection's session was taken up again.
  [[nodiscard]] bool was_resumed() const;

  // As ::recv and ::send, errno with EAGAIN included. What fails in TLS has EPROTO.
  ssize_t read(char* into, size_t length);
  ssize_t write(std::string_view bytes);
  // Received and not read: the socket does not tell of it.
  [[nodiscard]] bool has_unread() const;

 private:
  ssize_t outcome_of(int result);

  int fd_;
  SslPtr session_;
};

// Connects and shakes hands, waiting for both; then the socket does not block, if that is asked for.
//   errors: as dial(); kUnavailable when the handshake fails
Result<ClientSocket> connect_socket(std::string_view address, const ClientTls* tls, bool blocking);

}  // namespace cairn::net
