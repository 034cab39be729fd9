// cmd/server/log_queue.h: lines on their way to a log whose output may stand still.
//
// Whoever logs must not wait for a disk, or for the reader of a pipe: the thread that decides for the member least of
// all, or the member would lose its leadership to its own log. So a thread of the queue's writes. What has no room is
// lost, and counted in a line of its own.
//
// Threads: any.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>

#include "base/mutex.h"

namespace cairn::cmd {

class LogQueue {
 public:
  using Write = std::function<void()>;  // of one line
  // `tell_lost` is called by the queue's thread, with how many lines were lost since the last time.
  explicit LogQueue(std::function<void(uint64_t)> tell_lost, uint64_t bytes_max = 4 << 20)
      : tell_lost_(std::move(tell_lost)), bytes_max_(bytes_max) {}

  void put(uint64_t bytes, Write write);
  // The line that says why the process ends: there is room for it, and none comes after it.
  void put_last(Write write);
  // Until everything that was put before is written, or the time is over.
  void wait_written(std::chrono::milliseconds time_max);
  // The thread's; without end.
  [[noreturn]] void run();

 private:
  struct Line {
    uint64_t bytes = 0;
    Write write;
  };

  std::function<void(uint64_t)> tell_lost_;
  uint64_t bytes_max_;
  Mutex mutex_;
  Condition arrived_;
  Condition written_;
  std::deque<Line> lines_ CAIRN_GUARDED_BY(mutex_);
  bool is_ended_ CAIRN_GUARDED_BY(mutex_) = false;
  uint64_t bytes_ CAIRN_GUARDED_BY(mutex_) = 0;
  uint64_t lost_ CAIRN_GUARDED_BY(mutex_) = 0;
  uint64_t put_count_ CAIRN_GUARDED_BY(mutex_) = 0;
  uint64_t written_count_ CAIRN_GUARDED_BY(mutex_) = 0;
};

}  // namespace cairn::cmd
