#include "member/log_windows.h"

#include <algorithm>
#include <iterator>

#include "base/check.h"

namespace cairn::member {

LogWindows::Window* LogWindows::find(Index index) {
  for (Window& window : windows_) {
    if (index >= window.first() && index < window.end()) return &window;
  }
  return nullptr;
}

bool LogWindows::take(Index lo, Index hi, uint64_t bytes_max, Index end, std::vector<raft::Entry>& out) {
  Window* const window = find(lo);
  if (window == nullptr) {
    want(lo, end);
    return false;
  }
  window->used = ++clock_;
  uint64_t bytes = 0;
  const Index window_end = window->end();
  Index at = lo;
  for (; at < std::min(hi, window_end); ++at) {
    const raft::Entry& entry = window->entries[at - window->first()];
    bytes += raft::cost_bytes(entry);
    if (at != lo && bytes > bytes_max) break;
    out.push_back(entry);
  }
  // More than half of it is taken: the next one is read meanwhile.
  const bool is_half_taken = 2 * (at - window->first()) > window->entries.size();
  if (is_half_taken && window_end < end && find(window_end) == nullptr) want(window_end, end);
  return true;
}

void LogWindows::want(Index first, Index end) {
  for (const LogRead& read : under_way_) {
    if (read.first == first) return;
  }
  if (under_way_.size() >= options_.reads_max) return;
  const LogRead read{++last_number_, first, end, options_.read_bytes};
  under_way_.push_back(read);
  orders_.push_back(read);
}

bool LogWindows::done(uint64_t number, LogRead& order) {
  const auto found =
      std::find_if(under_way_.begin(), under_way_.end(), [&](const LogRead& read) { return read.number == number; });
  if (found == under_way_.end()) return false;
  order = *found;
  under_way_.erase(found);
  return true;
}

void LogWindows::add(std::vector<raft::Entry> entries) {
  if (entries.empty()) return;
  Window window;
  for (const raft::Entry& entry : entries) window.bytes += raft::cost_bytes(entry);
  window.entries = std::move(entries);
  window.used = ++clock_;
  bytes_ += window.bytes;
  windows_.push_back(std::move(window));
  drop_unused();
}

void LogWindows::drop_unused() {
  while (bytes_ > options_.bytes_max && windows_.size() > 1) {
    const auto oldest =
        std::ranges::min_element(windows_, [](const Window& a, const Window& b) { return a.used < b.used; });
    bytes_ -= oldest->bytes;
    windows_.erase(oldest);
  }
}

void LogWindows::drop_below(Index first) {
  std::erase_if(windows_, [&](const Window& window) {
    if (window.end() > first) return false;
    bytes_ -= window.bytes;
    return true;
  });
}

void LogWindows::clear() {
  windows_.clear();
  under_way_.clear();
  orders_.clear();
  bytes_ = 0;
}

}  // namespace cairn::member
