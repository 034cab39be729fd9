// member/snapshot_holds.h: who takes a snapshot in needs the log from there on once it is done, however long that
// takes.
//
// Raft's progress forgets a snapshot when it has arrived. Until the member has taken it in and followed the log, what
// came after the snapshot is kept for it; else it would be left behind again, and again.
//
// Threads: the core thread's.
#pragma once

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <map>
#include <vector>

#include "raft/core.h"

namespace cairn::member {

class SnapshotHolds {
 public:
  void sent(NodeId member, Index snapshot, int64_t now_ns) { holds_.try_emplace(member, Hold{snapshot, now_ns}); }
  void failed(NodeId member) { holds_.erase(member); }

  // raft::Core::peers(), where such a member is shown as one that is being sent its snapshot. Ends what is over: the
  // member follows, or has not been heard of for a while.
  [[nodiscard]] std::vector<raft::PeerStatus> show_in(std::vector<raft::PeerStatus> peers, int64_t now_ns) {
    for (auto at = holds_.begin(); at != holds_.end();) {
      at = show(at->first, at->second, peers, now_ns) ? std::next(at) : holds_.erase(at);
    }
    return peers;
  }

 private:
  static constexpr int64_t kSilenceNsMax = 30'000'000'000;  // as long as etcd keeps its log after each snapshot
  struct Hold {
    Index snapshot;
    int64_t heard_ns = 0;
  };
  // False: it is over.
  static bool show(NodeId member, Hold& hold, std::vector<raft::PeerStatus>& peers, int64_t now_ns) {
    const auto peer = std::ranges::find(peers, member, &raft::PeerStatus::id);
    if (peer == peers.end() || peer->state == raft::ProgressState::kReplicate || peer->match >= hold.snapshot) {
      return false;
    }
    if (peer->recent_active) hold.heard_ns = now_ns;
    if (now_ns - hold.heard_ns > kSilenceNsMax) return false;
    peer->state = raft::ProgressState::kSnapshot;
    peer->next = hold.snapshot + 1;
    return true;
  }

  std::map<NodeId, Hold> holds_;
};

}  // namespace cairn::member
