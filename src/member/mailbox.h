// member/mailbox.h: what many threads put in and one thread takes out, all at once.
//
// `Content` is a struct of buffers with empty() and clear(). Two of them go to and fro, so that their memory is used
// again.
//
// A thread that puts something in while the owner waits may take the owner's place (put_or_lend): what the owner would
// have been woken for is done there, and two switches of threads are saved. The owner does not wake meanwhile.
//
// Threads: put() and put_or_lend() by any, take() by the one that owns the mailbox.
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

  // As put(). True if the owner waited for content: it does not wake, `out` is what it would have taken, and the caller
  // is in its place until give_back().
  template <class Put>
  [[nodiscard]] bool put_or_lend(Put&& put, Content& out) {
    const MutexLock lock(mutex_);
    std::forward<Put>(put)(content_);
    if (!std::exchange(owner_waits_, false)) return false;
    is_lent_ = true;
    std::swap(out, content_);
    return true;
  }

  // `out` of put_or_lend() is done with. `wakes`: the owner is to look for itself.
  void give_back(Content& out, bool wakes) {
    out.clear();
    {
      const MutexLock lock(mutex_);
      is_lent_ = false;
      owner_waits_ = !wakes && content_.empty() && !owner_is_late_;
      wakes = !owner_waits_;
      if (wakes) owner_is_called_ = true;
    }
    if (wakes) wake_.notify_one();
  }

  // Waits for content, for `wait_ns` (nullopt: without end), or to be called, and swaps it for `out`, which is cleared
  // first.
  void take(Content& out, std::optional<int64_t> wait_ns) {
    out.clear();
    std::chrono::steady_clock::time_point until;
    if (wait_ns && *wait_ns > 0) until = std::chrono::steady_clock::now() + std::chrono::nanoseconds(*wait_ns);
    MutexLock lock(mutex_);
    owner_is_called_ = false;
    owner_is_late_ = wait_ns && *wait_ns <= 0;
    while (is_lent_ || (content_.empty() && !owner_is_late_ && !owner_is_called_)) {
      if (!is_lent_) owner_waits_ = true;
      if (!wait_ns || owner_is_late_) {
        wake_.wait(lock);
      } else {
        owner_is_late_ = !wake_.wait_until(lock, until);
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
  bool owner_is_late_ CAIRN_GUARDED_BY(mutex_) = false;    // its time has passed
  bool owner_is_called_ CAIRN_GUARDED_BY(mutex_) = false;  // by who was in its place
  bool is_lent_ CAIRN_GUARDED_BY(mutex_) = false;
};

}  // namespace cairn::member
