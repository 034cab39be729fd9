// sim/cluster/patience.h: how long a life waits for members that are behind. As long as one of them comes nearer to the
// end of the log it is only slow: small messages, few at a time, to a slow disk.
//
// Threads: a value.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>

namespace cairn::sim {

class Patience {
 public:
  Patience(int64_t now_ns, int64_t patience_ns) : since_ns_(now_ns), patience_ns_(patience_ns) {}

  // The member at `place` lacks so many entries now.
  void note(size_t place, uint64_t lacks, int64_t now_ns) {
    const auto [at, is_new] = least_.emplace(place, lacks);
    if (is_new || lacks >= at->second) return;
    at->second = lacks;
    since_ns_ = now_ns;
  }
  [[nodiscard]] bool is_over(int64_t now_ns) const { return now_ns - since_ns_ >= patience_ns_; }

 private:
  int64_t since_ns_;
  int64_t patience_ns_;
  std::map<size_t, uint64_t> least_;  // by place
};

}  // namespace cairn::sim
