#include "sim/history/real_time.h"

#include <algorithm>

namespace cairn::sim {
namespace {

struct Moment {
  int64_t time_ns;
  bool is_return;  // at equal times calls come first: the two are concurrent
  uint32_t which;
};

}  // namespace

std::vector<Contradiction> sweep(const std::vector<Placement>& placements, size_t max) {
  std::vector<Moment> moments;
  moments.reserve(2 * placements.size());
  for (uint32_t i = 0; i < placements.size(); ++i) {
    moments.push_back({placements[i].call_ns, false, i});
    if (placements[i].return_ns != kNever) moments.push_back({placements[i].return_ns, true, i});
  }
  std::sort(moments.begin(), moments.end(), [](const Moment& a, const Moment& b) {
    return a.time_ns != b.time_ns ? a.time_ns < b.time_ns : a.is_return < b.is_return;
  });

  std::vector<Contradiction> found;
  std::vector<int64_t> position(placements.size());
  int64_t floor = 0;
  std::optional<uint32_t> holder;
  for (const Moment& moment : moments) {
    const Placement& one = placements[moment.which];
    int64_t& at = position[moment.which];
    if (moment.is_return) {
      if (at <= floor && holder) continue;
      floor = at;
      holder = moment.which;
      continue;
    }
    at = one.low;
    if (!one.is_bound || floor < one.low) continue;
    // Reads of one state share its position; a write has its own.
    const bool is_write = one.low == one.high && one.low % 2 == 0;
    at = floor % 2 == 0 ? floor + 1 : floor;
    if (is_write ? floor >= one.low : at > one.high) {
      if (holder && found.size() < max) found.push_back({*holder, moment.which});
      at = one.high;
    }
  }
  return found;
}

}  // namespace cairn::sim
