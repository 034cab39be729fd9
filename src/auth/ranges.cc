#include "auth/ranges.h"

#include <algorithm>

namespace cairn::auth {
namespace {

// The smallest key behind `key`.
std::string behind(std::string_view key) { return std::string(key) + '\0'; }

}  // namespace

void Ranges::add(const KeyRange& range) {
  if (range.key.empty()) return;
  if (range.is_single()) {
    all_.push_back({std::string(range.key), behind(range.key)});
  } else if (range.is_open()) {
    all_.push_back({std::string(range.key), ""});
  } else if (range.key < range.range_end) {
    all_.push_back({std::string(range.key), std::string(range.range_end)});
  }
}

void Ranges::finish() {
  std::sort(all_.begin(), all_.end(), [](const Interval& a, const Interval& b) { return a.low < b.low; });
  std::vector<Interval> merged;
  for (Interval& one : all_) {
    if (merged.empty() || !(merged.back().reaches(one.low) || merged.back().high == one.low)) {
      merged.push_back(std::move(one));
    } else if (!merged.back().high.empty() && (one.high.empty() || one.high > merged.back().high)) {
      merged.back().high = std::move(one.high);
    }
  }
  all_ = std::move(merged);
}

bool Ranges::cover(const KeyRange& range) const {
  auto at = std::upper_bound(all_.begin(), all_.end(), range.key,
                             [](std::string_view key, const Interval& one) { return key < one.low; });
  if (at == all_.begin()) return false;
  --at;
  if (!at->reaches(range.key)) return false;
  if (range.is_single() || at->high.empty()) return true;
  return !range.is_open() && range.range_end <= at->high;
}

}  // namespace cairn::auth
