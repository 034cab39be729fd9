// sim/history/real_time.h: operations that each have a place in one order: does the order agree with real time?
//
// The order is a log: entry i is at position 2i, the state between entries i and i + 1 at 2i + 1. A write is at one
// position; a read may be anywhere in a range of them. What returned before another was called must not lie behind it.
// The sweep goes through time and gives each operation the lowest position that it may have. All demands on a position
// are lower bounds, so there is an assignment exactly if this one stays within the ranges. O(n log n).
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

namespace cairn::sim {

inline constexpr int64_t kNever = std::numeric_limits<int64_t>::max();

[[nodiscard]] constexpr int64_t at_entry(uint64_t index) { return static_cast<int64_t>(2 * index); }
[[nodiscard]] constexpr int64_t after_entry(uint64_t index) { return static_cast<int64_t>(2 * index + 1); }

struct Placement {
  int64_t low = 0;
  int64_t high = 0;
  int64_t call_ns = 0;
  int64_t return_ns = kNever;
  // False: it may see an old state (serializable reads, watches). It is still a proof that its state exists.
  bool is_bound = true;
  uint32_t subject = 0;  // the caller's
};

// `later` was called after `earlier` had returned, and must lie before it.
struct Contradiction {
  size_t earlier = 0;  // in the vector given
  size_t later = 0;
};

// At most `max` contradictions.
[[nodiscard]] std::vector<Contradiction> sweep(const std::vector<Placement>& placements, size_t max);

}  // namespace cairn::sim
