// sim/cluster/faults.h: what goes wrong in a cluster's life, and when it is over.
//
// Faults come one after the other, or together, until end(): then every one of them is undone, and all members run.
//
// Threads: one.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/fault.h"
#include "base/random.h"
#include "sim/cluster/network.h"
#include "sim/cluster/node.h"
#include "sim/coverage.h"
#include "sim/schedule.h"

namespace cairn::sim {

class ClusterFaults {
 public:
  // The life, which starts and ends processes.
  class Host {
   public:
    virtual ~Host() = default;
    virtual void start_process(size_t node) = 0;
    virtual void kill_process(size_t node) = 0;
    virtual void cut_power(size_t node) = 0;
    // The next process that comes to this point for the n-th time dies there.
    virtual void kill_at_point(fault::Point point, uint64_t nth) = 0;
    virtual void move_leader(size_t leader, size_t to) = 0;
    virtual void note(const std::string& text) = 0;
  };
  using Nodes = std::vector<std::unique_ptr<ClusterNode>>;

  ClusterFaults(Schedule& schedule, Random chance, Nodes& nodes, Network& network, Coverage& coverage, Host& host);

  void begin();
  // Nothing goes wrong any more, and everybody comes back.
  void end();

  // Whether the power goes in this operation.
  [[nodiscard]] Fault on_operation(const ClusterNode& node, const Operation& operation);
  // A member has got all of an image, and begins to take it in.
  void on_snapshot(size_t node);
  // The machine comes back by and by.
  void restart_later(size_t node);

  [[nodiscard]] uint64_t count() const { return count_; }
  [[nodiscard]] size_t kinds() const { return kinds_.size(); }

 private:
  enum class Kind : uint8_t {
    kPowerCut,
    kPowerCutInOperation,
    kKill,
    kKillLeader,
    kPowerCutOfAll,
    kPause,
    kPauseLeader,
    kPartition,
    kOneWay,
    kPartial,
    kLeaderAlone,
    kDiskStall,
    kSlowDisk,
    kBadNetwork,
    kWallClock,
    kLeaderMove,
    kKillAtPoint,
  };
  static constexpr uint64_t kKindCount = 17;

  void plan_next();
  void strike();
  [[nodiscard]] bool strike(Kind kind);
  void cut(std::vector<std::pair<size_t, size_t>> paths);
  // Between these and all others.
  void cut_off(const std::set<size_t>& some, bool to_them, bool from_them);
  [[nodiscard]] size_t any() { return any_that_serves(nodes_, chance_); }
  [[nodiscard]] int64_t between_ms(uint64_t low, uint64_t high) {
    return static_cast<int64_t>(chance_.between(low, high)) * 1'000'000;
  }
  // Undoes a fault then, or at end().
  void later(int64_t delay_ns, std::function<void()> undo);

  Schedule& schedule_;
  Random chance_;
  Nodes& nodes_;
  Network& network_;
  Coverage& coverage_;
  Host& host_;
  Network::Options calm_;
  std::map<uint64_t, std::function<void()>> undo_;
  uint64_t last_undo_ = 0;
  std::map<size_t, uint64_t> armed_;  // by node: so many mutations more, and the power goes
  uint64_t count_ = 0;
  std::set<Kind> kinds_;
  bool has_ended_ = false;
};

}  // namespace cairn::sim
