#include "member/apply/apply_core.h"

#include <algorithm>

#include "base/check.h"
#include "base/fault.h"
#include "base/log.h"
#include "cluster/codec.h"
#include "member/requests.h"
#include "proto/raft_internal.pb.h"

namespace cairn::member {
namespace {

constexpr int64_t kTidyIntervalNs = 20'000'000;

uint64_t entry_bytes(const raft::Entry& entry) { return entry.bytes().size() + 32; }

}  // namespace

ApplyCore::World::World(const ApplyOptions& options, AppliedState& state, Answers& answers)
    : bench(options, state, answers),
      lessor(std::move(state.lessor)),
      hashes(options.hash_compactions),
      alarms(bench, std::move(state.alarms)),
      auth(bench, lessor, std::move(state.auth)),
      keys(bench, alarms, auth, lessor, pass, hashes),
      leases(bench, alarms, auth, lessor, keys),
      members(bench, state) {}

ApplyCore::ApplyCore(const ApplyOptions& options, AppliedState state, Answers& answers, int64_t now_ns)
    : answers_(answers),
      world_(std::make_unique<World>(options, state, answers)),
      published_(first_state(state)),
      last_tick_ns_(now_ns) {
  begin(*world_, state, now_ns);
  world_->planner->defragment_at_start(now_ns);
  consider_commit(now_ns);
}

void ApplyCore::begin(World& world, AppliedState& state, int64_t now_ns) {
  world.planner.emplace(world.bench, world.members, world.pass, world.hashes, published_, state.snapshot_index, now_ns);
  if (!state.new_directory) world.planner->note_sendable();
  if (state.unfinished_compaction == 0) return;
  const bool wrong = CAIRN_MUTANT("server.compaction_resumed_at_wrong_revision");
  world.pass.schedule(wrong ? world.bench.store.revision() : state.unfinished_compaction, 0);
  if (!world.bench.options.hash_compactions) return;
  log::info("previous compaction was interrupted, skip storing compaction hash value",
            {{"compact-revision", state.unfinished_compaction}});
}

// What the start has to write is in the live buffer before anything is published.
Published ApplyCore::first_state(AppliedState& found) {
  if (found.new_directory) {
    world_->auth.store_first();
    world_->members.store_first();
  }
  if (found.replaced_members) world_->members.rewrite(*found.replaced_members);
  Published first = state();
  first.kv = world_->bench.store.publish();
  first.db_total_bytes = world_->bench.space.total_bytes;
  first.db_in_use_bytes = world_->bench.space.in_use_bytes;
  first.db_high_water_bytes = world_->bench.space.high_water_bytes;
  return first;
}

// --- entries

Status ApplyCore::apply(ApplyBatch batch, int64_t now_ns, bool beyond_buffers) {
  CAIRN_ASSERT(batch.entries.empty() || beyond_buffers || !stalled());
  if (batch.leader_state) note_leader(*batch.leader_state);
  note_durable_commit(batch.durable_commit);
  for (const raft::Entry& entry : batch.entries) {
    CAIRN_ASSERT(entry.index == world_->bench.applied + 1);
    world_->bench.applied = entry.index;
    world_->bench.applied_term = entry.term;
    world_->planner->note_entry(entry_bytes(entry));
    CAIRN_CHECK(apply_entry(entry));
    // The two buffers swap between entries; one entry may exceed the bound.
    if (!commit_pending() && world_->planner->is_live_full()) begin_commit(now_ns);
  }
  if (!batch.entries.empty()) {
    dirty_ = true;
    world_->bench.output.notice.applied = world_->bench.applied;
    world_->bench.has_output = true;
  }
  if (dirty_) {
    CAIRN_FAULT("beforeWritebackBuf");
    publish();
    CAIRN_FAULT("afterWritebackBuf");
  }
  for (const ControlRequest& control : batch.controls) {
    if (control.kind == Control::kCommit) {
      world_->planner->ask_for_commit(control.tag);
    } else if (control.kind == Control::kDefragment) {
      world_->planner->defragment(control.tag, now_ns);
    } else {
      controls_.push_back(control);
    }
  }
  answer_controls();
  order_hash();
  tidy();
  consider_commit(now_ns);
  if (!is_quiet_) world_->planner->consider_snapshot(now_ns);
  return {};
}

void ApplyCore::note_leader(const LeaderState& leader) {
  LeaderState next = leader;
  // Each part of it: who does not lead, who is not alone, and who is alone too recently.
  if (CAIRN_MUTANT("server.alone_read_after_losing_leadership") && leader_.is_leader) next.is_leader = true;
  if (CAIRN_MUTANT("server.alone_read_beside_another_voter") && leader_.sole_member) next.sole_member = true;
  if (CAIRN_MUTANT("server.alone_read_behind_a_removed_member")) next.shared_up_to = Index{};
  leader_ = next;
  world_->bench.term_for_headers = leader_.term.value;
  publish();
}

// What is ordered is published: it can be seen by whoever hashes.
void ApplyCore::order_hash() {
  if (hash_is_stale_) return;  // one at a time
  const auto order = world_->hashes.take_order();
  if (!order) return;
  world_->bench.output.hash = order;
  world_->bench.has_output = true;
}

void ApplyCore::hash_done(const HashDone& done, int64_t now_ns) {
  if (std::exchange(hash_is_stale_, false)) return order_hash();
  world_->hashes.done(done);
  for (const CompactionHash& one : *world_->hashes.list()) {
    if (one.revision != done.revision) continue;
    log::info("storing new hash",
              {{"hash", one.hash}, {"revision", one.revision}, {"compact-revision", one.compact_revision}});
  }
  publish();
  order_hash();
  tidy();
  consider_commit(now_ns);
}

Status ApplyCore::apply_entry(const raft::Entry& entry) {
  if (entry.type != raft::EntryType::kNormal) {
    CAIRN_FAULT("beforeApplyOneConfChange");
    CAIRN_TRY(world_->bench.output.notice.conf_verdict, world_->members.apply_conf_change(entry));
    world_->bench.has_output = true;
    return {};
  }
  CAIRN_FAULT("beforeApplyOneEntryNormal");
  const std::string_view bytes = entry.bytes();
  Status status;
  switch (bytes.empty() ? cluster::PayloadKind::kEmpty : cluster::payload_kind(bytes)) {
    case cluster::PayloadKind::kEmpty: return {};
    case cluster::PayloadKind::kRaftRequest: status = apply_request(bytes, entry.tag()); break;
    case cluster::PayloadKind::kV2Request: status = world_->members.apply_v2(bytes); break;
  }
  if (!status) {
    return fail(status.error().code, "server: entry {} of term {} cannot be applied: {}", entry.index, entry.term,
                status.error().message);
  }
  return {};
}

Status ApplyCore::apply_request(std::string_view bytes, Tag tag) {
  CAIRN_TRY(const RaftRequest request, split_request(bytes));
  world_->bench.is_refused = false;
  CAIRN_CHECK(world_->auth.begin(request.header));
  const Status applied = apply_by_kind(request, bytes, tag);
  ApplyCounters::Requests& counted = world_->bench.counters.requests[request.name];
  ++(world_->bench.is_refused ? counted.refused : counted.done);
  ++world_->bench.counters.requests_of_all_kinds;
  return applied;
}

Status ApplyCore::apply_by_kind(const RaftRequest& request, std::string_view bytes, Tag tag) {
  switch (request.kind) {
    case RequestKind::kOther: return apply_other(bytes, tag);
    case RequestKind::kLeaseGrant: return world_->leases.grant(request.body, tag);
    case RequestKind::kLeaseRevoke: return world_->leases.revoke(request.body, tag);
    default: return world_->keys.apply(request, tag);
  }
}

// compat: members of etcd 3.4 to 3.6 take strings that are not UTF-8. Such an entry ends this member, as it does one of
// 3.7; etcd panics.
Status ApplyCore::apply_other(std::string_view bytes, Tag tag) {
  etcdserverpb::InternalRaftRequest request;
  if (!request.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return std::unexpected(damaged_request());
  }
  if (request.has_lease_checkpoint()) {
    world_->leases.checkpoint(request.lease_checkpoint(), world_->members.schema());
  } else if (request.has_alarm()) {
    world_->alarms.apply(request.alarm(), tag);
  } else if (world_->members.apply(request)) {
    if (world_->members.take_fall()) world_->planner->settle();
    world_->bench.answer(tag, Code::kOk, "");
  } else {
    CAIRN_TRY(const bool is_auth, world_->auth.apply(request, tag, world_->members.schema()));
    if (!is_auth) return fail(Code::kDataLoss, "server: a request of a kind that is not known");
  }
  return {};
}

Status ApplyCore::check_renewal(const auth::Identity* who, lease::LeaseId id) const {
  if (!world_->auth.store().enabled()) return {};
  const auth::Identity nobody;
  CAIRN_CHECK(world_->auth.store().rules()->check_known(who == nullptr ? nobody : *who));
  return world_->auth.check_lease(*who, id);
}

// --- what is seen of it

Published ApplyCore::state() const {
  Published out;
  out.file = world_->bench.store.file();
  out.applied = world_->bench.applied;
  out.applied_term = world_->bench.applied_term;
  out.leader = leader_;
  out.reads_alone = leader_.is_leader && leader_.sole_member && world_->bench.applied_term == leader_.term &&
                    world_->bench.applied >= leader_.shared_up_to;
  out.members = world_->members.members();
  out.alarms = world_->alarms.list();
  out.auth = world_->auth.store().rules();
  out.compaction_hashes = world_->hashes.list();
  out.storage_version = world_->members.storage_version();
  out.has_large_lease = world_->lessor.has_large();
  const uint64_t buffered = world_->bench.store.buffered_bytes();
  out.db_total_bytes = world_->bench.space.total_bytes + buffered;
  out.db_in_use_bytes = world_->bench.space.in_use_bytes + buffered;
  out.db_high_water_bytes = world_->bench.space.high_water_bytes;
  return out;
}

void ApplyCore::publish() {
  Published next = state();
  next.kv = world_->bench.store.publish();
  next.installations = installations_;
  next.former = former_records_;
  published_.publish(std::move(next));
  dirty_ = false;
}

void ApplyCore::answer_controls() {
  for (size_t i = 0; i < controls_.size();) {
    if (controls_[i].due > world_->bench.applied && !CAIRN_MUTANT("server.read_before_its_index_is_applied")) {
      ++i;
      continue;
    }
    world_->bench.answer(controls_[i].tag, Code::kOk, "");
    controls_[i] = controls_.back();
    controls_.pop_back();
  }
}

void ApplyCore::tidy() {
  published().held(held_);
  forget_former();
  std::erase_if(held_, [this](uint64_t number) { return number < first_number_; });
  untidy_ = world_->bench.store.tidy(held_, world_->planner->trim_floor());
  world_->planner->free_buffers(held_);
}

ApplyOutput ApplyCore::take_output() {
  world_->bench.has_output = false;
  return std::exchange(world_->bench.output, {});
}

// --- a snapshot of the leader

void ApplyCore::quiesce() {
  is_quiet_ = true;
  world_->planner->drop_waiting_job();
  world_->bench.output.commit.reset();
}

void ApplyCore::install(AppliedState state, int64_t now_ns) {
  CAIRN_ASSERT(is_quiet_ && state.applied > world_->bench.applied);
  const uint64_t end_number = published_.newest_number() + 1;
  if (CAIRN_MUTANT("server.leases_kept_over_installation")) state.lessor = std::move(world_->lessor);
  state.index->number_batches_from(end_number);
  auto next = std::make_unique<World>(world_->bench.options, state, answers_);
  begin(*next, state, now_ns);
  carry_over(*world_, *next, now_ns);
  former_.push_back({end_number, std::exchange(world_, std::move(next))});
  first_number_ = end_number;
  ++installations_;
  list_former();
  is_quiet_ = false;
  AppliedNotice& notice = world_->bench.output.notice;
  notice.applied = world_->bench.applied;
  notice.release_below = world_->bench.applied;  // both meta pages are of the snapshot
  world_->bench.has_output = true;
  publish();
  answer_controls();
  tidy();
  consider_commit(now_ns);
}

// What has nothing to do with the tables. Who waits for something to be in the file has it: it is in the snapshot.
void ApplyCore::carry_over(World& from, World& to, int64_t now_ns) {
  to.bench.term_for_headers = from.bench.term_for_headers;
  to.bench.counters = from.bench.counters;
  to.bench.store.counts() = from.bench.store.counts();
  to.bench.output.proposals = std::move(from.bench.output.proposals);
  to.planner->take_over(*from.planner, now_ns);
  for (const Tag tag : from.pass.take_waiters()) to.bench.reply(tag);
  hash_is_stale_ = hash_is_stale_ || from.hashes.is_under_way();
}

// needs: held_ is as of now
void ApplyCore::forget_former() {
  if (former_.empty() || former_.front().end_number > held_.front()) return;
  while (!former_.empty() && former_.front().end_number <= held_.front()) former_.pop_front();
  list_former();
  publish();
}

void ApplyCore::list_former() {
  former_records_ = nullptr;
  for (const Former& one : former_) {
    const mvcc::Store& store = one.world->bench.store;
    former_records_ = std::make_shared<const FormerRecords>(
        FormerRecords{one.end_number, store.records(), store.file(), former_records_});
  }
}

// --- commits, and time

void ApplyCore::request_commit(int64_t now_ns) {
  world_->planner->ask_for_commit();
  consider_commit(now_ns);
}

void ApplyCore::settle(int64_t now_ns) {
  world_->planner->settle();
  consider_commit(now_ns);
  if (!is_quiet_) world_->planner->consider_snapshot(now_ns);
}

void ApplyCore::consider_commit(int64_t now_ns) {
  if (is_quiet_) return;
  if (world_->planner->is_due(now_ns)) begin_commit(now_ns);
}

void ApplyCore::begin_commit(int64_t now_ns) {
  world_->planner->freeze(now_ns);
  publish();
}

Status ApplyCore::commit_done(const CommitDone& done, int64_t now_ns) {
  if (!done.status) return done.status;
  world_->planner->commit_done(done, now_ns);
  publish();  // only now does the commit count as finished: readers no longer see the buffer
  world_->planner->retire();
  tidy();
  consider_commit(now_ns);
  if (!is_quiet_) world_->planner->consider_snapshot(now_ns);
  return {};
}

void ApplyCore::tick(int64_t now_ns) {
  last_tick_ns_ = now_ns;
  published().collect();
  if (untidy_ || world_->planner->retired_count() > 0 || !former_.empty()) {
    const bool was_untidy = untidy_;
    tidy();
    // What the last slice replaced comes free only once a root without it is published.
    if (was_untidy && !untidy_) publish();
  }
  consider_commit(now_ns);
  if (!is_quiet_) world_->planner->consider_snapshot(now_ns);
}

std::optional<int64_t> ApplyCore::next_tick_ns() const {
  const int64_t tidy_ns = last_tick_ns_ + kTidyIntervalNs;
  std::optional<int64_t> next;
  if (!is_quiet_) next = world_->planner->due_at_ns(tidy_ns);  // while a snapshot is taken in, no commit begins
  if (untidy_ || world_->planner->retired_count() > 0 || !former_.empty())
    next = std::min(next.value_or(INT64_MAX), tidy_ns);
  return next;
}

}  // namespace cairn::member
