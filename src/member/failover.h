// member/failover.h: when a member campaigns after its leader's process has died, without waiting for the election
// timeout.
//
// Each survivor waits by its rank, so that mostly one of them asks and the others have not begun. When all survivors
// have voted and nobody has won they try again, for a second; then the ordinary timeouts take over.
//
// Threads: the core thread's; a value.
// Source:  docs/architecture.md, "Failover".
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/random.h"
#include "raft/core.h"

namespace cairn::member {

class Failover {
 public:
  explicit Failover(uint64_t seed) : random_(seed) {}

  // The process of the leader `died` is gone, and it is forgotten.
  void begin(const raft::Core& core, NodeId died, int64_t now_ns);
  // Campaigns if it is time.
  void do_due(raft::Core& core, int64_t now_ns);
  [[nodiscard]] std::optional<int64_t> next_ns() const { return due_ns_; }

  // A message that this member is about to step. True: its sender has lost the leader that this member still has, whose
  // connection is to be tried anew.
  bool suspects_leader(const raft::Core& core, const raft::Message& message, int64_t now_ns);
  // The requests for a pre-vote that were not answered since there was a leader, to be stepped again.
  std::vector<raft::Message> take_unanswered();

 private:
  Random random_;
  std::optional<int64_t> due_ns_;
  NodeId died_;
  Term seen_term_{};  // at the last turn
  int64_t ends_ns_ = 0;
  std::vector<raft::Message> unanswered_;  // one of each sender, the last
  int64_t suspected_ns_ = INT64_MIN;       // when the leader's connection was last to be tried
};

}  // namespace cairn::member
