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

ApplyCore::ApplyCore(const ApplyOptions& options, AppliedState state, Answers& answers, int64_t now_ns)
    : bench_(options, state, answers),
      lessor_(std::move(state.lessor)),
      hashes_(options.hash_compactions),
      alarms_(bench_, std::move(state.alarms)),
      auth_(bench_, lessor_, std::move(state.auth)),
      keys_(bench_, alarms_, auth_, lessor_, pass_, hashes_),
      leases_(bench_, alarms_, auth_, lessor_, keys_),
      members_(bench_, state),
      published_(first_state(state)),
      planner_(bench_, members_, pass_, hashes_, published_, state.snapshot_index, now_ns),
      last_tick_ns_(now_ns) {
  if (state.unfinished_compaction > 0) {
    const bool wrong = CAIRN_MUTANT("server.compaction_resumed_at_wrong_revision");
    pass_.schedule(wrong ? bench_.store.revision() : state.unfinished_compaction, 0);
    if (options.hash_compactions) {
      log::info("previous compaction was interrupted, skip storing compaction hash value",
                {{"compact-revision", state.unfinished_compaction}});
    }
  }
  planner_.defragment_at_start(now_ns);
  consider_commit(now_ns);
}

// What the start has to write is in the live buffer before anything is published.
Published ApplyCore::first_state(AppliedState& found) {
  if (found.new_directory) {
    auth_.store_first();
    members_.store_first();
  }
  if (found.replaced_members) members_.rewrite(*found.replaced_members);
  Published first = state();
  first.kv = bench_.store.publish();
  first.db_total_bytes = bench_.space.total_bytes;
  first.db_in_use_bytes = bench_.space.in_use_bytes;
  first.db_high_water_bytes = bench_.space.high_water_bytes;
  return first;
}

// --- entries

Status ApplyCore::apply(ApplyBatch batch, int64_t now_ns, bool beyond_buffers) {
  CAIRN_ASSERT(batch.entries.empty() || beyond_buffers || !stalled());
  if (batch.leader_state) note_leader(*batch.leader_state);
  note_durable_commit(batch.durable_commit);
  for (const raft::Entry& entry : batch.entries) {
    CAIRN_ASSERT(entry.index == bench_.applied + 1);
    bench_.applied = entry.index;
    bench_.applied_term = entry.term;
    planner_.note_entry(entry_bytes(entry));
    CAIRN_CHECK(apply_entry(entry));
    // The two buffers swap between entries; one entry may exceed the bound.
    if (!commit_pending() && planner_.is_live_full()) begin_commit(now_ns);
  }
  if (!batch.entries.empty()) {
    dirty_ = true;
    bench_.output.notice.applied = bench_.applied;
    bench_.has_output = true;
  }
  if (dirty_) {
    CAIRN_FAULT("beforeWritebackBuf");
    publish();
    CAIRN_FAULT("afterWritebackBuf");
  }
  for (const ControlRequest& control : batch.controls) {
    if (control.kind == Control::kCommit) {
      planner_.ask_for_commit(control.tag);
    } else if (control.kind == Control::kDefragment) {
      planner_.defragment(control.tag, now_ns);
    } else {
      controls_.push_back(control);
    }
  }
  answer_controls();
  order_hash();
  tidy();
  consider_commit(now_ns);
  planner_.consider_snapshot(now_ns);
  return {};
}

void ApplyCore::note_leader(const LeaderState& leader) {
  LeaderState next = leader;
  // Each half of it: who does not lead, and who is not alone.
  if (CAIRN_MUTANT("server.alone_read_after_losing_leadership") && leader_.is_leader) next.is_leader = true;
  if (CAIRN_MUTANT("server.alone_read_beside_another_voter") && leader_.sole_voter) next.sole_voter = true;
  leader_ = next;
  bench_.term_for_headers = leader_.term.value;
  publish();
}

// What is ordered is published: it can be seen by whoever hashes.
void ApplyCore::order_hash() {
  const auto order = hashes_.take_order();
  if (!order) return;
  bench_.output.hash = order;
  bench_.has_output = true;
}

void ApplyCore::hash_done(const HashDone& done, int64_t now_ns) {
  hashes_.done(done);
  for (const CompactionHash& one : *hashes_.list()) {
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
    CAIRN_TRY(bench_.output.notice.conf_verdict, members_.apply_conf_change(entry));
    bench_.has_output = true;
    return {};
  }
  CAIRN_FAULT("beforeApplyOneEntryNormal");
  const std::string_view bytes = entry.bytes();
  Status status;
  switch (bytes.empty() ? cluster::PayloadKind::kEmpty : cluster::payload_kind(bytes)) {
    case cluster::PayloadKind::kEmpty: return {};
    case cluster::PayloadKind::kRaftRequest: status = apply_request(bytes, entry.tag()); break;
    case cluster::PayloadKind::kV2Request: status = members_.apply_v2(bytes); break;
  }
  if (!status) {
    return fail(status.error().code, "server: entry {} of term {} cannot be applied: {}", entry.index, entry.term,
                status.error().message);
  }
  return {};
}

