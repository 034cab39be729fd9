// raft/log.h: the log as the core sees it: the stable part, read through LogView, and the unstable tail.
//
//        first_index            stable_index              last_index
//             |---- LogView ---------|------- tail ------------|
//                                    |-- on its way --|- new --|      taken_: where "new" begins
//
// The tail is read before the view, because the view may show old entries while a truncation is on its way.
//
// Always true: applied <= handed <= committed <= last_index; a committed entry is never replaced. A majority without
//              this member may have committed what is not stable here.
#pragma once

#include <deque>
#include <optional>
#include <vector>

#include "raft/log_view.h"
#include "raft/types.h"

namespace cairn::raft {

struct EntryId {
  Index index;
  Term term;
};

class Log {
 public:
  Log(const LogView& view, Index committed, Index applied);

  [[nodiscard]] Index first_index() const;
  [[nodiscard]] Index last_index() const { return tail_first_ + (tail_.size() - head_) - 1; }
  [[nodiscard]] Index stable_index() const { return pending_snapshot_ ? stable_before_snapshot_ : tail_first_ - 1; }
  [[nodiscard]] Index committed() const { return committed_; }
  [[nodiscard]] Index handed() const { return handed_; }
  [[nodiscard]] Index applied() const { return applied_; }
  [[nodiscard]] EntryId last() const;

  // Nothing: compacted, or beyond the end.
  [[nodiscard]] std::optional<Term> term(Index index) const;
  [[nodiscard]] bool matches(Index index, Term term) const;
  // A log that ends with (term, index) has all that ours has committed, as far as can be told from the end.
  [[nodiscard]] bool is_up_to_date(Term term, Index index) const;
  // The last place at or below `index` whose term is at most `term`. A log that has `term` at `index` can agree with
  // ours up to there at best. The place's term is 0 where our log is compacted.
  [[nodiscard]] EntryId last_agreement(Index index, Term term) const;
  std::expected<void, LogGap> entries(Index lo, Index hi, uint64_t bytes_max, std::vector<Entry>& out) const;
  [[nodiscard]] std::optional<Entry> tail_entry(Index index) const;      // if it is not stable yet
  [[nodiscard]] uint64_t unstable_bytes() const { return tail_bytes_; }  // cost_bytes() of what is not stable yet
  [[nodiscard]] SnapshotPtr snapshot() const { return view_.snapshot(); }
  // True when one of (handed, committed] is a conf change, or cannot be looked at now.
  [[nodiscard]] bool may_have_conf_change_to_hand_out() const;

  // ---- Growing.

  void append(Entry entry);  // needs: index == last_index() + 1
  // Adds the entries that follow a place where the logs agree. Entries that we have are skipped; from the first
  // difference on, ours are replaced. Returns the index of the first new entry.
  std::optional<Index> accept(std::vector<Entry>& entries);
  void restore(SnapshotPtr snapshot);
  void commit_to(Index index);

  // ---- To the disk.

  [[nodiscard]] bool has_unwritten() const { return taken_ < tail_.size() || (pending_snapshot_ && !snapshot_taken_); }
  // Takes what is new, as write `number`. `vote_term`: given back by appended().
  void take_unwritten(uint64_t number, Term vote_term, std::vector<Entry>& entries, SnapshotPtr& snapshot);
  [[nodiscard]] bool has_writes_in_flight() const { return !writes_.empty(); }
  [[nodiscard]] bool has_pending_snapshot() const { return pending_snapshot_ != nullptr; }
  // The oldest write, `number`, is stable. Returns its vote_term.
  Term appended(uint64_t number);

  // ---- To the applier.

  // How far entries may be handed out: committed, and not behind a snapshot that is not installed yet.
  [[nodiscard]] Index hand_out_limit() const;
  void handed_to(Index index, uint64_t bytes);
  void applied_to(Index index);
  [[nodiscard]] uint64_t unapplied_bytes() const { return unapplied_bytes_; }

 private:
  struct Write {
    uint64_t number = 0;
    Index last;  // 0: no entries, or all replaced meanwhile
    SnapshotPtr snapshot;
    Term vote_term;
  };
  struct Handed {
    Index last;
    uint64_t bytes = 0;
  };

  [[nodiscard]] const Entry& tail_at(Index index) const { return tail_[head_ + (index - tail_first_)]; }
  void truncate_from(Index index);

  const LogView& view_;
  std::vector<Entry> tail_;  // [head_, size) is in use
  size_t head_ = 0;
  size_t taken_ = 0;  // [head_, taken_) is on its way to the disk
  Index tail_first_;  // the index of tail_[head_], also when there is none
  uint64_t tail_bytes_ = 0;
  SnapshotPtr pending_snapshot_;
  bool snapshot_taken_ = false;
  Index stable_before_snapshot_;
  std::deque<Write> writes_;

  Index committed_;
  Index handed_;
  Index applied_;
  std::deque<Handed> handed_batches_;
  uint64_t unapplied_bytes_ = 0;
};

}  // namespace cairn::raft
