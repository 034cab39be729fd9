// cmd/server/ending.h: why the server is to end: a signal, or its member was removed from the cluster.
//
// Threads: wait() is the main thread's; the rest any's.
#pragma once

#include <csignal>
#include <cstdint>

namespace cairn::cmd {

class Ending {
 public:
  // All threads have blocked `signals`.
  explicit Ending(const sigset_t& signals);
  ~Ending();
  Ending(const Ending&) = delete;
  Ending& operator=(const Ending&) = delete;

  void removed() const;
  [[nodiscard]] bool is_removed() const;

  enum class Kind : uint8_t { kSignal, kRemoved };
  struct Reason {
    Kind kind = Kind::kSignal;
    int signal = 0;
  };
  // A signal before anything else.
  [[nodiscard]] Reason wait() const;

 private:
  const int signal_fd_;
  const int removed_fd_;  // an eventfd that is read by nobody: once is for ever
};

}  // namespace cairn::cmd
