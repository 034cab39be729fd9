// raft/progress.h: a leader's knowledge of one member's log, and how fast it may send to that member.
//
//     probe      we do not know where the logs agree: one append at a time
//     replicate  we do: appends are pipelined, up to the inflight window
//     snapshot   its next entry is compacted: nothing is sent until the snapshot arrived or failed
//
// Always true: match < next; what is at or below match is stable at the member and equal to ours.
// Source:      etcd's raft for the three states and for what moves between them.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "raft/quorum.h"
#include "raft/types.h"

namespace cairn::raft {

enum class ProgressState : uint8_t { kProbe = 0, kReplicate = 1, kSnapshot = 2 };
[[nodiscard]] std::string_view name_of(ProgressState state);

// Appends sent and not answered: a ring of (last index, bytes), oldest first.
class Inflights {
 public:
  Inflights(uint32_t messages_max, uint64_t bytes_max) : messages_max_(messages_max), bytes_max_(bytes_max) {}

  [[nodiscard]] bool full() const { return count_ >= messages_max_ || (bytes_max_ > 0 && bytes_ >= bytes_max_); }
  [[nodiscard]] uint32_t count() const { return count_; }
  // needs: !full(), `last` not below that of an earlier call
  void add(Index last, uint64_t bytes);
  void free_to(Index index);  // answered up to `index`
  void clear();

 private:
  struct Sent {
    Index last;
    uint64_t bytes = 0;
  };
  uint32_t messages_max_;
  uint64_t bytes_max_;
  uint32_t start_ = 0;
  uint32_t count_ = 0;
  uint64_t bytes_ = 0;
  std::vector<Sent> ring_;  // grows by doubling up to messages_max_
};

struct Progress {
  NodeId id;
  bool is_voter = false;           // in the incoming half
  bool is_outgoing_voter = false;  // in the outgoing half
  bool is_learner = false;

  ProgressState state = ProgressState::kProbe;
  Index match;
  Index next{1};
  Index sent_commit;       // the highest commit index on its way to the member
  Index pending_snapshot;  // of the snapshot on its way
  bool recent_active = false;
  bool probe_sent = false;    // probe: wait for an answer, or for the next heartbeat's
  bool log_waits = false;     // its next entries are not in memory
  bool append_asked = false;  // send one even if it is empty
  uint64_t read_acked = 0;    // the highest read round answered
  Inflights inflights;

  Progress(NodeId node, Index next_index, uint32_t messages_max, uint64_t bytes_max)
      : id(node), next(next_index), inflights(messages_max, bytes_max) {}

  void become_probe();
  void become_replicate();
  void become_snapshot(Index index);

  [[nodiscard]] bool is_paused() const {
    return state == ProgressState::kSnapshot || log_waits || (state == ProgressState::kProbe && probe_sent);
  }
  // The member's log may already hold entries that it does not know to be committed.
  [[nodiscard]] bool commit_due(Index commit) const { return commit > sent_commit && sent_commit + 1 < next; }

  void sent(Index last, uint64_t count, uint64_t bytes, Index commit);
  // The member has everything up to `index`. False when that was known already.
  bool acked(Index index);
  // The member refused an append behind `refused` and suggests `hint`. False when that is stale.
  bool refused(Index refused, Index hint);

 private:
  void enter(ProgressState to);
};

// The largest value that a quorum of `peers` has reached. `value_of` is asked once for each voter.
template <class ValueOf>
[[nodiscard]] uint64_t quorum_value(const std::vector<Progress>& peers, ValueOf value_of) {
  constexpr size_t kOnStack = 32;
  std::array<uint64_t, 2 * kOnStack> stack;
  std::vector<uint64_t> heap;
  uint64_t* incoming = stack.data();
  if (peers.size() > kOnStack) [[unlikely]] {
    heap.resize(2 * peers.size());
    incoming = heap.data();
  }
  uint64_t* outgoing = incoming + std::max(peers.size(), kOnStack);
  size_t incoming_count = 0;
  size_t outgoing_count = 0;
  for (const Progress& peer : peers) {
    if (!peer.is_voter && !peer.is_outgoing_voter) continue;
    const uint64_t value = value_of(peer);
    if (peer.is_voter) incoming[incoming_count++] = value;
    if (peer.is_outgoing_voter) outgoing[outgoing_count++] = value;
  }
  return std::min(majority_value({incoming, incoming_count}), majority_value({outgoing, outgoing_count}));
}

}  // namespace cairn::raft
