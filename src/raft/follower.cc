// A member's reactions to its leader's messages. Source: Raft dissertation, 3.5 (replication), 5 (snapshots).
#include <algorithm>
#include <utility>

#include "base/check.h"
#include "raft/core.h"

namespace cairn::raft {
namespace {

// A message whose entries do not follow each other, or are of a later term than it, is damaged.
bool is_well_formed(const Message& message) {
  Index index = message.index;
  Term term = message.log_term;
  for (const Entry& entry : message.entries) {
    if (entry.index != index + 1 || entry.term < term) return false;
    index = entry.index;
    term = entry.term;
  }
  return term <= message.term;
}

}  // namespace

void Core::on_leader_message(Message& message) {
  if (is_leader()) return;  // there is one leader a term: not from a member that keeps the rules
  if (message.type == MessageType::kApp && !is_well_formed(message)) return;
  if (!std::holds_alternative<Follower>(state_)) become_follower(message.term, message.from);
  leader_ = message.from;
  election_elapsed_ = 0;
  switch (message.type) {
    case MessageType::kApp: on_append(message); break;
    case MessageType::kHeartbeat: on_heartbeat(message); break;
    default: on_snapshot(message); break;
  }
}

void Core::on_append(Message& message) {
  if (message.index < log_.committed()) {
    acknowledge(message.from, log_.committed());
    return;
  }
  if (!log_.matches(message.index, message.log_term)) {
    // Where the logs may agree: at or below the asked-for index, in a term that the leader's log can have there.
    const EntryId hint = log_.last_agreement(message.index, message.log_term);
    Message reply = message_to(message.from, MessageType::kAppResp);
    reply.reject = true;
    reply.index = message.index;
    reply.reject_hint = hint.index;
    reply.log_term = hint.term;
    send(std::move(reply));
    return;
  }
  const Index last = message.index + message.entries.size();
  log_.accept(message.entries);
  log_.commit_to(std::min(message.commit, last));
  acknowledge(message.from, last);
}

// Our log agrees with the leader's up to `index`. Leaves when that is stable.
void Core::acknowledge(NodeId to, Index index) {
  if (!messages_after_sync_.empty()) {
    // Within a term agreement only grows: one answer says it for all appends of this batch.
    Message& earlier = messages_after_sync_.back();
    if (earlier.type == MessageType::kAppResp && !earlier.reject && earlier.to == to && earlier.term == hard_.term) {
      earlier.index = std::max(earlier.index, index);
      return;
    }
  }
  Message reply = message_to(to, MessageType::kAppResp);
  reply.index = index;
  send_after_sync(std::move(reply));
}

void Core::on_heartbeat(const Message& message) {
  log_.commit_to(message.commit);
  Message reply = message_to(message.from, MessageType::kHeartbeatResp);
  reply.context = message.context;
  send(std::move(reply));
}

void Core::on_snapshot(Message& message) {
  if (!message.snapshot) return;
  const bool restored = restore(message.snapshot);
  acknowledge(message.from, restored ? log_.last_index() : log_.committed());
}

bool Core::restore(const SnapshotPtr& snapshot) {
  if (snapshot->index <= log_.committed()) return false;
  // Sent to a member that is not in it: it would not know itself.
  if (!is_member(snapshot->conf, config_.id)) return false;
  if (log_.matches(snapshot->index, snapshot->term)) {
    log_.commit_to(snapshot->index);  // we have all of it: apply the log instead
    return false;
  }
  log_.restore(snapshot);
  awaited_verdict_ = Index(0);  // it is part of the snapshot
  waits_for_log_ = false;
  if (!CAIRN_MUTANT("raft.snapshot_conf_ignored")) conf_ = snapshot->conf;
  return true;
}

void Core::on_read_index_reply(Message& message) {
  if (message.entries.size() != 1) return;
  read_states_.push_back({message.index, std::string(message.entries.front().bytes())});
}

}  // namespace cairn::raft
