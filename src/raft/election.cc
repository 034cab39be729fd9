// Elections: who may campaign, who gets votes, and when a candidate has won.
// Source: Raft dissertation, 3.4 (elections), 3.6.1 (only an up-to-date log wins), 3.10 (transfer), 9.6 (pre-vote).
#include <utility>

#include "base/check.h"
#include "raft/core.h"

namespace cairn::raft {

bool Core::campaign() {
  return std::holds_alternative<Follower>(state_) && campaign_as(config_.pre_vote, /*transfer=*/false);
}

// Where a voter is dead, split votes decide nothing: the candidates would wait for its vote until their election
// timeouts.
bool Core::campaign_without(NodeId absent) {
  if (std::holds_alternative<Candidate>(state_)) record_vote(absent, false);
  return campaign();
}

bool Core::is_promotable() const { return is_voter(conf_, config_.id) && !log_.has_pending_snapshot(); }

// With a committed conf change that has not taken effect here we would count votes by an old configuration.
bool Core::has_unapplied_conf_change() const {
  if (CAIRN_MUTANT("raft.removed_member_counted")) return false;
  return awaits_conf_verdict() || log_.may_have_conf_change_to_hand_out();
}

bool Core::in_lease() const {
  return config_.check_quorum && leader_ != kNoNode && election_elapsed_ < config_.election_ticks;
}

bool Core::campaign_as(bool pre, bool transfer) {
  if (is_leader() || !is_promotable()) return false;
  if (has_unapplied_conf_change()) {
    // The leader that asks us to take over waits: do it at the verdict, if that is soon.
    if (transfer) owed_campaign_ = {hard_.term, config_.election_ticks};
    return false;
  }
  become_candidate(pre);
  request_votes(transfer);
  // In a pre-vote nothing is promised, so our own voice counts at once.
  if (pre || CAIRN_MUTANT("raft.own_vote_before_sync")) record_vote(config_.id, true);
  return true;
}

void Core::become_candidate(bool pre) {
  leader_ = kNoNode;
  state_ = Candidate{.pre = pre, .ballots = {}};
  election_elapsed_ = 0;
  if (pre) return;  // changes neither term nor vote
  ++hard_.term;
  hard_.vote = config_.id;
  reset_timer();
}

void Core::request_votes(bool transfer) {
  const bool pre = role() == Role::kPreCandidate;
  const EntryId last = log_.last();
  for (const NodeId voter : all_voters(conf_)) {
    if (voter == config_.id) continue;
    Message request = message_to(voter, pre ? MessageType::kPreVote : MessageType::kVote);
    if (pre) ++request.term;
    request.index = last.index;
    request.log_term = last.term;
    if (transfer) request.context = kCampaignTransfer;
    // We ask for votes only when our term, vote and log are stable. Otherwise we could lose the end of the log,
    // campaign again in the same term, and count a vote that was given for the longer log.
    if (pre || CAIRN_MUTANT("raft.own_vote_before_sync")) {
      send(std::move(request));
    } else {
      send_after_sync(std::move(request));
    }
  }
}

void Core::record_vote(NodeId from, bool granted) {
  auto& candidate = std::get<Candidate>(state_);
  for (const Ballot& ballot : candidate.ballots) {
    if (ballot.from == from) return;  // the first answer counts
  }
  candidate.ballots.push_back({from, granted});
  switch (vote_result(conf_, candidate.ballots)) {
    case VoteResult::kPending: return;
    case VoteResult::kLost: become_follower(hard_.term, kNoNode); return;
    case VoteResult::kWon: break;
  }
  if (!candidate.pre) {
    become_leader();
    return;
  }
  campaign_as(/*pre=*/false, /*transfer=*/false);
}

void Core::on_vote_request(const Message& message) {
  const bool pre = message.type == MessageType::kPreVote;
  const bool is_repeat = hard_.vote == message.from;
  const bool is_free = hard_.vote == kNoNode && leader_ == kNoNode;
  const bool is_future = pre && message.term > hard_.term;
  // Learners vote as well: we may have been made a voter without knowing it yet.
  const bool has_all =
      log_.is_up_to_date(message.log_term, message.index) || CAIRN_MUTANT("raft.vote_for_a_shorter_log");
  const bool granted = (is_repeat || is_free || is_future) && has_all;

  Message reply = message_to(message.from, pre ? MessageType::kPreVoteResp : MessageType::kVoteResp);
  reply.reject = !granted;
  if (!granted) tell_committed(reply);
  // A granted pre-vote carries the asked-for term, a refused one carries ours.
  if (granted) reply.term = message.term;
  if (granted && !pre) {
    hard_.vote = message.from;
    election_elapsed_ = 0;
    if (CAIRN_MUTANT("raft.vote_before_sync")) return send(std::move(reply));
    send_after_sync(std::move(reply));  // a restart must not vote twice
  } else {
    send(std::move(reply));
  }
}

// compat: etcd leaves these fields of a refusal empty, and ignores them. They end a deadlock. A member that was made a
// learner, or removed, has a longer log than the last voter, and the voter does not know yet that the change is
// committed. The voter needs the member's vote and cannot get it; the member could give a vote but must not campaign.
void Core::tell_committed(Message& refusal) const {
  refusal.commit = log_.committed();
  refusal.log_term = log_.term(log_.committed()).value_or(Term(0));
}

// An entry that is committed anywhere and is in our log is committed in our log.
void Core::learn_committed(const Message& refusal) {
  if (refusal.log_term == Term(0) || refusal.commit <= log_.committed()) return;
  if (!log_.matches(refusal.commit, refusal.log_term)) return;
  log_.commit_to(refusal.commit);
  // A candidate must not go on with an old configuration.
  if (has_unapplied_conf_change()) become_follower(hard_.term, leader_);
}

void Core::on_vote_reply(const Message& message) {
  if (message.reject && !is_leader()) learn_committed(message);
  const auto* candidate = std::get_if<Candidate>(&state_);
  if (candidate == nullptr) return;
  if (candidate->pre != (message.type == MessageType::kPreVoteResp)) return;  // of our other campaign
  if (candidate->pre && !message.reject && message.term != hard_.term + 1) return;
  record_vote(message.from, !message.reject);
}

}  // namespace cairn::raft
