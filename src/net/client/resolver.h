// net/client/resolver.h: the addresses of a host, looked up without holding up a loop.
//
// A name is looked up on a thread of its own, once for all who ask at the time. It is left behind at the end: DNS may
// take its time, and nobody waits for it. An address is its own answer.
//
// Threads: one loop.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <sys/socket.h>

#include "base/error.h"

namespace cairn::net {

class EventLoop;

struct SocketAddress {
  sockaddr_storage storage = {};
  socklen_t length = 0;
};

// An address of a unix socket.
//   errors: kInvalidArgument when the path is empty or too long
[[nodiscard]] Result<SocketAddress> unix_address(const std::string& path);

class Resolver {
 public:
  static constexpr size_t kLookupsMax = 8;    // at once, of different names
  static constexpr size_t kWaitingMax = 256;  // so many names behind them, and so many who ask for one

  // What the system says: blocks. "host", "port" in digits; IPv4 first, as Go.
  using Lookup = std::function<Result<std::vector<SocketAddress>>(const std::string& host, const std::string& port)>;
  [[nodiscard]] static Lookup system_lookup();

  explicit Resolver(EventLoop& loop, Lookup lookup = system_lookup());
  ~Resolver();
  Resolver(const Resolver&) = delete;
  Resolver& operator=(const Resolver&) = delete;

  // Never called from inside resolve(), and not after the question has gone.
  using Then = std::function<void(Result<std::vector<SocketAddress>>)>;
  class Question {
   public:
    virtual ~Question() = default;
  };
  //   errors, of the answer: kUnavailable; kResourceExhausted when too many wait
  [[nodiscard]] std::unique_ptr<Question> resolve(const std::string& host, const std::string& port, Then then);

 private:
  struct State;
  struct Asked;
  const std::shared_ptr<State> state_;
};

}  // namespace cairn::net
