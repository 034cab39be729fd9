// sim/cluster/bounds.h: what a member keeps in memory for others stays within what its options say.
//
// In one life in four the options are so small that their bounds are reached, and requests are refused.
//
// Threads: one.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "base/random.h"
#include "member/raft_log.h"
#include "sim/cluster/node.h"
#include "sim/coverage.h"
#include "sim/member.h"

namespace cairn::sim {

// What is wrong with what a log keeps in memory; "": nothing. More than `bytes_max` is there only if not even the first
// entry in memory is applied and stable, which is true up to `may_leave`.
[[nodiscard]] std::string check_log_in_memory(const member::RaftLog& log, Index may_leave, uint64_t bytes_max);

class ClusterBounds {
 public:
  explicit ClusterBounds(Coverage& coverage) : coverage_(coverage) {}

  // The options of all members, before the first of them is made.
  void choose(Random chance, MemberOptions& options);
  // After a step of the member. "": all is within its bounds.
  [[nodiscard]] std::string check(ClusterNode& node);

 private:
  [[nodiscard]] std::string check_log(ClusterNode& node);

  Coverage& coverage_;
  bool is_small_ = false;
  std::map<size_t, uint64_t> steps_over_;     // by place: in a row, with more held than may be
  std::map<size_t, int64_t> log_checked_ns_;  // by place: by the member's clock
};

}  // namespace cairn::sim
