// sim/fiber.h: a piece of work with a stack of its own, which may wait in the middle and go on later.
//
// The stages of a member (log, db, housekeeping) are plain functions that make one disk operation after the other. As
// fibers they wait in virtual time for each operation, while everything else goes on: other stages of the member and
// other members. So every order of disk operations and events is possible, which nested calls could not give (there
// the inner stage always ends first).
//
// Threads: one. A fiber is resumed from the main stack or from another fiber; wait() returns to who resumed it.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>

namespace cairn::sim {

class Fiber {
 public:
  using Body = std::move_only_function<void()>;

  explicit Fiber(Body body);  // begins with the first resume()
  ~Fiber();                   // needs: done(), or never resumed
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // Goes on until the body waits or ends. needs: not done(), not running
  void resume();
  [[nodiscard]] bool done() const;

  [[nodiscard]] static Fiber* current();  // null: on the main stack
  static void wait();                     // needs: current() is not null

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace cairn::sim
