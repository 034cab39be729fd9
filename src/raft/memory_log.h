// raft/memory_log.h: a stable log in memory, for tests and benchmarks. A member's is member/raft_log.h.
//
// Not thread-safe: owned by the thread that owns the core.
#pragma once

#include <deque>
#include <span>
#include <utility>
#include <vector>

#include "raft/log_view.h"
#include "raft/types.h"

namespace cairn::raft {

class MemoryLog final : public LogView {
 public:
  // Empty, behind the entry `before` of `term` (0, 0: from the beginning).
  explicit MemoryLog(Index before = Index(0), Term term = Term(0));

  std::expected<void, LogGap> entries(Index lo, Index hi, uint64_t bytes_max, std::vector<Entry>& out) const override;
  std::expected<Term, LogGap> term(Index index) const override;
  Index first_index() const override { return before_ + 1; }
  Index last_index() const override { return before_ + entries_.size(); }
  SnapshotPtr snapshot() const override { return snapshot_; }

  // Replaces what is there from the first index on. needs: no gap; not below first_index()
  void append(std::span<const Entry> entries);
  // Drops everything up to `index`. needs: first_index() - 1 <= index <= last_index()
  void compact(Index index);
  // Becomes empty behind `snapshot`, which is also what is sent from now on.
  void install(SnapshotPtr snapshot);
  void set_snapshot(SnapshotPtr snapshot) { snapshot_ = std::move(snapshot); }
  [[nodiscard]] uint64_t bytes() const { return bytes_; }  // sum of cost_bytes()

 private:
  Index before_;
  Term before_term_;
  std::deque<Entry> entries_;
  SnapshotPtr snapshot_;
  uint64_t bytes_ = 0;
};

}  // namespace cairn::raft
