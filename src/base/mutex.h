// base/mutex.h: a mutex whose guarded members are checked by clang: tools/check_locks runs it with -Wthread-safety.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>

#ifdef __clang__
#define CAIRN_TS(x) __attribute__((x))
#else
#define CAIRN_TS(x)
#endif
#define CAIRN_GUARDED_BY(m) CAIRN_TS(guarded_by(m))
#define CAIRN_REQUIRES(m) CAIRN_TS(requires_capability(m))

namespace cairn {

class CAIRN_TS(capability("mutex")) Mutex {
 public:
  void lock() CAIRN_TS(acquire_capability()) { mutex_.lock(); }
  void unlock() CAIRN_TS(release_capability()) { mutex_.unlock(); }
  std::mutex& native() { return mutex_; }

 private:
  std::mutex mutex_;
};

class CAIRN_TS(scoped_lockable) MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) CAIRN_TS(acquire_capability(mutex)) : lock_(mutex.native()) {}
  ~MutexLock() CAIRN_TS(release_capability()) = default;
  std::unique_lock<std::mutex>& native() { return lock_; }

 private:
  std::unique_lock<std::mutex> lock_;
};

// Waits in a loop around the condition, where clang sees that the lock is held; it does not look into a lambda:
//
//     MutexLock lock(mutex_);
//     while (queue_.empty()) arrived_.wait(lock);
class Condition {
 public:
  void wait(MutexLock& lock) { condition_.wait(lock.native()); }
  // False: the time is over.
  bool wait_until(MutexLock& lock, std::chrono::steady_clock::time_point deadline) {
    return condition_.wait_until(lock.native(), deadline) == std::cv_status::no_timeout;
  }
  void notify_one() { condition_.notify_one(); }
  void notify_all() { condition_.notify_all(); }

 private:
  std::condition_variable condition_;
};

}  // namespace cairn
