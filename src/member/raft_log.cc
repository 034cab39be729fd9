#include "member/raft_log.h"

#include <algorithm>

#include "base/check.h"

namespace cairn::member {

RaftLog::RaftLog(std::vector<TermStart> terms, Index last, Options options)
    : options_(options),
      first_(terms.front().index + 1),
      memory_first_(last + 1),
      terms_(std::move(terms)),
      applied_(last) {
  CAIRN_ASSERT(terms_.back().index <= last);
}

void RaftLog::append(std::vector<raft::Entry> entries) {
  if (entries.empty()) return;
  const Index from = entries.front().index;
  CAIRN_ASSERT(from >= memory_first_ && from <= last_index() + 1);
  while (last_index() >= from) {
    memory_bytes_ -= raft::cost_bytes(entries_.back());
    entries_.pop_back();
  }
  while (terms_.back().index >= from) terms_.pop_back();
  for (raft::Entry& entry : entries) {
    CAIRN_ASSERT(entry.index == last_index() + 1);
    if (entry.term != terms_.back().term) terms_.push_back({entry.index, entry.term});
    memory_bytes_ += raft::cost_bytes(entry);
    entries_.push_back(std::move(entry));
  }
  trim();
}

void RaftLog::applied_to(Index index) {
  applied_ = std::max(applied_, index);
  trim();
}

void RaftLog::trim() {
  while (memory_bytes_ > options_.memory_bytes_max && !entries_.empty() && entries_.front().index <= applied_) {
    memory_bytes_ -= raft::cost_bytes(entries_.front());
    entries_.pop_front();
    ++memory_first_;
  }
}

void RaftLog::released_to(Index index) {
  CAIRN_ASSERT(index <= applied_);
  first_ = std::max(first_, index + 1);
  while (!entries_.empty() && entries_.front().index < first_) {
    memory_bytes_ -= raft::cost_bytes(entries_.front());
    entries_.pop_front();
    ++memory_first_;
  }
  // The entry before the first must still have a known term.
  while (terms_.size() > 1 && terms_[1].index <= first_ - 1) terms_.erase(terms_.begin());
}

std::expected<void, raft::LogGap> RaftLog::entries(Index lo, Index hi, uint64_t bytes_max,
                                                   std::vector<raft::Entry>& out) const {
  if (lo < first_) return std::unexpected(raft::LogGap::kCompacted);
  if (lo < memory_first_) return std::unexpected(raft::LogGap::kNotInMemory);
  CAIRN_ASSERT(lo <= hi && hi <= last_index() + 1);
  uint64_t bytes = 0;
  for (Index at = lo; at < hi; ++at) {
    const raft::Entry& entry = entries_[at - memory_first_];
    bytes += raft::cost_bytes(entry);
    if (at != lo && bytes > bytes_max) break;
    out.push_back(entry);
  }
  return {};
}

std::expected<Term, raft::LogGap> RaftLog::term(Index index) const {
  if (index < first_ - 1) return std::unexpected(raft::LogGap::kCompacted);
  CAIRN_ASSERT(index <= last_index());
  const auto behind = std::upper_bound(terms_.begin(), terms_.end(), index,
                                       [](Index i, const TermStart& start) { return i < start.index; });
  CAIRN_ASSERT(behind != terms_.begin());
  return std::prev(behind)->term;
}

}  // namespace cairn::member
