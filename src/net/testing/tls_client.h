// net/testing/tls_client.h: the client's side of TLS for tests: one blocking connection, and a tunnel for clients that
// know only clear text.
#pragma once

#include <array>
#include <atomic>
#include <csignal>
#include <string>
#include <string_view>
#include <thread>

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"
#include "net/listener.h"
#include "net/testing/certificates.h"
#include "net/testing/test_client.h"
#include "net/tls/credentials.h"
#include "net/tls/openssl.h"

namespace cairn::net {

struct TlsClientOptions {
  Issued certificate;           // empty: shows none
  std::string alpn;             // "\x02h2"; "": does not say
  int version_max = 0;          // 0: the newest
  std::string suites_up_to_12;  // OpenSSL's names; "": its own
  std::string server_name;
};

class TlsClient {
 public:
  TlsClient(const std::string& address, const TlsClientOptions& options = {})
      : fd_(connect_to(address)), context_(SSL_CTX_new(TLS_client_method())) {
    std::signal(SIGPIPE, SIG_IGN);  // OpenSSL's own way to write does not ask for it
    SSL_CTX_set_max_proto_version(context_.get(), options.version_max);
    SSL_CTX_set_min_proto_version(context_.get(), TLS1_VERSION);
    SSL_CTX_set_security_level(context_.get(), 0);
    if (!options.suites_up_to_12.empty()) SSL_CTX_set_cipher_list(context_.get(), options.suites_up_to_12.c_str());
    if (!options.certificate.certificate_pem.empty()) {
      const auto pair = parse_key_pair(options.certificate.certificate_pem, options.certificate.key_pem);
      CAIRN_ASSERT(pair.has_value());
      SSL_CTX_use_certificate(context_.get(), pair->leaf.get());
      SSL_CTX_use_PrivateKey(context_.get(), pair->key.get());
    }
    ssl_.reset(SSL_new(context_.get()));
    if (!options.alpn.empty()) {
      SSL_set_alpn_protos(ssl_.get(), reinterpret_cast<const unsigned char*>(options.alpn.data()),
                          static_cast<unsigned>(options.alpn.size()));
    }
    if (!options.server_name.empty()) SSL_set_tlsext_host_name(ssl_.get(), options.server_name.c_str());
    SSL_set_fd(ssl_.get(), fd_);
  }
  ~TlsClient() {
    ssl_.reset();
    ::close(fd_);
  }
  TlsClient(const TlsClient&) = delete;
  TlsClient& operator=(const TlsClient&) = delete;

  // "": done. TLS 1.3's client is done before the server has looked at its certificate.
  std::string shake_hands() {
    ERR_clear_error();
    return SSL_connect(ssl_.get()) == 1 ? "" : reason();
  }
  bool send(std::string_view bytes) {
    ERR_clear_error();
    return SSL_write(ssl_.get(), bytes.data(), static_cast<int>(bytes.size())) == static_cast<int>(bytes.size());
  }
  // What comes until the server closes, or until `enough`; then ended() tells why.
  std::string read_until(const std::function<bool(const std::string&)>& enough) {
    std::string out;
    std::array<char, 16 * 1024> buffer{};
    ERR_clear_error();
    while (!enough(out)) {
      const int bytes = SSL_read(ssl_.get(), buffer.data(), buffer.size());
      if (bytes <= 0) {
        ended_ = SSL_get_error(ssl_.get(), bytes) == SSL_ERROR_ZERO_RETURN ? "close notify" : reason();
        break;
      }
      out.append(buffer.data(), static_cast<size_t>(bytes));
    }
    return out;
  }
  std::string read_to_end() {
    return read_until([](const std::string&) { return false; });
  }
  // Of the server's alert, where it sent one.
  [[nodiscard]] const std::string& ended() const { return ended_; }
  [[nodiscard]] std::string protocol() const {
    const unsigned char* name = nullptr;
    unsigned length = 0;
    SSL_get0_alpn_selected(ssl_.get(), &name, &length);
    return {reinterpret_cast<const char*>(name), length};
  }
  [[nodiscard]] SSL& ssl() { return *ssl_; }
  [[nodiscard]] int fd() const { return fd_; }
  // The serial number of what the server shows.
  [[nodiscard]] std::string server_serial() const { return serial_of(*SSL_get0_peer_certificate(ssl_.get())); }

 private:
  static std::string reason() {
    const char* const text = ERR_reason_error_string(ERR_peek_error());
    return text != nullptr ? text : "closed";
  }

  const int fd_;
  SslContextPtr context_;
  SslPtr ssl_;
  std::string ended_;
};

// Listens in clear text and carries the first connection that comes over TLS.
class TlsTunnel {
 public:
  TlsTunnel(const std::string& server, const TlsClientOptions& options)
      : client_(server, options), listening_(*listen_on("127.0.0.1:0")), thread_([this] { run(); }) {}
  ~TlsTunnel() {
    stop_ = true;
    thread_.join();
    ::close(listening_.fd);
  }
  TlsTunnel(const TlsTunnel&) = delete;
  TlsTunnel& operator=(const TlsTunnel&) = delete;
  [[nodiscard]] const std::string& address() const { return listening_.address; }

 private:
  void run() {
    const int near = wait_for(listening_.fd) ? ::accept(listening_.fd, nullptr, nullptr) : -1;
    if (near >= 0 && client_.shake_hands().empty()) carry(near);
    if (near >= 0) ::close(near);
  }
  bool wait_for(int fd) {
    pollfd waits{.fd = fd, .events = POLLIN, .revents = 0};
    while (!stop_) {
      if (::poll(&waits, 1, 5) > 0) return true;
    }
    return false;
  }
  void carry(int near) {
    std::array<char, 16 * 1024> buffer{};
    while (!stop_) {
      pollfd waits[] = {{.fd = near, .events = POLLIN, .revents = 0},
                        {.fd = client_.fd(), .events = POLLIN, .revents = 0}};
      if (SSL_has_pending(&client_.ssl()) == 0 && ::poll(waits, 2, 5) <= 0) continue;
      if (waits[0].revents != 0) {
        const ssize_t bytes = ::recv(near, buffer.data(), buffer.size(), 0);
        if (bytes <= 0 || !client_.send({buffer.data(), static_cast<size_t>(bytes)})) return;
      }
      if (waits[1].revents == 0 && SSL_has_pending(&client_.ssl()) == 0) continue;
      const int bytes = SSL_read(&client_.ssl(), buffer.data(), buffer.size());
      if (bytes <= 0) return;
      for (ssize_t sent = 0; sent < bytes;) {
        const ssize_t now = ::send(near, buffer.data() + sent, static_cast<size_t>(bytes - sent), MSG_NOSIGNAL);
        if (now <= 0) return;
        sent += now;
      }
    }
  }

  TlsClient client_;
  BoundSocket listening_;
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

}  // namespace cairn::net
