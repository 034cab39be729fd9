// net/listener.h: addresses as text, and sockets that listen on them.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include <sys/socket.h>

#include "base/error.h"
#include "net/reactor.h"

namespace cairn::net {

class Loop;

// "127.0.0.1:2379", "[::1]:2379"; "@" for a unix socket without a name
[[nodiscard]] std::string address_text(const sockaddr_storage& address);
// One end of a connected socket; "" when that is not known any more.
[[nodiscard]] std::string socket_address(int fd, bool own);

struct HostPort {
  std::string host;  // without brackets; "": every interface
  std::string port;  // digits
};
//   errors: kInvalidArgument when the text is no "host:port"
Result<HostPort> split_address(std::string_view address);

// A bound and listening non-blocking socket.
struct BoundSocket {
  int fd = -1;
  std::string address;  // "127.0.0.1:2379", "[::1]:2379", or the path of a unix socket
};
struct SocketOptions {
  bool reuse_port = false;  // other processes may listen there too
};
//   errors: kInvalidArgument when the text is no "host:port" or does not resolve, kUnavailable when binding fails
Result<BoundSocket> listen_on(std::string_view address, SocketOptions options = {});
// A unix socket. What stands at `path` is removed first, as etcd does.
//   errors: kUnavailable
Result<BoundSocket> listen_on_unix(const std::string& path);

// Keepalive, no delay, and little left unsent, of a connection that was accepted or made. Each option makes things
// better where the kernel has it; none is needed.
void prepare_tcp(int fd);

// Accepts on one loop and hands sockets on. When descriptors run out it waits a moment before each new try, and says so
// once.
class Listener final : private Reactor::Handler {
 public:
  using OnAccept = std::function<void(int fd)>;
  // Owns `fd`. A unix socket's file goes with it.
  //   errors: kUnavailable when the socket cannot be watched
  static Result<std::unique_ptr<Listener>> open(Loop& loop, int fd, OnAccept on_accept);
  ~Listener() override;

 private:
  Listener(Loop& loop, OnAccept on_accept);
  void on_readable() override;
  void on_writable() override {}

  Loop& loop_;
  OnAccept on_accept_;
  std::string unix_path_;  // "": no unix socket
  std::unique_ptr<Reactor::Descriptor> descriptor_;
  struct Pause;
  std::unique_ptr<Pause> pause_;
  bool is_failing_ = false;  // the last accept failed, and that was said
};

}  // namespace cairn::net
