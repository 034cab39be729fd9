// The leader's other work beside replication: time, heartbeats, reads, handing over.
// Source: Raft dissertation, 3.10 (transfer), 6.2 (check-quorum), 6.4 (reads).
#include <algorithm>
#include <utility>

#include "base/check.h"
#include "raft/core.h"

namespace cairn::raft {

Progress* Core::find_peer(NodeId id) {
  for (Progress& peer : leading().peers) {
    if (peer.id == id) return &peer;
  }
  return nullptr;
}

void Core::become_leader() {
  CAIRN_ASSERT(role() == Role::kCandidate);
  const Index last = log_.last_index();
  Leader leader;
  leader.term_start = last + 1;
  // One of the entries that we did not propose may be a conf change: accept none until all are applied.
  leader.pending_conf_index = last;
  state_ = std::move(leader);
  leader_ = config_.id;
  election_elapsed_ = 0;
  refresh_peers();
  for (Progress& peer : leading().peers) peer.recent_active = peer.id == config_.id;
  append_as_leader(EntryType::kNormal, nullptr);
}

void Core::tick_leader() {
  Leader& leader = leading();
  ++election_elapsed_;
  ++leader.heartbeat_elapsed;
  if (election_elapsed_ >= config_.election_ticks) {
    election_elapsed_ = 0;
    if (config_.check_quorum) {
      if (!quorum_active()) {
        become_follower(hard_.term, kNoNode);
        return;
      }
      for (Progress& peer : leader.peers) peer.recent_active = peer.id == config_.id;
    }
    leader.transfer_target = kNoNode;  // took too long: we go on
  }
  if (leader.heartbeat_elapsed >= config_.heartbeat_ticks) {
    leader.heartbeat_elapsed = 0;
    broadcast_heartbeat();
    maybe_leave_joint();
  }
}

bool Core::quorum_active() const {
  if (!is_leader()) return false;
  return quorum_value(leading().peers, [this](const Progress& peer) {
           return uint64_t{peer.id == config_.id || peer.recent_active};
         }) > 0;
}

void Core::broadcast_heartbeat() {
  const uint64_t round = leading().reads.newest();
  for (const Progress& peer : leading().peers) {
    if (peer.id == config_.id) continue;
    Message heartbeat = message_to(peer.id, MessageType::kHeartbeat);
    // No further than where its log is known to equal ours.
    heartbeat.commit = std::min(peer.match, log_.committed());
    if (CAIRN_MUTANT("raft.heartbeat_commit_unclamped")) heartbeat.commit = log_.committed();
    if (round != 0) heartbeat.context = encode_round(round);
    send(std::move(heartbeat));
  }
}

void Core::on_heartbeat_reply(const Message& message) {
  Progress* peer = find_peer(message.from);
  if (peer == nullptr) return;
  peer->recent_active = true;
  peer->probe_sent = false;
  // Also when the inflight window is full: if all of it was lost, an empty append finds that out.
  if (peer->match < log_.last_index() || peer->state == ProgressState::kProbe) {
    peer->append_asked = true;
    leading().appends_due = true;
  }
  const uint64_t round = decode_round(message.context);
  if (round > peer->read_acked && round <= leading().reads.newest()) {
    peer->read_acked = round;
    finish_reads();
  }
}

// ---- Reads.

bool Core::has_committed_in_term() const { return is_leader() && log_.committed() >= leading().term_start; }

bool Core::knows_commit_of_term() const { return log_.matches(log_.committed(), hard_.term); }

bool Core::read_index(std::string context) {
  auto payload = std::make_shared<const Payload>(Payload{.bytes = std::move(context), .tag = 0});
  if (is_leader()) {
    leading().reads.add({.from = kNoNode, .context = std::move(payload)});
    return true;
  }
  if (leader_ == kNoNode) return false;
  Message request = message_to(leader_, MessageType::kReadIndex);
  request.entries.push_back(
      {.term = Term(0), .index = Index(0), .type = EntryType::kNormal, .data = std::move(payload)});
  send(std::move(request));
  return true;
}

void Core::on_read_index(const Message& message) {
  if (message.entries.size() != 1) return;
  if (is_leader()) {
    leading().reads.add({.from = message.from, .context = message.entries.front().data});
    return;
  }
  if (leader_ == kNoNode || leader_ == message.from) return;
  Message forwarded = message;
  forwarded.to = leader_;
  send(std::move(forwarded));
}

// One round for all requests since the last Ready. The requests wait until an entry of our term is committed: before
// that we do not know the commit index.
void Core::start_reads() {
  ReadRounds& reads = leading().reads;
  const bool knows_commit = has_committed_in_term() || CAIRN_MUTANT("raft.read_before_first_commit");
  if (!reads.can_begin_round() || !knows_commit) return;
  const uint64_t round = reads.begin_round(log_.committed());
  finish_reads();  // a sole voter needs no answer
  if (reads.newest() == round) broadcast_heartbeat();
}

void Core::finish_reads() {
  ReadRounds& reads = leading().reads;
  uint64_t confirmed = quorum_value(leading().peers, [this](const Progress& peer) {
    return peer.id == config_.id ? kQuorumOfNobody : peer.read_acked;
  });
  if (CAIRN_MUTANT("raft.read_without_quorum")) confirmed = kQuorumOfNobody;
  while (std::optional<ReadRound> round = reads.take_confirmed(confirmed)) {
    for (ReadRequest& request : round->requests) {
      if (request.from == kNoNode) {
        read_states_.push_back({round->index, request.context ? request.context->bytes : std::string()});
        continue;
      }
      Message reply = message_to(request.from, MessageType::kReadIndexResp);
      reply.index = round->index;
      reply.entries.push_back(
          {.term = Term(0), .index = Index(0), .type = EntryType::kNormal, .data = std::move(request.context)});
      send(std::move(reply));
    }
  }
}

// ---- Handing over.

bool Core::transfer_leader(NodeId target) {
  if (is_leader()) {
    Progress* peer = find_peer(target);
    if (peer == nullptr || target == config_.id || !is_voter(conf_, target)) return false;
    if (leading().transfer_target != target) start_transfer(*peer);
    return true;
  }
  if (leader_ == kNoNode) return false;
  Message request = message_to(leader_, MessageType::kTransferLeader);
  request.from = target;
  send(std::move(request));
  return true;
}

void Core::start_transfer(Progress& peer) {
  leading().transfer_target = peer.id;
  election_elapsed_ = 0;  // it has until the next check
  if (peer.match == log_.last_index()) {
    send(message_to(peer.id, MessageType::kTimeoutNow));
    return;
  }
  peer.append_asked = true;
  leading().appends_due = true;
}

NodeId Core::transfer_target() const { return is_leader() ? leading().transfer_target : kNoNode; }

std::vector<PeerStatus> Core::peers() const {
  std::vector<PeerStatus> all;
  if (!is_leader()) return all;
  for (const Progress& peer : leading().peers) {
    all.push_back({.id = peer.id,
                   .state = peer.state,
                   .match = peer.match,
                   .next = peer.next,
                   .is_learner = peer.is_learner,
                   .recent_active = peer.recent_active,
                   .paused = peer.is_paused() || peer.inflights.full()});
  }
  return all;
}

}  // namespace cairn::raft
