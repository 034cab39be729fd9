// member/raft_log.h: the stable log as the raft core reads it: its newest part in memory, the rest in WAL segments.
//
// What has left memory and is asked for is read by somebody else: take_reads() says what, read_done() brings it, and
// then the core is told (Core::log_loaded()). Who is so far behind that the db is shorter than what it lacks of the log
// gets the db, as does who lacks what no segment has any more.
//
// Threads: the core thread's.
#pragma once

#include <deque>
#include <optional>
#include <utility>
#include <vector>

#include "member/log_sizes.h"
#include "member/log_windows.h"
#include "member/stages.h"
#include "raft/log_view.h"

namespace cairn::member {

class RaftLog final : public raft::LogView {
 public:
  struct Options {
    uint64_t memory_bytes_max = 8 << 20;  // never less than what is not applied yet
    LogWindows::Options windows;
    // What a member lacks is sent as log up to so many bytes, however short the db is.
    uint64_t sent_as_log_bytes = 64 << 20;
    // The sizes of parts of the log are known to within so many bytes: few of those that they are compared with.
    uint64_t size_mark_bytes = 256 << 10;
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
  // Entries at or below may leave memory. They are in segments, and these hold no others at their indexes.
  void applied_to(Index index);
  // Entries at or below are in no segment any more, or shall not be sent.
  void released_to(Index index);
  // A leader's snapshot has taken the place of all entries.
  void restore(Index snapshot_index, Term snapshot_term);
  // Of entries that are in segments alone: they have `bytes`, roughly. In the order of their indexes.
  void note_size(Index first, uint64_t bytes) { sizes_.add(first, bytes); }

  // What is to be read for those who have got kNotInMemory.
  [[nodiscard]] bool has_reads() const { return windows_.has_orders(); }
  [[nodiscard]] std::vector<LogRead> take_reads() { return windows_.take_orders(); }
  // True: the core is to be told.
  bool read_done(LogReadDone done);

  // The state that snapshot() sends from now on.
  void set_sendable(SendableState state) { sendable_ = std::move(state); }
  [[nodiscard]] uint64_t image_bytes() const { return sendable_ ? sendable_->image_bytes : 0; }

  std::expected<void, raft::LogGap> entries(Index lo, Index hi, uint64_t bytes_max,
                                            std::vector<raft::Entry>& out) const override;
  std::expected<Term, raft::LogGap> term(Index index) const override;
  Index first_index() const override { return first_; }
  Index last_index() const override { return memory_first_ + entries_.size() - 1; }
  raft::SnapshotPtr snapshot() const override;

  [[nodiscard]] const LogSizes& sizes() const { return sizes_; }
  // Entries from here on are in memory.
  [[nodiscard]] Index memory_first() const { return memory_first_; }
  // Of the newest part and of what was read again.
  [[nodiscard]] uint64_t memory_bytes() const { return memory_bytes_; }
  [[nodiscard]] uint64_t windows_bytes() const { return windows_.bytes(); }

 private:
  void trim();
  [[nodiscard]] bool is_worth_a_snapshot(Index from) const;

  Options options_;
  Index first_;         // of the log
  Index memory_first_;  // of entries_
  std::deque<raft::Entry> entries_;
  std::vector<TermStart> terms_;  // ascending; the first covers first_ - 1
  uint64_t memory_bytes_ = 0;
  Index applied_;
  LogSizes sizes_{options_.size_mark_bytes};
  mutable LogWindows windows_;  // asking for what is not there is an order
  std::optional<SendableState> sendable_;
  mutable std::weak_ptr<const raft::Snapshot> built_;  // of sendable_: two members at once get the same
};

}  // namespace cairn::member
