// What becomes of proposals: appended here, forwarded to the leader, held, proposed again, refused.
#include <algorithm>
#include <unordered_set>
#include <utility>

#include "base/check.h"
#include "base/errors.h"
#include "member/replication_core.h"
#include "raft/conf_change.h"

namespace cairn::member {
namespace {

using raft::EntryType;
using raft::ProposeOutcome;

uint64_t cost_bytes(const raft::PayloadPtr& payload) { return payload->bytes.size() + raft::kEntryOverheadBytes; }

bool is_given(ProposeOutcome outcome) {
  return outcome == ProposeOutcome::kAppended || outcome == ProposeOutcome::kForwarded;
}

}  // namespace

void ReplicationCore::propose(std::vector<Proposal> proposals) {
  for (const Proposal& one : proposals) {
    held_bytes_ += cost_bytes(one);
    if (has_peers_) own_.add(one, EntryType::kNormal, now_ns_);
  }
  if (held_.empty()) {
    held_ = std::move(proposals);
  } else {
    held_.insert(held_.end(), std::make_move_iterator(proposals.begin()), std::make_move_iterator(proposals.end()));
  }
  propose_held();
}

std::optional<Index> ReplicationCore::propose_as_leader(Term term, std::vector<Proposal> proposals) {
  const size_t count = proposals.size();
  const raft::ProposeResult result = core_.propose_as_leader(term, proposals);
  if (result.outcome != ProposeOutcome::kAppended) return std::nullopt;
  return Index(result.first.value + count - 1);
}

// Gives the leader as many as there is room for at once; the rest waits.
void ReplicationCore::propose_held() {
  if (held_.empty()) return;
  if (core_.leader() == raft::kNoNode) return refuse_what_is_too_much();
  follow();
  const bool is_forwarded = forwards_to_ != raft::kNoNode;
  size_t given = 0;
  ProposeOutcome outcome = ProposeOutcome::kAppended;
  while (given < held_.size()) {
    const uint64_t room = is_forwarded ? forwarder_.room_bytes() : core_.proposal_room_bytes();
    if (is_forwarded && room == 0) break;
    size_t end = given;
    uint64_t bytes = 0;
    do {
      bytes += cost_bytes(held_[end]);
      ++end;
    } while (end < held_.size() && bytes + cost_bytes(held_[end]) <= room);
    outcome = give(std::span(held_).subspan(given, end - given));
    if (!is_given(outcome)) break;
    given = end;
    held_bytes_ -= bytes;
  }
  held_.erase(held_.begin(), held_.begin() + static_cast<std::ptrdiff_t>(given));
  if (outcome == ProposeOutcome::kNotMember) return refuse_held(errors::stopped());
  refuse_what_is_too_much();
}

// A leader that is etcd's may append what it was sent in any later term, and twice: nothing of that is proposed again.
ProposeOutcome ReplicationCore::give(std::span<raft::PayloadPtr> payloads) {
  if (!has_peers_) return core_.propose(payloads).outcome;
  const Term term = core_.term();
  const std::vector<raft::PayloadPtr> kept(payloads.begin(), payloads.end());
  bool is_certain = true;
  if (core_.is_leader()) {
    const ProposeOutcome outcome = core_.propose(payloads).outcome;
    if (!is_given(outcome)) return outcome;
  } else if (core_.leader() == raft::kNoNode) {
    return ProposeOutcome::kNoLeader;
  } else if (forwards_to_ != raft::kNoNode) {
    forwarder_.give(payloads, ticks_, pending_.messages);
  } else {
    const ProposeOutcome outcome = core_.propose(payloads).outcome;
    if (!is_given(outcome)) return outcome;
    is_certain = false;
  }
  for (const raft::PayloadPtr& one : kept) own_.note_given(one, EntryType::kNormal, term, is_certain);
  return ProposeOutcome::kForwarded;
}

void ReplicationCore::propose_conf_change(Proposal change) {
  if (held_conf_changes_.size() >= options_.held_conf_changes_max) {
    refuse_other(change->tag, errors::request_too_many_requests());
    return;
  }
  if (has_peers_) own_.add(change, EntryType::kConfChange, now_ns_);
  held_conf_changes_.push_back(std::move(change));
  propose_held_conf_changes();
}

// compat: what comes while another change is under way becomes an empty entry with etcd, and its client waits until
// time is up. Here it waits for its turn.
void ReplicationCore::propose_held_conf_changes() {
  if (held_conf_changes_.empty()) return;
  follow();
  while (!held_conf_changes_.empty()) {
    const raft::PayloadPtr& first = held_conf_changes_.front();
    switch (give_conf_change(first)) {
      case ProposeOutcome::kAppended:
      case ProposeOutcome::kForwarded: break;
      case ProposeOutcome::kNotMember:
        refuse_other(first->tag, errors::stopped());
        own_.forget(first, EntryType::kConfChange);
        break;
      case ProposeOutcome::kConfRefused:
        // It waits for another one, or it cannot be at all: that is known when there is nothing to wait for.
        if (core_.applied() < core_.last_index()) return;
        refuse_other(first->tag, errors::unhealthy());
        own_.forget(first, EntryType::kConfChange);
        break;
      default: return;
    }
    held_conf_changes_.pop_front();
  }
}

ProposeOutcome ReplicationCore::give_conf_change(const raft::PayloadPtr& change) {
  const Term term = core_.term();
  const bool is_forwarded = forwards_to_ != raft::kNoNode;
  ProposeOutcome outcome = ProposeOutcome::kForwarded;
  if (is_forwarded) {
    if (conf_forwarder_.room_bytes() == 0) return ProposeOutcome::kFull;
    conf_forwarder_.give({&change, 1}, ticks_, pending_.messages);
  } else {
    outcome = core_.propose_conf_change(EntryType::kConfChange, change).outcome;
  }
  if (is_given(outcome)) {
    const bool is_certain = is_forwarded || outcome == ProposeOutcome::kAppended;
    own_.note_given(change, EntryType::kConfChange, term, is_certain);
  }
  return outcome;
}

// Asked once: which way a proposal goes may be another one when it is asked again.
void ReplicationCore::follow() {
  forwards_to_ = raft::kNoNode;
  if (!has_peers_) return;
  const bool is_elsewhere = !core_.is_leader() && core_.leader() != raft::kNoNode && speaks_cairn(core_.leader());
  if (is_elsewhere) forwards_to_ = core_.leader();
  forwarder_.follow(forwards_to_, core_.term());
  conf_forwarder_.follow(forwards_to_, core_.term());
}

// --- what others forward

// A message for another term, or for a leader that this member is not, is dropped: its origin will know.
void ReplicationCore::take_forwarded(raft::Message& message) {
  const raft::ForwardTag tag = *message.forward;
  if (message.type != raft::MessageType::kProp) {  // an answer
    if (tag.is_conf_change) {
      conf_forwarder_.take_answer(tag, ticks_);
      propose_held_conf_changes();
    } else {
      forwarder_.take_answer(tag, ticks_);
      propose_held();
    }
    return;
  }
  if (message.from != tag.origin || message.entries.empty() || !core_.is_leader()) return;
  if (tag.term != core_.term() && !CAIRN_MUTANT("raft.forwarded_term_ignored")) return;
  ledger_.begin(core_.term());
  const Ledger::Verdict verdict = ledger_.judge(tag, message.entries.size());
  if (verdict.turn == Ledger::Turn::kNotKept) return;
  bool is_refused = verdict.turn == Ledger::Turn::kEarly;
  if (verdict.turn == Ledger::Turn::kDue) {
    const size_t count = message.entries.size();
    is_refused = !append_forwarded(message, verdict.known);
    if (!is_refused) ledger_.note_taken(tag, count);
  }
  answer_forwarded(ledger_.answer(tag, is_refused), message.from, is_refused);
}

bool ReplicationCore::append_forwarded(raft::Message& message, size_t known) {
  if (message.forward->is_conf_change) {
    const raft::PayloadPtr& change = message.entries.front().data;
    const ProposeOutcome outcome = core_.propose_conf_change(EntryType::kConfChange, change).outcome;
    if (outcome == ProposeOutcome::kAppended) return true;
    // What cannot be at all is not asked for again.
    return outcome == ProposeOutcome::kConfRefused && core_.applied() == core_.last_index();
  }
  if (!has_room_for_others()) return false;
  std::vector<raft::PayloadPtr> payloads;
  payloads.reserve(message.entries.size() - known);
  for (size_t i = known; i < message.entries.size(); ++i) payloads.push_back(message.entries[i].data);
  uint64_t bytes = 0;
  for (const raft::PayloadPtr& one : payloads) bytes += cost_bytes(one);
  if (core_.propose_as_leader(core_.term(), payloads).outcome != ProposeOutcome::kAppended) return false;
  note_of_others(bytes);
  return true;
}

// What it appended in an earlier term may have been cut from its log since, and is bounded.
void ReplicationCore::begin_counting_others() {
  if (std::exchange(of_others_in_, core_.term()) == core_.term()) return;
  of_others_.clear();
  of_others_bytes_ = 0;
}

bool ReplicationCore::has_room_for_others() {
  begin_counting_others();
  const Index done = std::min(core_.applied(), core_.stable_index());
  while (!of_others_.empty() && of_others_.front().last <= done) {
    of_others_bytes_ -= of_others_.front().bytes;
    of_others_.pop_front();
  }
  return of_others_bytes_ < options_.others_bytes_max;
}

void ReplicationCore::note_of_others(uint64_t bytes) {
  begin_counting_others();
  of_others_.push_back({core_.last_index(), bytes});
  of_others_bytes_ += bytes;
}

void ReplicationCore::answer_forwarded(const raft::ForwardTag& tag, NodeId to, bool is_refused) {
  raft::Message answer;
  answer.type = raft::MessageType::kHeartbeatResp;
  answer.from = core_.id();
  answer.to = to;
  answer.term = core_.term();
  answer.forward = tag;
  answer.forward->is_refused = is_refused;
  pending_.messages.push_back(std::move(answer));
}

// --- what comes back, and what does not

// From here on a proposal's outcome is known by its id. What was proposed before has its tag in its payload alone.
void ReplicationCore::begin_tracking(Index first) {
  if (std::exchange(has_peers_, true)) return;
  for (const raft::PayloadPtr& one : held_) own_.add(one, EntryType::kNormal, now_ns_);
  for (const raft::PayloadPtr& one : held_conf_changes_) own_.add(one, EntryType::kConfChange, now_ns_);
  std::vector<raft::Entry> entries;
  for (Index next = first; next <= core_.last_index(); next = entries.back().index + 1) {
    entries.clear();
    if (!core_.entries(next, core_.last_index() + 1, UINT64_MAX, entries) || entries.empty()) break;
    for (const raft::Entry& entry : entries) {
      if (entry.tag() == 0) continue;
      own_.add(entry.data, entry.type, now_ns_);
      own_.note_given(entry.data, entry.type, entry.term, true);
    }
  }
}

void ReplicationCore::resolve(std::vector<raft::Entry>& committed) {
  for (raft::Entry& entry : committed) {
    if (entry.term > handed_term_) {
      handed_term_ = entry.term;
      propose_again(entry.term);
    }
    own_.resolve(entry);
  }
}

// Before what has not been proposed at all.
void ReplicationCore::propose_again(Term term) {
  std::vector<raft::PayloadPtr> lost;
  std::vector<raft::PayloadPtr> lost_changes;
  for (OwnProposals::One& one : own_.take_lost(term)) {
    (one.type == EntryType::kNormal ? lost : lost_changes).push_back(std::move(one.payload));
  }
  for (const raft::PayloadPtr& one : lost) held_bytes_ += cost_bytes(one);
  held_.insert(held_.begin(), lost.begin(), lost.end());
  held_conf_changes_.insert(held_conf_changes_.begin(), lost_changes.begin(), lost_changes.end());
}

// --- refused

void ReplicationCore::refuse(const OwnProposals::One& one, const Error& error) {
  pending_.refused.push_back({one.payload->tag, error, one.type == EntryType::kNormal});
}

void ReplicationCore::refuse_other(Tag tag, const Error& error) { pending_.refused.push_back({tag, error, false}); }

// The latest.
void ReplicationCore::refuse_what_is_too_much() {
  if (CAIRN_MUTANT("server.held_without_bound")) return;
  while (held_.size() > options_.held_proposals_max || held_bytes_ > options_.held_bytes_max) {
    held_bytes_ -= cost_bytes(held_.back());
    pending_.refused.push_back({held_.back()->tag, errors::request_too_many_requests()});
    own_.forget(held_.back(), EntryType::kNormal);
    held_.pop_back();
  }
}

void ReplicationCore::refuse_held(const Error& error) {
  for (const Proposal& proposal : held_) {
    pending_.refused.push_back({proposal->tag, error});
    own_.forget(proposal, EntryType::kNormal);
  }
  for (const Proposal& change : held_conf_changes_) {
    refuse_other(change->tag, error);
    own_.forget(change, EntryType::kConfChange);
  }
  // What this member alone decides upon is answered when it is applied.
  const bool decides_alone = core_.is_leader() && core_.is_sole_voter();
  for (const OwnProposals::One& one : decides_alone ? own_.take_undecided(core_.term()) : own_.take_all()) {
    refuse(one, error);
  }
  for (const Read& read : waiting_reads_) refuse_other(read.request.tag, error);
  for (const ReadRound& round : asked_reads_) {
    for (const Read& read : round.reads) refuse_other(read.request.tag, error);
  }
  for (const Transfer& one : transfers_) refuse_other(one.request.tag, error);
  held_.clear();
  held_bytes_ = 0;
  held_conf_changes_.clear();
  waiting_reads_.clear();
  asked_reads_.clear();
  doubt_ = 0;
  transfers_.clear();
}

// What is expired may still be applied: nobody waits for it any more.
void ReplicationCore::refuse_what_waited_too_long() {
  std::unordered_set<const raft::Payload*> gone;
  for (const OwnProposals::Expired& late : own_.take_expired(now_ns_)) {
    refuse(late.one, timeout_error(late.since_ns));
    gone.insert(late.one.payload.get());
  }
  if (gone.empty()) return;
  std::erase_if(held_, [&](const raft::PayloadPtr& one) {
    if (!gone.contains(one.get())) return false;
    held_bytes_ -= cost_bytes(one);
    return true;
  });
  std::erase_if(held_conf_changes_, [&](const raft::PayloadPtr& one) { return gone.contains(one.get()); });
}

// etcd counts only a leader's own election.
Error ReplicationCore::timeout_error(int64_t since_ns) const {
  if (elected_ns_ && since_ns > *elected_ns_ - 2 * options_.election_ns && since_ns < *elected_ns_) {
    return errors::timeout_due_to_leader_fail();
  }
  // compat: etcd says `context deadline exceeded` of a write that never found a leader.
  if (core_.leader() == raft::kNoNode) return errors::timeout();
  if (!core_.is_leader()) {
    return was_connected_since(core_.leader(), since_ns) ? errors::timeout() : errors::timeout_due_to_connection_lost();
  }
  size_t connected = 0;
  const std::vector<raft::PeerStatus> peers = core_.peers();
  for (const raft::PeerStatus& peer : peers) {
    connected += peer.id == core_.id() || was_connected_since(peer.id, since_ns) ? 1 : 0;
  }
  return connected > peers.size() / 2 ? errors::timeout() : errors::timeout_due_to_connection_lost();
}

bool ReplicationCore::was_connected_since(NodeId peer, int64_t since_ns) const {
  const auto cut = cut_ns_.find(peer);
  return cut == cut_ns_.end() || cut->second < since_ns;
}

}  // namespace cairn::member
