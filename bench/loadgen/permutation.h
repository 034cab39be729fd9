// loadgen/permutation.h: the numbers 0 to n-1 in an order that looks random, without a table.
#pragma once

#include <bit>
#include <cstdint>

namespace cairn::bench {

// A Feistel network over the next even power of two, walked until it lands below n.
class Permutation {
 public:
  // needs: n > 0
  Permutation(uint64_t n, uint64_t seed) : n_(n), seed_(seed) {
    half_bits_ = (static_cast<unsigned>(std::bit_width(n - 1)) + 1) / 2;
    if (half_bits_ == 0) half_bits_ = 1;
  }

  // needs: i < n
  [[nodiscard]] uint64_t operator()(uint64_t i) const {
    do i = once(i);
    while (i >= n_);
    return i;
  }

 private:
  [[nodiscard]] uint64_t once(uint64_t value) const {
    const uint64_t mask = (uint64_t{1} << half_bits_) - 1;
    uint64_t left = value >> half_bits_;
    uint64_t right = value & mask;
    for (uint64_t round = 0; round < 4; ++round) {
      uint64_t mixed = (right + seed_ * 4 + round) * 0x9e3779b97f4a7c15;
      mixed = (mixed ^ (mixed >> 32)) * 0xbf58476d1ce4e5b9;
      const uint64_t next = left ^ ((mixed >> 29) & mask);
      left = right;
      right = next;
    }
    return (left << half_bits_) | right;
  }

  uint64_t n_;
  uint64_t seed_;
  unsigned half_bits_;
};

}  // namespace cairn::bench
