// net/listener.h: addresses as text, and sockets that listen on them.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/error.h"
#include "net/reactor.h"

namespace cairn::net {

class Loop;

// A bound and listening non-blocking socket.
struct BoundSocket {
  int fd = -1;
  std::string address;  // "127.0.0.1:2379", "[::1]:2379"
};
//   errors: kInvalidArgument when the text is no "host:port" or does not resolve, kUnavailable when binding fails
Result<BoundSocket> listen_on(std::string_view address);

// Accepts on one loop and hands sockets on.
class Listener final : private Reactor::Handler {
 public:
  using OnAccept = std::function<void(int fd)>;
  // Owns `fd`.
  Listener(Loop& loop, int fd, OnAccept on_accept);
  ~Listener() override;

 private:
  void on_readable() override;
  void on_writable() override {}

  Loop& loop_;
  OnAccept on_accept_;
  std::unique_ptr<Reactor::Descriptor> descriptor_;
  struct Pause;
  std::unique_ptr<Pause> pause_;
};

}  // namespace cairn::net
