// net/reactor.h: readiness of file descriptors, for one loop. The only place that knows Boost.Asio.
//
// Asio tells when a descriptor is ready; reading and writing are done by the owner of the descriptor with its own
// system calls, into buffers that the whole loop shares. So an idle connection holds no buffer.
//
// Threads: one, except wake().
#pragma once

#include <cstdint>
#include <memory>

#include "base/error.h"

namespace cairn::net {

class Reactor {
 public:
  Reactor();
  ~Reactor();
  Reactor(const Reactor&) = delete;
  Reactor& operator=(const Reactor&) = delete;

  class Handler {
   public:
    virtual ~Handler() = default;
    virtual void on_readable() = 0;
    virtual void on_writable() = 0;
  };

  // Owns the descriptor and closes it. Destroyed before the reactor; its handler hears nothing afterwards.
  class Descriptor {
   public:
    virtual ~Descriptor() = default;
    [[nodiscard]] virtual int fd() const = 0;
    // Watches no more, and gives the descriptor away. The object is good for nothing then.
    [[nodiscard]] virtual int release() = 0;
    // Each asks for one event; asking again before it came changes nothing.
    virtual void wait_readable() = 0;
    virtual void wait_writable() = 0;
  };
  //   errors: kUnavailable when the kernel watches no more; `fd` is closed then
  [[nodiscard]] Result<std::unique_ptr<Descriptor>> watch(int fd, Handler& handler);

  // Runs the handlers of what is ready, without waiting. How many ran.
  size_t poll();
  // Waits for at most `timeout_ns` (negative: without end) until something is ready or wake() was called. Runs no
  // handler: the loop looks at the clock between waiting and working.
  void wait(int64_t timeout_ns);
  // Any thread: ends the current or the next wait().
  void wake();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace cairn::net
