// sim/history/watch_witness.h: the order of a history without a log, as a watch of all keys from revision 1 shows it.
//
// The events of a revision say what it did. Who did it: the operation that was answered with that revision, or one of
// unknown outcome that would have done the same there (a matching decides, so that no choice is wrong), or the end of a
// lease. What was answered and changed nothing lies in the state of its header's revision, in the order of the calls.
// The result is a log such as a member's, which judge() replays and holds against real time.
//
// What a watch does not show is assumed in favour of the members: when leases without keys ended, whether a
// compaction of unknown outcome happened, and when one that was answered while others wrote.
//
// Source: etcd's robustness tests, which take its order from watches and logs in the same way.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "sim/history/history.h"

namespace cairn::sim {

struct WatchedOrder {
  std::vector<LogEntry> log;
  std::vector<uint64_t> request_ids;  // by operation; 0: it is not in the log
  // Up to here something may have been compacted at a time that is not known.
  int64_t perhaps_compacted = -1;
  std::vector<std::string> violations;
  std::string unjudged;  // the watches do not show everything: what is missing
};

[[nodiscard]] WatchedOrder order_by_watch(const History& history);

}  // namespace cairn::sim