Status ApplyCore::apply_request(std::string_view bytes, Tag tag) {
  CAIRN_TRY(const RaftRequest request, split_request(bytes));
  bench_.is_refused = false;
  CAIRN_CHECK(auth_.begin(request.header));
  const Status applied = apply_by_kind(request, bytes, tag);
  ApplyCounters::Requests& counted = bench_.counters.requests[request.name];
  ++(bench_.is_refused ? counted.refused : counted.done);
  ++bench_.counters.requests_of_all_kinds;
  return applied;
}

Status ApplyCore::apply_by_kind(const RaftRequest& request, std::string_view bytes, Tag tag) {
  switch (request.kind) {
    case RequestKind::kOther: return apply_other(bytes, tag);
    case RequestKind::kLeaseGrant: return leases_.grant(request.body, tag);
    case RequestKind::kLeaseRevoke: return leases_.revoke(request.body, tag);
    default: return keys_.apply(request, tag);
  }
}

Status ApplyCore::apply_other(std::string_view bytes, Tag tag) {
  etcdserverpb::InternalRaftRequest request;
  if (!request.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return std::unexpected(damaged_request());
  }
  if (request.has_lease_checkpoint()) {
    leases_.checkpoint(request.lease_checkpoint(), members_.schema());
  } else if (request.has_alarm()) {
    alarms_.apply(request.alarm(), tag);
  } else if (members_.apply(request)) {
    if (members_.take_fall()) planner_.settle();
    bench_.answer(tag, Code::kOk, "");
  } else {
    CAIRN_TRY(const bool is_auth, auth_.apply(request, tag));
    if (!is_auth) return fail(Code::kDataLoss, "server: a request of a kind that is not known");
  }
  return {};
}

Status ApplyCore::check_renewal(const auth::Identity* who, lease::LeaseId id) const {
  if (!auth_.store().enabled()) return {};
  const auth::Identity nobody;
  CAIRN_CHECK(auth_.store().rules()->check_known(who == nullptr ? nobody : *who));
  return auth_.check_lease(*who, id);
}

// --- what is seen of it

Published ApplyCore::state() const {
  Published out;
  out.file = bench_.store.file();
  out.applied = bench_.applied;
  out.applied_term = bench_.applied_term;
  out.leader = leader_;
  out.reads_alone = leader_.is_leader && leader_.sole_voter && bench_.applied_term == leader_.term;
  out.members = members_.members();
  out.alarms = alarms_.list();
  out.auth = auth_.store().rules();
  out.compaction_hashes = hashes_.list();
  out.storage_version = members_.storage_version();
  out.has_large_lease = lessor_.has_large();
  const uint64_t buffered = bench_.store.buffered_bytes();
  out.db_total_bytes = bench_.space.total_bytes + buffered;
  out.db_in_use_bytes = bench_.space.in_use_bytes + buffered;
  out.db_high_water_bytes = bench_.space.high_water_bytes;
  return out;
}

void ApplyCore::publish() {
  Published next = state();
  next.kv = bench_.store.publish();
  published_.publish(std::move(next));
  dirty_ = false;
}

void ApplyCore::answer_controls() {
  for (size_t i = 0; i < controls_.size();) {
    if (controls_[i].due > bench_.applied) {
      ++i;
      continue;
    }
    bench_.answer(controls_[i].tag, Code::kOk, "");
    controls_[i] = controls_.back();
    controls_.pop_back();
  }
}

void ApplyCore::tidy() {
  published().held(held_);
  untidy_ = bench_.store.tidy(held_, planner_.trim_floor());
  planner_.free_buffers(held_);
}

ApplyOutput ApplyCore::take_output() {
  bench_.has_output = false;
  return std::exchange(bench_.output, {});
}

// --- commits, and time

void ApplyCore::request_commit(int64_t now_ns) {
  planner_.ask_for_commit();
  consider_commit(now_ns);
}

void ApplyCore::settle(int64_t now_ns) {
  planner_.settle();
  consider_commit(now_ns);
  planner_.consider_snapshot(now_ns);
}

void ApplyCore::consider_commit(int64_t now_ns) {
  if (planner_.is_due(now_ns)) begin_commit(now_ns);
}

void ApplyCore::begin_commit(int64_t now_ns) {
  planner_.freeze(now_ns);
  publish();
}

Status ApplyCore::commit_done(const CommitDone& done, int64_t now_ns) {
  if (!done.status) return done.status;
  planner_.commit_done(done, now_ns);
  publish();  // only now does the commit count as finished: readers no longer see the buffer
  planner_.retire();
  tidy();
  consider_commit(now_ns);
  planner_.consider_snapshot(now_ns);
  return {};
}

void ApplyCore::tick(int64_t now_ns) {
  last_tick_ns_ = now_ns;
  published().collect();
  if (untidy_ || planner_.retired_count() > 0) {
    const bool was_untidy = untidy_;
    tidy();
    // What the last slice replaced comes free only once a root without it is published.
    if (was_untidy && !untidy_) publish();
  }
  consider_commit(now_ns);
  planner_.consider_snapshot(now_ns);
}

std::optional<int64_t> ApplyCore::next_tick_ns() const {
  const int64_t tidy_ns = last_tick_ns_ + kTidyIntervalNs;
  std::optional<int64_t> next = planner_.due_at_ns(tidy_ns);
  if (untidy_ || planner_.retired_count() > 0) next = std::min(next.value_or(INT64_MAX), tidy_ns);
  return next;
}

}  // namespace cairn::member
