// sim/history/judge.h: can a correct cluster have given this history?
//
// The log is the witness of linearizability: it is replayed into the model (sim/model.h), each answer must be the
// model's, and the order of the log must agree with real time (real_time.h). Without a log the order comes from a watch
// of all keys from revision 1 (watch_witness.h). Watches are held against the events of that order (watch_check.h).
//
// What is checked, by what a client was told:
//   a write        its entry is in the log once, above everything that completed before its call; the answer is the
//                  model's at that entry. So revisions belong to entries one to one.
//   an error       the model gives it too, at the entry; for a read there is a state in its range that gives it
//   a refusal      no entry
//   nothing        at most one entry, above everything that completed before the call
//   a read         the state of its header's revision, above everything that completed before its call
//   a serializable read   any state that exists by then, however old. Nothing else: not even that a client's own reads
//                  never go back, since it may ask another member
//   a watch        etcd's guarantees, and events only of what exists by then
// Not checked: what depends on time (leases that end, timeouts), and the header's ids but for the member that was
// asked.
//
// Source: docs/simulator.md, "Histories".
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "sim/history/history.h"

namespace cairn::sim {

struct Verdict {
  // Each names the operations that contradict each other. Empty: the history is right.
  std::vector<std::string> violations;
  // The witness does not reach far enough to judge: why. Then violations may be missing.
  std::string unjudged;

  // What was judged.
  uint64_t writes = 0;
  uint64_t reads = 0;
  uint64_t serializable_reads = 0;
  uint64_t unknown_applied = 0;
  uint64_t watch_events = 0;
  int64_t revision = 0;

  [[nodiscard]] bool ok() const { return violations.empty() && unjudged.empty(); }
};

[[nodiscard]] Verdict judge(const History& history);

}  // namespace cairn::sim
