// member/log_race.h: whose log goes on while the leader's stands still.
//
// A disk that is as slow as the leader's ends at most one write in the time after which the leader's counts as standing
// still. So a member's log goes on if it has grown twice within that time, and not at once: what one write brought may
// be acknowledged in several messages. If nobody's does, leadership had better stay: else slow members would hand it to
// each other, and get nothing done.
//
// Threads: the core thread's.
#pragma once

#include <cstdint>
#include <map>
#include <span>

#include "raft/core.h"

namespace cairn::member {

class LogRace {
 public:
  void end() { runners_.clear(); }

  // At each tick while the leader's log stands still.
  void look(std::span<const raft::PeerStatus> peers, int64_t stall_ns, int64_t now_ns) {
    for (const raft::PeerStatus& peer : peers) {
      if (peer.is_learner) continue;
      const auto [at, is_new] = runners_.try_emplace(peer.id, Runner{.match = peer.match});
      if (!is_new) at->second.look(peer.match, stall_ns, now_ns);
    }
  }

  // Of those whose log goes on, who has the most of it; 0: nobody's does.
  [[nodiscard]] NodeId first() const {
    NodeId best = raft::kNoNode;
    Index match;
    for (const auto& [id, runner] : runners_) {
      if (!runner.goes_on || runner.match < match) continue;
      best = id;
      match = runner.match;
    }
    return best;
  }

 private:
  struct Runner {
    Index match;
    bool has_grown = false;
    int64_t grown_ns = 0;
    bool goes_on = false;

    void look(Index now_matches, int64_t stall_ns, int64_t now_ns) {
      if (now_matches <= match) return;
      match = now_matches;
      const int64_t since_ns = now_ns - grown_ns;
      if (has_grown && since_ns <= stall_ns) {
        goes_on |= since_ns >= stall_ns / 4;
        return;
      }
      has_grown = true;
      grown_ns = now_ns;
    }
  };

  std::map<NodeId, Runner> runners_;
};

}  // namespace cairn::member
