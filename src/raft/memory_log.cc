#include "raft/memory_log.h"

#include <algorithm>

#include "base/check.h"

namespace cairn::raft {

MemoryLog::MemoryLog(Index before, Term term) : before_(before), before_term_(term) {}

std::expected<void, LogGap> MemoryLog::entries(Index lo, Index hi, uint64_t bytes_max, std::vector<Entry>& out) const {
  CAIRN_ASSERT(lo <= hi && hi <= last_index() + 1);
  if (lo <= before_) return std::unexpected(LogGap::kCompacted);
  if (lo == hi) return {};
  const auto begin = entries_.begin() + static_cast<std::ptrdiff_t>(lo - before_ - 1);
  const auto limit = begin + static_cast<std::ptrdiff_t>(hi - lo);
  uint64_t bytes = cost_bytes(*begin);
  auto end = begin + 1;
  for (; end != limit; ++end) {
    bytes += cost_bytes(*end);
    if (bytes > bytes_max) break;
  }
  out.insert(out.end(), begin, end);
  return {};
}

std::expected<Term, LogGap> MemoryLog::term(Index index) const {
  CAIRN_ASSERT(index <= last_index());
  if (index < before_) return std::unexpected(LogGap::kCompacted);
  if (index == before_) return before_term_;
  return entries_[index - before_ - 1].term;
}

void MemoryLog::append(std::span<const Entry> entries) {
  if (entries.empty()) return;
  const Index first = entries.front().index;
  CAIRN_ASSERT(first > before_ && first <= last_index() + 1);
  while (last_index() >= first) {
    bytes_ -= cost_bytes(entries_.back());
    entries_.pop_back();
  }
  for (const Entry& entry : entries) bytes_ += cost_bytes(entry);
  entries_.insert(entries_.end(), entries.begin(), entries.end());
}

void MemoryLog::compact(Index index) {
  CAIRN_ASSERT(index >= before_ && index <= last_index());
  while (before_ < index) {
    bytes_ -= cost_bytes(entries_.front());
    before_term_ = entries_.front().term;
    entries_.pop_front();
    ++before_;
  }
}

void MemoryLog::install(SnapshotPtr snapshot) {
  before_ = snapshot->index;
  before_term_ = snapshot->term;
  entries_.clear();
  bytes_ = 0;
  snapshot_ = std::move(snapshot);
}

}  // namespace cairn::raft
