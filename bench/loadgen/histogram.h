// loadgen/histogram.h: latencies in logarithmic buckets, 64 to each power of two: at most 1.6 % off.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>

namespace cairn::bench {

class Histogram {
 public:
  void add(uint64_t value) {
    ++counts_[bucket(value)];
    ++count_;
    sum_ += value;
    max_ = std::max(max_, value);
  }

  void merge(const Histogram& other) {
    for (size_t i = 0; i < counts_.size(); ++i) counts_[i] += other.counts_[i];
    count_ += other.count_;
    sum_ += other.sum_;
    max_ = std::max(max_, other.max_);
  }

  // Calls visit(upper edge, count) for every bucket in use, in order.
  template <class Visit>
  void for_each_bucket(Visit visit) const {
    for (size_t i = 0; i < counts_.size(); ++i) {
      if (counts_[i] != 0) visit(std::min(max_, upper_edge(i)), counts_[i]);
    }
  }

  [[nodiscard]] uint64_t count() const { return count_; }
  [[nodiscard]] uint64_t max() const { return max_; }
  [[nodiscard]] double mean() const {
    return count_ == 0 ? 0 : static_cast<double>(sum_) / static_cast<double>(count_);
  }

  // The value that `share` of all values do not exceed, 0 < share <= 1: the upper edge of its bucket. 0 when empty.
  [[nodiscard]] uint64_t percentile(double share) const {
    if (count_ == 0) return 0;
    auto left = static_cast<uint64_t>(share * static_cast<double>(count_) + 0.999999);
    left = std::clamp<uint64_t>(left, 1, count_);
    for (size_t i = 0; i < counts_.size(); ++i) {
      if (counts_[i] >= left) return std::min(max_, upper_edge(i));
      left -= counts_[i];
    }
    return max_;
  }

 private:
  static constexpr unsigned kSubBits = 6;
  static constexpr uint64_t kSub = uint64_t{1} << kSubBits;

  // Values below 64 have a bucket each; then 64 buckets to each doubling.
  static size_t bucket(uint64_t value) {
    if (value < kSub) return static_cast<size_t>(value);
    const auto shift = static_cast<unsigned>(std::bit_width(value)) - kSubBits - 1;
    return static_cast<size_t>((shift + 1) * kSub + ((value >> shift) - kSub));
  }
  static uint64_t upper_edge(size_t index) {
    if (index < kSub) return index;
    const auto shift = static_cast<unsigned>(index / kSub - 1);
    return ((index % kSub + kSub + 1) << shift) - 1;
  }

  std::array<uint64_t, (64 - kSubBits + 1) * kSub> counts_{};
  uint64_t count_ = 0;
  uint64_t sum_ = 0;
  uint64_t max_ = 0;
};

}  // namespace cairn::bench
