// The world of network_test.cc: how members live in it, and what is checked after every event.
#include "raft/world_test.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "raft/conf_change.h"
#include "raft/describe.h"

namespace cairn::raft::test {
namespace {

template <class... Args>
[[noreturn]] void violation(fmt::format_string<Args...> format, Args&&... args) {
  throw Violation{fmt::format(format, std::forward<Args>(args)...)};
}

constexpr Index kNone{0};

}  // namespace

// What is on a member's disk and can be read, with the moods of a real one: old entries that must be fetched first,
// a snapshot that is not ready.
class World::Disk final : public LogView {
 public:
  Disk(Random random, const bool& calm) : random_(random), calm_(calm) {}

  std::expected<void, LogGap> entries(Index lo, Index hi, uint64_t bytes_max, std::vector<Entry>& out) const override {
    if (!calm_ && random_.one_in(8)) {
      fetching = true;
      return std::unexpected(LogGap::kNotInMemory);
    }
    return log.entries(lo, hi, bytes_max, out);
  }
  std::expected<Term, LogGap> term(Index index) const override { return log.term(index); }
  Index first_index() const override { return log.first_index(); }
  Index last_index() const override { return log.last_index(); }
  SnapshotPtr snapshot() const override { return !calm_ && random_.one_in(4) ? nullptr : log.snapshot(); }

  MemoryLog log;
  HardState hard;
  mutable bool fetching = false;

 private:
  mutable Random random_;
  const bool& calm_;
};

struct World::Node {
  struct Write {
    uint64_t number = 0;
    std::optional<HardState> hard;
    std::vector<Entry> entries;
    SnapshotPtr snapshot;
    std::vector<Message> messages;
  };

  Node(NodeId node_id, Random random, const bool& calm) : id(node_id), disk(random, calm) {}

  NodeId id;
  Disk disk;
  Index stored;                      // the state on disk is that after this entry
  std::map<Index, ConfState> confs;  // by the entry that made them
  // Lost in a crash:
  std::unique_ptr<Core> core;
  std::deque<Write> writes;
  std::deque<Entry> to_apply;
  Index applied;
  Index seen_commit;
  Term seen_leading;
  std::map<Index, Term> log;  // as handed out for writing
  uint64_t starts = 0;

