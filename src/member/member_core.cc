#include "member/member_core.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/errors.h"
#include "base/log.h"
#include "member/quota.h"
#include "raft/quorum.h"

namespace cairn::member {
namespace {

constexpr uint64_t kDutyBytes = 1 << 20;  // of a leader's own entries, beyond the room that requests have

}  // namespace

void Events::clear() {
  proposals.clear();
  conf_changes.clear();
  controls.clear();
  leases.clear();
  wal.clear();
  log_reads.clear();
  commit.reset();
  installed.reset();
  hash.reset();
  alarms.clear();
  disk_is_low.reset();
  stop = false;
  messages.clear();
  peer_reports.clear();
  transfers.clear();
  versions.reset();
  is_interim = false;
}

void Effects::clear() {
  wal.clear();
  CAIRN_ASSERT(answers.loops == 0);  // whoever waits for one that is lost waits for ever
  refused.clear();
  leases.clear();
  log_reads.clear();
  commit.reset();
  install.reset();
  hash.reset();
  prepare_spare = give_spare_back = remove_released = step_checkpoint = is_at_rest = look_at_disk = give_up_reserve =
      is_ready = false;
  wake_at_ns.reset();
  messages.clear();
  ask_versions.reset();
  redial.clear();
  unused_images.clear();
}

MemberCore::MemberCore(const MemberOptions& options, RaftLog log, const raft::StartState& start, AppliedState state,
                       int64_t now_ns, MemberObserver* observer)
    : options_(options),
      observer_(observer),
      replication_(options_.replication, std::move(log), start),
      apply_(options_.apply, std::move(state), effects_.answers, now_ns),
      duties_(options_.announcement, options_.leases, options_.auto_compaction, options_.versions,
              [this] { return next_request_id(); }),
      no_space_(options_.no_space),
      removal_(options_.replication.raft.id),
      request_id_(options_.first_request_id),
      now_ns_(now_ns),
      next_raft_tick_ns_(now_ns + options_.raft_tick_ns),
      busy_at_ns_(now_ns) {
  CAIRN_ASSERT(options_.apply.member_id == options_.replication.raft.id.value);
}

Effects& MemberCore::step(Events& events, int64_t now_ns) {
  CAIRN_ASSERT(phase_ != Phase::kEnded && now_ns >= now_ns_);
  const int64_t pause_ns = now_ns - std::exchange(now_ns_, now_ns);
  const bool has_stood_still = pause_ns > options_.replication.election_ns;
  // Who ticks steps more often. Its disk is not to blame for what the process did not do meanwhile.
  if (pause_ns > 2 * options_.raft_tick_ns) wal_moved_ns_ = std::min(wal_moved_ns_ + pause_ns, now_ns_);
  ++steps_;
  replication_.set_now(now_ns_);
  duties_.leases().note_step(now_ns_);
  effects_.clear();
  if (CAIRN_MUTANT("watch.told_before_published")) consider_news();
  if (events.stop) begin_stop();
  const bool is_interim = events.is_interim;
  for (WalDone& done : events.wal) take_wal_done(std::move(done));
  take_from_peers(events);
  if (events.versions) versions_.take(*std::move(events.versions), replication_.raft().term());
  for (LogReadDone& done : events.log_reads) replication_.log_read(std::move(done));
  if (has_stood_still && replication_.has_peers()) replication_.doubt_leadership();
  if (!replication_.sure_to_lead()) note_leadership();
  if (events.commit) take_commit_done(*events.commit);
  if (events.installed) take_installed(*std::move(events.installed));
  if (events.hash) apply_.hash_done(*events.hash, now_ns_);
  if (events.disk_is_low) take_look(*events.disk_is_low);
  for (const uint32_t type : events.alarms) raise_alarm(type);
  if (!events.proposals.empty()) take_proposals(events.proposals);
  for (Proposal& change : events.conf_changes) take_conf_change(std::move(change));
  for (const ControlRequest& request : events.controls) take_control(request);
  for (const LeaseRequest& request : events.leases) take_lease_request(request);
  events.clear();
  if (phase_ != Phase::kEnded) {
    take_ticks();
    if (!is_interim) apply_.tick(now_ns_);
    pump();
    tell_leader();
    if (phase_ == Phase::kRuns) consider_rest();
    if (phase_ != Phase::kEnded) do_duties(!is_interim);
    go_on_with_leaving();
    if (phase_ == Phase::kStops) go_on_with_stop();
    give_images_up();
    note_removal();
    plan_wake_up();
  }
  effects_.db_is_full = db_is_full_;
  if (!CAIRN_MUTANT("watch.told_before_published")) consider_news();
  return effects_;
}

void MemberCore::consider_news() {
  const int64_t revision = apply_.published().newest().kv.revision;
  effects_.has_news = revision != std::exchange(told_revision_, revision);
  const bool has_leader = replication_.raft().leader() != raft::kNoNode;
  if (!has_leader && CAIRN_MUTANT("watch.not_told_during_failover")) effects_.has_news = false;
}

void MemberCore::check(const Status& status) {
  if (status || effects_.failed) return;
  effects_.failed = status.error();
  phase_ = Phase::kEnded;
}

// --- what comes in

void MemberCore::take_wal_done(WalDone done) {
  CAIRN_ASSERT(wal_in_flight_ > 0 && wal_bytes_in_flight_ >= done.bytes);
  --wal_in_flight_;
  wal_moved_ns_ = now_ns_;
  wal_bytes_in_flight_ -= done.bytes;
  segment_count_ = done.segment_count;
  consider_spare(done);
  if (done.has_released_files) effects_.remove_released = true;
  if (!installation_.hold(done)) replication_.wal_done(std::move(done));
}

// Once in each segment, and once more if the spare was given back.
void MemberCore::consider_spare(const WalDone& done) {
  const bool is_new = done.segment_sequence != segment_.sequence;
  if (is_new) segment_ = {.sequence = done.segment_sequence};
  segment_.used_bytes = done.segment_used_bytes;
  if (is_new) segment_.spare_due_bytes = next_spare_due_bytes();
  if (segment_.used_bytes <= segment_.spare_due_bytes) return;
  segment_.spare_due_bytes = UINT64_MAX;
  effects_.prepare_spare = true;
}

// A put now and then asks for none, unless the segment is soon full: making a spare takes as long as the log takes for
// a third of a segment at its fastest.
uint64_t MemberCore::next_spare_due_bytes() const {
  const uint64_t at_the_latest =
      options_.segment_bytes - std::min(options_.segment_bytes, 3 * options_.spare_mark_bytes);
  return std::min(segment_.used_bytes + options_.spare_mark_bytes, at_the_latest);
}

// At most once in each segment, so that writes with a rest after each of them do not make spare after spare.
void MemberCore::give_spare_back() {
  if (std::exchange(segment_.has_given_spare_back, true)) return;
  segment_.spare_due_bytes = next_spare_due_bytes();
  effects_.give_spare_back = true;
}

void MemberCore::take_commit_done(const CommitDone& done) {
  effects_.look_at_disk = true;
  job_is_out_ = false;
  // Its db goes, whatever became of the commit.
  if (installation_.is_under_way()) {
    const bool has_failed = !done.status && done.status.error().code != Code::kResourceExhausted;
    return has_failed ? check(done.status) : void();
  }
  if (done.status || done.status.error().code != Code::kResourceExhausted) {
    db_is_full_ = false;
    applies_up_to_bytes_ = 0;
    is_beyond_buffers_ = false;
    effects_.step_checkpoint = true;
    return check(apply_.commit_done(done, now_ns_));
  }
  if (phase_ == Phase::kStops) {
    log::error("no space for the db at the stop; the next start takes what it lacks from the WAL",
               {{"error", done.status.error().message}});
    gives_db_up_ = true;
    return;
  }
  if (!std::exchange(db_is_full_, true)) {
    log::error("no space for the db; it is tried again until there is", {{"error", done.status.error().message}});
  }
  retry_at_ns_ = now_ns_ + options_.commit_retry_ns;
}

// The snapshot is in the log: what was handed out for applying is part of it.
void MemberCore::begin_installation(const WalWrite& write) {
  const raft::Snapshot& snapshot = *write.install;
  log::info("applying snapshot", {{"current-applied-index", apply_.applied().value},
                                  {"incoming-leader-snapshot-index", snapshot.index.value},
                                  {"incoming-leader-snapshot-term", snapshot.term.value}});
  installation_.begin(write.install, write.number);
  apply_.quiesce();
  retry_at_ns_.reset();
  cut_apply_queue();
}

// What raft takes is being installed by now, or has become the db. The rest it had no use for; but one of an index that
// is not committed here may come again, from another leader, and then its file is the one that is there already.
void MemberCore::give_images_up() {
  if (installation_.is_under_way()) return;
  std::erase_if(images_, [this](Index index) {
    if (index > replication_.raft().committed()) return false;
    effects_.unused_images.push_back(index);
    return true;
  });
}

// Nobody knows here what became of a request whose entry is in the snapshot.
void MemberCore::cut_apply_queue() {
  for (ApplyBatch& batch : apply_queue_) {
    for (const raft::Entry& entry : batch.entries) {
      if (entry.tag() != 0) effects_.refused.push_back({entry.tag(), errors::timeout_due_to_leader_fail()});
    }
    batch.entries.clear();
  }
}

// Who leads is known at once; all else waits.
void MemberCore::tell_leader_state() {
  for (ApplyBatch& batch : apply_queue_) {
    if (!batch.leader_state) continue;
    ApplyBatch state;
    state.leader_state = std::exchange(batch.leader_state, std::nullopt);
    check(apply_.apply(std::move(state), now_ns_));
  }
}

bool MemberCore::order_installation() {
  auto order = installation_.order(job_is_out_);
  if (!order) return false;
  effects_.install = std::move(order);
  return true;
}

void MemberCore::take_installed(InstallDone done) {
  if (!done.status) return check(done.status);
  const raft::Snapshot& snapshot = installation_.snapshot();
  apply_.install(std::move(*done.state), now_ns_);
  db_is_full_ = gives_db_up_ = is_beyond_buffers_ = false;
  applies_up_to_bytes_ = 0;
  replication_.installed(snapshot);
  log::info("applied snapshot", {{"current-applied-index", apply_.applied().value},
                                 {"incoming-leader-snapshot-index", snapshot.index.value},
                                 {"incoming-leader-snapshot-term", snapshot.term.value}});
  for (WalDone& one : installation_.installed()) replication_.wal_done(std::move(one));
  if (installation_.is_under_way()) apply_.quiesce();  // another one came meanwhile
}

// Raises the alarm while space is low, and gives the reserve up to what goes on then. A learner is not needed: the
// others write on, and when its log finds no room it ends alone.
void MemberCore::take_look(bool disk_is_low) {
  duties_.leases().set_disk_is_low(disk_is_low);
  disk_is_low_ = disk_is_low;
  if (!disk_is_low) return;
  const bool is_raised = has_own_no_space();
  const bool votes = raft::is_voter(replication_.raft().conf(), options_.replication.raft.id);
  if (!is_raised && votes) raise_alarm(kAlarmNoSpace);
  if (is_raised || !votes || db_is_full_) effects_.give_up_reserve = true;
}

bool MemberCore::has_own_no_space() const {
  const auto& alarms = *apply_.published().newest().alarms;
  return std::find(alarms.begin(), alarms.end(), Alarm{options_.apply.member_id, kAlarmNoSpace}) != alarms.end();
}

bool MemberCore::admit(uint64_t bytes) {
  if (CAIRN_MUTANT("server.waiting_without_bound")) {
    waiting_bytes_.fetch_add(bytes, std::memory_order_relaxed);
    return true;
  }
  if (waiting_bytes_.fetch_add(bytes, std::memory_order_relaxed) + bytes <= options_.waiting_bytes_max) return true;
  waiting_bytes_.fetch_sub(bytes, std::memory_order_relaxed);
  return false;
}

uint64_t MemberCore::bytes_of(const std::vector<Proposal>& proposals) {
  uint64_t bytes = 0;
  for (const Proposal& one : proposals) bytes += one->bytes.size();
  return bytes;
}

void MemberCore::take_proposals(std::vector<Proposal>& proposals) {
  const uint64_t bytes = bytes_of(proposals);
  const bool is_stopping = !takes_requests();
  if (is_stopping || is_far_behind()) {
    const Error error = is_stopping ? errors::stopped() : errors::request_too_many_requests();
    for (const Proposal& one : proposals) effects_.refused.push_back({one->tag, error});
    waiting_bytes_.fetch_sub(bytes, std::memory_order_relaxed);
  } else if (waiting_.empty() && bytes <= options_.feed_bytes_max && log_has_room()) {
    hand_to_log(std::move(proposals), bytes);  // the ordinary case: nothing is copied
  } else {
    for (Proposal& one : proposals) waiting_.push_back({std::move(one), now_ns_});
  }
}

void MemberCore::take_from_peers(Events& events) {
  if (phase_ == Phase::kStops) return;  // else the log would never come to an end
  for (raft::Message& message : events.messages) {
    if (message.type == raft::MessageType::kSnap && message.snapshot) images_.push_back(message.snapshot->index);
    replication_.step(std::move(message));
  }
  for (const PeerReport& report : events.peer_reports) {
    if (report.kind == PeerReport::Kind::kTellsRemoval) {
      removal_.told_by(report.peer);
    } else {
      replication_.report(report);
    }
  }
  for (const TransferRequest& request : events.transfers) replication_.transfer(request);
  replication_.do_due();
}

// Whoever asks a member that follows is to ask its leader.
void MemberCore::take_lease_request(const LeaseRequest& request) {
  const raft::Core& raft = replication_.raft();
  const bool is_for_leader =
      request.kind == LeaseRequest::Kind::kRenew || request.kind == LeaseRequest::Kind::kTimeToLive;
  if (is_for_leader && !raft.is_leader() && raft.leader() != raft::kNoNode) {
    const Error error = errors::not_leader();
    return effects_.answers.add(request.tag, error.code, error.message);
  }
  duties_.leases().ask(request, scene());
}

void MemberCore::take_conf_change(Proposal change) {
  if (takes_requests()) return replication_.propose_conf_change(std::move(change));
  effects_.refused.push_back({change->tag, errors::stopped(), false});
}

void MemberCore::take_control(const ControlRequest& request) {
  if (request.kind == Control::kProgress) return tell_progress(request.tag);
  if (request.kind == Control::kLinearizable && was_removed_) {
    return effects_.refused.push_back({request.tag, errors::stopped(), false});
  }
  replication_.control(request);
}

void MemberCore::tell_progress(Tag tag) {
  const std::vector<raft::PeerStatus> peers = replication_.raft().peers();
  if (peers.empty()) {
    const Error error = errors::not_leader();
    return effects_.answers.add(tag, error.code, error.message);
  }
  effects_.answers.write(tag, [&](std::string& out) {
    for (const raft::PeerStatus& peer : peers) {
      const PeerProgress progress{peer.id.value, peer.match.value};
      out.append(reinterpret_cast<const char*>(&progress), sizeof progress);
    }
  });
}

// compat: etcd refuses at once what comes when so many entries wait; we do when they have waited for a while.
bool MemberCore::is_far_behind() {
  if (replication_.raft().committed() <= apply_.applied() + options_.behind_entries_max) {
    behind_since_ns_ = 0;
    return false;
  }
  if (behind_since_ns_ == 0) behind_since_ns_ = now_ns_;
  return now_ns_ - behind_since_ns_ >= options_.behind_ns_max;
}

// Entries are on disk long before they are applied, but while the db has no room for them they pile up in memory.
// `beyond`: so many bytes may be too much.
bool MemberCore::log_has_room(uint64_t beyond) const {
  // What goes elsewhere does not wait for this member's disk.
  if (replication_.proposes_elsewhere()) return replication_.held_bytes() < options_.feed_bytes_max;
  return replication_.log_bytes() + wal_bytes_in_flight_ < options_.unapplied_bytes_max + beyond &&
         wal_bytes_in_flight_ < options_.feed_bytes_max + beyond;
}

void MemberCore::hand_to_log(std::vector<Proposal> proposals, uint64_t bytes) {
  waiting_bytes_.fetch_sub(bytes, std::memory_order_relaxed);
  replication_.propose(std::move(proposals));
}

void MemberCore::take_ticks() {
  if (now_ns_ < next_raft_tick_ns_) return;
  const bool is_over = phase_ == Phase::kStops && replication_.has_peers();
  if (replication_.needs_ticks() && !is_over) replication_.tick();
  next_raft_tick_ns_ = now_ns_ + options_.raft_tick_ns;  // never made up for
  if (!replication_.has_peers()) return;
  refuse_what_waited_too_long();
  leave_to_whose_log_works();
}

// Others commit what this member's disk does not take; but who leads is asked for every read and write, and with one
// more such disk nothing would be committed any more. If no other disk is better, it is no help if others lead.
void MemberCore::leave_to_whose_log_works() {
  const int64_t stalled_ns = now_ns_ - wal_moved_ns_;
  const bool stands_still = wal_in_flight_ > 0 && stalled_ns >= options_.log_stall_ns / 10;
  if (!stands_still || phase_ != Phase::kRuns || !replication_.raft().is_leader()) return log_race_.end();
  log_race_.look(replication_.raft().peers(), options_.log_stall_ns, now_ns_);
  if (stalled_ns < options_.log_stall_ns) return;
  if (left_ns_ != INT64_MIN && now_ns_ - left_ns_ < options_.replication.election_ns) return;
  // With few writes nobody shows that his disk is better. After a long time any is.
  const NodeId first = log_race_.first();
  if (first == raft::kNoNode && stalled_ns < 10 * options_.log_stall_ns) return;
  if (!replication_.hand_over(first)) return;
  left_ns_ = now_ns_;
  log::warn("the log's disk stands still; leadership goes to another member",
            {{"stalled-milliseconds", stalled_ns / 1'000'000}, {"waiting-writes", wal_in_flight_}});
}

void MemberCore::refuse_what_waited_too_long() {
  while (!waiting_.empty() && now_ns_ - waiting_.front().since_ns >= options_.replication.request_timeout_ns) {
    const Waiting& late = waiting_.front();
    effects_.refused.push_back({late.proposal->tag, replication_.timeout_error(late.since_ns)});
    waiting_bytes_.fetch_sub(late.proposal->bytes.size(), std::memory_order_relaxed);
    waiting_.pop_front();
  }
}

// --- what goes on inside

void MemberCore::pump() {
  if (retry_at_ns_ && now_ns_ >= *retry_at_ns_) {
    retry_at_ns_.reset();
    effects_.commit = running_job_;
    job_is_out_ = true;
  }
  bool progress = true;
  while (progress && phase_ != Phase::kEnded) {
    progress = move_replication();
    progress = move_apply() || progress;
    progress = feed_log() || progress;
    progress = order_installation() || progress;
    if (!progress) progress = campaign_alone() || (!duties_.announcement().is_done() && announce());
  }
}

// A member that decides alone need not wait for the election timeout.
bool MemberCore::campaign_alone() {
  const raft::Core& raft = replication_.raft();
  if (phase_ != Phase::kRuns || raft.role() != raft::Role::kFollower || !raft.is_sole_voter()) return false;
  replication_.campaign();
  return raft.role() != raft::Role::kFollower;
}

// In the words of etcd's raft.
void MemberCore::tell_leader() {
  const raft::Core& raft = replication_.raft();
  const NodeId leader = raft.leader();
  if (leader == leader_told_) return;
  const NodeId before = std::exchange(leader_told_, leader);
  const std::string self = hex_id(options_.replication.raft.id.value);
  const uint64_t term = raft.term().value;
  if (raft.is_leader()) log::info(fmt::format("{} became leader at term {}", self, term), {{"logger", "raft"}});
  const std::string change = leader == raft::kNoNode   ? "lost leader " + hex_id(before.value)
                             : before == raft::kNoNode ? "elected leader " + hex_id(leader.value)
                                                       : fmt::format("changed leader from {} to {}",
                                                                     hex_id(before.value), hex_id(leader.value));
  log::info(fmt::format("raft.node: {} {} at term {}", self, change, term), {{"logger", "raft"}});
}

bool MemberCore::announce() {
  tell_leader();
  const raft::Core& raft = replication_.raft();
  if (phase_ != Phase::kRuns || raft.leader() == raft::kNoNode || !raft.knows_commit_of_term()) return false;
  if (raft.is_leader() && !raft.has_committed_in_term()) return false;
  if (apply_.applied() < raft.committed()) return false;  // nobody is to see a state from before the start
  const NodeId self = options_.replication.raft.id;
  if (now_ns_ - announced_ns_ >= options_.replication.request_timeout_ns) duties_.announcement().say_again();
  const Announcement::Scene known{.members = apply_.members(),
                                  .self = self,
                                  .schema = apply_.schema(),
                                  .versions = members_versions(),
                                  .leads = raft.is_leader()};
  const bool with_version = Announcement::sets_version(known);
  auto bytes = duties_.announcement().next(known, request_id_.load(std::memory_order_relaxed));
  if (bytes) {
    (void)next_request_id();
    announced_ns_ = now_ns_;
    propose_own(*std::move(bytes));
    return true;
  }
  const bool is_known = with_version ? duties_.announcement().is_done() : duties_.announcement().is_known();
  if (is_announced_ || !is_known) return false;
  is_announced_ = effects_.is_ready = true;
  log::info("published local member to cluster through raft",
            {{"local-member-id", hex_id(self.value)},
             {"local-member-attributes", fmt::format("{{Name:{} ClientURLs:[{}]}}", options_.announcement.name,
                                                     fmt::join(options_.announcement.client_urls, " "))},
             {"cluster-id", hex_id(apply_.members().cluster_id)}});
  return false;
}

MembersVersions MemberCore::members_versions() const {
  return versions_.of(apply_.members(), options_.replication.raft.id,
                      [this](NodeId member) { return replication_.speaks_cairn(member); });
}

void MemberCore::ask_for_versions() {
  const raft::Core& raft = replication_.raft();
  effects_.ask_versions = versions_.ask({.members = apply_.published().newest().members,
                                         .self = options_.replication.raft.id,
                                         .term = raft.term(),
                                         .leads = raft.is_leader(),
                                         .now_ns = now_ns_});
}

// For what is done at each step: a little old, if nothing says that it has changed.
const MembersVersions& MemberCore::recent_versions() {
  constexpr int64_t kRecentNs = 100'000'000;
  const auto& members = apply_.published().newest().members;
  const bool is_recent = versions_of_ == members && versions_.count() == recent_versions_.report &&
                         (members->members.size() < 2 || now_ns_ - versions_ns_ < kRecentNs);
  if (!is_recent) {
    versions_of_ = members;
    versions_ns_ = now_ns_;
    recent_versions_ = members_versions();
  }
  return recent_versions_;
}

LeaseDuty::Scene MemberCore::scene() { return {apply_, replication_.raft(), effects_.answers, now_ns_}; }

// `may_ask`: all that has come is known, so nothing that was to keep a lease alive waits somewhere.
void MemberCore::do_duties(bool may_ask) {
  tell_leader();
  versions_.begin_term(replication_.raft().term());
  if (phase_ == Phase::kRuns && apply_.members().members.size() > 1) ask_for_versions();
  note_leadership();
  duties_.leases().serve(scene());
  if (replication_.has_peers()) refuse_lease_requests();
  if (!may_ask || phase_ != Phase::kRuns) return;
  const auto propose = [this](std::vector<std::string> entries) { return propose_as_leader(std::move(entries)); };
  if (duties_.leases().act(scene(), propose)) pump();
  const Published& newest = apply_.published().newest();
  const CompactionDuty::Scene compaction{.revision = newest.kv.revision,
                                         .compacted = newest.kv.compact_revision,
                                         .applied = apply_.applied(),
                                         .term = duties_.term(),
                                         .now_ns = now_ns_};
  if (duties_.compaction().act(compaction, propose)) pump();
  const VersionDuty::Scene versions{.members = newest.members,
                                    .versions = recent_versions(),
                                    .applied = apply_.applied(),
                                    .term = duties_.term(),
                                    .now_ns = now_ns_};
  if (is_announced_ && duties_.versions().act(versions, propose)) pump();
  consider_alarm();
}

// A leader whose process stood still for a while may be none: until a quorum says that it is, it does nothing that only
// the leader may do. One that was removed leads nobody: another leader may end a lease that it would renew.
void MemberCore::note_leadership() {
  const raft::Core& raft = replication_.raft();
  const bool leads = raft.is_leader() && !was_removed_ && replication_.sure_to_lead() &&
                     apply_.published().newest().applied_term == raft.term();
  duties_.set_leadership(leads, raft.term(), scene());
}

void MemberCore::refuse_lease_requests() {
  const raft::Core& raft = replication_.raft();
  if (was_removed_) return duties_.leases().refuse_waiting(errors::stopped(), now_ns_, effects_.answers);
  if (raft.is_leader()) return;
  if (raft.leader() != raft::kNoNode) {
    duties_.leases().refuse_waiting(errors::not_leader(), now_ns_, effects_.answers);
  } else {
    const int64_t until_ns = now_ns_ - options_.replication.request_timeout_ns;
    duties_.leases().refuse_waiting(errors::no_leader(), until_ns, effects_.answers);
  }
}

// Whose alarm: its own is every member's own matter, whoever leads. One that was removed cannot withdraw its own, and
// nobody could write any more.
std::optional<uint64_t> MemberCore::no_space_to_withdraw() const {
  if (has_own_no_space()) return options_.apply.member_id;
  if (!replication_.raft().is_leader()) return std::nullopt;
  const Published& newest = apply_.published().newest();
  for (const Alarm& alarm : *newest.alarms) {
    if (alarm.type == kAlarmNoSpace && newest.members->removed.contains(NodeId(alarm.member_id)))
      return alarm.member_id;
  }
  return std::nullopt;
}

void MemberCore::consider_alarm() {
  const Published& newest = apply_.published().newest();
  const std::optional<uint64_t> whose = no_space_to_withdraw();
  const NoSpaceDuty::Scene scene{.is_raised = whose.has_value(),
                                 .disk_is_low = disk_is_low_ || db_is_full_,
                                 .in_use_bytes = newest.db_in_use_bytes,
                                 .quota_bytes = options_.apply.quota_bytes,
                                 .now_ns = now_ns_};
  if (!no_space_.act(scene)) return;
  const bool is_own = *whose == options_.apply.member_id;
  log::info(
      is_own ? "there has been room for a while; this member withdraws its NOSPACE alarm"
             : "there has been room for a while; the leader withdraws the NOSPACE alarm of a removed member",
      {{"alarm-member-id", hex_id(*whose)}, {"in-use-bytes", scene.in_use_bytes}, {"quota-bytes", scene.quota_bytes}});
  propose_own(disarm_request(*whose, kAlarmNoSpace, next_request_id()));
  pump();
}

// These entries are short, and clients' requests may take all room for as long as they like: they get room of their
// own. Where that is taken too, the duties come again.
std::optional<Index> MemberCore::propose_as_leader(std::vector<std::string> entries) {
  if (!log_has_room(kDutyBytes)) return std::nullopt;
  std::vector<Proposal> proposals;
  proposals.reserve(entries.size());
  for (std::string& bytes : entries) {
    proposals.push_back(std::make_shared<const raft::Payload>(raft::Payload{.bytes = std::move(bytes)}));
  }
  const auto last = replication_.propose_as_leader(duties_.term(), proposals);
  if (last && observer_ != nullptr) {
    for (const Proposal& one : proposals) observer_->on_own_proposal(one);
  }
  return last;
}

// Repeated calls until it is applied do nothing more.
void MemberCore::raise_alarm(uint32_t type) {
  const auto [raised_ns, is_first] = alarms_raised_ns_.try_emplace(type, now_ns_);
  if (!is_first && now_ns_ - raised_ns->second < options_.alarm_interval_ns) return;
  raised_ns->second = now_ns_;
  propose_own(alarm_request(options_.apply.member_id, type, next_request_id()));
}

void MemberCore::propose_own(std::string bytes) {
  auto proposal = std::make_shared<const raft::Payload>(raft::Payload{.bytes = std::move(bytes)});
  if (observer_ != nullptr) observer_->on_own_proposal(proposal);
  replication_.propose({std::move(proposal)});
}

// --- what comes next

// Once nothing has been applied for some seconds: the disk is to hold no more than it must, and a start to find a
// checkpoint that is complete. Both at once, since an idle member writes nothing.
void MemberCore::consider_rest() {
  if (apply_.applied() != busy_index_) {
    busy_index_ = apply_.applied();
    busy_at_ns_ = now_ns_;
  }
  if (rested_ == busy_index_) return consider_tail();
  if (now_ns_ - busy_at_ns_ < options_.rest_after_ns || db_is_full_) return;
  rested_ = busy_index_;
  effects_.step_checkpoint = effects_.is_at_rest = true;
  give_spare_back();
  if (segment_count_ <= 1) return;
  apply_.settle(now_ns_);
  pump();
}

// Once in each segment: afterwards it has hardly more blocks than its records need. Not while space is short, since the
// blocks that it has are its own.
void MemberCore::consider_tail() {
  if (segment_.has_given_tail_back || now_ns_ < tail_due_ns() || db_is_full_) return;
  if (apply_.commit_pending() || wal_in_flight_ > 0) return;  // its end comes with another step
  segment_.has_given_tail_back = true;
  if (apply_.published().newest().has_alarm(kAlarmNoSpace)) return;
  WalWrite write;
  write.give_tail_back = true;
  if (wal_in_flight_++ == 0) wal_moved_ns_ = now_ns_;
  effects_.wal.push_back(std::move(write));
}

void MemberCore::plan_wake_up() {
  std::optional<int64_t> next = apply_.next_tick_ns();
  const auto at = [&](int64_t when_ns) { next = std::min(next.value_or(INT64_MAX), when_ns); };
  const bool is_over = phase_ == Phase::kStops && replication_.has_peers();
  if (replication_.needs_ticks() && !is_over) at(next_raft_tick_ns_);
  if (const auto due_ns = replication_.next_due_ns(); due_ns && phase_ != Phase::kStops) at(*due_ns);
  if (retry_at_ns_) at(*retry_at_ns_);
  if (short_step_ == steps_) at(now_ns_);
  if (const auto gone_ns = removal_.next_ns()) at(*gone_ns);
  if (const auto duty_ns = duties_.leases().next_ns(now_ns_); duty_ns && phase_ == Phase::kRuns) at(*duty_ns);
  if (const auto duty_ns = duties_.compaction().next_ns(apply_.applied()); duty_ns && phase_ == Phase::kRuns)
    at(*duty_ns);
  if (const auto duty_ns = duties_.versions().next_ns(); duty_ns && phase_ == Phase::kRuns) at(*duty_ns);
  if (const auto duty_ns = no_space_.next_ns(); duty_ns && phase_ == Phase::kRuns) at(*duty_ns);
  if (rested_ != busy_index_ && phase_ == Phase::kRuns && !db_is_full_) at(busy_at_ns_ + options_.rest_after_ns);
  const bool waits_for_tail = rested_ == busy_index_ && !segment_.has_given_tail_back && now_ns_ < tail_due_ns();
  if (waits_for_tail && phase_ == Phase::kRuns && !db_is_full_) at(tail_due_ns());
  effects_.wake_at_ns = next;
}

std::string MemberCore::describe() const {
  const raft::Core& raft = replication_.raft();
  return fmt::format(
      "leader {}, term {}, committed {}, applied {}, {} batches wait, stalled {}, commit pending {}, held {}, before "
      "the "
      "log {}, {} WAL writes under way, next tick {}",
      raft.is_leader(), raft.term(), raft.committed(), apply_.applied(), apply_queue_.size(), apply_.stalled(),
      apply_.commit_pending(), replication_.held_count(), waiting_.size(), wal_in_flight_,
      apply_.next_tick_ns().value_or(0) - now_ns_);
}

}  // namespace cairn::member
