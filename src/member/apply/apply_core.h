// member/apply/apply_core.h: the stage that turns committed entries into state: keys, leases, users, alarms,
// membership.
//
// Each table has an applier beside this file; the commit planner decides when their changes go to the file. Here is
// what holds them together: which entry goes to which applier, when the state is published, who is answered then.
//
// Deterministic: the same entries give the same tables on every member. Each batch ends in this order: buffers are
// filled, one Published is stored, answers leave.
//
// Threads: the core thread's; readers see only Published.
// Source:  docs/architecture.md.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "member/apply/alarm_applier.h"
#include "member/apply/applied_state.h"
#include "member/apply/auth_applier.h"
#include "member/apply/commit_planner.h"
#include "member/apply/compaction_hashes.h"
#include "member/apply/compaction_pass.h"
#include "member/apply/key_applier.h"
#include "member/apply/lease_applier.h"
#include "member/apply/membership_applier.h"
#include "member/apply/publication.h"
#include "member/apply/workbench.h"

namespace cairn::member {

class ApplyCore {
 public:
  // `answers` takes what callers get, and outlives this.
  ApplyCore(const ApplyOptions& options, AppliedState state, Answers& answers, int64_t now_ns);
  ApplyCore(const ApplyCore&) = delete;
  ApplyCore& operator=(const ApplyCore&) = delete;

  // needs: !stalled() when the batch has entries, or the caller bounds what the live buffer takes
  //   errors: kDataLoss, kFailedPrecondition: an entry that cannot be applied; the member must end, saying so
  Status apply(ApplyBatch batch, int64_t now_ns, bool beyond_buffers = false);
  // Who leads is known before the entries that wait: published at once, so that no read is served alone any more.
  void note_leader(const LeaderState& leader);
  // A batch that waits because both buffers are full brings this first: the commit that frees one may wait for it.
  void note_durable_commit(Index index) { world_->planner->note_durable_commit(index); }
  //   errors: a commit that failed for good; the member must end
  Status commit_done(const CommitDone& done, int64_t now_ns);
  // The order of ApplyOutput::hash is carried out.
  void hash_done(const HashDone& done, int64_t now_ns);
  // Time passed: commits that are due begin.
  void tick(int64_t now_ns);
  // When tick() should be called next; nullopt: nothing is pending.
  [[nodiscard]] std::optional<int64_t> next_tick_ns() const;

  // Both buffers are full: entries must wait for commit_done().
  [[nodiscard]] bool stalled() const { return world_->planner->is_stalled(); }
  // Nothing happens any more: both meta pages come to where the state is, a snapshot point follows, and what the log
  // need not keep is released.
  void settle(int64_t now_ns);
  // Who waits for the end of a defragmentation is told that there will be none.
  void refuse_defragment(const Error& error) { world_->planner->refuse_defragment(error); }
  // Everything applied is in the file, or about to be: used at a clean stop.
  void request_commit(int64_t now_ns);
  [[nodiscard]] bool commit_pending() const { return world_->bench.store.committing(); }
  [[nodiscard]] bool is_clean() const { return world_->planner->is_clean(); }

  // --- a snapshot of the leader takes the place of all tables

  // No commit begins from now on, and one that waits for the log is dropped.
  void quiesce();
  // `state` is what the snapshot holds. Readers in flight finish on what was there before.
  void install(AppliedState state, int64_t now_ns);
  [[nodiscard]] size_t former_count() const { return former_.size(); }  // held by readers

  [[nodiscard]] bool has_output() const { return world_->bench.has_output; }
  [[nodiscard]] ApplyOutput take_output();

  [[nodiscard]] PublishedDomain& published() { return published_.domain(); }
  [[nodiscard]] const PublishedDomain& published() const { return published_.domain(); }
  [[nodiscard]] const mvcc::Store& store() const { return world_->bench.store; }
  [[nodiscard]] const lease::Lessor& lessor() const { return world_->lessor; }
  // The header that an answer about the state of now begins with.
  [[nodiscard]] mvcc::HeaderValues header() const { return world_->bench.header(world_->bench.store.revision()); }
  [[nodiscard]] const auth::Store& auth() const { return world_->auth.store(); }
  // Whether somebody may keep a lease alive, who must be known while auth is on.
  //   errors: user_empty, auth_old_revision, permission_denied
  [[nodiscard]] Status check_renewal(const auth::Identity* who, lease::LeaseId id) const;
  [[nodiscard]] const cluster::Membership& members() const { return *world_->members.members(); }
  [[nodiscard]] const ApplyCounters& counters() const { return world_->bench.counters; }
  [[nodiscard]] const storage::Space& space() const { return world_->bench.space; }
  [[nodiscard]] Index applied() const { return world_->bench.applied; }
  // Members of 3.5 and older read bare v2 requests.
  [[nodiscard]] Schema schema() const { return world_->members.schema(); }
  [[nodiscard]] size_t retired_buffer_count() const { return world_->planner->retired_count(); }  // held by readers
  [[nodiscard]] int64_t compaction_in_progress() const { return world_->pass.revision(); }        // 0: none

 private:
  Status apply_entry(const raft::Entry& entry);
  Status apply_request(std::string_view bytes, Tag tag);
  Status apply_by_kind(const RaftRequest& request, std::string_view bytes, Tag tag);
  // Requests that are not about keys alone.
  Status apply_other(std::string_view bytes, Tag tag);
  [[nodiscard]] Published state() const;
  [[nodiscard]] Published first_state(AppliedState& found);
  void publish();
  void answer_controls();
  void tidy();
  void consider_commit(int64_t now_ns);
  void begin_commit(int64_t now_ns);
  void order_hash();

  // What a snapshot taken in replaces as a whole.
  struct World {
    World(const ApplyOptions& options, AppliedState& state, Answers& answers);

    Workbench bench;
    lease::Lessor lessor;
    CompactionPass pass;
    CompactionHashes hashes;
    AlarmApplier alarms;
    AuthApplier auth;
    KeyApplier keys;
    LeaseApplier leases;
    MembershipApplier members;
    std::optional<CommitPlanner> planner;  // when the first state is published
  };
  // One that readers may still look at.
  struct Former {
    uint64_t end_number = 0;  // of what is published: all before it
    std::unique_ptr<World> world;
  };

  void begin(World& world, AppliedState& state, int64_t now_ns);
  void carry_over(World& from, World& to, int64_t now_ns);
  void forget_former();
  void list_former();

  Answers& answers_;
  std::unique_ptr<World> world_;
  LeaderState leader_;
  Publication published_;
  std::deque<Former> former_;  // oldest first
  std::shared_ptr<const FormerRecords> former_records_;
  uint64_t first_number_ = 0;  // published with world_
  uint64_t installations_ = 0;
  bool is_quiet_ = false;       // no commit begins
  bool hash_is_stale_ = false;  // the order under way is of a former world

  bool dirty_ = false;                    // something to publish
  bool untidy_ = false;                   // index work is left
  std::vector<ControlRequest> controls_;  // that wait to be due
  std::vector<uint64_t> held_;            // kept for its memory
  int64_t last_tick_ns_;
};

}  // namespace cairn::member
