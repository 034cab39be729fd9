// member/log_sizes.h: how many bytes of log lie behind an index, roughly: what a member that is behind would be sent.
//
// Threads: the core thread's.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>

#include "base/strong.h"

namespace cairn::member {

class LogSizes {
 public:
  // Sizes are known to within `mark_bytes`.
  explicit LogSizes(uint64_t mark_bytes) : mark_bytes_(mark_bytes) {}

  // The entry `index` of `bytes` comes behind all others; those at or above it are gone.
  void add(Index index, uint64_t bytes) {
    if (!marks_.empty() && index <= last_) cut(index);
    if (marks_.empty() || total_ - marks_.back().before >= mark_bytes_) marks_.push_back({index, total_});
    total_ += bytes;
    last_ = index;
  }
  void clear() {
    marks_.clear();
    total_ = 0;
    last_ = Index{};
  }
  void drop_below(Index index) {
    while (marks_.size() > 1 && marks_[1].index <= index) marks_.pop_front();
  }

  // Of the entries from `index` on; at least those from the mark before it.
  [[nodiscard]] uint64_t bytes_from(Index index) const {
    if (marks_.empty() || index > last_) return 0;
    return total_ - at_or_before(index).before;
  }
  // Where the last `bytes` or a little more begin.
  [[nodiscard]] Index begin_of_last(uint64_t bytes) const {
    for (auto mark = marks_.rbegin(); mark != marks_.rend(); ++mark) {
      if (total_ - mark->before >= bytes) return mark->index;
    }
    return marks_.empty() ? Index{} : marks_.front().index;
  }

 private:
  struct Mark {
    Index index;
    uint64_t before = 0;  // bytes
  };
  [[nodiscard]] const Mark& at_or_before(Index index) const {
    const auto behind = std::upper_bound(marks_.begin(), marks_.end(), index,
                                         [](Index wanted, const Mark& mark) { return wanted < mark.index; });
    return behind == marks_.begin() ? marks_.front() : *std::prev(behind);
  }
  void cut(Index index) {
    while (!marks_.empty() && marks_.back().index >= index) {
      total_ = marks_.back().before;
      marks_.pop_back();
    }
  }

  uint64_t mark_bytes_;
  std::deque<Mark> marks_;  // ascending
  uint64_t total_ = 0;
  Index last_;
};

}  // namespace cairn::member
