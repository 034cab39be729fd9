// The leader sends its log to the others and finds out how far it is committed.
// Source: Raft dissertation, 3.5, 3.6.2 (only entries of the own term are committed by counting), 10.2.
#include <algorithm>
#include <utility>

#include "base/check.h"
#include "raft/core.h"

namespace cairn::raft {

void Core::on_append_reply(const Message& message) {
  Progress* peer = find_peer(message.from);
  if (peer == nullptr) return;
  peer->recent_active = true;
  if (message.reject) {
    on_append_refused(*peer, message);
    return;
  }
  if (message.index > log_.last_index()) return;  // agrees with more than we have: not an answer to us
  const bool is_news = peer->acked(message.index);
  // A probe of known entries still shows that the member is there.
  const bool ends_probe = peer->state == ProgressState::kProbe && message.index == peer->match;
  if (!is_news && !ends_probe) return;

  switch (peer->state) {
    case ProgressState::kProbe: peer->become_replicate(); break;
    case ProgressState::kSnapshot:
      // Whichever snapshot it was: once the log reaches from there on, the log goes on.
      if (peer->match + 1 >= log_.first_index()) peer->become_replicate();
      break;
    case ProgressState::kReplicate: peer->inflights.free_to(message.index); break;
  }
  if (maybe_commit() || peer->next <= log_.last_index() || peer->commit_due(log_.committed())) {
    leading().appends_due = true;
  }
  if (peer->id == leading().transfer_target && peer->match == log_.last_index()) {
    send(message_to(peer->id, MessageType::kTimeoutNow));
  }
}

void Core::on_append_refused(Progress& peer, const Message& message) {
  if (peer.state == ProgressState::kSnapshot) return;
  Index hint = message.reject_hint;
  // The member has (log_term, hint). Where our terms are higher, its log cannot agree: terms only rise within a log.
  if (message.log_term > Term(0)) hint = log_.last_agreement(hint, message.log_term).index;
  if (!peer.refused(message.index, hint)) return;
  if (peer.state == ProgressState::kReplicate) peer.become_probe();
  peer.append_asked = true;
  leading().appends_due = true;
}

bool Core::maybe_commit() {
  const Leader& leader = leading();
  Index agreed(quorum_value(leader.peers, [](const Progress& peer) { return peer.match.value; }));
  if (CAIRN_MUTANT("raft.learner_counted")) {
    for (const Progress& peer : leader.peers) agreed = peer.is_learner ? std::max(agreed, peer.match) : agreed;
  }
  if (agreed <= log_.committed()) return false;
  // An entry of an older term may be on a majority and still be replaced, unless one of ours stands behind it.
  if (agreed < leader.term_start && !CAIRN_MUTANT("raft.commit_older_term_by_count")) return false;
  commit_to(agreed);
  return true;
}

void Core::commit_to(Index index) {
  log_.commit_to(index);
  Leader& leader = leading();
  while (!leader.uncommitted.empty() && leader.uncommitted.front().last <= index) {
    leader.uncommitted_bytes -= leader.uncommitted.front().bytes;
    leader.uncommitted.pop_front();
  }
}

// Once for all inputs since the last Ready: entries proposed together are sent together, along with a new commit
// index.
void Core::flush_appends() {
  if (!std::exchange(leading().appends_due, false)) return;
  for (Progress& peer : leading().peers) {
    if (peer.id == config_.id) continue;
    const bool asked = std::exchange(peer.append_asked, false);
    bool sent = send_append(peer, asked || peer.commit_due(log_.committed()));
    while (sent && peer.next <= log_.last_index()) sent = send_append(peer, false);
  }
}

// One append, or a snapshot. False: nothing was sent.
bool Core::send_append(Progress& peer, bool even_if_empty) {
  if (peer.is_paused()) return false;
  const Index previous = peer.next - 1;
  const std::optional<Term> previous_term = log_.term(previous);
  if (!previous_term) return send_snapshot(peer);

  Message append = message_to(peer.id, MessageType::kApp);
  const bool has_room = peer.state != ProgressState::kReplicate || !peer.inflights.full();
  if (has_room && peer.next <= log_.last_index()) {
    const auto read = log_.entries(peer.next, log_.last_index() + 1, config_.max_bytes_per_message, append.entries);
    if (!read) {
      if (read.error() == LogGap::kCompacted) return send_snapshot(peer);
      peer.log_waits = true;
      return false;
    }
  }
  if (append.entries.empty() && !even_if_empty) return false;

  uint64_t bytes = 0;
  for (const Entry& entry : append.entries) bytes += cost_bytes(entry);
  append.index = previous;
  append.log_term = *previous_term;
  append.commit = log_.committed();
  peer.sent(previous + append.entries.size(), append.entries.size(), bytes, log_.committed());
  send(std::move(append));
  return true;
}

bool Core::send_snapshot(Progress& peer) {
  if (!peer.recent_active) return false;  // it would be built for nobody
  SnapshotPtr snapshot = log_.snapshot();
  if (!snapshot || !is_member(snapshot->conf, peer.id)) {
    peer.probe_sent = true;  // asked again at its next heartbeat
    return false;
  }
  CAIRN_ASSERT(snapshot->index + 1 >= log_.first_index() && snapshot->index <= log_.committed());
  peer.become_snapshot(snapshot->index);
  Message message = message_to(peer.id, MessageType::kSnap);
  message.snapshot = std::move(snapshot);
  send(std::move(message));
  return true;
}

void Core::report_unreachable(NodeId id) {
  if (!is_leader()) return;
  Progress* peer = find_peer(id);
  // What is under way is probably lost: find out where to go on.
  if (peer != nullptr && id != config_.id && peer->state == ProgressState::kReplicate) peer->become_probe();
}

void Core::report_snapshot(NodeId id, bool ok) {
  if (!is_leader()) return;
  Progress* peer = find_peer(id);
  if (peer == nullptr || peer->state != ProgressState::kSnapshot) return;
  if (!ok) peer->pending_snapshot = Index(0);
  peer->become_probe();
  // Delivered: its answer comes when it is installed. Failed: not again before the next heartbeat.
  peer->probe_sent = true;
}

}  // namespace cairn::raft
