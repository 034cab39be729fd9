#include "sim/cluster/plots.h"

#include <iterator>
#include <utility>

#include <fmt/format.h>

namespace cairn::sim {
namespace {

using raft::MessageType;

constexpr MessageType kLossy[] = {MessageType::kApp,           MessageType::kAppResp,      MessageType::kHeartbeat,
                                  MessageType::kHeartbeatResp, MessageType::kProp,         MessageType::kVoteResp,
                                  MessageType::kReadIndex,     MessageType::kReadIndexResp};
constexpr uint64_t kLostOf = 5;  // one of so many arrives

}  // namespace

void ClusterPlots::plan_next() {
  schedule_.after(between_ms(200, 8000), [this] {
    if (has_ended_) return;
    plan();
    plan_next();
  });
}

void ClusterPlots::plan() {
  ++number_;
  waits_.reset();
  duel_.reset();
  reader_.reset();
  const auto plot = static_cast<Plot>(chance_.below(3));
  if (plot == Plot::kLostKind) {
    note("lost kind", 0);
    return lose(kLossy[chance_.below(std::size(kLossy))], between_ms(50, 1500));
  }
  waits_ = plot;
  if (plot != Plot::kDuel || chance_.one_in(2)) return;
  const auto leader = leader_of(nodes_);
  if (!leader) return;
  host_.kill_process(*leader);
  restart_at(*leader, between_ms(50, 3000));
}

void ClusterPlots::end() {
  has_ended_ = true;
  waits_.reset();
  duel_.reset();
  lost_.reset();
  for (const size_t node : std::exchange(down_, {})) host_.start_process(node);
}

void ClusterPlots::note(std::string_view what, size_t node) {
  host_.note(fmt::format("plot: {}, {}", what, node));
  coverage_.hit(fmt::format("plot: {}", what));
}

bool ClusterPlots::on_message(size_t from, const raft::Message& message) {
  if (has_ended_) return false;
  if (message.type == MessageType::kVote && waits_ == Plot::kDuel) {
    waits_.reset();
    begin_duel(from);
  }
  if (message.type == MessageType::kReadIndex && (reader_ == from || waits_ == Plot::kRestartInRead)) {
    note("restart in a read", from);
    if (waits_) lose(MessageType::kHeartbeatResp, between_ms(100, 800));
    if (std::exchange(waits_, std::nullopt)) {
      reader_ = from;  // and once more at its next one
    } else {
      reader_.reset();
    }
    schedule_.after(between_ms(1, 20), [this, from] { restart_at(from, between_ms(1, 5)); });
  }
  return lost_ == message.type && !chance_.one_in(kLostOf);
}

void ClusterPlots::begin_duel(size_t candidate) {
  Duel duel{.candidate = candidate, .deaf = {}, .against_candidate = chance_.one_in(2)};
  const size_t count = nodes_.size();
  for (size_t i = chance_.below(count), left = count; left > 0; --left, i = (i + 1) % count) {
    if (i != candidate && nodes_[i]->is_running() && duel.deaf.size() < (count - 1) / 2) duel.deaf.insert(i);
  }
  if (duel.deaf.empty()) return;
  note("duel", candidate);
  cut({candidate}, duel.deaf, between_ms(20, 300));
  if (chance_.one_in(2)) {
    for (size_t i = 0; i < count; ++i) {
      if ((i == candidate) == duel.against_candidate) stall(i);
    }
  }
  duel_ = std::move(duel);
}

void ClusterPlots::stall(size_t node) {
  nodes_[node]->disk().stalled_until_ns = nodes_[node]->schedule().now_ns() + between_ms(5, 200);
}

void ClusterPlots::on_leader(size_t node) {
  if (has_ended_ || !duel_ || duel_->candidate != node) return;
  schedule_.after(static_cast<int64_t>(chance_.below(2'000'000)), [this, number = number_] {
    if (has_ended_ || number != number_ || !duel_) return;
    end_duel(*duel_);
    duel_.reset();
  });
}

void ClusterPlots::end_duel(const Duel& duel) {
  note("duel won", duel.candidate);
  std::set<size_t> voters;
  for (size_t i = 0; i < nodes_.size(); ++i) {
    if (i != duel.candidate && !duel.deaf.contains(i)) voters.insert(i);
  }
  if (duel.against_candidate) {
    std::set<size_t> without_votes = duel.deaf;
    without_votes.insert(duel.candidate);
    cut(voters, without_votes, between_ms(300, 3000));
    return restart_at(duel.candidate, between_ms(1, 30));
  }
  std::set<size_t> others = voters;
  others.insert(duel.deaf.begin(), duel.deaf.end());
  cut({duel.candidate}, others, between_ms(300, 3000));
  for (const size_t voter : voters) restart_at(voter, between_ms(1, 30));
}

void ClusterPlots::restart_at(size_t node, int64_t delay_ns) {
  if (has_ended_) return;
  if (nodes_[node]->is_running()) chance_.one_in(2) ? host_.kill_process(node) : host_.cut_power(node);
  down_.insert(node);
  schedule_.after(delay_ns, [this, node] {
    if (down_.erase(node) > 0) host_.start_process(node);
  });
}

void ClusterPlots::cut(const std::set<size_t>& some, const std::set<size_t>& others, int64_t for_ns) {
  for (const size_t one : some) {
    for (const size_t other : others) {
      network_.cut(one, other);
      network_.cut(other, one);
    }
  }
  schedule_.after(for_ns, [this, some, others] {
    if (has_ended_) return;  // then all is mended
    for (const size_t one : some) {
      for (const size_t other : others) {
        network_.mend(one, other);
        network_.mend(other, one);
      }
    }
  });
}

void ClusterPlots::lose(raft::MessageType kind, int64_t for_ns) {
  lost_ = kind;
  schedule_.after(for_ns, [this, number = number_] {
    if (number == number_) lost_.reset();
  });
}

}  // namespace cairn::sim
