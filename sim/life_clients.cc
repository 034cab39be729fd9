// What the clients ask, what they are answered, and what the member shows of itself.
#include <algorithm>

#include "base/check.h"
#include "base/errors.h"
#include "cluster/codec.h"
#include "mvcc/kv/txn.h"
#include "sim/life.h"
#include "sim/state_check.h"

namespace cairn::sim {
namespace {

constexpr uint64_t kLoops = 3;

bool is_read_only(const etcdserverpb::InternalRaftRequest& request) {
  if (!request.has_txn()) return false;
  const std::string bytes = request.txn().SerializeAsString();
  mvcc::TxnRequest txn;
  std::string anew;
  return mvcc::decode_txn(bytes, mvcc::TxnSource::kClient, txn, anew) && mvcc::is_read_only(txn);
}

// What members alone propose is answered to nobody.
bool is_answered(const etcdserverpb::InternalRaftRequest& request) {
  return !request.has_lease_checkpoint() && !request.has_cluster_version_set() &&
         !request.has_cluster_member_attr_set() && !request.has_downgrade_info_set() &&
         !request.has_downgrade_version_test();
}

}  // namespace

member::Tag Life::next_tag() { return (chance_.below(kLoops) << 56) | ++request_id_; }

Surroundings Life::surroundings() const {
  const member::Published& state = member_->published().newest();
  return {.revision = state.kv.revision,
          .compacted = state.kv.compact_revision,
          .member_id = member_id_,
          .alarm_no_space = state.has_alarm(member::kAlarmNoSpace),
          .alarm_corrupt = state.has_alarm(member::kAlarmCorrupt),
          .auth_is_on = state.auth->enabled(),
          .auth_revision = state.auth->revision()};
}

// --- asking

void Life::client_turn() {
  if (member_->failure() || ending_) return;
  if (schedule_.now_ns() < clients_rest_until_ns_) {
    // In steps that nobody takes for a pause: readers and watchers look around thousands of times a second.
    schedule_.stand_still(static_cast<int64_t>(chance_.between(1'000'000, 300'000'000)));
    return schedule_.after(1'000'000, [this] { client_turn(); });
  }
  const uint64_t sent_before = requests_sent_;
  if (round_requests_ < plan_.requests && waiting_ < concurrency_) {
    for (uint64_t left = chance_.between(1, concurrency_ - waiting_); left > 0; --left) {
      if (chance_.one_in(4)) {
        send_read();
      } else if (chance_.one_in(8)) {
        ask_about_leases();
      } else {
        send_request();
      }
    }
  }
  rest_a_while();
  const uint64_t mean = static_cast<uint64_t>(think_mean_ns_) * (chance_.one_in(20) ? 500 : 1);
  const uint64_t least = sent_before == requests_sent_ ? 5'000'000 : 0;  // nothing to do: looks again later
  schedule_.after(static_cast<int64_t>(least + chance_.below(mean * 2)), [this] { client_turn(); });
}

// Leases take seconds: time passes, with nobody asking for anything or with the process stopped.
void Life::rest_a_while() {
  if (!chance_.one_in(60)) return;
  const auto ns = static_cast<int64_t>(chance_.between(100'000'000, 20'000'000'000));
  if (chance_.one_in(2)) {
    clients_rest_until_ns_ = schedule_.now_ns() + ns;
  } else {
    coverage_.hit("the process stands still");
    schedule_.stand_still(ns);
    leases_->on_pause(schedule_.now_ns());
  }
}

void Life::ask_about_leases() {
  ++requests_sent_;
  ++round_requests_;
  ++waiting_;
  const member::Published& state = member_->published().newest();
  member::LeaseRequest request = leases_->next(next_tag(), state.applied, schedule_.now_ns());
  if (state.auth->enabled()) {
    request.who = std::make_shared<const auth::Identity>(
        auth::Identity{.is_known = true, .user = std::string(auth::kRoot), .revision = state.auth->revision()});
  }
  member_->ask(request);
}

void Life::send_request() {
  const etcdserverpb::InternalRaftRequest request = requests_->next(surroundings());
  if (is_read_only(request)) return;  // never goes to the log
  ++requests_sent_;
  ++round_requests_;
  if (calls_raise_alarms_ && chance_.one_in(50)) member_->raise_alarm(member::kAlarmNoSpace);
  propose(request, is_answered(request) || chance_.one_in(2));
}

void Life::propose(const etcdserverpb::InternalRaftRequest& given, bool wants_answer) {
  etcdserverpb::InternalRaftRequest request = given;
  request.mutable_header()->set_id(++request_id_);
  Sent sent{.tag = wants_answer ? next_tag() : 0,
            .payload = request.SerializeAsString(),
            .awaited = wants_answer && is_answered(request),
            .round = round_};
  sent_.push_back(std::move(sent));
  const Sent& kept = sent_.back();
  by_payload_.emplace(kept.payload, sent_.size() - 1);
  if (kept.tag != 0) by_tag_.emplace(kept.tag, sent_.size() - 1);
  if (kept.awaited) ++waiting_;
  member_->propose(std::make_shared<const raft::Payload>(raft::Payload{.bytes = kept.payload, .tag = kept.tag}));
}

void Life::send_read() {
  ++requests_sent_;
  ++round_requests_;
  const member::Published& state = member_->published().newest();
  const uint64_t kind = chance_.below(20);
  if (kind == 0) {
    coverage_.hit("hash");
    return reads_->hash(chance_.one_in(2));
  }
  if (kind == 1 && chance_.one_in(4)) {
    coverage_.hit("image");
    return reads_->image();
  }
  if (kind == 2) {
    const member::Tag tag = next_tag();
    controls_[tag] = {member::Control::kCommit, state.applied, std::nullopt};
    ++waiting_;
    return member_->control({member::Control::kCommit, tag, {}});
  }
  if (kind == 3 && chance_.one_in(3)) {
    const member::Tag tag = next_tag();
    controls_[tag] = {member::Control::kDefragment, state.applied, std::nullopt};
    ++waiting_;
    return member_->control({member::Control::kDefragment, tag, {}});
  }
  const etcdserverpb::RangeRequest range = requests_->range(surroundings());
  if (range.serializable()) return reads_->range(range, Index{});
  if (state.reads_alone) {
    coverage_.hit("linearizable read without a round");
    return reads_->range(range, acknowledged_);
  }
  coverage_.hit("linearizable read with a round");
  const member::Tag tag = next_tag();
  controls_[tag] = {member::Control::kLinearizable, acknowledged_, range};
  ++waiting_;
  member_->control({member::Control::kLinearizable, tag, {}});
}

bool Life::all_answered() const { return waiting_ == 0; }

// --- what comes back

void Life::on_committed(const std::vector<raft::Entry>& entries) {
  for (const raft::Entry& entry : entries) on_entry(entry);
}

void Life::on_entry(const raft::Entry& entry) {
  if (!violation_.empty()) return;
  if (entry.index <= model_.last()) {
    const raft::Entry& before = log_[entry.index.value - 1];
    if (before.term != entry.term || before.type != entry.type || before.bytes() != entry.bytes()) {
      violation(fmt::format("entry {} has changed", entry.index));
    }
    return;
  }
  if (entry.index != model_.last() + 1) {
    return violation(fmt::format("entry {} follows {}", entry.index, model_.last()));
  }
  Sent* sent = nullptr;
  if (entry.type == raft::EntryType::kNormal && !entry.bytes().empty()) {
    const auto at = by_payload_.find(entry.bytes());
    if (at != by_payload_.end()) {
      sent = &sent_[at->second];
      if (sent->index != Index{}) return violation(fmt::format("entry {} repeats entry {}", entry.index, sent->index));
      if (sent->refused) return violation(fmt::format("entry {} was refused", entry.index));
    } else {
      const auto own = own_proposals_.find(std::string(entry.bytes()));
      if (own == own_proposals_.end() || own->second == 0) {
        return violation(fmt::format("entry {} was asked for by nobody", entry.index));
      }
      --own->second;
    }
  }
  auto reply = model_.apply(entry);
  if (!reply) return violation("the model: " + reply.error().message);
  leases_->on_entry(entry, *reply, sent == nullptr, schedule_.now_ns());
  log_.push_back(entry);
  if (options_.verbose) {
    etcdserverpb::InternalRaftRequest request;
    request.ParseFromString(std::string(entry.bytes()));
    note(fmt::format("entry {} makes revision {}: {}", entry.index, model_.newest().revision,
                     request.ShortDebugString().substr(0, 1500)));
  }
  if (sent != nullptr) {
    sent->index = entry.index;
    sent->reply = *std::move(reply);
  }
}

void Life::on_own_proposal(const member::Proposal& proposal) {
  etcdserverpb::InternalRaftRequest request;
  request.ParseFromString(proposal->bytes);
  if (request.has_alarm()) {
    const bool is_raised = request.alarm().action() == etcdserverpb::AlarmRequest::ACTIVATE;
    coverage_.hit(is_raised ? "alarm raised by the member" : "alarm withdrawn by the member");
    if (!is_raised) check_withdrawal(request.alarm());
  }
  if (request.has_compaction()) coverage_.hit("auto-compactions");
  leases_->on_own_proposal(request, member_->apply().applied(), schedule_.now_ns());
  ++own_proposals_[proposal->bytes];
}

// The member looks at its alarm at the end of a step: one that goes and comes within the step has not gone.
void Life::note_own_alarm(bool is_raised) {
  const int64_t now_ns = schedule_.now_ns();
  if (is_raised) {
    if (!no_space_since_ns_) no_space_since_ns_ = no_space_gone_ns_ == now_ns ? no_space_before_ns_ : now_ns;
  } else if (no_space_since_ns_) {
    no_space_before_ns_ = *no_space_since_ns_;
    no_space_gone_ns_ = now_ns;
    no_space_since_ns_.reset();
  }
}

// Its own, after there has been room for as long as was asked for.
void Life::check_withdrawal(const etcdserverpb::AlarmRequest& request) {
  const member::NoSpaceOptions& options = member_options_.core.no_space;
  if (!options.clears || request.memberid() != member_id_ || request.alarm() != etcdserverpb::NOSPACE) {
    return violation("the member withdraws an alarm that it should leave alone: " + request.ShortDebugString());
  }
  if (!no_space_since_ns_ || schedule_.now_ns() - *no_space_since_ns_ < options.after_ns) {
    return violation("the member withdraws its alarm too early");
  }
  const uint64_t quota_bytes = member_options_.core.apply.quota_bytes;
  // The member knows the last commit, or the one before.
  uint64_t bytes = in_use_.back().bytes;
  if (in_use_.size() > 1) bytes = std::min(bytes, std::prev(in_use_.end(), 2)->bytes);
  if (quota_bytes > 0 && bytes * 10 >= quota_bytes * 9) violation("the member withdraws its alarm without room");
}

void Life::on_answer(member::Tag tag, Code code, std::string_view text) {
  if (const auto control = controls_.find(tag); control != controls_.end()) {
    const Control done = std::move(control->second);
    controls_.erase(control);
    --waiting_;
    const bool is_given_up = done.kind == member::Control::kDefragment && stop_asked_;
    if (code != Code::kOk && !is_given_up) return violation("a control request failed");
    if (done.kind == member::Control::kDefragment) {
      if (code == Code::kOk) coverage_.hit("defragmentations");
      return;
    }
    if (done.kind == member::Control::kCommit) {
      in_file_ = std::max(in_file_, done.floor);
      coverage_.hit("commit asked for");
      note(fmt::format("entry {} is in the file", done.floor));
    } else {
      reads_->range(*done.range, done.floor);
    }
    return;
  }
  if (leases_->asked(tag)) {
    // Auth may have been turned on since it was asked. Beside learners the member may still have to be elected.
    const bool waits_for_leader = text == errors::no_leader().message && member_->core().replication().has_peers();
    const bool may_fail = text == errors::timeout_wait_applied_index().message ||
                          text == errors::user_empty().message || waits_for_leader;
    if (code != Code::kOk && !stop_asked_ && !may_fail) {
      return violation("a request about leases fails: " + std::string(text));
    }
    member::LeaseRequest more;
    if (leases_->on_answer(tag, code, text, model_.last(), schedule_.now_ns(), more)) {
      --waiting_;
    } else {
      member_->ask(more);
    }
    return;
  }
  const auto at = by_tag_.find(tag);
  if (at == by_tag_.end()) return violation("an answer to nobody");
  Sent& sent = sent_[at->second];
  if (sent.round != round_) return violation("an answer to a question before the crash");
  if (sent.answered) return violation(fmt::format("entry {} is answered twice", sent.index));
  if (!sent.reply) return violation("an answer to what is not in the log");
  sent.answered = true;
  if (sent.awaited) --waiting_;
  check_answer(sent, code, text);
  acknowledged_ = std::max(acknowledged_, sent.index);
}

void Life::check_answer(const Sent& sent, Code code, std::string_view text) {
  const Reply& reply = *sent.reply;
  const bool same = code == reply.code && text == reply.text;
  switch (reply.kind) {
    case Reply::Kind::kExact: break;
    case Reply::Kind::kNone:
    case Reply::Kind::kErrorOrNone:
      if (code == Code::kOk && reply.code == Code::kOk) return;
      break;
    case Reply::Kind::kExactOrNoSpace:
      if (code == Code::kResourceExhausted) {
        if (!room_lacks_for(sent)) return violation(fmt::format("entry {} is refused, and there is room", sent.index));
        coverage_.hit("written, and refused by the quota");
        return;
      }
      break;
    case Reply::Kind::kAfterPass: {
      etcdserverpb::CompactionResponse expected;
      etcdserverpb::CompactionResponse found;
      expected.ParseFromString(reply.text);
      if (code != Code::kOk || !found.ParseFromArray(text.data(), static_cast<int>(text.size())) ||
          found.header().revision() < expected.header().revision()) {
        return violation(fmt::format("entry {}: a compaction's answer is wrong", sent.index));
      }
      coverage_.hit("physical compaction answered");
      return;
    }
  }
  if (same) {
    coverage_.hit(code == Code::kOk ? "answers" : "answers that refuse");
    return;
  }
  etcdserverpb::InternalRaftRequest request;
  request.ParseFromString(sent.payload);
  violation(fmt::format("entry {} ({}) is answered {} \"{}\" and should be {} \"{}\"", sent.index,
                        request.ShortDebugString().substr(0, 300), static_cast<int>(code),
                        code == Code::kOk ? "..." : text, static_cast<int>(reply.code),
                        reply.code == Code::kOk ? "..." : reply.text));
}

// Whether the db and the buffers can have reached the quota when the entry was applied. The apply stage then knew the
// last commit below the entry, or the one before; the buffers held what came behind that one.
bool Life::room_lacks_for(const Sent& sent) const {
  const auto above =
      std::find_if(in_use_.begin(), in_use_.end(), [&](const InUse& commit) { return commit.index >= sent.index; });
  CAIRN_ASSERT(above != in_use_.begin());
  const InUse& last = *std::prev(above);
  const InUse& known = std::prev(above) == in_use_.begin() ? last : *std::prev(above, 2);
  uint64_t bytes = std::max(last.bytes, known.bytes);
  // What an entry costs beside its records: other tables, and the estimate that etcd makes beforehand.
  constexpr uint64_t kEntryBytes = 1024;
  for (Index index = known.index + 1; index <= sent.index; index = index + 1) {
    bytes += kEntryBytes + 2 * log_[index.value - 1].bytes().size();
  }
  constexpr uint64_t kRecordBytes = 64;
  const size_t end = model_.record_count(model_.state(sent.index).revision);
  for (size_t i = model_.record_count(model_.state(known.index).revision); i < end; ++i) {
    bytes += kRecordBytes + model_.records()[i].bytes.size();
  }
  return bytes >= member_options_.core.apply.quota_bytes;
}

void Life::on_refused(member::Tag tag, const Error& error) {
  if (const auto control = controls_.find(tag); control != controls_.end()) {
    controls_.erase(control);
    --waiting_;
    return;
  }
  const bool is_overload = may_be_refused_ && error == errors::request_too_many_requests();
  if (is_overload) coverage_.hit("refused for want of room in a queue");
  // Beside learners it is not left to the client to give up; what it asked for may still be done.
  const bool is_late = error == errors::timeout() && member_->core().replication().has_peers();
  if (!stop_asked_ && !is_overload && !is_late) violation("a proposal is refused: " + error.message);
  const auto at = by_tag_.find(tag);
  if (at == by_tag_.end()) return;
  Sent& sent = sent_[at->second];
  if (is_late) {
    if (std::exchange(sent.awaited, false)) --waiting_;
    return;
  }
  if (sent.index != Index{}) return violation(fmt::format("entry {} is refused", sent.index));
  sent.refused = true;
  if (sent.awaited) --waiting_;
}

void Life::on_ready() { coverage_.hit("announced"); }

void Life::on_news() { watches_->on_news(); }

void Life::on_step() {
  if (!violation_.empty()) return;
  if (member_) watches_->check_told();
  const member::Published& state = member_ ? member_->published().newest() : member::Published{};
  if (!member_ || state.applied == Index{}) return;
  const Model::State& expected = model_.state(state.applied);
  if (state.kv.revision != expected.revision) {
    violation(
        fmt::format("entry {} makes revision {} and not {}", state.applied, state.kv.revision, expected.revision));
  }
  leases_->on_step(state.applied, member_->core().leases().leads(), schedule_.now_ns());
  if (state.has_alarm(member::kAlarmCorrupt)) leases_may_be_late_ = true;
  const bool has_own = std::find(state.alarms->begin(), state.alarms->end(),
                                 member::Alarm{member_id_, member::kAlarmNoSpace}) != state.alarms->end();
  note_own_alarm(has_own);
  const bool may_be_late = leases_may_be_late_ || member_->core().is_stalled() || member_->core().holds_proposals();
  if (!may_be_late && member_->core().leases().leads() && !ending_) {
    leases_->check_late(schedule_.now_ns());
  }
  if (member_->apply().stalled()) coverage_.hit("both buffers full");
  if (member_->core().holds_proposals()) coverage_.hit("proposals wait before the log");
  if (member_->core().is_beyond_buffers()) coverage_.hit("applied though the db is full");
}

void Life::on_commit_done(const member::CommitJob& job) {
  coverage_.hit("commits");
  note(fmt::format("committed {}", job.consistent_index));
  in_use_.push_back({job.consistent_index, member_->engine().space().in_use_bytes});
  if (job.give_back == storage::GiveBack::kNone) coverage_.hit("commits that move nothing because of an old view");
  if (job.reclaim) coverage_.hit("commits with a part of a pass");
}

// A stop that had the time to save everything had the time to answer everything.
void Life::check_stop_left_nobody_waiting() {
  if (!controls_.empty()) violation("a stop leaves a control request without an answer");
  for (const Sent& sent : sent_) {
    const bool waits = sent.round == round_ && sent.awaited && !sent.answered && !sent.refused;
    if (waits && !(sent.reply && sent.reply->kind == Reply::Kind::kAfterPass)) {
      violation(fmt::format("a stop leaves entry {} without an answer", sent.index));
    }
  }
}

// --- the member's own state

void Life::check_state(const char* when) {
  const std::string wrong = sim::check_state(*member_, model_, coverage_);
  if (!wrong.empty()) violation(fmt::format("{}, at entry {}: {}", when, member_->apply().applied(), wrong));
}

}  // namespace cairn::sim
