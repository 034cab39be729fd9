// base/random.h: a seeded generator, passed in wherever chance is needed. Same seed, same sequence, everywhere.
#pragma once

#include <cstdint>

namespace cairn {

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  // splitmix64 (Steele, Lea, Flood 2014).
  uint64_t next() {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  // In [0, bound). bound > 0.
  uint64_t below(uint64_t bound) { return next() % bound; }
  // In [low, high], both included.
  uint64_t between(uint64_t low, uint64_t high) { return low + below(high - low + 1); }
  // True once in `n` times.
  bool one_in(uint64_t n) { return below(n) == 0; }
  // An independent generator for another owner.
  Random fork() { return Random(next()); }

 private:
  uint64_t state_;
};

}  // namespace cairn
