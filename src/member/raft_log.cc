#include "member/raft_log.h"

#include <algorithm>

#include "base/check.h"
#include "base/log.h"
#include "cluster/v2_store.h"

namespace cairn::member {

RaftLog::RaftLog(std::vector<TermStart> terms, Index last, Options options)
    : options_(options),
      first_(terms.front().index + 1),
      memory_first_(last + 1),
      terms_(std::move(terms)),
      applied_(last),
      windows_(options.windows) {
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
    const uint64_t bytes = raft::cost_bytes(entry);
    memory_bytes_ += bytes;
    sizes_.add(entry.index, bytes);
    entries_.push_back(std::move(entry));
  }
  trim();
}

void RaftLog::applied_to(Index index) {
  applied_ = std::max(applied_, index);
  trim();
}

void RaftLog::trim() {
  if (CAIRN_MUTANT("server.log_kept_in_memory")) return;
  while (memory_bytes_ > options_.memory_bytes_max && !entries_.empty() && entries_.front().index <= applied_) {
    memory_bytes_ -= raft::cost_bytes(entries_.front());
    entries_.pop_front();
    ++memory_first_;
  }
}

void RaftLog::released_to(Index index) {
  CAIRN_ASSERT(index <= applied_);
  if (index < first_) return;
  first_ = index + 1;
  while (!entries_.empty() && entries_.front().index < first_) {
    memory_bytes_ -= raft::cost_bytes(entries_.front());
    entries_.pop_front();
    ++memory_first_;
  }
  // The entry before the first must still have a known term.
  while (terms_.size() > 1 && terms_[1].index <= first_ - 1) terms_.erase(terms_.begin());
  sizes_.drop_below(first_);
  windows_.drop_below(first_);
}

void RaftLog::restore(Index snapshot_index, Term snapshot_term) {
  first_ = memory_first_ = snapshot_index + 1;
  entries_.clear();
  memory_bytes_ = 0;
  terms_ = {{snapshot_index, snapshot_term}};
  applied_ = snapshot_index;
  sizes_.clear();
  windows_.clear();
  sendable_.reset();
}

// A damaged segment, or one that cannot be read, is sent to nobody: who needs it gets a snapshot. What is applied here
// is not read again.
bool RaftLog::read_done(LogReadDone done) {
  LogRead order;
  if (!windows_.done(done.number, order)) return false;
  if (!done.entries.empty()) {
    windows_.add(std::move(done.entries));
  } else if (done.status || done.status.error().code == Code::kOutOfRange) {
    // Released a moment ago: the report of that may come after this one.
    const Index first = std::clamp(done.first_in_segments, first_, std::min(memory_first_, applied_ + 1));
    if (first > first_) released_to(first - 1);
  } else if (order.first >= first_) {
    log::error("the log cannot be read again; members that need it get a snapshot",
               {{"index", order.first.value}, {"error", done.status.error().message}});
    released_to(std::min(order.first, applied_));
  }
  return true;
}

std::expected<void, raft::LogGap> RaftLog::entries(Index lo, Index hi, uint64_t bytes_max,
                                                   std::vector<raft::Entry>& out) const {
  if (lo < first_) return std::unexpected(raft::LogGap::kCompacted);
  CAIRN_ASSERT(lo <= hi && hi <= last_index() + 1);
  if (lo < memory_first_) {
    if (is_worth_a_snapshot(lo)) return std::unexpected(raft::LogGap::kCompacted);
    if (windows_.take(lo, std::min(hi, memory_first_), bytes_max, memory_first_, out)) return {};
    return std::unexpected(raft::LogGap::kNotInMemory);
  }
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

bool RaftLog::is_worth_a_snapshot(Index from) const {
  if (!sendable_ || sendable_->index < from || sendable_->index + 1 < first_) return false;
  return sizes_.bytes_from(from) > std::max(options_.sent_as_log_bytes, sendable_->image_bytes);
}

raft::SnapshotPtr RaftLog::snapshot() const {
  // A log that could not be read may begin behind the last commit: the next one comes soon.
  if (!sendable_ || sendable_->index == Index{} || sendable_->index + 1 < first_) return nullptr;
  if (auto built = built_.lock(); built != nullptr && built->index == sendable_->index) return built;
  auto made = std::make_shared<raft::Snapshot>();
  made->index = sendable_->index;
  made->term = sendable_->term;
  made->conf = sendable_->conf;
  made->data = cluster::write_v2_store(*sendable_->members, sendable_->index.value);
  made->source = sendable_->file;
  built_ = made;
  return made;
}

}  // namespace cairn::member
