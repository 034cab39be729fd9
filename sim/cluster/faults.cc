#include "sim/cluster/faults.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include <fmt/format.h>

namespace cairn::sim {
namespace {

constexpr std::string_view kNames[] = {"power cut",
                                       "power cut in an operation",
                                       "process killed",
                                       "leader killed",
                                       "power cut of all",
                                       "process paused",
                                       "leader paused",
                                       "partition",
                                       "one-way cut",
                                       "partial cut",
                                       "leader alone",
                                       "stalled disk",
                                       "slow disk",
                                       "bad network",
                                       "jump of the wall clock",
                                       "leader moved",
                                       "death at a fault point"};

// At each arrow of an installation.
constexpr fault::Point kInstallation[] = {
    fault::named("raftBeforeSaveSnap"),     fault::named("raftBeforeWALSaveSnaphot"),
    fault::named("raftAfterSaveSnap"),      fault::named("raftBeforeSave"),
    fault::named("raftAfterSave"),          fault::named("applyBeforeOpenSnapshot"),
    fault::named("applyAfterOpenSnapshot"), fault::named("raftBeforeApplySnap"),
    fault::named("raftAfterApplySnap"),     fault::named("raftAfterWALRelease")};

}  // namespace

ClusterFaults::ClusterFaults(Schedule& schedule, Random chance, Nodes& nodes, Network& network, Coverage& coverage,
                             Host& host)
    : schedule_(schedule),
      chance_(chance),
      nodes_(nodes),
      network_(network),
      coverage_(coverage),
      host_(host),
      calm_(network.options()) {
  static_assert(std::size(kNames) == kKindCount);
}

void ClusterFaults::begin() { plan_next(); }

void ClusterFaults::plan_next() {
  const int64_t mean_ms = chance_.one_in(4) ? 200 : 4000;
  schedule_.after(between_ms(10, static_cast<uint64_t>(mean_ms) * 2), [this] {
    if (has_ended_) return;
    strike();
    plan_next();
  });
}

void ClusterFaults::strike() {
  const auto kind = static_cast<Kind>(chance_.below(kKindCount));
  if (!strike(kind)) return;
  ++count_;
  kinds_.insert(kind);
  coverage_.hit("fault: " + std::string(kNames[static_cast<size_t>(kind)]));
}

void ClusterFaults::later(int64_t delay_ns, std::function<void()> undo) {
  const uint64_t number = ++last_undo_;
  undo_.emplace(number, std::move(undo));
  schedule_.after(delay_ns, [this, number] {
    const auto at = undo_.find(number);
    if (at == undo_.end()) return;
    const auto action = std::move(at->second);
    undo_.erase(at);
    action();
  });
}

void ClusterFaults::end() {
  has_ended_ = true;
  armed_.clear();
  while (!undo_.empty()) {
    const auto action = std::move(undo_.begin()->second);
    undo_.erase(undo_.begin());
    action();
  }
  network_.mend_all();
  network_.options() = calm_;
}

void ClusterFaults::cut(std::vector<std::pair<size_t, size_t>> paths) {
  for (const auto& [from, to] : paths) network_.cut(from, to);
  later(between_ms(50, 9000), [this, paths = std::move(paths)] {
    for (const auto& [from, to] : paths) network_.mend(from, to);
  });
}

void ClusterFaults::cut_off(const std::set<size_t>& some, bool to_them, bool from_them) {
  std::vector<std::pair<size_t, size_t>> paths;
  for (size_t i = 0; i < nodes_.size(); ++i) {
    for (const size_t one : some) {
      if (some.contains(i)) continue;
      if (to_them) paths.emplace_back(i, one);
      if (from_them) paths.emplace_back(one, i);
    }
  }
  cut(std::move(paths));
}

void ClusterFaults::restart_later(size_t node) {
  if (has_ended_) return host_.start_process(node);
  later(chance_.one_in(3) ? between_ms(1, 50) : between_ms(50, 6000), [this, node] { host_.start_process(node); });
}

// False: there is nothing that it could befall now.
bool ClusterFaults::strike(Kind kind) {
  const size_t place = any();
  ClusterNode& node = *nodes_[place];
  const auto name = kNames[static_cast<size_t>(kind)];
  const auto say = [&](size_t at) { host_.note(fmt::format("{} {}", name, at)); };
  const std::optional<size_t> leading = leader_of(nodes_);
  switch (kind) {
    case Kind::kPowerCut:
      if (!node.is_running()) return false;
      say(place);
      host_.cut_power(place);
      restart_later(place);
      return true;
    case Kind::kPowerCutInOperation:
      if (!node.is_running()) return false;
      say(place);
      armed_[place] = chance_.between(1, chance_.one_in(2) ? 5 : 80);
      return true;
    case Kind::kKill:
    case Kind::kKillLeader: {
      const size_t whom = kind == Kind::kKill ? place : leading.value_or(place);
      if (!nodes_[whom]->is_running()) return false;
      say(whom);
      host_.kill_process(whom);
      restart_later(whom);
      return true;
    }
    case Kind::kPowerCutOfAll:
      say(nodes_.size());
      for (size_t i = 0; i < nodes_.size(); ++i) {
        if (!nodes_[i]->is_running()) continue;
        host_.cut_power(i);
        restart_later(i);
      }
      return true;
    case Kind::kPause:
    case Kind::kPauseLeader: {
      const size_t whom = kind == Kind::kPause ? place : leading.value_or(place);
      say(whom);
      nodes_[whom]->pause_until(schedule_.now_ns() + (chance_.one_in(2) ? between_ms(1, 500) : between_ms(500, 7000)));
      return true;
    }
    case Kind::kPartition: {
      if (nodes_.size() < 2) return false;
      say(place);
      std::set<size_t> some{place};
      for (size_t i = 0; i < nodes_.size(); ++i) {
        if (chance_.one_in(3) && some.size() + 1 < nodes_.size()) some.insert(i);
      }
      cut_off(some, true, true);
      return true;
    }
    case Kind::kOneWay: {
      say(place);
      const bool to_it = chance_.one_in(2);
      cut_off({place}, to_it, !to_it);
      return nodes_.size() > 1;
    }
    case Kind::kPartial: {
      const size_t other = any();
      if (other == place) return false;
      say(place);
      cut({{place, other}, {other, place}});
      return true;
    }
    case Kind::kLeaderAlone:
      if (!leading || nodes_.size() < 2) return false;
      say(*leading);
      cut_off({*leading}, true, true);
      return true;
    case Kind::kDiskStall: {
      say(place);
      const size_t whom = chance_.one_in(2) ? leading.value_or(place) : place;
      nodes_[whom]->disk().stalled_until_ns = nodes_[whom]->schedule().now_ns() + between_ms(20, 6000);
      return true;
    }
    case Kind::kSlowDisk: {
      say(place);
      const int64_t was_ns = node.disk().sync_ns;
      if (was_ns > 5'000'000) return false;
      node.disk().sync_ns = between_ms(5, 60);
      later(between_ms(500, 10'000), [&node, was_ns] { node.disk().sync_ns = was_ns; });
      return true;
    }
    case Kind::kBadNetwork: {
      say(place);
      Network::Options& options = network_.options();
      options.loss_one_in = chance_.between(3, 30);
      options.duplicate_one_in = chance_.between(3, 30);
      options.late_one_in = chance_.between(3, 30);
      options.delay_mean_ns = between_ms(1, 60);
      later(between_ms(200, 8000), [this] { network_.options() = calm_; });
      return true;
    }
    case Kind::kWallClock: {
      say(place);
      const int64_t ns = between_ms(1, 100'000);
      node.jump_wall_clock(chance_.one_in(2) ? ns : -ns);
      return true;
    }
    case Kind::kKillAtPoint:
      say(place);
      host_.kill_at_point(chance_.below(fault::kPointCount), chance_.one_in(2) ? 1 : chance_.between(1, 50));
      return true;
    case Kind::kLeaderMove:
      if (!leading || *leading == place) return false;
      say(*leading);
      host_.move_leader(*leading, place);
      return true;
  }
  return false;
}

void ClusterFaults::on_snapshot(size_t node) {
  if (has_ended_ || !chance_.one_in(3)) return;
  if (chance_.one_in(2)) {
    armed_[node] = chance_.between(1, 60);
  } else {
    host_.kill_at_point(kInstallation[chance_.below(std::size(kInstallation))], chance_.one_in(4) ? 2 : 1);
  }
}

Fault ClusterFaults::on_operation(const ClusterNode& node, const Operation& operation) {
  const auto at = armed_.find(node.place());
  if (at == armed_.end() || operation.number == 0 || --at->second > 0) return Fault::kNone;
  armed_.erase(at);
  host_.note(fmt::format("the power of {} goes in {} of {}", node.place(), op_name(operation.op), operation.path));
  coverage_.hit("power cut in a " + std::string(op_name(operation.op)));
  return Fault::kCrash;
}

}  // namespace cairn::sim
