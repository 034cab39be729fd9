// raft/world_test.h: some members over a bad network and bad disks, in one thread, from one seed. For tests.
//
// Each step is one random event: a tick, a message delivered (late, twice, never), a finished write, an applied entry,
// a crash that keeps some unfinished writes, a partition, a proposal, a read, a conf change. Every event is compared
// with one global record; a contradiction throws Violation.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/random.h"
#include "raft/core.h"
#include "raft/memory_log.h"

namespace cairn::raft::test {

struct Violation {
  std::string what;
};

struct WorldOptions {
  uint64_t seed = 1;
  uint64_t nodes = 5;
  uint64_t voters = 3;
  bool pre_vote = true;
  bool check_quorum = true;
  bool conf_changes = true;
  uint64_t loss_one_in = 12;        // messages
  uint64_t crash_one_in = 400;      // steps
  uint64_t partition_one_in = 300;  // steps
};

class World {
 public:
  explicit World(const WorldOptions& options);
  ~World();

  void step();
  // Ends all faults, then gives the members time. Throws when they do not agree on a new entry.
  void heal_and_converge();

  struct Counts {
    uint64_t leaders = 0;
    uint64_t committed = 0;
    uint64_t reads = 0;
    uint64_t conf_changes = 0;
    uint64_t snapshots = 0;
    uint64_t crashes = 0;
    uint64_t transfers = 0;
  };
  [[nodiscard]] Counts counts() const { return counts_; }
  [[nodiscard]] std::string describe() const;

 private:
  struct Node;
  class Disk;
  struct Position {
    Term term;
    std::string bytes;
    Term previous_term;
  };

  struct Committed {
    Term term;
    Term seen_in;  // the lowest term in which a member took it for committed
  };

  void start(Node& node);
  void crash(Node& node);
  void collect(Node& node);
  void observe(Node& node);
  void finish_write(Node& node);
  void apply_one(Node& node);
  void apply_entry(Node& node, const Entry& entry);
  void install(Node& node, const SnapshotPtr& snapshot);
  void compact(Node& node);
  void post(std::vector<Message>& messages);
  void report_snapshot(const Message& message, bool ok);
  void deliver_one();
  void propose(Node& node);
  void propose_conf_change(Node& node);
  void read(Node& node);
  void check_written(Node& node, const std::vector<Entry>& entries);
  void check_leader(Node& node);
  void check_read(const ReadState& state);
  void record_committed(Node& node);
  bool reachable(NodeId from, NodeId to) const;
  Node& random_node();

  WorldOptions options_;
  Random random_;
  std::map<NodeId, std::unique_ptr<Node>> nodes_;
  std::deque<Message> network_;
  std::set<std::pair<NodeId, NodeId>> cut_;  // no message gets from first to second
  bool calm_ = false;

  std::map<std::pair<Index, Term>, Position> written_;  // every entry that any log ever held
  std::map<Index, Committed> committed_;                // what any member ever took for committed
  std::map<Index, std::string> applied_;
  std::map<Term, NodeId> leaders_;
  std::map<std::string, Index> reads_;  // by context: the highest commit anywhere when it was asked
  uint64_t last_payload_ = 0;
  uint64_t last_read_ = 0;
  ConfState newest_conf_;
  Index newest_conf_index_;
  Counts counts_;
};

}  // namespace cairn::raft::test
