// member/apply/commit_planner.h: when the changes of the tables go to the file, what a commit carries of a compaction's
// pass, how far it gives space back, and when a snapshot point is due.
//
// A commit begins with a freeze, between two entries; its job leaves when the WAL holds a hard state that commits all
// of it; it has ended when commit_done() was called and the state without its buffer is published.
//
// Always true: the tables in a commit and its consistent_index belong to the same entry; the file is never ahead of
//              this member's own WAL; a snapshot point is at or below both meta pages.
// Threads:     the core thread's.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <vector>

#include "member/apply/compaction_hashes.h"
#include "member/apply/compaction_pass.h"
#include "member/apply/membership_applier.h"
#include "member/apply/open_views.h"
#include "member/apply/publication.h"
#include "member/apply/retired_buffers.h"
#include "member/apply/workbench.h"

namespace cairn::member {

class CommitPlanner {
 public:
  CommitPlanner(Workbench& bench, const MembershipApplier& members, CompactionPass& pass,
                const CompactionHashes& hashes, const Publication& published, Index snapshot_index, int64_t now_ns);

  // An entry was applied; its bytes count against what the WAL must keep.
  void note_entry(uint64_t bytes);
  void note_durable_commit(Index index);
  // The next commit is due at once, and `waiter` is answered when it is done.
  void ask_for_commit() { commit_now_ = true; }
  void ask_for_commit(Tag waiter);
  // The file is made as short as it can be, commit by commit; `waiter` is answered at the end. At once if nothing has
  // been written since the last time.
  void defragment(Tag waiter, int64_t now_ns);
  // The same, if ApplyOptions want it. compat: etcd serves nobody before it has ended.
  void defragment_at_start(int64_t now_ns);
  void refuse_defragment(const Error& error);
  // Both meta pages are to reach what is applied now, and a snapshot point follows.
  void settle() { settle_to_ = bench_.applied; }

  // The live buffer has what it is to hold.
  [[nodiscard]] bool is_live_full() const;
  // Both buffers are full.
  [[nodiscard]] bool is_stalled() const { return bench_.store.committing() && is_live_full(); }
  // A commit is to begin now. Who has waited for one that is not necessary is answered.
  [[nodiscard]] bool is_due(int64_t now_ns);
  // Begins one. What is published afterwards shows both buffers.
  void freeze(int64_t now_ns);

  // The commit has succeeded. What is published next no longer shows its buffer; then call retire().
  void commit_done(const CommitDone& done, int64_t now_ns);
  void retire();

  void consider_snapshot(int64_t now_ns);
  // The file as it was found or taken in can be sent to others.
  void note_sendable();
  // A job that waits for the log is not needed any more.
  void drop_waiting_job() { waiting_job_.reset(); }
  // `before` planned for a db that a snapshot has replaced: whoever waits there is answered, or waits here.
  void take_over(CommitPlanner& before, int64_t now_ns);
  // Buffers that no reader sees any more come free. `scratch` is overwritten.
  void free_buffers(std::vector<uint64_t>& scratch);

  // What the index may forget: see mvcc::Store::tidy.
  [[nodiscard]] int64_t trim_floor() const;
  [[nodiscard]] bool is_clean() const;
  [[nodiscard]] size_t retired_count() const { return retired_.count(); }
  // When is_due() may become true with time alone. A pass that readers hold up is looked after at `held_up_ns`.
  [[nodiscard]] std::optional<int64_t> due_at_ns(int64_t held_up_ns) const;

 private:
  struct Point {
    Index index;
    Term term;
    raft::ConfState conf;
    std::shared_ptr<const cluster::Membership> members;
  };

  void release_job();
  [[nodiscard]] static std::optional<std::string> defragment_fault();
  [[nodiscard]] bool pass_may_go() const;
  [[nodiscard]] int64_t pass_due_ns() const;
  [[nodiscard]] bool gives_back_more() const { return gives_all_back_ || gives_more_back_; }
  void end_defragment(int64_t now_ns);
  void note_pass(const CommitDone& done, int64_t compact_revision, bool has_ended, int64_t now_ns);
  [[nodiscard]] int64_t lowest_asked_revision() const;

  Workbench& bench_;
  const MembershipApplier& members_;
  CompactionPass& pass_;
  const CompactionHashes& hashes_;
  const Publication& published_;

  // since the last freeze
  uint64_t entries_since_ = 0;
  uint64_t wal_bytes_since_ = 0;
  std::optional<int64_t> changed_at_ns_;  // the first change
  bool commit_now_ = false;
  std::vector<Tag> waiters_;  // for the next commit

  // the file's free space
  bool gives_more_back_ = false;  // commits alone would make the file shorter
  bool gives_all_back_ = false;   // a defragmentation is under way
  bool is_defragmented_ = false;  // nothing was committed since the end of the last one
  std::vector<Tag> defragment_waiters_;
  int64_t defragment_began_ns_ = 0;
  storage::Space before_defragment_;

  // the running pass, for the log
  int64_t pass_began_ns_ = 0;  // 0: no part of it is done
  uint64_t pass_records_ = 0;  // that it has deleted
  int64_t pass_sleeps_until_ns_ = 0;

  // the running commit
  storage::GiveBack committing_give_back_ = storage::GiveBack::kNone;
  std::optional<CommitJob> waiting_job_;  // for durable_commit_
  Point committing_point_;
  std::vector<Tag> committing_waiters_;
  std::unique_ptr<storage::WriteBuffer> committed_buffer_;  // between commit_done() and retire()

  Index durable_commit_;
  std::array<std::optional<Point>, 2> reached_;  // newest meta, older meta; empty: not known since start
  int64_t last_commit_ns_;
  RetiredBuffers retired_;
  OpenViews views_;
  Index snapshot_index_;
  Index settle_to_;  // a snapshot point there, or behind it, is wanted soon; 0: none is
  int64_t last_snapshot_ns_;
};

}  // namespace cairn::member