  [[nodiscard]] ConfState conf_at(Index index) const {
    const auto behind = confs.upper_bound(index);
    return behind == confs.begin() ? ConfState() : std::prev(behind)->second;
  }
};

World::World(const WorldOptions& options) : options_(options), random_(options.seed) {
  ConfState first;
  for (uint64_t i = 1; i <= options_.voters; ++i) first.voters.emplace_back(i);
  newest_conf_ = first;
  for (uint64_t i = 1; i <= options_.nodes; ++i) {
    auto node = std::make_unique<Node>(NodeId(i), random_.fork(), calm_);
    if (i <= options_.voters) {
      // The founders begin behind a snapshot that names them, so that whoever joins later learns of them.
      node->disk.log.install(
          std::make_shared<const Snapshot>(Snapshot{.index = Index(1), .term = Term(1), .conf = first, .data = {}}));
      node->disk.hard = {.term = Term(1), .vote = kNoNode, .commit = Index(1)};
      node->confs[Index(1)] = first;
      node->stored = Index(1);
    }
    start(*node);
    nodes_[NodeId(i)] = std::move(node);
  }
}

World::~World() = default;

World::Node& World::random_node() {
  auto it = nodes_.begin();
  std::advance(it, random_.below(nodes_.size()));
  return *it->second;
}

void World::start(Node& node) {
  Config config;
  config.id = node.id;
  config.seed = options_.seed * 1000 + node.id.value * 100 + ++node.starts;
  config.election_ticks = 10;
  config.heartbeat_ticks = 2;
  config.pre_vote = options_.pre_vote;
  config.check_quorum = options_.check_quorum;
  config.step_down_on_removal = options_.seed % 2 == 0;
  config.max_bytes_per_message = 100;
  config.max_inflight_messages = 4;
  config.max_unapplied_bytes = 300;
  config.max_uncommitted_bytes = 2000;
  node.log.clear();
  for (Index i = node.disk.first_index() - 1; i <= node.disk.last_index(); ++i) node.log[i] = *node.disk.term(i);
  node.applied = node.stored;
  node.seen_commit = kNone;
  node.seen_leading = Term(0);
  node.core = std::make_unique<Core>(
      config, node.disk, StartState{.hard = node.disk.hard, .conf = node.conf_at(node.stored), .applied = node.stored});
}

// Of what was on its way to the disk a part arrived, unreported: some writes, and of the next some entries.
void World::crash(Node& node) {
  ++counts_.crashes;
  for (uint64_t left = random_.below(node.writes.size() + 1); !node.writes.empty(); --left) {
    Node::Write write = std::move(node.writes.front());
    node.writes.pop_front();
    if (left == 0) {
      if (!write.snapshot && !write.entries.empty()) {
        write.entries.resize(random_.below(write.entries.size() + 1));
        node.disk.log.append(write.entries);
      }
      break;
    }
    if (write.snapshot) install(node, write.snapshot);
    node.disk.log.append(write.entries);
    if (write.hard) node.disk.hard = *write.hard;
  }
  node.writes.clear();
  node.to_apply.clear();
  node.core.reset();
  std::erase_if(node.confs, [&](const auto& conf) { return conf.first > node.stored; });
}

void World::install(Node& node, const SnapshotPtr& snapshot) {
  ++counts_.snapshots;
  node.disk.log.install(snapshot);
  node.disk.hard.commit = std::max(node.disk.hard.commit, snapshot->index);
  node.stored = snapshot->index;
  node.confs.clear();
  node.confs[snapshot->index] = snapshot->conf;
}

// Stores the applied state, and sometimes drops the log below it.
void World::compact(Node& node) {
  const Index limit = std::min(node.applied, node.disk.hard.commit);
  if (limit <= node.stored || limit > node.disk.last_index()) return;
  node.stored = limit;
  node.disk.log.set_snapshot(std::make_shared<const Snapshot>(
      Snapshot{.index = limit, .term = *node.disk.term(limit), .conf = node.conf_at(limit), .data = {}}));
  if (random_.one_in(3)) node.disk.log.compact(Index(random_.between(node.disk.first_index().value - 1, limit.value)));
}

bool World::reachable(NodeId from, NodeId to) const { return !cut_.contains({from, to}); }

void World::post(std::vector<Message>& messages) {
  for (Message& message : messages) {
    if (message.from != NodeId(0) && (message.type == MessageType::kApp || message.type == MessageType::kHeartbeat)) {
      const auto [leader, is_new] = leaders_.try_emplace(message.term, message.from);
      if (leader->second != message.from) {
        violation("two leaders in term {}: {} and {}", message.term, leader->second, message.from);
      }
    }
    if (!nodes_.contains(message.to)) violation("message to nobody: {}", raft::describe(message));
    if (!reachable(message.from, message.to) || (!calm_ && random_.one_in(options_.loss_one_in))) {
      report_snapshot(message, false);
      continue;
    }
    if (!calm_ && random_.one_in(20)) network_.push_back(message);
    network_.push_back(std::move(message));
  }
  messages.clear();
}

// A transport must say what became of a snapshot.
void World::report_snapshot(const Message& message, bool ok) {
  if (message.type != MessageType::kSnap) return;
  if (Node& sender = *nodes_.at(message.from); sender.core) sender.core->report_snapshot(message.to, ok);
}

// Takes all that the core wants done, and queues it.
void World::collect(Node& node) {
  for (int turn = 0; node.core->has_ready(); ++turn) {
    if (turn == 50) violation("member {} always has something ready", node.id);
    Ready ready = node.core->take_ready();
    if (ready.must_sync != (ready.number != 0)) violation("number without sync");
    if (ready.snapshot) {
      node.log.clear();
      node.log[ready.snapshot->index] = ready.snapshot->term;
    }
    check_written(node, ready.entries);
    for (const ReadState& state : ready.read_states) check_read(state);
    post(ready.messages);
    for (Entry& entry : ready.committed) node.to_apply.push_back(std::move(entry));
    if (ready.number != 0 || ready.hard_state || !ready.messages_after_sync.empty()) {
      node.writes.push_back({.number = ready.number,
                             .hard = ready.hard_state,
                             .entries = std::move(ready.entries),
                             .snapshot = std::move(ready.snapshot),
                             .messages = std::move(ready.messages_after_sync)});
    }
  }
  observe(node);
}

// Log matching: an entry is told by index and term, and so is the one before it.
void World::check_written(Node& node, const std::vector<Entry>& entries) {
  for (const Entry& entry : entries) {
    node.log.erase(node.log.lower_bound(entry.index), node.log.end());
    const auto previous = node.log.find(entry.index - 1);
    if (previous == node.log.end()) violation("member {} writes {} behind a hole", node.id, raft::describe(entry));
    const Position position{entry.term, std::string(entry.bytes()), previous->second};
    const auto [known, is_new] = written_.try_emplace({entry.index, entry.term}, position);
    if (known->second.bytes != position.bytes || known->second.previous_term != position.previous_term) {
      violation("two entries at {}/{}", entry.index, entry.term);
    }
    node.log[entry.index] = entry.term;
  }
}

void World::observe(Node& node) {
  record_committed(node);
  if (!node.core->is_leader() || node.seen_leading == node.core->term()) return;
  node.seen_leading = node.core->term();
  ++counts_.leaders;
  check_leader(node);
}

void World::record_committed(Node& node) {
  for (; node.seen_commit < node.core->committed(); ++node.seen_commit) {
    const auto entry = node.log.find(node.seen_commit + 1);
    if (entry == node.log.end()) continue;  // inside a snapshot
    const auto [known, is_new] =
        committed_.try_emplace(entry->first, Committed{.term = entry->second, .seen_in = node.core->term()});
    if (known->second.term != entry->second) {
      violation("member {} commits {}/{}, committed was term {}", node.id, entry->first, entry->second,
                known->second.term);
    }
    known->second.seen_in = std::min(known->second.seen_in, node.core->term());
    counts_.committed += is_new;
  }
}

// One leader a term, and it has everything committed in earlier ones.
void World::check_leader(Node& node) {
  const auto [leader, is_new] = leaders_.try_emplace(node.core->term(), node.id);
  if (leader->second != node.id) violation("two leaders in term {}", node.core->term());
  for (const auto& [index, committed] : committed_) {
    if (committed.seen_in >= node.core->term() || index < node.log.begin()->first) continue;
    const auto own = node.log.find(index);
    if (own == node.log.end() || own->second != committed.term) {
      violation("leader {} of term {} lacks committed {}/{}", node.id, node.core->term(), index, committed.term);
    }
  }
}

void World::check_read(const ReadState& state) {
  const auto asked = reads_.find(state.context);
  if (asked == reads_.end()) violation("an answer to no read");
  if (state.index < asked->second) violation("read at {} is stale: {} was committed", state.index, asked->second);
  ++counts_.reads;
}

void World::finish_write(Node& node) {
  if (node.writes.empty()) return;
  Node::Write write = std::move(node.writes.front());
  node.writes.pop_front();
  if (write.snapshot) {
    while (!node.to_apply.empty()) apply_one(node);
    install(node, write.snapshot);
    node.applied = node.stored;
  }
  node.disk.log.append(write.entries);
  if (write.hard) node.disk.hard = *write.hard;
  post(write.messages);
  if (write.number != 0) node.core->appended(write.number);
}

void World::apply_one(Node& node) {
  if (node.to_apply.empty()) return;
  const Entry entry = std::move(node.to_apply.front());
  node.to_apply.pop_front();
  if (entry.index != node.applied + 1) violation("member {} applies {} after {}", node.id, entry.index, node.applied);
  const auto [known, is_new] = applied_.try_emplace(entry.index, raft::describe(entry));
  if (known->second != raft::describe(entry)) violation("applied at {} differs", entry.index);
  node.applied = entry.index;
  if (entry.type != EntryType::kNormal) apply_entry(node, entry);
  if (random_.one_in(2) || node.to_apply.empty()) node.core->applied_to(node.applied);
}

// A conf change is judged like a server does: by the applied state alone, equally everywhere.
void World::apply_entry(Node& node, const Entry& entry) {
  ConfChange change = *decode_conf_change(entry.type, entry.bytes());
  ConfState conf = node.conf_at(entry.index);
  Result<ConfState> next = is_noop(change) ? Result<ConfState>(conf) : changed(conf, change);
  const bool refused = !next || (entry.index.value % 5 == 0 && !leaves_joint(change));
  if (refused) {
    change.changes = {{ConfChangeType::kAddNode, kNoNode}};
  } else {
    conf = *next;
    ++counts_.conf_changes;
  }
  const bool has_newer = node.core->awaits_conf_verdict();
  const Result<ConfState> applied = node.core->apply_conf_change(entry.index, change);
  if (!applied) violation("member {} cannot apply a conf change: {}", node.id, applied.error().message);
  // (The core of this mutant is ahead of the applier; what that leads to is to be found by other means.)
  if (has_newer && *applied != conf && !CAIRN_MUTANT("raft.conf_change_counted_early"))
    violation("member {} has another configuration", node.id);
  node.confs[entry.index] = conf;
  if (entry.index > newest_conf_index_) {
    newest_conf_index_ = entry.index;
    newest_conf_ = conf;
  }
}

void World::deliver_one() {
  if (network_.empty()) return;
  // Mostly in order, sometimes any.
  const size_t at = calm_ || !random_.one_in(4) ? 0 : random_.below(network_.size());
  Message message = std::move(network_[at]);
  network_.erase(network_.begin() + static_cast<std::ptrdiff_t>(at));
  Node& node = *nodes_.at(message.to);
  if (!reachable(message.from, message.to) || !node.core) {
    report_snapshot(message, false);
    return;
  }
  report_snapshot(message, true);
  node.core->step(std::move(message));
  if (calm_ || random_.one_in(2)) collect(node);
}

void World::propose(Node& node) {
  std::vector<PayloadPtr> payloads;
  for (uint64_t i = random_.between(1, 4); i > 0; --i) {
    std::string bytes = fmt::format("p{}", ++last_payload_);
    bytes.resize(bytes.size() + random_.below(40), '.');
    payloads.push_back(std::make_shared<const Payload>(Payload{std::move(bytes), 0}));
  }
  node.core->propose(payloads);
}

void World::propose_conf_change(Node& node) {
  const auto random_change = [&] {
    const uint64_t kind = random_.below(8);
    const auto type = kind < 4   ? ConfChangeType::kAddNode
                      : kind < 6 ? ConfChangeType::kAddLearnerNode
                                 : ConfChangeType::kRemoveNode;
    return ConfChangeSingle{type, NodeId(random_.between(1, options_.nodes))};
  };
  std::string bytes;
  EntryType type = EntryType::kConfChangeV2;
  if (random_.one_in(2)) {
    const ConfChangeSingle single = random_change();
    bytes = encode(ConfChangeV1{.id = 0, .type = single.type, .node = single.node, .context = {}});
    type = EntryType::kConfChange;
  } else {
    ConfChange change;
    change.transition = static_cast<ConfChangeTransition>(random_.below(3));
    for (uint64_t i = random_.below(4); i > 0; --i) change.changes.push_back(random_change());
    bytes = encode(change);
  }
  node.core->propose_conf_change(type, std::make_shared<const Payload>(Payload{std::move(bytes), 0}));
}

void World::read(Node& node) {
  const std::string context = fmt::format("r{}", ++last_read_);
  reads_[context] = committed_.empty() ? kNone : committed_.rbegin()->first;
  node.core->read_index(context);
}

void World::step() {
  Node& node = random_node();
  if (!node.core) {
    if (random_.one_in(20)) start(node);
    return;
  }
  const uint64_t kind = random_.below(1000);
  if (kind < 450) {
    deliver_one();
  } else if (kind < 650) {
    finish_write(node);
  } else if (kind < 770) {
    apply_one(node);
  } else if (kind < 920) {
    node.core->tick();
  } else if (kind < 955) {
    propose(node);
  } else if (kind < 970) {
    read(node);
  } else if (kind < 978) {
    if (options_.conf_changes) propose_conf_change(node);
  } else if (kind < 981) {
    counts_.transfers += node.core->transfer_leader(NodeId(random_.between(1, options_.nodes)));
  } else if (kind < 984) {
    node.core->forget_leader();
    node.core->campaign();
  } else if (kind < 994) {
    compact(node);
  } else if (kind < 997) {
    node.core->report_unreachable(NodeId(random_.between(1, options_.nodes)));
  } else if (random_.one_in(2)) {
    cut_.clear();
  }
  if (random_.one_in(options_.partition_one_in)) {
    cut_.clear();
    const uint64_t sides = random_.below(uint64_t{1} << options_.nodes);
    const bool one_way = random_.one_in(3);
    for (const auto& [a, from] : nodes_) {
      for (const auto& [b, to] : nodes_) {
        const bool from_left = (sides >> (a.value - 1) & 1) != 0;
        const bool to_left = (sides >> (b.value - 1) & 1) != 0;
        if (from_left != to_left && (from_left || !one_way)) cut_.insert({a, b});
      }
    }
  }
  if (!node.core) return;
  if (node.disk.fetching && random_.one_in(3)) {
    node.disk.fetching = false;
    node.core->log_loaded();
  }
  if (random_.one_in(options_.crash_one_in)) {
    crash(node);
    return;
  }
  if (random_.one_in(2)) collect(node);
}

void World::heal_and_converge() {
  calm_ = true;
  cut_.clear();
  for (auto& [id, node] : nodes_) {
    if (!node->core) start(*node);
  }
  std::string marker;
  for (int round = 0; round < 1000; ++round) {
    for (auto& [id, node] : nodes_) {
      node->core->log_loaded();
      if (is_member(newest_conf_, id)) node->core->tick();
      collect(*node);
      while (!node->writes.empty()) {
        finish_write(*node);
        collect(*node);
      }
      while (!node->to_apply.empty()) {
        apply_one(*node);
        collect(*node);
      }
      compact(*node);
    }
    for (size_t count = network_.size(); count > 0 && !network_.empty(); --count) deliver_one();
    if (round < 100) continue;  // time for what was under way

    if (marker.empty()) {
      for (auto& [id, node] : nodes_) {
        if (!node->core->has_committed_in_term() || !is_member(newest_conf_, id)) continue;
        std::vector<PayloadPtr> payloads = {std::make_shared<const Payload>(Payload{"marker", 0})};
        if (node->core->propose(payloads).outcome == ProposeOutcome::kAppended) marker = "marker";
        if (!marker.empty()) break;
      }
      continue;
    }
    const bool all_have_it = std::ranges::all_of(nodes_, [&](const auto& item) {
      if (!is_member(newest_conf_, item.first)) return true;
      for (const auto& [index, text] : applied_) {
        if (text.ends_with("\"marker\"") && item.second->applied >= index) return true;
      }
      return false;
    });
    if (all_have_it) return;
    if (round % 300 == 0) marker.clear();  // it may have been lost with a term
  }
  violation("no agreement after all was healed:\n{}", describe());
}

std::string World::describe() const {
  std::string text = "newest " + raft::describe(newest_conf_) + "\n";
  for (const auto& [id, node] : nodes_) {
    if (!node->core) {
      text += fmt::format("{}: down\n", id);
      continue;
    }
    const Core& core = *node->core;
    text += fmt::format("{}: {} term={} leader={} commit={} applied={} last={} stable={} {}\n", id,
                        name_of(core.role()), core.term(), core.leader(), core.committed(), core.applied(),
                        core.last_index(), core.stable_index(), raft::describe(core.conf()));
    for (const PeerStatus& peer : core.peers()) text += "   " + raft::describe(peer) + "\n";
  }
  return text;
}

}  // namespace cairn::raft::test
