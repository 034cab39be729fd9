// member/read_pace.h: how fast the log is read for a member that is behind.
//
// Catching up takes what it can get: of the disk, and of the processors of both members. Where these have room it is to
// take it; where they have none, clients wait for it. Whether there is room shows in how long the reading thread waits
// for a processor. While it waits for none it reads faster with each read, and it halves its speed when it has waited.
//
// Always true: three times as fast as the log grows, so that catching up ends.
// Threads:     the reading one's.
#pragma once

#include <cstdint>
#include <optional>

#include "base/strong.h"
#include "env/thread_times.h"

namespace cairn::member {

class ReadPace {
 public:
  struct Now {
    int64_t time_ns = 0;
    env::ThreadTimes thread;
    Index committed;
  };

  // How much to read at once: little of it where it goes slowly, as whoever gets it has its hands full with it at once.
  [[nodiscard]] uint64_t read_bytes() const;
  // After a read of `entries` with `bytes`: how long to wait before the next, in ns. At most 0.1 s: what would take
  // longer is made up for later.
  [[nodiscard]] int64_t after(uint64_t entries, uint64_t bytes, const Now& now);

 private:
  [[nodiscard]] bool had_to_wait(const Now& now) const;
  // What catching up needs, in bytes/s.
  [[nodiscard]] double slowest(uint64_t entries, uint64_t bytes, const Now& now) const;

  std::optional<Now> last_;
  double bytes_per_s_ = 0;
  double credit_bytes_ = 0;
};

}  // namespace cairn::member
