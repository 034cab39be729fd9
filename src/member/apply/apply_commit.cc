// When changes go to the file, when a compaction's pass goes on, when a snapshot point is due.
#include <algorithm>

#include "base/bytes.h"
#include "base/check.h"
#include "base/log.h"
#include "cluster/v2_store.h"
#include "member/apply/apply_core.h"

namespace cairn::member {
namespace {

constexpr int64_t kTidyIntervalNs = 20'000'000;

}  // namespace

bool ApplyCore::stalled() const {
  return store_.committing() &&
         (store_.live().bytes() >= options_.buffer_bytes_max || entries_since_ >= options_.buffer_entries_max);
}

void ApplyCore::request_commit(int64_t now_ns) {
  commit_now_ = true;
  consider_commit(now_ns);
}

void ApplyCore::settle(int64_t now_ns) {
  settle_to_ = applied_;
  consider_commit(now_ns);
  consider_snapshot(now_ns);
}

void ApplyCore::consider_commit(int64_t now_ns) {
  if (store_.committing()) return;
  const bool has_changes = !store_.live().empty();
  if (!changed_at_ns_ && has_changes) changed_at_ns_ = now_ns;
  if (commit_now_ && !has_changes && entries_since_ == 0) {  // the file has it all
    commit_now_ = false;
    for (const Tag tag : commit_waiters_) answer(tag, Code::kOk, "");
    commit_waiters_.clear();
  }
  // The older meta page follows with the commit after the one that has all.
  const bool settles = settle_to_ != Index{} && !(reached_[1] && reached_[1]->index >= settle_to_);
  const bool due =
      commit_now_ || settles || (changed_at_ns_ && now_ns - *changed_at_ns_ >= options_.commit_interval_ns) ||
      store_.live().bytes() >= options_.buffer_bytes_max || entries_since_ >= options_.buffer_entries_max ||
      wal_bytes_since_ >= options_.wal_bytes_max ||
      (pass_ && now_ns - last_commit_ns_ >= options_.reclaim_interval_ns && (pass_->done || pass_may_go()));
  if (due) begin_commit(now_ns);
}

std::optional<int64_t> ApplyCore::next_tick_ns() const {
  std::optional<int64_t> next;
  const auto at = [&](int64_t when) { next = next ? std::min(*next, when) : when; };
  if (!store_.committing()) {
    if (changed_at_ns_) at(*changed_at_ns_ + options_.commit_interval_ns);
    // A pass that readers hold up is looked after now and then.
    const bool held_up = pass_ && !pass_->done && !pass_may_go();
    if (pass_)
      at(std::max(last_commit_ns_ + options_.reclaim_interval_ns, held_up ? last_tick_ns_ + kTidyIntervalNs : 0));
  }
  if (untidy_ || !retired_buffers_.empty()) at(last_tick_ns_ + kTidyIntervalNs);
  return next;
}

void ApplyCore::begin_commit(int64_t now_ns) {
  CAIRN_ASSERT(!store_.committing());
  storage::WriteBuffer& tables = store_.tables();
  char number[8];
  store_be64(number, applied_.value);
  if (!CAIRN_MUTANT("server.consistent_index_apart")) {
    tables.put(storage::Table::kMeta, "consistent_index", {number, sizeof number});
  }
  if (schema_ != Schema::k3_4 && applied_term_ != Term{}) {
    store_be64(number, applied_term_.value);
    tables.put(storage::Table::kMeta, "term", {number, sizeof number});
  }
  if (pass_ && (pass_->done || CAIRN_MUTANT("server.finished_compaction_early"))) {
    tables.put(storage::Table::kMeta, "finishedCompactRev", storage::revision_key({pass_->compact_revision, 0}));
  }
  store_.freeze();
  frozen_since_ = std::exchange(live_since_, published_->newest_number());
  CommitJob job;
  job.consistent_index = applied_;
  job.term = applied_term_;
  job.revision = store_.revision();
  if (pass_ && !pass_->done && pass_may_go()) {
    job.reclaim = ReclaimPart{pass_->position, pass_->compact_revision};
    pass_->in_commit = true;
  }
  job.open_views = open_views();
  committing_point_ = {applied_, applied_term_, conf_, members_};
  committing_waiters_ = std::exchange(commit_waiters_, {});
  commit_now_ = false;
  entries_since_ = 0;
  wal_bytes_since_ = 0;
  changed_at_ns_.reset();
  last_commit_ns_ = now_ns;
  waiting_job_ = std::move(job);
  release_commit();
  dirty_ = true;
  publish();
}

// The file must never be ahead of the WAL: etcd replays from the hard state it finds there.
void ApplyCore::release_commit() {
  if (!waiting_job_) return;
  if (durable_commit_ < waiting_job_->consistent_index && !CAIRN_MUTANT("server.meta_before_wal_sync")) {
    output_.notice.need_durable_commit = waiting_job_->consistent_index;
    has_output_ = true;
    return;
  }
  output_.commit = std::exchange(waiting_job_, std::nullopt);
  if (output_.commit->reclaim && CAIRN_MUTANT("server.pass_before_compact_entry")) {
    output_.commit->reclaim->compact_revision = store_.compact_revision();
  }
  output_.commit->changes = store_.frozen_changes();
  has_output_ = true;
}

Status ApplyCore::commit_done(CommitDone done, int64_t now_ns) {
  if (!done.status) return done.status;
  space_ = done.space;
  view_before_txid_ = store_.file()->txid();
  auto buffer = store_.finish_commit(done.result.view);
  views_.push_back(done.result.view);
  reached_[1] = std::exchange(reached_[0], std::move(committing_point_));
  last_commit_ns_ = now_ns;
  if (pass_ && pass_->done) {
    log::info("finished scheduled compaction", {{"compact-revision", pass_->compact_revision}});
    for (const Tag tag : pass_->waiters) {
      if (tag == 0) continue;
      std::string& bytes = answer_bytes(tag);
      const size_t offset = bytes.size();
      mvcc::append_header(bytes, header(store_.revision()));
      end_answer(tag, offset);
    }
    pass_.reset();
    if (next_compaction_ > 0) {
      pass_ =
          Pass{.compact_revision = std::exchange(next_compaction_, 0), .waiters = std::exchange(next_physical_, {})};
    }
  } else if (pass_ && pass_->in_commit) {
    pass_->in_commit = false;
    finish_pass_part(done.result);
  }
  dirty_ = true;
  publish();  // only now does the commit count as finished: readers no longer see the buffer
  retired_buffers_.push_back({frozen_since_, published_->newest_number(), std::move(buffer)});
  for (const Tag tag : committing_waiters_) answer(tag, Code::kOk, "");
  committing_waiters_.clear();
  if (reached_[1]) {
    output_.notice.release_below = reached_[1]->index;
    has_output_ = true;
  }
  tidy();
  consider_commit(now_ns);
  consider_snapshot(now_ns);
  return {};
}

void ApplyCore::finish_pass_part(const storage::CommitResult& result) {
  counters_.compacted_records += result.reclaimed_entries;
  if (result.reclaim_done) {
    pass_->done = true;
  } else {
    pass_->position = result.reclaim_position;
  }
}

// compat: a pass rewrites pages, and as long as a snapshot holds the old ones, the new ones come on top: the pass waits
// for it.
bool ApplyCore::pass_may_go() const { return !reads_old_view() && lowest_asked_revision() >= pass_->compact_revision; }

// The view that the newest one replaced does not count: reads that began a moment ago would hold up a pass for ever.
bool ApplyCore::reads_old_view() const {
  return std::any_of(views_.begin(), views_.end(), [&](const auto& weak) {
    const auto view = weak.lock();
    return view != nullptr && view->txid() < view_before_txid_;
  });
}

std::vector<uint64_t> ApplyCore::open_views() {
  std::erase_if(views_, [](const auto& weak) { return weak.expired(); });
  std::vector<uint64_t> txids;
  for (const auto& weak : views_) {
    if (const auto view = weak.lock()) txids.push_back(view->txid());
  }
  return txids;
}

// A state that was published before a buffer was begun, or after it was retired, has no pointer to it: so an old guard
// keeps the buffers of its own state, not all that came after. The numbers are read after the state without the buffer
// was published: who is not seen here gets that state or a later one.
void ApplyCore::free_buffers() {
  published_->guarded(held_);
  std::erase_if(retired_buffers_, [&](const RetiredBuffer& one) {
    const bool is_seen = std::any_of(
        held_.begin(), held_.end(), [&](uint64_t number) { return number >= one.first_number && number < one.number; });
    return !is_seen || CAIRN_MUTANT("server.buffer_freed_under_view");
  });
}

void ApplyCore::consider_snapshot(int64_t now_ns) {
  // Both meta pages are at or above it.
  const auto& point = reached_[CAIRN_MUTANT("server.segment_released_before_commit") ? 0 : 1];
  if (!point || durable_commit_ < point->index) return;
  const bool settles = settle_to_ != Index{} && point->index >= settle_to_;
  if (!settles) {
    if (point->index < snapshot_index_ + options_.snapshot_entries) return;
    if (now_ns - last_snapshot_ns_ < options_.snapshot_interval_ns) return;
  } else {
    settle_to_ = Index{};
    output_.notice.release_below = point->index;  // behind the snapshot, and no commit comes that would ask for it
    has_output_ = true;
    if (point->index == snapshot_index_) return;
  }
  snapshot_index_ = point->index;
  last_snapshot_ns_ = now_ns;
  output_.notice.snapshot =
      SnapshotPoint{point->index, point->term, point->conf,
                    std::make_shared<const std::string>(cluster::write_v2_store(*point->members, point->index.value))};
  has_output_ = true;
}

}  // namespace cairn::member
