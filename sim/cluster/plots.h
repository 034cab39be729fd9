// sim/cluster/plots.h: faults that wait for their moment. Chance alone seldom takes the steps of a bug in the right
// order.
//
//   - A duel: some members, a minority, do not hear that another one asks for votes. When it leads, either those who
//     have voted for it lose power and it is cut off, or it loses power itself and is left with those who heard
//     nothing. All are back at once, and somebody may campaign in the same term.
//   - A restart in a read: the answers to heartbeats are lost, so that reads wait; who has asked for one dies, is back
//     at once, and the same happens at its next read.
//   - A lost kind: for a while most messages of one kind are lost.
//
// Threads: one.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string_view>
#include <vector>

#include "base/random.h"
#include "sim/cluster/faults.h"
#include "sim/cluster/network.h"
#include "sim/cluster/node.h"
#include "sim/coverage.h"
#include "sim/schedule.h"

namespace cairn::sim {

class ClusterPlots {
 public:
  using Nodes = std::vector<std::unique_ptr<ClusterNode>>;

  ClusterPlots(Schedule& schedule, Random chance, Nodes& nodes, Network& network, Coverage& coverage,
               ClusterFaults::Host& host)
      : schedule_(schedule), chance_(chance), nodes_(nodes), network_(network), coverage_(coverage), host_(host) {}

  void begin() { plan_next(); }
  // Who is down by a plot comes back.
  void end();

  // This member sends it. True: it is lost.
  [[nodiscard]] bool on_message(size_t from, const raft::Message& message);
  // This member leads from now on.
  void on_leader(size_t node);

 private:
  enum class Plot : uint8_t { kDuel, kRestartInRead, kLostKind };
  struct Duel {
    size_t candidate = 0;
    std::set<size_t> deaf;
    bool against_candidate = false;
  };

  void plan_next();
  void plan();
  void begin_duel(size_t candidate);
  void end_duel(const Duel& duel);
  void restart_at(size_t node, int64_t delay_ns);
  void cut(const std::set<size_t>& some, const std::set<size_t>& others, int64_t for_ns);
  void lose(raft::MessageType kind, int64_t for_ns);
  void stall(size_t node);
  void note(std::string_view what, size_t node);
  [[nodiscard]] int64_t between_ms(uint64_t low, uint64_t high) {
    return static_cast<int64_t>(chance_.between(low, high)) * 1'000'000;
  }

  Schedule& schedule_;
  Random chance_;
  Nodes& nodes_;
  Network& network_;
  Coverage& coverage_;
  ClusterFaults::Host& host_;
  std::optional<Plot> waits_;  // for its moment
  uint64_t number_ = 0;        // of plots
  std::optional<Duel> duel_;
  std::optional<size_t> reader_;  // has been restarted in a read
  std::optional<raft::MessageType> lost_;
  std::set<size_t> down_;
  bool has_ended_ = false;
};

}  // namespace cairn::sim
