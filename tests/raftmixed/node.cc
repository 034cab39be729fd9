#include "raftmixed/node.h"

#include <algorithm>

#include "base/check.h"
#include "raft/conf_change.h"

namespace cairn::raftmixed {
namespace {

// A core that always wants something more is broken.
constexpr int kReadysMax = 200;

// The world's rule, which its etcd members follow as well: two voters stay, since etcd's raft answers reads by itself
// once there is one.
bool leaves_too_few(const raft::ConfState& conf, const raft::ConfChangeSingle& change) {
  const bool takes_a_voter =
      change.type == raft::ConfChangeType::kRemoveNode || change.type == raft::ConfChangeType::kAddLearnerNode;
  return takes_a_voter && conf.voters.size() <= 2 &&
         std::find(conf.voters.begin(), conf.voters.end(), change.node) != conf.voters.end();
}

}  // namespace

Node::Node(NodeId id, bool pre_vote, uint64_t seed) {
  config_.id = id;
  config_.election_ticks = 10;
  config_.heartbeat_ticks = 2;
  config_.seed = seed;
  config_.pre_vote = pre_vote;
  config_.max_bytes_per_message = 150;
  config_.max_inflight_messages = 4;
  config_.max_inflight_bytes = 0;
}

raft::ConfState Node::conf_at(Index index) const {
  const auto behind = confs_.upper_bound(index);
  return behind == confs_.begin() ? raft::ConfState() : std::prev(behind)->second;
}

// A founder begins behind a snapshot that names the founders, so that whoever joins later learns of them.
void Node::found(const raft::ConfState& conf) {
  install(std::make_shared<const raft::Snapshot>(
      raft::Snapshot{.index = Index(1), .term = Term(1), .conf = conf, .data = {}}));
  hard_.term = Term(1);
}

void Node::start() {
  applied_ = stored_;
  ++config_.seed;  // a restart draws other timeouts
  core_ = std::make_unique<raft::Core>(config_, log_,
                                       raft::StartState{.hard = hard_, .conf = conf_at(stored_), .applied = stored_});
}

void Node::crash(uint64_t kept_writes) {
  for (; !writes_.empty() && kept_writes > 0; --kept_writes, writes_.pop_front()) {
    const Write& write = writes_.front();
    if (write.snapshot) install(write.snapshot);
    log_.append(write.entries);
    if (write.hard) hard_ = *write.hard;
  }
  writes_.clear();
  to_apply_.clear();
  core_.reset();
  std::erase_if(confs_, [this](const auto& conf) { return conf.first > stored_; });
}

void Node::install(const raft::SnapshotPtr& snapshot) {
  log_.install(snapshot);
  hard_.commit = std::max(hard_.commit, snapshot->index);
  stored_ = snapshot->index;
  confs_.clear();
  confs_[snapshot->index] = snapshot->conf;
}

void Node::run(std::string_view command, Words& words, std::string& out) {
  if (command == "found") {
    found(words.conf());
  } else if (command == "start") {
    start();
  } else if (command == "crash") {
    crash(words.number());
  } else if (core_) {
    input(command, words, out);
  }
  if (!core_) return;
  collect(out);
  tell_state(out);
}

void Node::input(std::string_view command, Words& words, std::string& out) {
  if (command == "tick") {
    for (uint64_t left = words.number(); left > 0; --left) {
      core_->tick();
      collect(out);
    }
  } else if (command == "step") {
    core_->step(words.message());
  } else if (command == "propose") {
    std::vector<raft::PayloadPtr> payloads{payload_of(words.bytes())};
    core_->propose(payloads);
  } else if (command == "conf") {
    propose_conf_change(words);
  } else if (command == "read") {
    core_->read_index(words.bytes());
  } else if (command == "transfer") {
    core_->transfer_leader(NodeId(words.number()));
  } else if (command == "forget") {
    core_->forget_leader();
    core_->campaign();
  } else if (command == "finish") {
    finish_write(out);
  } else if (command == "apply") {
    apply_one(out);
  } else if (command == "settle") {
    settle(out);
  } else if (command == "compact") {
    compact(words.number());
  } else if (command == "snapshot") {
    const NodeId peer(words.number());
    core_->report_snapshot(peer, words.number() != 0);
  } else if (command == "unreachable") {
    core_->report_unreachable(NodeId(words.number()));
  } else {
    CAIRN_ASSERT(command == "look");
  }
}

void Node::propose_conf_change(Words& words) {
  raft::ConfChangeV1 change;
  change.type = static_cast<raft::ConfChangeType>(words.number());
  change.node = NodeId(words.number());
  core_->propose_conf_change(raft::EntryType::kConfChange, payload_of(raft::encode(change)));
}

void Node::finish_write(std::string& out) {
  if (writes_.empty()) return;
  const Write write = std::move(writes_.front());
  writes_.pop_front();
  if (write.snapshot) {
    while (!to_apply_.empty()) apply_one(out);
    install(write.snapshot);
    applied_ = stored_;
    tell_conf(stored_, write.snapshot->conf, out);
  }
  log_.append(write.entries);
  if (write.hard) hard_ = *write.hard;
  for (const raft::Message& message : write.messages) {
    out += 'M';
    append_message(out, message);
    out += '\n';
  }
  if (write.number != 0) core_->appended(write.number);
}

void Node::apply_one(std::string& out) {
  if (to_apply_.empty()) return;
  const raft::Entry entry = std::move(to_apply_.front());
  to_apply_.pop_front();
  applied_ = entry.index;
  out += 'A';
  append_number(out, entry.index.value);
  append_number(out, entry.term.value);
  append_number(out, static_cast<uint8_t>(entry.type));
  append_bytes(out, entry.bytes());
  out += '\n';
  if (entry.type != raft::EntryType::kNormal) apply_conf_change(entry, out);
  core_->applied_to(applied_);
}

void Node::apply_conf_change(const raft::Entry& entry, std::string& out) {
  raft::ConfChange change = *raft::decode_conf_change(entry.type, entry.bytes());
  raft::ConfState conf = conf_at(entry.index);
  const bool too_few = change.changes.size() == 1 && leaves_too_few(conf, change.changes.front());
  const auto next = raft::is_noop(change) ? Result<raft::ConfState>(conf) : raft::changed(conf, change);
  if (too_few || !next) {
    change.changes = {{raft::ConfChangeType::kAddNode, raft::kNoNode}};
  } else {
    conf = *next;
  }
  const bool is_awaited = core_->awaits_conf_verdict();  // else a snapshot has overtaken it
  if (const auto applied = core_->apply_conf_change(entry.index, change); !applied) {
    out += "X " + applied.error().message + "\n";
  } else if (is_awaited) {
    tell_conf(entry.index, *applied, out);
  }
  confs_[entry.index] = conf;
}

// All writes and all entries, until nothing is left.
void Node::settle(std::string& out) {
  while (!writes_.empty() || !to_apply_.empty()) {
    while (!writes_.empty()) finish_write(out);
    while (!to_apply_.empty()) apply_one(out);
    collect(out);
  }
}

// Stores the applied state, and drops the log below it but for some entries.
void Node::compact(uint64_t kept_entries) {
  const Index limit = std::min(applied_, hard_.commit);
  if (limit <= stored_ || limit > log_.last_index()) return;
  stored_ = limit;
  log_.set_snapshot(std::make_shared<const raft::Snapshot>(
      raft::Snapshot{.index = limit, .term = *log_.term(limit), .conf = conf_at(limit), .data = {}}));
  const Index to(limit.value > kept_entries ? limit.value - kept_entries : 0);
  if (to + 1 > log_.first_index()) log_.compact(to);
}

void Node::collect(std::string& out) {
  for (int turn = 0; core_->has_ready(); ++turn) {
    if (turn == kReadysMax) {
      out += "X always has something ready\n";
      return;
    }
    raft::Ready ready = core_->take_ready();
    for (const raft::ReadState& read : ready.read_states) {
      out += 'R';
      append_bytes(out, read.context);
      append_number(out, read.index.value);
      out += '\n';
    }
    for (const raft::Message& message : ready.messages) {
      out += 'M';
      append_message(out, message);
      out += '\n';
    }
    for (raft::Entry& entry : ready.committed) to_apply_.push_back(std::move(entry));
    if (ready.number != 0 || ready.hard_state || !ready.messages_after_sync.empty()) {
      writes_.push_back({.number = ready.number,
                         .hard = ready.hard_state,
                         .entries = std::move(ready.entries),
                         .snapshot = std::move(ready.snapshot),
                         .messages = std::move(ready.messages_after_sync)});
    }
  }
}

void Node::tell_conf(Index index, const raft::ConfState& conf, std::string& out) {
  out += 'C';
  append_number(out, index.value);
  append_conf(out, conf);
  out += '\n';
}

void Node::tell_state(std::string& out) const {
  out += 'S';
  for (const uint64_t number :
       {uint64_t{static_cast<uint8_t>(core_->role())}, core_->leader().value, core_->term().value,
        core_->committed().value, applied_.value, uint64_t{writes_.size()}, uint64_t{to_apply_.size()}}) {
    append_number(out, number);
  }
  append_conf(out, core_->conf());
  out += '\n';
}

}  // namespace cairn::raftmixed
