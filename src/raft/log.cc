#include "raft/log.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <utility>

#include "base/check.h"

namespace cairn::raft {

Log::Log(const LogView& view, Index committed, Index applied)
    : view_(view), tail_first_(view.last_index() + 1), committed_(committed), handed_(applied), applied_(applied) {
  CAIRN_ASSERT(committed_ <= last_index());
  CAIRN_ASSERT(applied_ <= committed_);
  CAIRN_ASSERT(applied_ + 1 >= view.first_index());
}

Index Log::first_index() const { return pending_snapshot_ ? pending_snapshot_->index + 1 : view_.first_index(); }

EntryId Log::last() const {
  const Index index = last_index();
  return {index, term(index).value_or(Term(0))};
}

std::optional<Term> Log::term(Index index) const {
  if (index > last_index()) return std::nullopt;
  if (index >= tail_first_) return tail_at(index).term;
  if (pending_snapshot_) {
    if (index == pending_snapshot_->index) return pending_snapshot_->term;
    return std::nullopt;
  }
  const std::expected<Term, LogGap> found = view_.term(index);
  if (!found) return std::nullopt;
  return *found;
}

bool Log::matches(Index index, Term wanted) const { return term(index) == wanted; }

bool Log::is_up_to_date(Term last_term, Index index) const {
  const EntryId ours = last();
  return last_term > ours.term || (last_term == ours.term && index >= ours.index);
}

EntryId Log::last_agreement(Index index, Term wanted) const {
  for (index = std::min(index, last_index()); index > Index(0); index = index - 1) {
    const std::optional<Term> found = term(index);
    if (!found) return {index, Term(0)};
    if (*found <= wanted) return {index, *found};
  }
  return {Index(0), Term(0)};
}

std::expected<void, LogGap> Log::entries(Index lo, Index hi, uint64_t bytes_max, std::vector<Entry>& out) const {
  CAIRN_ASSERT(lo <= hi && hi <= last_index() + 1);
  if (lo < first_index()) return std::unexpected(LogGap::kCompacted);
  if (lo >= hi) return {};
  const size_t size_before = out.size();
  uint64_t bytes = 0;
  if (lo < tail_first_) {
    const Index view_hi = std::min(hi, tail_first_);
    if (auto read = view_.entries(lo, view_hi, bytes_max, out); !read) return read;
    const size_t count = out.size() - size_before;
    CAIRN_ASSERT(count > 0);
    lo += count;
    if (lo < view_hi || lo == hi) return {};
    for (size_t i = size_before; i < out.size(); ++i) bytes += cost_bytes(out[i]);
  }
  out.reserve(out.size() + std::min<size_t>(hi - lo, 4096));
  for (; lo < hi; ++lo) {
    const Entry& entry = tail_at(lo);
    bytes += cost_bytes(entry);
    if (bytes > bytes_max && out.size() > size_before) break;
    out.push_back(entry);
  }
  return {};
}

std::optional<Entry> Log::tail_entry(Index index) const {
  if (index < tail_first_ || index > last_index()) return std::nullopt;
  return tail_at(index);
}

bool Log::may_have_conf_change_to_hand_out() const {
  constexpr uint64_t kPageBytes = uint64_t{1} << 20;
  std::vector<Entry> page;
  for (Index lo = handed_ + 1; lo <= committed_; lo += page.size()) {
    page.clear();
    if (!entries(lo, committed_ + 1, kPageBytes, page)) return true;
    for (const Entry& entry : page) {
      if (entry.type != EntryType::kNormal) return true;
    }
  }
  return false;
}

void Log::append(Entry entry) {
  CAIRN_ASSERT(entry.index == last_index() + 1);
  tail_bytes_ += cost_bytes(entry);
  tail_.push_back(std::move(entry));
}

std::optional<Index> Log::accept(std::vector<Entry>& entries) {
  size_t known = 0;
  while (known < entries.size() && entries[known].index <= last_index() &&
         matches(entries[known].index, entries[known].term)) {
    ++known;
  }
  if (known == entries.size()) return std::nullopt;
  const Index first = entries[known].index;
  CAIRN_ASSERT(first > committed_);  // a committed entry is never contradicted
  if (first <= last_index()) truncate_from(first);
  CAIRN_ASSERT(first == last_index() + 1);
  for (size_t i = known; i < entries.size(); ++i) tail_bytes_ += cost_bytes(entries[i]);
  tail_.insert(tail_.end(), std::make_move_iterator(entries.begin() + static_cast<std::ptrdiff_t>(known)),
               std::make_move_iterator(entries.end()));
  return first;
}

void Log::truncate_from(Index index) {
  if (index >= tail_first_) {
    const size_t kept = head_ + (index - tail_first_);
    for (size_t i = kept; i < tail_.size(); ++i) tail_bytes_ -= cost_bytes(tail_[i]);
    tail_.resize(kept);
    taken_ = std::min(taken_, tail_.size());
  } else {
    tail_.clear();
    tail_bytes_ = 0;
    head_ = taken_ = 0;
    tail_first_ = index;
  }
  // Entries on their way to the disk that are replaced here do not become stable by arriving there.
  for (Write& write : writes_) write.last = std::min(write.last, index - 1);
}

void Log::restore(SnapshotPtr snapshot) {
  CAIRN_ASSERT(snapshot->index > committed_);
  stable_before_snapshot_ = std::min(stable_index(), committed_);
  tail_.clear();
  tail_bytes_ = 0;
  head_ = taken_ = 0;
  tail_first_ = snapshot->index + 1;
  committed_ = snapshot->index;
  pending_snapshot_ = std::move(snapshot);
  snapshot_taken_ = false;
  for (Write& write : writes_) write.last = Index(0);
}

void Log::commit_to(Index index) {
  if (index <= committed_) return;
  if (index > last_index()) {
    // No bug of ours, if an old copy of the data directory was put in place: the operator reads etcd's text.
    const std::string text =
        fmt::format("tocommit({}) is out of range [lastIndex({})]. Was the raft log corrupted, truncated, or lost?",
                    index, last_index());
    assertion_failed(text.c_str(), __FILE__, __LINE__);
  }
  committed_ = index;
}

void Log::take_unwritten(uint64_t number, Term vote_term, std::vector<Entry>& entries, SnapshotPtr& snapshot) {
  Write write{.number = number, .last = Index(0), .snapshot = nullptr, .vote_term = vote_term};
  if (pending_snapshot_ && !snapshot_taken_) {
    snapshot = write.snapshot = pending_snapshot_;
    snapshot_taken_ = true;
  }
  if (taken_ < tail_.size()) {
    entries.assign(tail_.begin() + static_cast<std::ptrdiff_t>(taken_), tail_.end());
    taken_ = tail_.size();
    write.last = last_index();
  }
  writes_.push_back(std::move(write));
}

Term Log::appended(uint64_t number) {
  CAIRN_ASSERT(!writes_.empty() && writes_.front().number == number);
  const Write write = std::move(writes_.front());
  writes_.pop_front();
  if (write.snapshot) {
    if (pending_snapshot_ == write.snapshot) pending_snapshot_ = nullptr;
    handed_ = std::max(handed_, write.snapshot->index);
    applied_ = std::max(applied_, write.snapshot->index);
    handed_batches_.clear();
    unapplied_bytes_ = 0;
  }
  if (write.last >= tail_first_) {
    const size_t stable = write.last - tail_first_ + 1;
    CAIRN_ASSERT(head_ + stable <= taken_);
    tail_first_ = write.last + 1;
    if (head_ + stable == tail_.size()) {
      tail_.clear();
      tail_bytes_ = 0;
      head_ = taken_ = 0;
    } else {
      for (size_t i = head_; i < head_ + stable; ++i) {
        tail_bytes_ -= cost_bytes(tail_[i]);
        tail_[i].data.reset();
      }
      head_ += stable;
      if (head_ * 2 >= tail_.size()) {
        tail_.erase(tail_.begin(), tail_.begin() + static_cast<std::ptrdiff_t>(head_));
        taken_ -= head_;
        head_ = 0;
      }
    }
  }
  return write.vote_term;
}

Index Log::hand_out_limit() const {
  if (pending_snapshot_) return handed_;
  return committed_;
}

void Log::handed_to(Index index, uint64_t bytes) {
  CAIRN_ASSERT(index > handed_ && index <= hand_out_limit());
  handed_ = index;
  unapplied_bytes_ += bytes;
  handed_batches_.push_back({index, bytes});
}

void Log::applied_to(Index index) {
  if (index <= applied_) return;
  CAIRN_ASSERT(index <= handed_);
  applied_ = index;
  while (!handed_batches_.empty() && handed_batches_.front().last <= index) {
    unapplied_bytes_ -= handed_batches_.front().bytes;
    handed_batches_.pop_front();
  }
}

}  // namespace cairn::raft
