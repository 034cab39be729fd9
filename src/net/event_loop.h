// net/event_loop.h: one io thread's loop: sockets, timers, and messages from other threads.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "net/http.h"
#include "net/http2/grpc.h"
#include "net/local_call.h"

namespace cairn::net {

// Runs on one thread. post() and index() may be called from any thread; the rest on the loop's own.
class EventLoop {
 public:
  virtual ~EventLoop() = default;
  [[nodiscard]] virtual unsigned index() const = 0;  // 0 .. loop count - 1
  // Runs `task` on the loop's thread soon. Wakes the loop only when it sleeps. Unbounded: callers bound themselves.
  virtual void post(std::function<void()> task) = 0;
  // The live call, or null when it has ended.
  [[nodiscard]] virtual Call* find(CallId id) = 0;
  [[nodiscard]] virtual Exchange* find(ExchangeId id) = 0;
  // A call that comes from this process and not over a socket (net/local_call.h); not begun yet.
  [[nodiscard]] virtual std::unique_ptr<LocalCall> local_call(LocalCall::Owner& owner,
                                                              std::unique_ptr<LocalCall::Origin> origin) = 0;
  // The call goes on without its owner until it is answered or the loop stops; the answer is dropped.
  virtual void detach(std::unique_ptr<LocalCall> call) = 0;
  // Called at the end of each turn in which anything happened, to hand on in one batch what the turn has gathered
  // (proposals, for example), and again when answers have been written, for what was asked for meanwhile. Set once,
  // before the loop runs.
  virtual void set_turn_end(std::function<void()> hook) = 0;
  // Counts bytes that wait in memory for clients of this loop, until the handle is gone, which happens on its thread.
  [[nodiscard]] virtual std::shared_ptr<void> charge(uint64_t bytes) = 0;
  // Runs `task` after `delay_ns`; the handle's destruction cancels it.
  class Timer {
   public:
    virtual ~Timer() = default;
  };
  [[nodiscard]] virtual std::unique_ptr<Timer> after(int64_t delay_ns, std::function<void()> task) = 0;
};

}  // namespace cairn::net
