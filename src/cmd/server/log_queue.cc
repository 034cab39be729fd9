#include "cmd/server/log_queue.h"

#include <utility>

namespace cairn::cmd {

void LogQueue::put(uint64_t bytes, Write write) {
  {
    const MutexLock lock(mutex_);
    if (is_ended_) return;
    if (bytes_ + bytes > bytes_max_) {
      ++lost_;
      return;
    }
    bytes_ += bytes;
    ++put_count_;
    lines_.push_back({bytes, std::move(write)});
  }
  arrived_.notify_one();
}

void LogQueue::put_last(Write write) {
  {
    const MutexLock lock(mutex_);
    if (std::exchange(is_ended_, true)) return;
    ++put_count_;
    lines_.push_back({0, std::move(write)});
  }
  arrived_.notify_one();
}

void LogQueue::wait_written(std::chrono::milliseconds time_max) {
  const auto until = std::chrono::steady_clock::now() + time_max;
  MutexLock lock(mutex_);
  const uint64_t awaited = put_count_;
  while (written_count_ < awaited && written_.wait_until(lock, until)) {
  }
}

void LogQueue::run() {
  std::deque<Line> lines;
  while (true) {
    uint64_t lost = 0;
    {
      MutexLock lock(mutex_);
      while (lines_.empty()) arrived_.wait(lock);
      lines.swap(lines_);
      lost = std::exchange(lost_, 0);
    }
    for (Line& line : lines) {
      line.write();
      const MutexLock lock(mutex_);
      bytes_ -= line.bytes;
      ++written_count_;
      written_.notify_all();
    }
    lines.clear();
    if (lost > 0) tell_lost_(lost);
  }
}

}  // namespace cairn::cmd
