// Terms, roles and output: the parts of Core that belong to no single role.
#include "raft/core.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "raft/conf_change.h"

namespace cairn::raft {
namespace {

// Answers and requests that carry no term: they are about whatever term the leader is in.
bool is_termless(MessageType type) { return type == MessageType::kProp || type == MessageType::kReadIndex; }

// No cluster comes near it by elections. A forged message of a term beyond would leave no room for another election.
constexpr Term kTermMax(uint64_t{1} << 62);

bool comes_from_leader(MessageType type) {
  return type == MessageType::kApp || type == MessageType::kHeartbeat || type == MessageType::kSnap;
}

}  // namespace

Core::Core(const Config& config, const LogView& view, const StartState& start)
    : config_(config),
      random_(config.seed),
      // What was applied is committed, also if the disk does not say so: a commit index alone is written unsynced.
      log_(view, std::max(start.hard.commit, start.applied), start.applied),
      hard_(start.hard),
      conf_(start.conf),
      handed_hard_(start.hard) {
  CAIRN_ASSERT(config_.id != kNoNode);
  CAIRN_ASSERT(config_.heartbeat_ticks > 0 && config_.election_ticks > config_.heartbeat_ticks);
  CAIRN_ASSERT(config_.max_inflight_messages > 0);
  if (CAIRN_MUTANT("raft.vote_forgotten_on_restart")) hard_.vote = kNoNode;
  reset_timer();
}

Role Core::role() const {
  if (is_leader()) return Role::kLeader;
  const auto* candidate = std::get_if<Candidate>(&state_);
  if (candidate == nullptr) return Role::kFollower;
  return candidate->pre ? Role::kPreCandidate : Role::kCandidate;
}

void Core::reset_timer() {
  election_elapsed_ = 0;
  election_timeout_ = config_.election_ticks + static_cast<uint32_t>(random_.below(config_.election_ticks));
}

void Core::become_follower(Term term, NodeId leader) {
  CAIRN_ASSERT(term >= hard_.term);
  if (term > hard_.term) {
    hard_.term = term;
    hard_.vote = kNoNode;
  }
  state_.emplace<Follower>();
  leader_ = leader;
  reset_timer();
}

void Core::tick() {
  if (is_leader()) {
    tick_leader();
    return;
  }
  if (owed_campaign_.ticks_left > 0) --owed_campaign_.ticks_left;
  ++election_elapsed_;
  if (election_elapsed_ < election_timeout_ || !is_promotable()) return;
  election_elapsed_ = 0;
  campaign_as(config_.pre_vote, /*transfer=*/false);
}

void Core::step(Message message) {
  if (message.to != config_.id || message.from == kNoNode) return;
  if (message.from == config_.id && message.type != MessageType::kTransferLeader) return;
  if (message.term > kTermMax) return;
  // We asked members only. A removed one, or one of another cluster, must not depose a leader by its term.
  if (is_response(message.type) && !is_member(conf_, message.from) && !CAIRN_MUTANT("raft.stranger_stepped")) return;
  if (!step_to_term(message)) return;

  switch (message.type) {
    case MessageType::kProp: on_proposal(message); break;
    case MessageType::kVote:
    case MessageType::kPreVote: on_vote_request(message); break;
    case MessageType::kVoteResp:
    case MessageType::kPreVoteResp: on_vote_reply(message); break;
    case MessageType::kApp:
    case MessageType::kHeartbeat:
    case MessageType::kSnap: on_leader_message(message); break;
    case MessageType::kAppResp:
      if (is_leader()) on_append_reply(message);
      break;
    case MessageType::kHeartbeatResp:
      if (is_leader()) on_heartbeat_reply(message);
      break;
    case MessageType::kTransferLeader: transfer_leader(message.from); break;
    case MessageType::kTimeoutNow:
      // Without pre-vote: the leader itself asks, so this is no return from a partition.
      if (std::holds_alternative<Follower>(state_)) campaign_as(/*pre=*/false, /*transfer=*/true);
      break;
    case MessageType::kReadIndex: on_read_index(message); break;
    case MessageType::kReadIndexResp: on_read_index_reply(message); break;
  }
}

// Brings us to the message's term, or answers a message that is too old. False: the message needs no more work.
bool Core::step_to_term(const Message& message) {
  const MessageType type = message.type;
  if (message.term == Term(0)) return is_termless(type);

  if (message.term > hard_.term) {
    if (type == MessageType::kVote || type == MessageType::kPreVote) {
      // A member that cannot hear the leader must not depose it: those who can hear it do not listen.
      if (message.context != kCampaignTransfer && in_lease()) return false;
    }
    // A pre-vote names a term that nobody is in yet. Its refusal, however, names the refuser's own term.
    if (type == MessageType::kPreVote || (type == MessageType::kPreVoteResp && !message.reject)) return true;
    become_follower(message.term, comes_from_leader(type) ? message.from : kNoNode);
    return true;
  }

  if (message.term < hard_.term) {
    if ((type == MessageType::kHeartbeat || type == MessageType::kApp) && (config_.check_quorum || config_.pre_vote)) {
      // A leader of a term that we left behind. It would never hear of ours, as our vote requests are ignored
      // while it lives: this answer tells it.
      send(message_to(message.from, MessageType::kAppResp));
    } else if (type == MessageType::kPreVote || type == MessageType::kVote) {
      // Told too, or a candidate with an older term and a better log would wait for ever: without pre-votes each of
      // the two raises its term as fast as the other.
      // compat: etcd does not answer a request for a vote here.
      const bool pre = type == MessageType::kPreVote;
      Message reply = message_to(message.from, pre ? MessageType::kPreVoteResp : MessageType::kVoteResp);
      reply.reject = true;
      tell_committed(reply);
      send(std::move(reply));
    }
    return false;
  }
  return true;
}

Message Core::message_to(NodeId to, MessageType type) const {
  Message message;
  message.type = type;
  message.to = to;
  message.from = config_.id;
  if (!is_termless(type)) message.term = hard_.term;
  return message;
}

void Core::send(Message message) { messages_.push_back(std::move(message)); }
void Core::send_after_sync(Message message) { messages_after_sync_.push_back(std::move(message)); }

void Core::forget_leader() {
  if (!is_leader()) leader_ = kNoNode;
}

bool Core::is_sole_voter() const {
  return conf_.voters_outgoing.empty() && conf_.voters.size() == 1 && conf_.voters.front() == config_.id;
}

bool Core::is_sole_member() const { return is_sole_voter() && conf_.learners.empty() && conf_.learners_next.empty(); }

void Core::applied_to(Index index) {
  log_.applied_to(index);
  maybe_leave_joint();
}

void Core::log_loaded() {
  waits_for_log_ = false;
  if (!is_leader()) return;
  for (Progress& peer : leading().peers) {
    if (!std::exchange(peer.log_waits, false)) continue;
    leading().appends_due = true;
  }
}

void Core::appended(uint64_t number) {
  const Term vote_term = log_.appended(number);
  if (is_leader()) {
    Progress* self = find_peer(config_.id);
    if (self != nullptr && self->acked(log_.stable_index()) && maybe_commit()) leading().appends_due = true;
    return;
  }
  // Our own vote counts from here: before, a restart could have given it to another.
  if (vote_term == hard_.term && vote_term != Term(0) && role() == Role::kCandidate) record_vote(config_.id, true);
}

bool Core::can_hand_out() const {
  return !awaits_conf_verdict() && !waits_for_log_ && log_.handed() < log_.hand_out_limit() &&
         log_.unapplied_bytes() < config_.max_unapplied_bytes;
}

void Core::hand_out(Ready& ready) {
  if (!can_hand_out()) return;
  const uint64_t room = config_.max_unapplied_bytes - log_.unapplied_bytes();
  if (!log_.entries(log_.handed() + 1, log_.hand_out_limit() + 1, room, ready.committed)) {
    waits_for_log_ = true;
    return;
  }
  uint64_t bytes = 0;
  for (size_t i = 0; i < ready.committed.size(); ++i) {
    const Entry& entry = ready.committed[i];
    bytes += cost_bytes(entry);
    if (entry.type == EntryType::kNormal) continue;
    awaited_verdict_ = entry.index;
    ready.committed.resize(i + 1);
    break;
  }
  log_.handed_to(ready.committed.back().index, bytes);
}

bool Core::has_ready() const {
  if (!messages_.empty() || !messages_after_sync_.empty() || !read_states_.empty()) return true;
  if (log_.has_unwritten() || can_hand_out()) return true;
  if (hard_state() != handed_hard_ || SoftState{leader_, role()} != handed_soft_) return true;
  if (!is_leader()) return false;
  return leading().appends_due || (leading().reads.can_begin_round() && has_committed_in_term());
}

Ready Core::take_ready() {
  if (is_leader()) {
    start_reads();
    flush_appends();
  }
  Ready ready;
  if (const SoftState soft{leader_, role()}; soft != handed_soft_) ready.soft_state = handed_soft_ = soft;

  const HardState hard = hard_state();
  const bool promises = hard.term != handed_hard_.term || hard.vote != handed_hard_.vote;
  if (hard != handed_hard_) ready.hard_state = handed_hard_ = hard;
  if (promises || log_.has_unwritten()) {
    ready.must_sync = true;
    ready.number = ++last_ready_number_;
    const Term vote_term = promises && hard.vote == config_.id ? hard.term : Term(0);
    log_.take_unwritten(ready.number, vote_term, ready.entries, ready.snapshot);
  }
  hand_out(ready);

  ready.messages = std::exchange(messages_, {});
  ready.read_states = std::exchange(read_states_, {});
  std::vector<Message>& waiting = log_.has_writes_in_flight() ? ready.messages_after_sync : ready.messages;
  if (waiting.empty()) {
    waiting = std::exchange(messages_after_sync_, {});
  } else {
    for (Message& message : messages_after_sync_) waiting.push_back(std::move(message));
    messages_after_sync_.clear();
  }
  return ready;
}

}  // namespace cairn::raft
