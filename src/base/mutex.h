// base/mutex.h: a mutex whose guarded members are checked by clang (-Wthread-safety).
#pragma once

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

}  // namespace cairn
