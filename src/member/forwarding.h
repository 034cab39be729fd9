// member/forwarding.h: proposals on their way from the member that took them to the leader, exactly once in its term.
//
//     origin                                    leader of term T
//     Forwarder: 1, 2, 3 ...   -- kProp, ForwardTag(origin, epoch, T, sequence) -->   Ledger: appended, in order
//     what is not confirmed is sent again    <-- kHeartbeatResp, ForwardTag --        up to `sequence`
//
// The leader drops a repeat and refuses what comes before its turn. A stream that was cut, a message that was lost and
// a leader without room are all met in one way: the origin sends again what is not confirmed. When the term ends, both
// sides begin anew; member/own_proposals.h knows what is to be proposed again then.
//
// Always true: the Ledger's leader appends each (origin, epoch, sequence) of its term at most once, in order.
// Threads:     the core thread's.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <span>
#include <utility>
#include <vector>

#include "raft/types.h"

namespace cairn::member {

// The origin's side.
class Forwarder {
 public:
  struct Options {
    NodeId self;
    uint64_t epoch = 0;  // another one at each start
    raft::EntryType type = raft::EntryType::kNormal;
    uint64_t message_bytes_max = uint64_t{1} << 20;
    uint64_t window_bytes = uint64_t{8} << 20;   // sent and not confirmed
    uint64_t retry_ticks = 50;                   // without a confirmation: then it is sent again, on a quick way
    uint64_t retry_ticks_max = 400;              // the same on the slowest one
    uint64_t retry_bytes = uint64_t{256} << 10;  // so much of it, one message at least
    uint64_t refusal_ticks = 3;                  // so long after a refusal
  };
  explicit Forwarder(const Options& options) : options_(options) {}

  // Who leads, or nobody. In another term nothing of the earlier one is sent again.
  void follow(NodeId leader, Term term);
  // What give() takes now, in raft::cost_bytes(); a single proposal may exceed it while nothing is under way.
  [[nodiscard]] uint64_t room_bytes() const;
  // needs: follow() named a leader
  void give(std::span<const raft::PayloadPtr> payloads, uint64_t tick, std::vector<raft::Message>& out);
  void take_answer(const raft::ForwardTag& tag, uint64_t tick);
  // Everything sent before this moment may be lost, and the way is free: it is sent again at once.
  void note_cut();
  // The same, and the way or the leader has no room: a little is sent again, after a moment.
  void note_lost(uint64_t tick);
  // Sends again what is due.
  void tick(uint64_t tick, std::vector<raft::Message>& out);

  [[nodiscard]] size_t unconfirmed() const { return unconfirmed_.size(); }

 private:
  // Messages until they hold `bytes_max`, one at least. The first that is not in them.
  size_t send(size_t from, uint64_t bytes_max, std::vector<raft::Message>& out) const;
  // Nothing is known to be lost.
  void begin_row();
  // A leader without room is asked often: others ask it, too, and whom it takes something from asks again at once.
  void lose(uint64_t tick, uint64_t wait_ticks_max);
  // How long no confirmation means that something was lost: twice what the last one took, twice as long after each
  // repeat. Then only the beginning is sent again: what stands behind it, the leader refuses if it comes. So on a slow
  // link repeats leave room for the rest.
  void wait_at_least(uint64_t ticks);

  Options options_;
  NodeId leader_;
  Term term_;
  uint64_t confirmed_ = 0;  // sequence
  std::deque<raft::PayloadPtr> unconfirmed_;
  uint64_t unconfirmed_bytes_ = 0;
  uint64_t again_at_tick_ = UINT64_MAX;
  bool is_known_lost_ = false;  // what is to be sent from sent_ on: that says nothing of how quick the way is
  // A leader without room takes nothing for long, and refuses all that comes behind what it has refused. So a little is
  // sent again, and twice as much with each confirmation.
  size_t sent_ = 0;                                    // of unconfirmed_, and since then not known to be lost
  uint64_t burst_bytes_ = UINT64_MAX;                  // at once
  uint64_t loss_wait_ticks_ = options_.refusal_ticks;  // twice as long after each loss of what was sent again
  uint64_t wait_ticks_ = options_.retry_ticks;
  uint64_t moved_at_tick_ = 0;  // something was confirmed, or the first proposal of a row was given
};

// The leader's side.
class Ledger {
 public:
  // Each term has a ledger of its own.
  void begin(Term term);
  enum class Turn : uint8_t { kDue, kRepeat, kEarly, kNotKept };
  struct Verdict {
    Turn turn = Turn::kDue;
    size_t known = 0;  // kDue: so many entries at the beginning were taken before
  };
  [[nodiscard]] Verdict judge(const raft::ForwardTag& tag, size_t count) const;
  void note_taken(const raft::ForwardTag& tag, size_t count);
  // What the origin is told.
  [[nodiscard]] raft::ForwardTag answer(const raft::ForwardTag& tag, bool is_refused) const;

 private:
  struct Origin {
    NodeId id;
    uint64_t epoch = 0;
    bool is_conf_change = false;
    friend auto operator<=>(const Origin&, const Origin&) = default;
  };
  static Origin origin_of(const raft::ForwardTag& tag) { return {tag.origin, tag.epoch, tag.is_conf_change}; }
  [[nodiscard]] uint64_t taken(const raft::ForwardTag& tag) const;

  Term term_;
  std::map<Origin, uint64_t> taken_;  // by origin: the sequence of the last one
};

}  // namespace cairn::member
