#include "member/lease_duty.h"

#include <algorithm>
#include <unordered_set>
#include <utility>

#include "base/bytes.h"
#include "base/check.h"
#include "base/errors.h"
#include "base/log.h"
#include "base/wire.h"
#include "member/requests.h"
#include "mvcc/kv/txn.h"
#include "proto/raft_internal.pb.h"

namespace cairn::member {
namespace {

using lease::Lease;
using lease::LeaseId;
using lease::Slot;

constexpr int64_t kSecondNs = 1'000'000'000;
constexpr size_t kCheckpointsInEntry = 1000;
constexpr int64_t kDoublingsMax = 4;
constexpr int64_t kNever = INT64_MAX;
// A leader that hears of no quorum looks once in each election timeout, and so may renew leases for two of them. Its
// successor may lead at once, if connections to a leader that lives are refused, or if it is removed; what that one has
// promised must hold. Nobody led before a member that alone has ever been one.
// compat: etcd adds one. Nobody succeeds a leader there within the first of the two.
constexpr int64_t kElectionsToRetire = 2;

// Times of up to 285 years may be asked for: the last ones count as never.
int64_t later(int64_t from_ns, int64_t seconds) {
  return seconds > (INT64_MAX - from_ns) / kSecondNs ? kNever : from_ns + seconds * kSecondNs;
}

// The leases whose revoke is in the log and not applied yet: what is appended now comes behind it.
//   nullopt: the log cannot be read now
std::optional<std::unordered_set<LeaseId>> revokes_ahead(const LeaseDuty::Scene& scene) {
  std::vector<raft::Entry> entries;
  const Index first = scene.apply.applied() + 1;
  if (!scene.raft.entries(first, scene.raft.last_index() + 1, UINT64_MAX, entries)) return std::nullopt;
  std::unordered_set<LeaseId> out;
  for (const raft::Entry& entry : entries) {
    if (entry.type != raft::EntryType::kNormal) continue;
    const auto request = split_request(entry.bytes());
    if (!request || request->kind != RequestKind::kLeaseRevoke) continue;
    if (const auto id = decode_lease_revoke(request->body)) out.insert(*id);
  }
  return out;
}

// As etcd: of leases that would end at once, no more end in a second than three quarters of what may be revoked in it,
// so that others that end meanwhile need not wait.
int64_t spread_step_ns(const LeaseOptions& options) {
  return static_cast<int64_t>(uint64_t{kSecondNs} * 4 / 3 / options.revokes_per_second);
}

// A message that begins with the header of now.
template <class Append>
void answer(const LeaseRequest& request, const LeaseDuty::Scene& scene, std::string_view before, const Append& append) {
  scene.answers.write(request.tag, [&](std::string& out) {
    out.append(before);
    mvcc::append_header(out, scene.apply.header());
    append(out);
  });
}

std::string log_id(LeaseId id) { return hex16(static_cast<uint64_t>(id)); }

void append_id_and_ttl(std::string& out, LeaseId id, int64_t ttl) {
  wire::append_varint_if(out, 2, static_cast<uint64_t>(id));
  wire::append_varint_if(out, 3, static_cast<uint64_t>(ttl));
}

template <class Value>
void append_raw(std::string& out, const Value& value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

}  // namespace

// --- the beginning and the end of a term

void LeaseDuty::begin_term(const Scene& scene) {
  CAIRN_ASSERT(phase_ == Phase::kFollows);
  // Where few leases end there is nothing to be spread.
  phase_ = scene.apply.lessor().size() < options_.revokes_per_second ? Phase::kSpreads : Phase::kCounts;
  slot_ = 0;
  began_ns_ = scene.now_ns;
  const bool was_always_alone = scene.raft.is_sole_voter() && scene.apply.members().removed.empty();
  extension_ns_ = (was_always_alone ? 1 : kElectionsToRetire) * options_.extension_ns;
  others_renew_until_ns_ = was_always_alone ? began_ns_ : began_ns_ + extension_ns_;
}

void LeaseDuty::end_term() {
  if (phase_ == Phase::kFollows) return;
  phase_ = Phase::kFollows;
  deadlines_.clear();
  checkpoints_.clear();
  piles_.clear();
  const auto again = [&](const std::vector<LeaseRequest>& requests) {
    for (const LeaseRequest& request : requests) for_term_.push_back({request, last_step_ns_});
  };
  for (const Behind& one : behind_) for_term_.push_back({one.request, last_step_ns_});
  for (const UnderWay& one : under_way_) again(one.renewals);
  for (const auto& [id, requests] : for_revoke_) again(requests);
  again(clearing_);
  behind_.clear();
  under_way_.clear();
  for_revoke_.clear();
  clearing_.clear();
  clearings_.clear();
  revokes_under_way_ = 0;
  checkpoints_under_way_.clear();
  piled_up_since_ns_.reset();
}

// Goes through all leases twice, some of them in each step: counts how many end in which second, then gives each its
// deadline.
void LeaseDuty::look_at_slots(const Scene& scene) {
  const lease::SlotTable<Lease>& table = scene.apply.lessor().table();
  for (uint64_t left = options_.slots_per_step; left > 0 && phase_ != Phase::kLeads; --left) {
    if (slot_ < table.end()) {
      const Lease* const lease = table.in(slot_++);
      if (lease == nullptr) continue;
      phase_ == Phase::kCounts ? void(++piles_[lease->rest()].count) : place(*lease);
    } else if (phase_ == Phase::kCounts) {
      spread();
      slot_ = 0;
      phase_ = Phase::kSpreads;
    } else {
      phase_ = Phase::kLeads;
    }
  }
  if (phase_ != Phase::kLeads) return;
  piles_.clear();
  for (const ForTerm& one : std::exchange(for_term_, {})) serve_one(one.request, scene.raft.committed(), scene);
}

void LeaseDuty::spread() {
  int64_t free_from_ns = INT64_MIN;
  for (auto& [seconds, pile] : piles_) {
    pile.begins_ns = std::max(later(began_ns_ + extension_ns_, seconds), free_from_ns);
    const int64_t takes_ns = static_cast<int64_t>(pile.count) * spread_step_ns(options_);
    free_from_ns = pile.begins_ns > INT64_MAX - takes_ns ? kNever : pile.begins_ns + takes_ns;
  }
}

void LeaseDuty::place(const Lease& lease) {
  if (deadlines_.find(lease.id)) return;  // granted since the term began
  int64_t deadline_ns = later(began_ns_ + extension_ns_, lease.rest());
  if (const auto pile = piles_.find(lease.rest()); pile != piles_.end() && pile->second.begins_ns != kNever) {
    deadline_ns = pile->second.begins_ns + static_cast<int64_t>(pile->second.placed++) * spread_step_ns(options_);
  }
  if (CAIRN_MUTANT("lease.early_after_restart")) deadline_ns = later(began_ns_, lease.rest() / 2);
  if (CAIRN_MUTANT("lease.endless_after_failover")) deadline_ns = kNever;
  deadlines_.set(lease.id, deadline_ns);
  schedule_checkpoint(lease, began_ns_);
}

// --- what was applied

void LeaseDuty::take(std::span<const LeaseChange> changes, const Scene& scene) {
  if (phase_ == Phase::kFollows) return;
  for (const LeaseChange& change : changes) {
    if (change.kind == LeaseChange::Kind::kRevoked) {
      if (deadlines_.is_taken(change.id)) ++expired_;
      deadlines_.erase(change.id);
      checkpoints_.erase(change.id);
      if (const auto at = clearings_.find(change.id); at != clearings_.end()) at->second.deadline_ns = kNever;
      release(change.id, scene);
      continue;
    }
    const Lease* const lease = scene.apply.lessor().find(change.id);
    if (lease == nullptr) continue;  // gone again
    if (change.kind == LeaseChange::Kind::kGranted) deadlines_.set(lease->id, later(scene.now_ns, lease->ttl));
    schedule_checkpoint(*lease, scene.now_ns);
  }
}

void LeaseDuty::schedule_checkpoint(const Lease& lease, int64_t now_ns) {
  if (!options_.checkpoints || later(0, lease.rest()) <= options_.checkpoint_interval_ns) return;
  checkpoints_.set(lease.id, now_ns + options_.checkpoint_interval_ns);
}

// Those who wait for the end of this lease.
void LeaseDuty::release(LeaseId id, const Scene& scene) {
  const auto waits = for_revoke_.find(id);
  if (waits == for_revoke_.end()) return;
  const std::vector<LeaseRequest> requests = std::move(waits->second);
  for_revoke_.erase(waits);
  for (const LeaseRequest& request : requests) serve_one(request, Index{}, scene);
}

// What was asked for is applied. A revoke may have been refused: the lease is still there.
void LeaseDuty::decide(const Scene& scene) {
  while (!under_way_.empty() && under_way_.front().last <= scene.apply.applied()) {
    const UnderWay done = std::move(under_way_.front());
    under_way_.pop_front();
    revokes_under_way_ -= done.revokes.size();
    for (const LeaseId id : done.revokes) {
      if (!deadlines_.is_taken(id)) continue;
      log::warn("failed to revoke lease", {{"lease-id", log_id(id)}});
      deadlines_.set(id, scene.now_ns + options_.retry_ns);
      release(id, scene);
    }
    for (const LeaseId id : done.checkpoints) {
      const auto at = checkpoints_under_way_.find(id);
      if (at != checkpoints_under_way_.end() && at->second == done.last) checkpoints_under_way_.erase(at);
    }
    for (const LeaseRequest& request : done.renewals) {
      const auto at = clearings_.find(request.id);
      if (--at->second.count > 0) continue;
      if (deadlines_.find(request.id) == kNever) deadlines_.set(request.id, at->second.deadline_ns);
      clearings_.erase(at);
    }
    for (const LeaseRequest& request : done.renewals) serve_one(request, Index{}, scene);
  }
}

void LeaseDuty::note_step(int64_t now_ns) {
  const int64_t before_ns = std::exchange(last_step_ns_, now_ns);
  if (now_ns - before_ns < options_.lookout_ns * 3 / 4) return;
  const auto due_ns = deadlines_.next_due_ns();
  const bool was_due = due_ns && *due_ns <= before_ns;
  quiet_spells_ = was_due ? quiet_spells_ + 1 : 1;
  quiet_until_ns_ = quiet_spells_ <= options_.quiet_spells_max ? now_ns + options_.lookout_ns : now_ns;
}

// --- requests

void LeaseDuty::ask(const LeaseRequest& request, const Scene& scene) {
  serve_one(request, scene.raft.committed(), scene);
}

void LeaseDuty::serve(const Scene& scene) {
  if (phase_ == Phase::kCounts || phase_ == Phase::kSpreads) look_at_slots(scene);
  decide(scene);
  while (!behind_.empty()) {
    const Behind& first = behind_.front();
    const bool is_there = first.floor <= scene.apply.applied();
    if (!is_there && scene.now_ns < first.until_ns) break;
    const LeaseRequest request = first.request;
    behind_.pop_front();
    if (is_there) {
      serve_one(request, Index{}, scene);
    } else {
      const Error error = errors::timeout_wait_applied_index();
      scene.answers.add(request.tag, error.code, error.message);
    }
  }
}

// `floor`: what was committed when it came.
void LeaseDuty::serve_one(const LeaseRequest& request, Index floor, const Scene& scene) {
  if (request.kind == LeaseRequest::Kind::kList) return serve_list(request, scene);
  if (request.kind == LeaseRequest::Kind::kCountKeys) return serve_key_count(request, scene);
  if (request.kind == LeaseRequest::Kind::kMayRenew) {
    const Status allowed = scene.apply.check_renewal(request.who.get(), request.id);
    const Error error = allowed ? Error{Code::kOk, ""} : allowed.error();
    return scene.answers.add(request.tag, error.code, error.message);
  }
  if (phase_ != Phase::kLeads) {
    if (for_term_.size() < options_.waiting_max) return for_term_.push_back({request, scene.now_ns});
    const Error error = errors::request_too_many_requests();
    return scene.answers.add(request.tag, error.code, error.message);
  }
  request.kind == LeaseRequest::Kind::kRenew ? serve_renewal(request, floor, scene)
                                             : serve_time_to_live(request, floor, scene);
}

void LeaseDuty::wait_for(Index floor, const LeaseRequest& request, const Scene& scene) {
  behind_.push_back({request, floor, scene.now_ns + options_.applied_wait_ns});
}

// compat: a lease whose time is over but whose revoke was not asked for yet is renewed; with etcd its renewal waits
// until the lease is gone.
void LeaseDuty::serve_renewal(const LeaseRequest& request, Index floor, const Scene& scene) {
  const Lease* const lease = scene.apply.lessor().find(request.id);
  if (lease == nullptr) {
    if (scene.apply.applied() < floor) return wait_for(floor, request, scene);  // it may be about to be granted
    return answer(request, scene, "", [&](std::string& out) { append_id_and_ttl(out, request.id, 0); });
  }
  if (!request.is_members) {
    const Status allowed = scene.apply.check_renewal(request.who.get(), lease->id);
    if (!allowed) return scene.answers.add(request.tag, allowed.error().code, allowed.error().message);
  }
  if (deadlines_.is_taken(lease->id)) return for_revoke_[lease->id].push_back(request);
  // compat: etcd does this only where checkpoints are made, and else renews a lease with a rest for the rest alone.
  // A checkpoint that is under way does not know of this renewal: its rest is cleared as well.
  const bool has_rest = lease->remaining_ttl > 0 || checkpoints_under_way_.contains(lease->id);
  if (has_rest && !CAIRN_MUTANT("lease.rest_not_cleared")) {
    Clearing& clearing = clearings_[lease->id];
    ++clearing.count;
    const int64_t deadline_ns = deadlines_.find(lease->id).value_or(scene.now_ns);
    if (deadline_ns != kNever) clearing.deadline_ns = deadline_ns;
    deadlines_.set(lease->id, kNever);  // it came in time, however slow the log is
    return clearing_.push_back(request);
  }
  renew(request, *lease, scene);
}

void LeaseDuty::renew(const LeaseRequest& request, const Lease& lease, const Scene& scene) {
  ++renewed_;
  // It may be renewed by the leader before this one as well, and later.
  const int64_t deadline_ns = later(std::max(scene.now_ns, others_renew_until_ns_), lease.ttl);
  // What waits may be of a lease that had this id before. If it is of this one, the lease ends as said here only when
  // all that waits is refused.
  const auto waiting = clearings_.find(lease.id);
  const bool has_no_end = waiting != clearings_.end() && deadlines_.find(lease.id) == kNever;
  if (has_no_end) {
    waiting->second.deadline_ns = deadline_ns;
  } else if (!CAIRN_MUTANT("lease.renewal_not_counted")) {
    deadlines_.set(lease.id, deadline_ns);
  }
  answer(request, scene, "", [&](std::string& out) { append_id_and_ttl(out, lease.id, lease.ttl); });
}

void LeaseDuty::serve_time_to_live(const LeaseRequest& request, Index floor, const Scene& scene) {
  if (scene.apply.applied() < floor) return wait_for(floor, request, scene);
  const Lease* const lease = scene.apply.lessor().find(request.id);
  const bool keys_to_come =
      lease != nullptr && request.wants_keys &&
      (lease->keys.size() > options_.answer_keys_max || lease->keys.key_bytes() > options_.answer_key_bytes_max);
  const auto flag = static_cast<char>(keys_to_come ? LeaseKeysToCome::kInIndex : LeaseKeysToCome::kNone);
  answer(request, scene, {&flag, 1}, [&](std::string& out) {
    if (lease == nullptr) return append_id_and_ttl(out, request.id, -1);
    // compat: with etcd the time left falls below zero while a lease waits for its end; but -1 says that it is gone.
    const int64_t deadline_ns = deadlines_.find(lease->id).value_or(scene.now_ns);
    const int64_t left_ns = std::max<int64_t>(0, deadline_ns - scene.now_ns);
    append_id_and_ttl(out, lease->id, deadline_ns == kNever ? lease->ttl : left_ns / kSecondNs);
    wire::append_varint_if(out, 4, static_cast<uint64_t>(lease->ttl));
    if (!request.wants_keys || keys_to_come) return;
    lease->keys.for_each([&](std::string_view key) { wire::append_bytes_field(out, 5, key); });
  });
}

void LeaseDuty::serve_list(const LeaseRequest& request, const Scene& scene) const {
  const lease::SlotTable<Lease>& table = scene.apply.lessor().table();
  const uint64_t end = std::min<uint64_t>(table.end(), request.first + options_.listed_max);
  scene.answers.write(request.tag, [&](std::string& out) {
    append_raw(out, end < table.end() ? end : uint64_t{0});
    for (uint64_t slot = request.first; slot < end; ++slot) {
      const Lease* const lease = table.in(static_cast<Slot>(slot));
      if (lease == nullptr) continue;
      append_raw(out, LeaseListed::One{lease->id, deadlines_.find(lease->id).value_or(kNever)});
    }
  });
}

void LeaseDuty::serve_key_count(const LeaseRequest& request, const Scene& scene) {
  const Lease* const lease = scene.apply.lessor().find(request.id);
  LeaseKeyCount count;
  if (lease != nullptr) count = {lease->keys.size(), lease->keys.key_bytes()};
  scene.answers.write(request.tag, [&](std::string& out) { append_raw(out, count); });
}

void LeaseDuty::refuse_all(const Error& error, Answers& answers) {
  const auto refuse = [&](const LeaseRequest& request) { answers.add(request.tag, error.code, error.message); };
  end_term();  // gathers them
  for (const ForTerm& one : std::exchange(for_term_, {})) refuse(one.request);
}

void LeaseDuty::refuse_waiting(const Error& error, int64_t until_ns, Answers& answers) {
  std::erase_if(for_term_, [&](const ForTerm& one) {
    if (one.since_ns > until_ns) return false;
    answers.add(one.request.tag, error.code, error.message);
    return true;
  });
}

// --- what is due

bool LeaseDuty::act(const Scene& scene, const Propose& propose) {
  if (phase_ != Phase::kLeads) return false;
  const bool cleared = ask_for_clearing(scene, propose);
  const bool revoked = ask_for_revokes(scene, propose);
  const bool checkpointed = ask_for_checkpoints(scene, propose);
  return cleared || revoked || checkpointed;
}

bool LeaseDuty::ask_for_clearing(const Scene& scene, const Propose& propose) {
  bool any = false;
  while (!clearing_.empty()) {
    const size_t count = std::min(clearing_.size(), kCheckpointsInEntry);
    const auto end = clearing_.begin() + static_cast<std::ptrdiff_t>(count);
    std::vector<Rest> rests;
    for (auto one = clearing_.begin(); one != end; ++one) rests.push_back({one->id, 0});
    const auto last = propose({checkpoint_entry(rests)});
    if (!last) {
      next_clearing_ns_ = scene.now_ns + options_.revoke_interval_ns;
      return any;
    }
    under_way_.push_back({.last = *last, .renewals = {clearing_.begin(), end}});
    clearing_.erase(clearing_.begin(), end);
    any = true;
  }
  return any;
}

uint64_t LeaseDuty::revokes_at_once(int64_t now_ns) const {
  const int64_t piled_up_ns = piled_up_since_ns_ ? now_ns - *piled_up_since_ns_ : 0;
  const auto doublings = static_cast<unsigned>(std::min(piled_up_ns / kSecondNs, kDoublingsMax));
  const uint64_t rate = options_.revokes_per_second << doublings;
  return std::max<uint64_t>(1, rate * static_cast<uint64_t>(options_.revoke_interval_ns) / kSecondNs);
}

std::vector<LeaseId> LeaseDuty::choose_due(const Scene& scene) {
  const uint64_t count_max = revokes_at_once(scene.now_ns);
  std::vector<LeaseId> chosen;
  uint64_t keys = 0;
  while (chosen.size() < count_max) {
    const auto id = deadlines_.take_due(scene.now_ns);
    if (!id) break;
    const Lease* const lease = scene.apply.lessor().find(*id);
    CAIRN_ASSERT(lease != nullptr);
    const uint64_t count = lease->keys.size();
    if (disk_is_low_ && count > options_.keys_on_full_disk_max) {
      log::warn("a lease with so many keys is not revoked while little space is left on the disk",
                {{"lease-id", log_id(*id)}, {"keys", count}});
      deadlines_.set(*id, scene.now_ns + options_.retry_ns);
      continue;
    }
    if (!chosen.empty() && keys + count > options_.revoked_keys_max) {
      deadlines_.put_back(*id);
      break;
    }
    chosen.push_back(*id);
    keys += count;
  }
  const uint64_t intervals = 1 + keys / options_.revoked_keys_max;
  next_revokes_ns_ = scene.now_ns + static_cast<int64_t>(intervals) * options_.revoke_interval_ns;
  return chosen;
}

bool LeaseDuty::ask_for_revokes(const Scene& scene, const Propose& propose) {
  const bool is_quiet = scene.now_ns < quiet_until_ns_ && !CAIRN_MUTANT("lease.not_quiet_after_a_pause");
  if (is_quiet || scene.now_ns < next_revokes_ns_ || revokes_under_way_ >= options_.revokes_under_way_max) return false;
  quiet_spells_ = 0;
  const std::vector<LeaseId> chosen = choose_due(scene);
  const auto next_due_ns = deadlines_.next_due_ns();
  if (!next_due_ns || *next_due_ns > scene.now_ns) {
    piled_up_since_ns_.reset();
  } else if (!piled_up_since_ns_) {
    piled_up_since_ns_ = scene.now_ns;
  }
  if (chosen.empty()) return false;
  std::vector<std::string> entries;
  entries.reserve(chosen.size());
  for (const LeaseId id : chosen) entries.push_back(revoke_entry(id));
  const auto last = propose(std::move(entries));
  if (!last) {
    for (const LeaseId id : chosen) deadlines_.put_back(id);
    return false;
  }
  revokes_under_way_ += chosen.size();
  under_way_.push_back({.last = *last, .revokes = chosen});
  return true;
}

std::string LeaseDuty::revoke_entry(LeaseId id) const {
  // As root, who may write all keys. Also while auth is off: it may be on when the entry is applied. etcd 3.4 asks
  // root, too, for a revision of the rules that is not outdated then: this one never is.
  return join_request(RequestKind::kLeaseRevoke, encode_lease_revoke(id),
                      RequestHeader{.id = next_request_id_(), .user = auth::kRoot, .auth_revision = UINT64_MAX});
}

std::string LeaseDuty::checkpoint_entry(const std::vector<Rest>& rests) const {
  etcdserverpb::InternalRaftRequest request;
  request.mutable_header()->set_id(next_request_id_());
  for (const Rest& rest : rests) {
    auto* const point = request.mutable_lease_checkpoint()->add_checkpoints();
    point->set_id(rest.id);
    point->set_remaining_ttl(rest.seconds);
  }
  return request.SerializeAsString();
}

std::vector<LeaseDuty::Rest> LeaseDuty::due_checkpoints(const Scene& scene) {
  std::vector<Rest> rests;
  while (rests.size() < kCheckpointsInEntry) {
    const auto id = checkpoints_.take_due(scene.now_ns);
    if (!id) break;
    const Lease* const lease = scene.apply.lessor().find(*id);
    CAIRN_ASSERT(lease != nullptr);
    checkpoints_.set(*id, scene.now_ns + options_.checkpoint_interval_ns);
    const int64_t left_ns = deadlines_.find(*id).value_or(scene.now_ns) - scene.now_ns;
    const int64_t rest = left_ns / kSecondNs + (left_ns % kSecondNs > 0 ? 1 : 0);
    if (left_ns > 0 && rest < lease->ttl) rests.push_back({*id, rest});
  }
  return rests;
}

// compat: an entry names the lease's id alone. If the lease is revoked and one with the same id granted before the
// entry, it takes time from the new one, and etcd lets it. Here none is made of a lease whose revoke is in the log.
bool LeaseDuty::ask_for_checkpoints(const Scene& scene, const Propose& propose) {
  std::vector<Rest> rests = due_checkpoints(scene);
  if (rests.empty()) return false;
  const auto ending = revokes_ahead(scene);
  std::erase_if(rests, [&](const Rest& rest) { return !ending || ending->contains(rest.id); });
  if (rests.empty()) return false;
  const auto last = propose({checkpoint_entry(rests)});
  if (!last) return false;
  UnderWay asked{.last = *last};
  for (const Rest& rest : rests) {
    checkpoints_under_way_[rest.id] = *last;
    asked.checkpoints.push_back(rest.id);
  }
  under_way_.push_back(std::move(asked));
  return true;
}

std::optional<int64_t> LeaseDuty::next_ns(int64_t now_ns) const {
  if (phase_ == Phase::kCounts || phase_ == Phase::kSpreads) return now_ns;
  std::optional<int64_t> next;
  const auto at = [&](int64_t when_ns) { next = std::min(next.value_or(INT64_MAX), when_ns); };
  if (!behind_.empty()) at(behind_.front().until_ns);
  if (phase_ != Phase::kLeads) return next;
  if (!clearing_.empty()) at(next_clearing_ns_);
  const auto due_ns = deadlines_.next_due_ns();
  if (due_ns && revokes_under_way_ < options_.revokes_under_way_max) {
    const int64_t look_from_ns = *due_ns - options_.lookout_ns;
    const int64_t revokes_ns = std::max({*due_ns, next_revokes_ns_, quiet_until_ns_});
    at(now_ns < look_from_ns ? look_from_ns : std::min(revokes_ns, now_ns + options_.lookout_ns / 2));
  }
  if (const auto checkpoint_ns = checkpoints_.next_due_ns()) at(*checkpoint_ns);
  return next;
}

}  // namespace cairn::member
