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
constexpr uint64_t kCountedBytesMax = 1 << 20;  // more is in no life's log

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

// What a new leader replaces is in memory until what takes its place is stable: the log's first entries that raft shows
// may be others than those in memory.
std::string check_log_in_memory(const member::RaftLog& log, Index may_leave, uint64_t bytes_max) {
  std::vector<raft::Entry> entries;
  const bool is_there = log.entries(log.memory_first(), log.last_index() + 1, UINT64_MAX, entries).has_value();
  uint64_t bytes = 0;
  for (const raft::Entry& entry : entries) bytes += raft::cost_bytes(entry);
  if (!is_there || bytes != log.memory_bytes()) {
    return fmt::format("{} bytes of log are in memory, and it says {}", bytes, log.memory_bytes());
  }
  if (bytes <= bytes_max || log.memory_first() > may_leave) return {};
  return fmt::format(
      "{} bytes of log are in memory, of {}, from entry {} on, though all up to {} are applied and stable", bytes,
      bytes_max, log.memory_first(), may_leave);
}

std::string ClusterBounds::check_log(ClusterNode& node) {
  int64_t& checked_ns = log_checked_ns_[node.place()];
  if (node.schedule().now_ns() - checked_ns < kLogCheckNs) return {};
  checked_ns = node.schedule().now_ns();
  const member::RaftLog& log = node.member().core().replication().log();
  const uint64_t bytes_max = node.member_options().bootstrap.raft_log.memory_bytes_max;
  if (bytes_max > kCountedBytesMax) return {};
  if (log.memory_bytes() > bytes_max) coverage_.hit("more log in memory than may be, all of it needed");
  return check_log_in_memory(log, std::min(node.raft().applied(), node.raft().stable_index()), bytes_max);
}

}  // namespace cairn::sim
