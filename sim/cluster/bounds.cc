#include "sim/cluster/bounds.h"

#include <algorithm>
#include <vector>

#include <fmt/format.h>

#include "raft/types.h"

namespace cairn::sim {
namespace {

constexpr uint64_t kSmallLives = 4;
// What is lost with a term waits again at once, and what is too much is refused with the next tick.
constexpr uint64_t kStepsOverMax = 50;
constexpr uint64_t kReadRounds = 4 + 1;  // that are asked, and the one that gathers
constexpr int64_t kLogCheckNs = 100'000'000;

}  // namespace

void ClusterBounds::choose(Random chance, MemberOptions& options) {
  is_small_ = chance.one_in(kSmallLives);
  if (!is_small_) return;
  coverage_.hit("lives with small queues");
  member::MemberOptions& core = options.core;
  core.waiting_bytes_max = uint64_t{500} << chance.below(6);
  core.replication.held_proposals_max = chance.between(2, 10);
  core.replication.held_bytes_max = uint64_t{1000} << chance.below(5);
  core.replication.held_conf_changes_max = chance.between(1, 2);
  core.replication.held_reads_max = chance.between(1, 3);
}

std::string ClusterBounds::check(ClusterNode& node) {
  const member::MemberCore& core = node.member().core();
  const member::MemberOptions& options = node.member_options().core;
  if (core.waiting_bytes() > options.waiting_bytes_max) {
    return fmt::format("{} bytes of proposals wait, of {}", core.waiting_bytes(), options.waiting_bytes_max);
  }
  const auto& replication = options.replication;
  const uint64_t held_max =
      replication.held_proposals_max + 2 * replication.held_conf_changes_max + kReadRounds * replication.held_reads_max;
  const size_t held = core.replication().held_count();
  uint64_t& over = steps_over_[node.place()];
  over = held > held_max ? over + 1 : 0;
  if (over > kStepsOverMax) return fmt::format("{} requests are held, of {}", held, held_max);
  if (is_small_ && held == replication.held_proposals_max) coverage_.hit("as many proposals held as may be");
  return check_log(node);
}

// The log in memory has what is not applied or not stable yet; more only as far as the options say.
std::string ClusterBounds::check_log(ClusterNode& node) {
  int64_t& checked_ns = log_checked_ns_[node.place()];
  if (node.schedule().now_ns() - checked_ns < kLogCheckNs) return {};
  checked_ns = node.schedule().now_ns();
  const uint64_t bytes = node.member().core().replication().log_bytes();
  const uint64_t bytes_max = node.member_options().bootstrap.raft_log.memory_bytes_max;
  if (bytes <= bytes_max) return {};
  const raft::Core& raft = node.raft();
  std::vector<raft::Entry> entries;
  const Index first = std::min(raft.applied(), raft.stable_index()) + 1;
  if (!raft.entries(first, raft.last_index() + 1, UINT64_MAX, entries)) return {};
  uint64_t needed = 0;
  for (const raft::Entry& entry : entries) needed += raft::cost_bytes(entry);
  coverage_.hit("more log in memory than may be, all of it needed");
  if (bytes <= std::max(needed, bytes_max)) return {};
  return fmt::format("{} bytes of log are in memory, of {}, and only {} are not applied", bytes, bytes_max, needed);
}

}  // namespace cairn::sim
