// member/installation.h: a leader's snapshot takes the place of log and state: in what order, as a pure value.
//
//     raft's Ready ---------> kWaits      for the log, which writes .snap file, record and hard state, and for a
//          |                    |         commit under way; no other begins, and nothing is applied
//          |                    v  order()
//          |                  kInstalls   the image gets the db's name; index, leases, users and members are read
//          |                    |         from it
//          |                    v  installed(): the state is swapped
//     what the log has done meanwhile is reported to raft now, in its order: so nothing is acknowledged before
//
// A snapshot that arrives meanwhile waits for its turn.
//
// Threads: the core thread's.
// Source:  docs/architecture.md, "A snapshot from the leader".
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "base/error.h"
#include "member/apply/applied_state.h"
#include "member/stages.h"
#include "raft/types.h"

namespace cairn::member {

struct InstallOrder {
  raft::SnapshotPtr snapshot;
};
struct InstallDone {
  Status status;
  std::unique_ptr<AppliedState> state;  // that of the snapshot
};

class Installation {
 public:
  // The log is given write `number`, which holds the snapshot.
  void begin(raft::SnapshotPtr snapshot, uint64_t number);

  [[nodiscard]] bool is_under_way() const { return !pending_.empty(); }

  // What the log has done: true, and it is kept, when raft must not be told before the installation is done.
  bool hold(WalDone& done);

  // What is to be done now, once: nullopt, nothing, or not yet.
  [[nodiscard]] std::optional<InstallOrder> order(bool commit_under_way);

  // The state is swapped. What raft is to be told now.
  [[nodiscard]] std::vector<WalDone> installed();

  [[nodiscard]] const raft::Snapshot& snapshot() const { return *pending_.front().snapshot; }

 private:
  struct Pending {
    raft::SnapshotPtr snapshot;
    uint64_t number = 0;
    bool is_ordered = false;
  };
  [[nodiscard]] bool is_in_log() const { return !held_.empty(); }

  std::deque<Pending> pending_;  // the first one is being installed
  std::deque<WalDone> held_;     // the first one is that of the first snapshot
};

}  // namespace cairn::member
