#include "member/apply/commit_planner.h"

#include <algorithm>
#include <chrono>

#include "base/bytes.h"
#include "base/check.h"
#include "base/fault.h"
#include "base/go_duration.h"
#include "base/humane_bytes.h"
#include "base/log.h"
#include "cluster/v2_store.h"

namespace cairn::member {
namespace {

constexpr uint64_t kSlackBytes = 4 << 20;  // what a defragmentation may leave

}  // namespace

CommitPlanner::CommitPlanner(Workbench& bench, const MembershipApplier& members, CompactionPass& pass,
                             const CompactionHashes& hashes, const Publication& published, Index snapshot_index,
                             int64_t now_ns)
    : bench_(bench),
      members_(members),
      pass_(pass),
      hashes_(hashes),
      published_(published),
      last_commit_ns_(now_ns),
      views_(bench.store.file()),
      snapshot_index_(snapshot_index),
      last_snapshot_ns_(now_ns) {}

void CommitPlanner::note_entry(uint64_t bytes) {
  ++entries_since_;
  wal_bytes_since_ += bytes;
}

void CommitPlanner::note_durable_commit(Index index) {
  if (index <= durable_commit_) return;
  durable_commit_ = index;
  release_job();
}

void CommitPlanner::ask_for_commit(Tag waiter) {
  waiters_.push_back(waiter);
  commit_now_ = true;
}

// The points of etcd at which its copy of the db fails: nothing has changed then.
std::optional<std::string> CommitPlanner::defragment_fault() {
  const auto at = [](bool is_armed, fault::Point point) { return is_armed ? fault::reach(point) : std::nullopt; };
  auto failed = at(CAIRN_FAULT_IS_ARMED("defragOpenFileError"), fault::named("defragOpenFileError"));
  if (!failed) failed = at(CAIRN_FAULT_IS_ARMED("defragdbFail"), fault::named("defragdbFail"));
  return failed;
}

// compat: etcd stops reads and writes, copies the file and renames the copy over it. Here commits move pages.
void CommitPlanner::defragment(Tag waiter, int64_t now_ns) {
  if (const auto failed = defragment_fault()) return bench_.answer(waiter, Code::kUnknown, *failed);
  if (is_defragmented_ && is_clean()) return bench_.answer(waiter, Code::kOk, "");
  defragment_waiters_.push_back(waiter);
  if (std::exchange(gives_all_back_, true)) return;
  defragment_began_ns_ = now_ns;
  before_defragment_ = bench_.space;
  const storage::Space& space = bench_.space;
  log::info("defragmenting", {{"current-db-size-bytes", space.high_water_bytes},
                              {"current-db-size", humane_bytes(space.high_water_bytes)},
                              {"current-db-size-in-use-bytes", space.in_use_bytes},
                              {"current-db-size-in-use", humane_bytes(space.in_use_bytes)}});
}

void CommitPlanner::defragment_at_start(int64_t now_ns) {
  const uint64_t threshold = bench_.options.bootstrap_defrag_bytes;
  if (threshold == 0) return;
  const storage::Space& space = bench_.space;
  if (space.high_water_bytes - space.in_use_bytes >= threshold) return defragment(/*waiter=*/0, now_ns);
  log::info("Skipping defragmentation", {{"current-db-size-bytes", space.high_water_bytes},
                                         {"current-db-size", humane_bytes(space.high_water_bytes)},
                                         {"current-db-size-in-use-bytes", space.in_use_bytes},
                                         {"current-db-size-in-use", humane_bytes(space.in_use_bytes)},
                                         {"bootstrap-defrag-threshold-bytes", threshold},
                                         {"bootstrap-defrag-threshold", humane_bytes(threshold)}});
}

void CommitPlanner::end_defragment(int64_t now_ns) {
  gives_all_back_ = false;
  const storage::Space& space = bench_.space;
  // Else something was in the way, as a full disk is.
  is_defragmented_ = space.high_water_bytes <= space.in_use_bytes + space.in_use_bytes / 8 + kSlackBytes;
  const auto diff = [](uint64_t after, uint64_t before) {
    return static_cast<int64_t>(after) - static_cast<int64_t>(before);
  };
  log::info("finished defragmenting directory",
            {{"current-db-size-bytes-diff", diff(space.high_water_bytes, before_defragment_.high_water_bytes)},
             {"current-db-size-bytes", space.high_water_bytes},
             {"current-db-size", humane_bytes(space.high_water_bytes)},
             {"current-db-size-in-use-bytes-diff", diff(space.in_use_bytes, before_defragment_.in_use_bytes)},
             {"current-db-size-in-use-bytes", space.in_use_bytes},
             {"current-db-size-in-use", humane_bytes(space.in_use_bytes)},
             {"took", go_duration(std::chrono::nanoseconds(now_ns - defragment_began_ns_))}});
  for (const Tag tag : std::exchange(defragment_waiters_, {})) bench_.answer(tag, Code::kOk, "");
}

void CommitPlanner::refuse_defragment(const Error& error) {
  gives_all_back_ = false;
  for (const Tag tag : std::exchange(defragment_waiters_, {})) bench_.answer(tag, error.code, error.message);
}

bool CommitPlanner::is_live_full() const {
  return bench_.store.live().bytes() >= bench_.options.buffer_bytes_max ||
         entries_since_ >= bench_.options.buffer_entries_max;
}

bool CommitPlanner::is_clean() const {
  return !bench_.store.committing() && bench_.store.live().empty() && entries_since_ == 0;
}

bool CommitPlanner::is_due(int64_t now_ns) {
  if (bench_.store.committing()) return false;
  const bool has_changes = !bench_.store.live().empty();
  if (!changed_at_ns_ && has_changes) changed_at_ns_ = now_ns;
  if (commit_now_ && !has_changes && entries_since_ == 0) {  // the file has it all
    commit_now_ = false;
    for (const Tag tag : waiters_) bench_.answer(tag, Code::kOk, "");
    waiters_.clear();
  }
  // The older meta page follows with the commit after the one that has all.
  const bool settles = settle_to_ != Index{} && !(reached_[1] && reached_[1]->index >= settle_to_);
  const ApplyOptions& options = bench_.options;
  return commit_now_ || settles || (changed_at_ns_ && now_ns - *changed_at_ns_ >= options.commit_interval_ns) ||
         is_live_full() || wal_bytes_since_ >= options.wal_bytes_max ||
         (pass_.in_progress() && now_ns >= pass_due_ns() && (pass_.is_deleted() || pass_may_go())) ||
         (now_ns - last_commit_ns_ >= options.reclaim_interval_ns && gives_back_more() && !views_.has_old());
}

// When a commit that only carries the pass on is due.
int64_t CommitPlanner::pass_due_ns() const {
  if (bench_.options.compaction_sleep_ns && pass_.has_more()) return pass_sleeps_until_ns_;
  return last_commit_ns_ + bench_.options.reclaim_interval_ns;
}

std::optional<int64_t> CommitPlanner::due_at_ns(int64_t held_up_ns) const {
  if (bench_.store.committing()) return std::nullopt;
  std::optional<int64_t> next;
  if (changed_at_ns_) next = *changed_at_ns_ + bench_.options.commit_interval_ns;
  if (pass_.in_progress()) {
    const bool is_held_up = pass_.has_more() && !pass_may_go();
    const int64_t part_ns = std::max(pass_due_ns(), is_held_up ? held_up_ns : 0);
    next = std::min(next.value_or(INT64_MAX), part_ns);
  }
  if (gives_back_more()) {
    const int64_t due_ns =
        std::max(last_commit_ns_ + bench_.options.reclaim_interval_ns, views_.has_old() ? held_up_ns : 0);
    next = std::min(next.value_or(INT64_MAX), due_ns);
  }
  return next;
}

void CommitPlanner::freeze(int64_t now_ns) {
  CAIRN_ASSERT(!bench_.store.committing());
  storage::WriteBuffer& tables = bench_.tables();
  CAIRN_FAULT("commitBeforePreCommitHook");
  char number[8];
  store_be64(number, bench_.applied.value);
  if (!CAIRN_MUTANT("server.consistent_index_apart")) {
    tables.put(storage::Table::kMeta, "consistent_index", {number, sizeof number});
  }
  if (members_.schema() != Schema::k3_4 && bench_.applied_term != Term{}) {
    store_be64(number, bench_.applied_term.value);
    tables.put(storage::Table::kMeta, "term", {number, sizeof number});
  }
  CAIRN_FAULT("commitAfterPreCommitHook");
  if (pass_.is_deleted() || (pass_.in_progress() && CAIRN_MUTANT("server.finished_compaction_early"))) {
    CAIRN_FAULT("compactBeforeSetFinishedCompact");
    tables.put(storage::Table::kMeta, "finishedCompactRev", storage::revision_key({pass_.revision(), 0}));
    CAIRN_FAULT("compactAfterSetFinishedCompact");
  }
  bench_.store.freeze();
  retired_.begin(published_.newest_number());
  CommitJob job;
  job.consistent_index = bench_.applied;
  job.term = bench_.applied_term;
  job.revision = bench_.store.revision();
  if (pass_.has_more() && pass_may_go() && now_ns >= pass_sleeps_until_ns_) {
    job.reclaim = pass_.begin_part();
    job.reclaim->entries_max = bench_.options.compaction_batch_limit;
  }
  job.open_views = views_.txids();
  // What a snapshot holds does not come free, so moving only adds to it.
  if (!views_.has_old()) job.give_back = gives_all_back_ ? storage::GiveBack::kAll : storage::GiveBack::kDue;
  committing_give_back_ = job.give_back;
  is_defragmented_ = false;
  committing_point_ = {bench_.applied, bench_.applied_term, members_.conf(), members_.members()};
  committing_waiters_ = std::exchange(waiters_, {});
  commit_now_ = false;
  entries_since_ = 0;
  wal_bytes_since_ = 0;
  changed_at_ns_.reset();
  last_commit_ns_ = now_ns;
  waiting_job_ = std::move(job);
  release_job();
}

// The file must never be ahead of the WAL: etcd replays from the hard state it finds there.
void CommitPlanner::release_job() {
  if (!waiting_job_) return;
  bench_.has_output = true;
  if (durable_commit_ < waiting_job_->consistent_index && !CAIRN_MUTANT("server.meta_before_wal_sync")) {
    bench_.output.notice.need_durable_commit = waiting_job_->consistent_index;
    return;
  }
  bench_.output.commit = std::exchange(waiting_job_, std::nullopt);
  if (bench_.output.commit->reclaim && CAIRN_MUTANT("server.pass_before_compact_entry")) {
    bench_.output.commit->reclaim->compact_revision = bench_.store.compact_revision();
  }
  bench_.output.commit->changes = bench_.store.frozen_changes();
}

void CommitPlanner::commit_done(const CommitDone& done, int64_t now_ns) {
  bench_.space = done.space;
  views_.add(*bench_.store.file(), done.result.view);
  committed_buffer_ = bench_.store.finish_commit(done.result.view);
  reached_[1] = std::exchange(reached_[0], std::move(committing_point_));
  last_commit_ns_ = now_ns;
  bench_.counters.compacted_records += done.result.reclaimed_entries;
  if (committing_give_back_ != storage::GiveBack::kNone) gives_more_back_ = done.result.gives_more_back;
  if (committing_give_back_ == storage::GiveBack::kAll && gives_all_back_ && !gives_more_back_) {
    end_defragment(now_ns);
  }
  const int64_t compact_revision = pass_.revision();
  if (pass_.is_part_under_way()) pass_sleeps_until_ns_ = now_ns + bench_.options.compaction_sleep_ns.value_or(0);
  const auto ended = pass_.commit_done(done.result);
  note_pass(done, compact_revision, ended.has_value(), now_ns);
  if (!ended) return;
  for (const Tag tag : *ended) bench_.reply(tag);
}

void CommitPlanner::note_pass(const CommitDone& done, int64_t compact_revision, bool has_ended, int64_t now_ns) {
  if (compact_revision == 0) return;
  if (pass_began_ns_ == 0) pass_began_ns_ = now_ns;
  pass_records_ += done.result.reclaimed_entries;
  if (!has_ended) return;
  uint32_t hash = 0;
  for (const CompactionHash& one : *hashes_.list()) {
    if (one.revision == compact_revision) hash = one.hash;
  }
  const storage::Space& space = bench_.space;
  log::info("finished scheduled compaction",
            {{"compact-revision", compact_revision},
             {"took", go_duration(std::chrono::nanoseconds(now_ns - std::exchange(pass_began_ns_, 0)))},
             {"number-of-keys-compacted", std::exchange(pass_records_, 0)},
             {"hash", hash},
             {"current-db-size-bytes", space.high_water_bytes},
             {"current-db-size", humane_bytes(space.high_water_bytes)},
             {"current-db-size-in-use-bytes", space.in_use_bytes},
             {"current-db-size-in-use", humane_bytes(space.in_use_bytes)}});
}

void CommitPlanner::retire() {
  retired_.retire(std::move(committed_buffer_), published_.newest_number());
  for (const Tag tag : committing_waiters_) bench_.answer(tag, Code::kOk, "");
  committing_waiters_.clear();
  bench_.output.notice.sendable = SendableState{.index = reached_[0]->index,
                                                .term = reached_[0]->term,
                                                .conf = reached_[0]->conf,
                                                .members = reached_[0]->members,
                                                .file = bench_.store.file(),
                                                .image_bytes = bench_.space.high_water_bytes};
  bench_.has_output = true;
  if (!reached_[1]) return;
  bench_.output.notice.release_below = reached_[1]->index;
  bench_.has_output = true;
}

void CommitPlanner::note_sendable() {
  bench_.output.notice.sendable = SendableState{.index = bench_.applied,
                                                .term = bench_.applied_term,
                                                .conf = members_.conf(),
                                                .members = members_.members(),
                                                .file = bench_.store.file(),
                                                .image_bytes = bench_.space.high_water_bytes};
  bench_.has_output = true;
}

void CommitPlanner::take_over(CommitPlanner& before, int64_t now_ns) {
  durable_commit_ = std::max(before.durable_commit_, snapshot_index_);
  for (std::vector<Tag>* const tags : {&before.waiters_, &before.committing_waiters_}) {
    for (const Tag tag : std::exchange(*tags, {})) bench_.answer(tag, Code::kOk, "");
  }
  for (const Tag tag : std::exchange(before.defragment_waiters_, {})) defragment(tag, now_ns);
}

void CommitPlanner::consider_snapshot(int64_t now_ns) {
  // Both meta pages are at or above it.
  const auto& point = reached_[CAIRN_MUTANT("server.segment_released_before_commit") ? 0 : 1];
  if (!point || durable_commit_ < point->index) return;
  const bool settles = settle_to_ != Index{} && point->index >= settle_to_;
  if (!settles) {
    if (point->index < snapshot_index_ + bench_.options.snapshot_entries) return;
    if (now_ns - last_snapshot_ns_ < bench_.options.snapshot_interval_ns) return;
  } else {
    settle_to_ = Index{};
    // Behind the snapshot, and no commit comes that would ask for it.
    bench_.output.notice.release_below = point->index;
    bench_.has_output = true;
    if (point->index == snapshot_index_) return;
  }
  snapshot_index_ = point->index;
  last_snapshot_ns_ = now_ns;
  bench_.output.notice.snapshot =
      SnapshotPoint{point->index, point->term, point->conf,
                    std::make_shared<const std::string>(cluster::write_v2_store(*point->members, point->index.value))};
  bench_.has_output = true;
}

void CommitPlanner::free_buffers(std::vector<uint64_t>& scratch) {
  published_.domain().guarded(scratch);
  retired_.free(scratch);
}

int64_t CommitPlanner::lowest_asked_revision() const {
  const int64_t asked = published_.lowest_asked_revision(bench_.store.compact_revision());
  return std::min(asked, hashes_.floor());
}

// compat: a pass rewrites pages, and as long as a snapshot holds the old ones, the new ones come on top: the pass waits
// for it.
bool CommitPlanner::pass_may_go() const { return !views_.has_old() && lowest_asked_revision() >= pass_.revision(); }

// The running pass asks the newest root what is superseded by *its* compaction, so of a later one nothing is trimmed
// before it has ended: its own commits do not hold that compaction yet.
int64_t CommitPlanner::trim_floor() const {
  const int64_t asked = lowest_asked_revision();
  if (CAIRN_MUTANT("server.later_compaction_trimmed")) return asked;
  return pass_.in_progress() ? std::min(asked, pass_.revision()) : asked;
}

}  // namespace cairn::member
