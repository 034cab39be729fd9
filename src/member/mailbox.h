// member/mailbox.h: what many threads put in and one thread takes out, all at once.
//
// `Content` is a struct of buffers with empty() and clear(). Two of them go to and fro, so that their memory is used
// again.
//
// Threads: put() by any, take() by the one that owns the mailbox.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <utility>

#include "base/mutex.h"

namespace cairn::member {

template <class Content>
class Mailbox {
 public:
  // `put` changes the content under the lock; the owner is woken if it waits.
  template <class Put>
  void put(Put&& put) {
    bool wakes = false;
    {
      const MutexLock lock(mutex_);
      std::forward<Put>(put)(content_);
      wakes = std::exchange(owner_waits_, false);
    }
    if (wakes) wake_.notify_one();  // not under the lock, which the owner takes first when it wakes
  }

  // Waits for content, or for `wait_ns` (nullopt: without end), and swaps it for `out`, which is cleared first.
  void take(Content& out, std::optional<int64_t> wait_ns) {
    out.clear();
    std::chrono::steady_clock::time_point until;
    if (wait_ns && *wait_ns > 0) until = std::chrono::steady_clock::now() + std::chrono::nanoseconds(*wait_ns);
    MutexLock lock(mutex_);
    while (content_.empty()) {
      owner_waits_ = true;
      if (!wait_ns) {
        wake_.wait(lock);
      } else if (*wait_ns <= 0 || !wake_.wait_until(lock, until)) {
        break;
      }
    }
    owner_waits_ = false;
    std::swap(out, content_);
  }

 private:
  Mutex mutex_;
  Condition wake_;
  Content content_ CAIRN_GUARDED_BY(mutex_);
  bool owner_waits_ CAIRN_GUARDED_BY(mutex_) = false;
};

}  // namespace cairn::member
