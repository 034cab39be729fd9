// net/client/patience.h: how long a thread that blocks on a socket goes on, which another thread may shorten.
#pragma once

#include <atomic>
#include <cstdint>

namespace cairn::net {

class Patience {
 public:
  Patience();
  ~Patience();
  Patience(const Patience&) = delete;
  Patience& operator=(const Patience&) = delete;

  // Threads: any. From now on no wait lasts beyond `deadline_ns` (monotonic).
  void end_by(int64_t deadline_ns);
  // Whether `deadline_ns`, and what end_by() said, are still to come.
  [[nodiscard]] bool has_time(int64_t deadline_ns) const;
  // Waits until `fd` is as poll(2) says by `events`. False: the time was over.
  [[nodiscard]] bool wait(int fd, short events, int64_t deadline_ns);

 private:
  const int wake_fd_;  // readable once end_by() was called
  std::atomic<int64_t> latest_ns_{INT64_MAX};
};

[[nodiscard]] int64_t monotonic_now_ns();

}  // namespace cairn::net
