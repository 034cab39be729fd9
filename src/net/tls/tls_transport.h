// net/tls/tls_transport.h: a Transport over TLS: a handshake first, then bytes both ways.
//
// OpenSSL reads and writes through functions of ours, so the socket is used as for clear text, and bytes that came
// before the session was made are not lost.
//
// Threads: one at a time: that of Handshakes until the handshake is done, then the connection's loop.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "net/peer_certificate.h"
#include "net/tls/openssl.h"
#include "net/transport.h"

namespace cairn::net {

class TlsTransport final : public Transport {
 public:
  // The server's end. Does not own `fd`. `early`: what was read from it already.
  TlsTransport(int fd, SslPtr session, std::string early);
  // The client's end. Does not own `fd`. `server_host`: who must be there, a name or an address.
  static std::unique_ptr<TlsTransport> of_client(int fd, SslPtr session, std::string server_host);
  ~TlsTransport() override;

  // Goes on with the handshake. kDone: it is over. kClosed: it has failed, and failure() says why.
  Outcome shake_hands();
  // In Go's words. "EOF": the client has gone without a word.
  [[nodiscard]] const std::string& failure() const { return failure_; }
  // Of the certificates that the client has shown, its own first.
  [[nodiscard]] const std::vector<std::string>& shown_serials() const { return shown_serials_; }
  [[nodiscard]] std::string server_name() const;  // that the client asked for; ""

  [[nodiscard]] const std::string& server_host() const { return server_host_; }  // of a client

  // Called while OpenSSL looks at what the other side has sent; the first failure stays.
  void note_failure(std::string text);
  void note_offer(std::string versions, std::string suites) {
    offered_versions_ = std::move(versions);
    offered_suites_ = std::move(suites);
  }

  // Transport
  Moved read(std::span<char> into) override;
  Moved write(std::string_view bytes) override;
  bool has_unread() const override { return may_have_unread_; }
  uint64_t taken_bytes() const override;
  void close_write() override;
  Spoken spoken() const override;
  std::string peer_address() const override;
  std::string local_address() const override;
  bool is_secure() const override { return true; }
  const std::shared_ptr<const PeerCertificate>& peer_certificate() const override { return certificate_; }

 private:
  friend struct TlsBio;
  static void on_message(int is_written, int version, int type, const void*, size_t, SSL*, void* transport);
  [[nodiscard]] Outcome outcome_of(int result) const;
  [[nodiscard]] std::string handshake_error() const;
  void note_certificates();

  const int fd_;
  SslPtr session_;
  std::string server_host_;  // "": the server's end
  std::string early_;
  size_t early_offset_ = 0;
  uint64_t sent_bytes_ = 0;  // of the socket, not of the application
  int socket_error_ = 0;
  bool socket_ended_ = false;
  bool may_have_unread_ = false;
  unsigned idle_messages_ = 0;  // of TLS itself, in a row
  std::string failure_;
  std::string offered_versions_;  // by the client, as the log shows them; empty once they have agreed
  std::string offered_suites_;
  std::vector<std::string> shown_serials_;
  std::shared_ptr<const PeerCertificate> certificate_;
};

}  // namespace cairn::net
