#include "member/replication_core.h"

#include <algorithm>
#include <chrono>

#include "base/append_all.h"
#include "base/bytes.h"
#include "base/check.h"
#include "base/errors.h"
#include "base/fault.h"
#include "base/go_duration.h"
#include "base/log.h"
#include "raft/conf_change.h"

namespace cairn::member {
namespace {

// Beyond this many rounds under way, reads gather until one is answered.
constexpr size_t kReadRoundsMax = 4;
// 500 ms, as in etcd: then a round's request or answer is taken for lost.
constexpr uint64_t kReadRetryTicks = 50;
// A member that has no room for the db, say, is not sent it with each heartbeat.
// compat: etcd does that.
constexpr int64_t kSnapshotRetryNs = 1'000'000'000;
// Nor is one sent the next db with each heartbeat that takes one in, if the log is too short meanwhile: it would take
// in one after the other, and be further behind with each. Its answer may be lost. compat: etcd does that.
constexpr int64_t kSnapshotAnswerNs = 3'000'000'000;

}  // namespace

ReplicationCore::ReplicationCore(const Options& options, RaftLog log, const raft::StartState& start)
    : options_(options),
      log_(std::move(log)),
      core_(options.raft, log_, start),
      has_peers_(!core_.is_sole_member()),
      own_(options.request_timeout_ns),
      forwarder_({.self = options.raft.id,
                  .epoch = options.start_epoch,
                  .message_bytes_max = options.raft.max_bytes_per_message}),
      conf_forwarder_({.self = options.raft.id,
                       .epoch = options.start_epoch,
                       .type = raft::EntryType::kConfChange,
                       .window_bytes = 1}),
      failover_(options.raft.seed),
      awaits_majority_(options.shortens_first_timeout) {}

size_t ReplicationCore::held_count() const {
  size_t count = held_.size() + held_conf_changes_.size() + waiting_reads_.size();
  for (const ReadRound& round : asked_reads_) count += round.reads.size();
  return count;
}

void ReplicationCore::control(ControlRequest request) {
  if (request.kind != Control::kLinearizable) {
    pending_.apply.controls.push_back(request);
  } else if (waiting_reads_.size() >= options_.held_reads_max) {
    refuse_other(request.tag, errors::request_too_many_requests());
  } else {
    waiting_reads_.push_back({request, now_ns_});
  }
}

bool ReplicationCore::may_ask_read_index() const {
  return !waiting_reads_.empty() && asked_reads_.size() < kReadRoundsMax && core_.leader() != raft::kNoNode;
}

void ReplicationCore::ask_read_index() {
  if (!may_ask_read_index()) return;
  asked_reads_.push_back({.number = ++read_number_, .asked_tick = ticks_, .reads = std::exchange(waiting_reads_, {})});
  ask_again(asked_reads_.back());
}

// Under the same context: whichever answer comes, it is to a question that was put after the reads had arrived.
void ReplicationCore::ask_again(ReadRound& round) {
  round.asked_tick = ticks_;
  core_.read_index(read_context(round.number));  // without a leader: when there is one
}

// A counter alone would begin at 0 at each start: the answer to an old round would serve a new read.
std::string ReplicationCore::read_context(uint64_t number) const {
  std::string context(3 * sizeof(uint64_t), '\0');
  store_be64(context.data(), core_.id().value);
  const uint64_t epoch = CAIRN_MUTANT("server.read_context_used_again") ? 0 : options_.start_epoch;
  store_be64(context.data() + sizeof(uint64_t), epoch);
  store_be64(context.data() + 2 * sizeof(uint64_t), number);
  return context;
}

void ReplicationCore::answer_read(const raft::ReadState& read, ApplyBatch& out) {
  // Compared as a whole: whatever a peer sends, of whatever length, is ours or it is not.
  const auto round = std::find_if(asked_reads_.begin(), asked_reads_.end(),
                                  [&](const ReadRound& asked) { return read_context(asked.number) == read.context; });
  if (round == asked_reads_.end()) return;
  for (Read& one : round->reads) {
    one.request.due = read.index;
    out.controls.push_back(one.request);
  }
  if (round->number == doubt_) doubt_ = 0;
  asked_reads_.erase(round);
}

void ReplicationCore::ask_late_rounds_again() {
  const uint64_t before = slow_reads_;
  for (ReadRound& round : asked_reads_) {
    if (ticks_ - round.asked_tick < kReadRetryTicks) continue;
    ++slow_reads_;
    ask_again(round);
  }
  if (slow_reads_ != before) {
    log::warn("waiting for ReadIndex response took too long, retrying", {{"retry-timeout", "500ms"}});
  }
}

void ReplicationCore::refuse_late_reads() {
  size_t count = 0;
  const auto refuse_late = [&](std::vector<Read>& reads) {
    count += std::erase_if(reads, [this](const Read& read) {
      if (now_ns_ - read.since_ns < options_.request_timeout_ns) return false;
      refuse_other(read.request.tag, errors::timeout());
      return true;
    });
  };
  refuse_late(waiting_reads_);
  for (ReadRound& round : asked_reads_) refuse_late(round.reads);
  if (count > 0) {
    ++slow_reads_;
    log::warn("timed out waiting for read index response (local node might have slow network)",
              {{"timeout", go_duration(std::chrono::nanoseconds(options_.request_timeout_ns))}});
  }
  std::erase_if(asked_reads_, [this](const ReadRound& round) { return round.reads.empty() && round.number != doubt_; });
}

// A quorum is asked as for a read.
void ReplicationCore::doubt_leadership() {
  if (!core_.is_leader() || core_.is_sole_voter() || doubt_ != 0) return;
  doubt_ = ++read_number_;
  asked_reads_.push_back({.number = doubt_, .asked_tick = ticks_, .reads = {}});
  ask_again(asked_reads_.back());
}

void ReplicationCore::step(raft::Message message) {
  const bool is_answer = message.type == raft::MessageType::kHeartbeatResp;
  const bool is_counted = message.type == raft::MessageType::kProp && message.forward && message.forward->sequence != 0;
  if (is_counted || (is_answer && message.forward)) return take_forwarded(message);
  const bool is_of_others = message.type == raft::MessageType::kProp && core_.is_leader();
  if (is_of_others && !has_room_for_others()) return;
  uint64_t bytes = 0;
  for (const raft::Entry& entry : message.entries) bytes += raft::cost_bytes(entry);
  const Index last = core_.last_index();
  if (failover_.suspects_leader(core_, message, now_ns_)) pending_.redial.push_back(core_.leader());
  const bool may_end_snapshot = message.type == raft::MessageType::kAppResp && !message.reject;
  const NodeId from = message.from;
  const Index has = message.index;
  core_.step(std::move(message));
  if (is_of_others && core_.last_index() > last) note_of_others(bytes);
  const auto sent = may_end_snapshot ? sent_snapshots_.find(from) : sent_snapshots_.end();
  if (sent != sent_snapshots_.end() && has >= sent->second.index) end_snapshot(from);
  propose_held();
}

// The member has taken it in, or nobody knows.
void ReplicationCore::end_snapshot(NodeId member) {
  if (sent_snapshots_.erase(member) > 0) core_.report_snapshot(member, true);
}

void ReplicationCore::report(const PeerReport& report) {
  using Kind = PeerReport::Kind;
  const auto sent = sent_snapshots_.find(report.peer);
  if (report.kind == Kind::kSnapshotDelivered) {
    if (sent != sent_snapshots_.end()) sent->second.delivered_ns = now_ns_;
    return;
  }
  if (report.kind == Kind::kSnapshotFailed) {
    snapshot_holds_.failed(report.peer);
    sent_snapshots_.erase(report.peer);
    failed_snapshots_[report.peer] = now_ns_;
    return;
  }
  if (report.kind == Kind::kConnected) {
    if (awaits_majority_) reached_.insert(report.peer);
    return consider_first_timeout();
  }
  core_.report_unreachable(report.peer);
  if (sent != sent_snapshots_.end() && sent->second.delivered_ns) end_snapshot(report.peer);
  cut_ns_[report.peer] = now_ns_;
  if (report.peer != core_.leader() || core_.is_leader()) return;
  if (report.kind == Kind::kStreamCut) {
    follow();
    forwarder_.note_cut();
    forwarder_.tick(ticks_, pending_.messages);
    conf_forwarder_.note_cut();
    conf_forwarder_.tick(ticks_, pending_.messages);
  } else if (report.kind == Kind::kUnreachable) {
    forwarder_.note_lost(ticks_);
    conf_forwarder_.note_lost(ticks_);
  } else if (report.kind == Kind::kDied) {
    core_.forget_leader();
    failover_.begin(core_, report.peer, now_ns_);
    for (raft::Message& message : failover_.take_unanswered()) core_.step(std::move(message));
  }
}

// As etcd. Two heartbeats are left: a leader that there is already is heard by then.
void ReplicationCore::consider_first_timeout() {
  if (!awaits_majority_) return;
  if (core_.role() != raft::Role::kFollower || core_.leader() != raft::kNoNode) return void(awaits_majority_ = false);
  const std::vector<NodeId>& voters = core_.conf().voters;
  const auto count =
      std::ranges::count_if(voters, [this](NodeId voter) { return voter == core_.id() || reached_.contains(voter); });
  // compat: etcd waits for two others, however many members there are.
  if (static_cast<size_t>(count) * 2 <= voters.size()) return;
  awaits_majority_ = false;
  const uint32_t timeout = options_.raft.election_ticks;
  const uint32_t skipped = timeout - std::min(timeout, 2 * options_.raft.heartbeat_ticks);
  const auto duration = [this](uint32_t ticks) {
    return go_duration(std::chrono::nanoseconds(options_.election_ns / options_.raft.election_ticks * ticks));
  };
  // etcd's ticks are heartbeats.
  log::info("initialized peer connections; fast-forwarding election ticks",
            {{"local-member-id", hex_id(core_.id().value)},
             {"forward-ticks", skipped / options_.raft.heartbeat_ticks},
             {"forward-duration", duration(skipped)},
             {"election-ticks", timeout / options_.raft.heartbeat_ticks},
             {"election-timeout", duration(timeout)},
             {"active-remote-members", reached_.size()}});
  for (uint32_t i = 0; i < skipped; ++i) core_.tick();
}

void ReplicationCore::transfer(const TransferRequest& request) {
  if (!core_.is_leader()) return refuse_other(request.tag, errors::not_leader());
  if (request.to != core_.id() && !core_.transfer_leader(request.to)) {
    return refuse_other(request.tag, errors::bad_leader_transferee());
  }
  transfers_.push_back({request, now_ns_});
  consider_transfers();
}

// compat: etcd waits for as long as its client does.
void ReplicationCore::consider_transfers() {
  std::erase_if(transfers_, [this](const Transfer& one) {
    if (core_.leader() == one.request.to) {
      pending_.apply.controls.push_back({.kind = Control::kLinearizable, .tag = one.request.tag, .due = {}});
      return true;
    }
    if (now_ns_ - one.since_ns < options_.request_timeout_ns) return false;
    refuse_other(one.request.tag, errors::timeout_leader_transfer());
    return true;
  });
}

// compat: etcd takes the voter that has been connected for the longest time.
bool ReplicationCore::hand_over(NodeId target) {
  if (!core_.is_leader()) return false;
  if (core_.transfer_target() != raft::kNoNode) return true;
  if (target != raft::kNoNode) return core_.transfer_leader(target);
  std::optional<raft::PeerStatus> best;
  for (const raft::PeerStatus& peer : core_.peers()) {
    const bool lives = peer.recent_active || peer.state == raft::ProgressState::kReplicate;
    if (peer.id == core_.id() || peer.is_learner || !lives) continue;
    if (!best || peer.match > best->match) best = peer;
  }
  return best && core_.transfer_leader(best->id);
}

void ReplicationCore::tick() {
  ++ticks_;
  core_.tick();
  consider_snapshots();
  consider_first_timeout();
  propose_held();
  ask_late_rounds_again();
  if (!has_peers_) return;
  if (core_.is_leader() && !raft::is_member(core_.conf(), core_.id())) refuse_held(errors::stopped());
  follow();
  forwarder_.tick(ticks_, pending_.messages);
  conf_forwarder_.tick(ticks_, pending_.messages);
  propose_held_conf_changes();
  refuse_what_waited_too_long();
  refuse_late_reads();
  consider_transfers();
  consider_being_alone();
}

void ReplicationCore::consider_snapshots() {
  std::erase_if(failed_snapshots_, [this](const auto& failed) {
    if (now_ns_ - failed.second < kSnapshotRetryNs) return false;
    core_.report_snapshot(failed.first, false);
    return true;
  });
  std::erase_if(sent_snapshots_, [this](const auto& sent) {
    if (!sent.second.delivered_ns || now_ns_ - *sent.second.delivered_ns < kSnapshotAnswerNs) return false;
    core_.report_snapshot(sent.first, true);
    return true;
  });
  (void)snapshot_holds_.show_in(core_.peers(), now_ns_);  // ends what is over
}

void ReplicationCore::do_due() { failover_.do_due(core_, now_ns_); }

void ReplicationCore::campaign() { core_.campaign(); }

void ReplicationCore::wal_done(WalDone done) {
  if (!done.entries.empty()) log_.append(std::move(done.entries));
  if (done.durable_commit > durable_commit_) {
    durable_commit_ = done.durable_commit;
    pending_.apply.durable_commit = durable_commit_;
  }
  if (durable_commit_ >= syncing_commit_) syncing_commit_ = Index{};
  if (done.number != 0 && !done.has_messages && !core_.is_leader()) CAIRN_FAULT("raftBeforeFollowerSend");
  if (done.number != 0) core_.appended(done.number);
  trim_log();
  append_all(pending_.messages, done.messages);
  for (; done.number != 0 && !departures_.empty() && departures_.front().number <= done.number;
       departures_.pop_front()) {
    append_all(pending_.messages, departures_.front().messages);
  }
  if (done.released != Index{}) log_.released_to(std::min(done.released, core_.applied()));
  propose_held();
}

void ReplicationCore::log_read(LogReadDone done) {
  if (log_.read_done(std::move(done))) core_.log_loaded();
}

void ReplicationCore::installed(const raft::Snapshot& snapshot) {
  CAIRN_FAULT("raftBeforeApplySnap");
  log_.restore(snapshot.index, snapshot.term);
  snapshot_point_ = snapshot.index;
  own_.note_snapshot(snapshot.term);
  conf_entry_.reset();
  state_changed_ = true;
  CAIRN_FAULT("raftAfterApplySnap");
}

void ReplicationCore::applied(AppliedNotice notice) {
  if (notice.conf_verdict) give_verdict(*notice.conf_verdict);
  if (notice.applied > core_.applied()) {
    core_.applied_to(notice.applied);
    trim_log();
  }
  propose_held_conf_changes();
  wanted_durable_ = std::max(wanted_durable_, notice.need_durable_commit);
  if (notice.sendable) log_.set_sendable(*std::move(notice.sendable));
  if (notice.snapshot) {
    snapshot_point_ = notice.snapshot->index;
    WalWrite write;
    write.snapshot = std::move(notice.snapshot);
    pending_.wal.push_back(std::move(write));
  }
  if (notice.release_below != Index{}) release(notice.release_below);
  if (has_peers_) consider_being_alone();
}

// From here on, until another member joins, tags are found in the payloads. Nothing may be left of the time before:
// an entry whose request was refused would be answered again.
void ReplicationCore::consider_being_alone() {
  if (!core_.is_sole_member() || core_.applied() < core_.last_index()) return;
  has_peers_ = !own_.empty() || !held_.empty() || !held_conf_changes_.empty() || !transfers_.empty();
}

// What is applied and not stable here may still have other entries at its indexes in the log: these are not to be taken
// for it, neither in memory nor when the segments are read.
void ReplicationCore::trim_log() {
  const bool is_careless = CAIRN_MUTANT("server.log_leaves_memory_before_it_is_stable");
  log_.applied_to(is_careless ? core_.applied() : std::min(core_.applied(), core_.stable_index()));
}

// Members that are behind need what this one could do without.
void ReplicationCore::release(Index wanted) {
  if (!core_.is_sole_member()) {
    wanted = release_limit(options_.log, log_, core_.id(), snapshot_holds_.show_in(core_.peers(), now_ns_),
                           snapshot_point_, wanted);
    if (options_.log.entries && wanted >= log_.first_index()) log_.released_to(std::min(wanted, core_.applied()));
  }
  if (wanted == Index{}) return;
  // With a snapshot point of the same notice, if there is one.
  if (pending_.wal.empty() || pending_.wal.back().number != 0 || pending_.wal.back().must_sync) {
    pending_.wal.emplace_back();
  }
  pending_.wal.back().release_below = wanted;
}

void ReplicationCore::give_verdict(const ConfVerdict& verdict) {
  const bool is_careless = CAIRN_MUTANT("server.verdict_on_the_wrong_entry");
  if (!conf_entry_ || (conf_entry_->index != verdict.index && !is_careless)) return;  // a snapshot overtook it
  raft::ConfChange change;
  change.changes.push_back({});  // names no node: without effect
  if (verdict.accepted) {
    auto decoded = raft::decode_conf_change(conf_entry_->type, conf_entry_->bytes());
    CAIRN_ASSERT(decoded);  // ApplyCore has read it
    change = *std::move(decoded);
  }
  const bool was_sole = core_.is_sole_member();
  const auto conf = core_.apply_conf_change(verdict.index, change);
  CAIRN_ASSERT(conf);  // checked against the same membership
  if (!is_careless) conf_entry_.reset();
  if (!core_.is_sole_member())
    begin_tracking(verdict.index + 1);
  else if (!was_sole)
    shared_up_to_ = core_.committed();
  state_changed_ = true;
  succeed_removed_leader();
}

// A leader that has applied its own removal asks for a successor. The others, too, may have applied it and hear no more
// of it by then: they do as if its process had died.
void ReplicationCore::succeed_removed_leader() {
  const NodeId leader = core_.leader();
  if (leader == raft::kNoNode || raft::is_member(core_.conf(), leader)) return;
  if (core_.is_leader()) return void(hand_over());
  core_.forget_leader();
  failover_.begin(core_, leader, now_ns_);
  for (raft::Message& message : failover_.take_unanswered()) core_.step(std::move(message));
}

bool ReplicationCore::has_output() const {
  return core_.has_ready() || state_changed_ || log_.has_reads() || !pending_.messages.empty() ||
         !pending_.wal.empty() || !pending_.apply.empty() || !pending_.refused.empty() || !pending_.redial.empty() ||
         may_ask_read_index() || wants_state_synced();
}

bool ReplicationCore::wants_state_synced() const {
  return wanted_durable_ > durable_commit_ && syncing_commit_ == Index{} && core_.committed() >= wanted_durable_;
}

// Another leader, or the same in another term, knows nothing of the rounds under way. Before the first commit of its
// term an etcd up to 3.4 drops them.
void ReplicationCore::note_leadership() {
  const bool is_new = core_.term() != last_state_.term || core_.leader() != last_state_.leader;
  const bool first_commit = commit_seen_in_ != core_.term() && core_.knows_commit_of_term();
  if (first_commit) commit_seen_in_ = core_.term();
  if (is_new) {
    state_changed_ = true;
    doubt_ = 0;
    sent_snapshots_.clear();
    if (core_.is_leader()) elected_ns_ = now_ns_;
    if (CAIRN_MUTANT("server.proposed_again_too_early")) propose_again(core_.term());
  }
  if (!is_new && !first_commit) return;
  for (ReadRound& round : asked_reads_) ask_again(round);
}

void ReplicationCore::take_ready(ReplicationOutput& out) {
  raft::Ready ready = core_.take_ready();
  note_leadership();
  if (ready.soft_state) {
    propose_held();
    propose_held_conf_changes();
  }
  if (core_.is_leader()) CAIRN_FAULT("raftBeforeLeaderSend");
  for (const raft::Message& message : ready.messages) {
    if (message.type != raft::MessageType::kSnap) continue;
    snapshot_holds_.sent(message.to, message.snapshot->index, now_ns_);
    failed_snapshots_.erase(message.to);
    sent_snapshots_[message.to] = {.index = message.snapshot->index, .delivered_ns = {}};
  }
  append_all(out.messages, ready.messages);
  if (ready.hard_state) unwritten_state_ = ready.hard_state;
  if (ready.must_sync || !ready.entries.empty()) {
    WalWrite write;
    write.number = ready.number;
    write.entries = std::move(ready.entries);
    write.hard_state = std::exchange(unwritten_state_, std::nullopt);
    write.must_sync = ready.must_sync;
    write.install = std::move(ready.snapshot);
    if (write.install != nullptr && !write.hard_state) write.hard_state = core_.hard_state();
    if (CAIRN_MUTANT("server.append_acknowledged_before_sync")) {
      append_all(out.messages, ready.messages_after_sync);
    } else if (write.number != 0 && write.install == nullptr && departures_.empty()) {
      write.messages = std::exchange(ready.messages_after_sync, {});
    }
    out.wal.push_back(std::move(write));
  }
  if (ready.number != 0) last_number_ = ready.number;
  if (!ready.messages_after_sync.empty()) {
    departures_.push_back({last_number_, std::move(ready.messages_after_sync)});
  }
  for (const raft::ReadState& read : ready.read_states) answer_read(read, out.apply);
  if (has_peers_) resolve(ready.committed);
  if (!ready.committed.empty()) {
    const raft::Entry& last = ready.committed.back();
    const bool stays = conf_entry_ && CAIRN_MUTANT("server.verdict_on_the_wrong_entry");
    if (last.type != raft::EntryType::kNormal && !stays) conf_entry_ = last;
    auto& entries = out.apply.entries;
    if (entries.empty()) {
      entries = std::move(ready.committed);
    } else {
      entries.insert(entries.end(), std::make_move_iterator(ready.committed.begin()),
                     std::make_move_iterator(ready.committed.end()));
    }
  }
  if (has_peers_) {  // what was lost with an earlier term
    propose_held();
    propose_held_conf_changes();
  }
}

ReplicationOutput ReplicationCore::take_output() {
  ask_read_index();
  ReplicationOutput out = std::exchange(pending_, {});
  if (core_.has_ready()) take_ready(out);
  if (log_.has_reads()) out.log_reads = log_.take_reads();
  if (wants_state_synced()) {
    // A write with entries carries the state along; alone it goes by itself.
    const bool carried = std::any_of(out.wal.begin(), out.wal.end(), [&](const WalWrite& write) {
      return write.must_sync && write.hard_state && write.hard_state->commit >= wanted_durable_;
    });
    if (!carried) {
      WalWrite write;
      write.hard_state = core_.hard_state();
      write.must_sync = true;
      unwritten_state_.reset();
      syncing_commit_ = write.hard_state->commit;
      out.wal.push_back(std::move(write));
    }
  }
  if (std::exchange(state_changed_, false)) {
    const LeaderState state{core_.term(), core_.leader(), core_.is_leader(), core_.is_sole_member(), shared_up_to_};
    if (state != last_state_) {
      last_state_ = state;
      out.apply.leader_state = state;
    }
  }
  append_all(out.refused, pending_.refused);  // by propose_held() above
  return out;
}

}  // namespace cairn::member
