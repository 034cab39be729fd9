// member/raft_log.h: the stable log as the raft core reads it: its newest part in memory, the rest in WAL segments.
//
// Threads: the replication thread's.
#pragma once

#include <deque>
#include <vector>

#include "raft/log_view.h"

namespace cairn::member {

class RaftLog final : public raft::LogView {
 public:
  struct Options {
    uint64_t memory_bytes_max = 8 << 20;  // never less than what is not applied yet
  };
  // From `index` on, up to the next one of a list, entries have `term`.
  struct TermStart {
    Index index;
    Term term;
  };
  // A log that begins behind `snapshot_index`, whose entry had `snapshot_term`.
  RaftLog(Index snapshot_index, Term snapshot_term, Options options)
      : RaftLog({{snapshot_index, snapshot_term}}, snapshot_index, options) {}
  // A log that begins behind terms.front().index and holds all up to `last` in segments alone. `terms` ascend.
  RaftLog(std::vector<TermStart> terms, Index last, Options options);

  // The entries are stable. One with an index already held replaces it and all behind it.
  void append(std::vector<raft::Entry> entries);
  // Entries at or below may leave memory.
  void applied_to(Index index);
  // Entries at or below are in no segment any more.
  void released_to(Index index);

  std::expected<void, raft::LogGap> entries(Index lo, Index hi, uint64_t bytes_max,
                                            std::vector<raft::Entry>& out) const override;
  std::expected<Term, raft::LogGap> term(Index index) const override;
  Index first_index() const override { return first_; }
  Index last_index() const override { return memory_first_ + entries_.size() - 1; }
  raft::SnapshotPtr snapshot() const override { return nullptr; }

  [[nodiscard]] uint64_t memory_bytes() const { return memory_bytes_; }

 private:
  void trim();

  Options options_;
  Index first_;         // of the log
  Index memory_first_;  // of entries_
  std::deque<raft::Entry> entries_;
  std::vector<TermStart> terms_;  // ascending; the first covers first_ - 1
  uint64_t memory_bytes_ = 0;
  Index applied_;
};

}  // namespace cairn::member
