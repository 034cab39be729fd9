// cairn_sim_mutants: deliberate bugs, one at a time, each of which the simulator must find. A simulator that finds
// nothing proves nothing.
//
// Built with CAIRN_MUTANTS (base/check.h), from the same sources.
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <span>
#include <string_view>

#include <fmt/format.h>

#include "base/check.h"
#include "sim/cluster/cluster_life.h"
#include "sim/life.h"
#include "sim/runner.h"

namespace {

using namespace cairn;

constexpr uint64_t kSeedsMax = 5000;
constexpr uint64_t kSeedsUnharmed = 200;

constexpr const char* kMutants[] = {
    "server.answer_before_sync",
    "server.consistent_index_apart",
    "server.meta_before_wal_sync",
    "server.segment_released_before_commit",
    "server.checkpoint_newer_than_db",
    "server.checkpoint_older_than_pass",
    "server.later_compaction_trimmed",
    "server.checkpoint_renamed_before_sync",
    "server.pass_before_compact_entry",
    "server.finished_compaction_early",
    "server.snapshot_record_before_file",
    "server.lease_attachment_lost",
    "server.compaction_resumed_at_wrong_revision",
    "server.forced_start_gives_up_entries",
    "lease.early_after_restart",
    "lease.renewal_not_counted",
    "lease.rest_not_cleared",
    "lease.attachment_kept_after_put",
    "lease.checkpoint_ignored",
    "lease.not_quiet_after_a_pause",
    "auth.old_revision_believed",
    "auth.permissions_kept_after_revocation",
    "auth.prev_kv_is_no_read",
    "auth.nested_txn_not_looked_at",
    "auth.checked_when_proposed_only",
    "auth.watch_checked_before_normalised",
    "mvcc.revision_reused_after_failed_txn",
    "server.stop_before_last_commit",
    "server.buffer_freed_under_view",
    "server.no_space_cleared_without_room",
    "watch.told_before_published",
    "watch.batch_skipped_at_registration",
    "watch.duplicate_after_catch_up",
    "watch.main_revision_split",
    "watch.progress_ahead_of_events",
    "watch.prev_kv_of_wrong_revision",
    "mvcc.epoch_without_second_load",
    "mvcc.root_published_before_buffer",
    "mvcc.node_freed_under_root",
    "storage.branch_key_left_behind",
    "storage.freed_page_reused_early",
    "storage.freed_page_reused_under_view",
    "storage.meta_before_pages_sync",
    "storage.found_pages_used_early",
    "storage.found_pages_count_as_used",
    "storage.unsealed_freelist_trusted",
    "storage.retry_without_give_back",
    "storage.moved_leaf_keeps_its_old_place",
    "storage.cut_before_both_metas_agree",
    "storage.punched_under_view",
    "storage.hole_taken_without_allocating",
    "storage.cut_holes_forgotten",
    "storage.open_without_sync",
    "storage.open_without_directory_sync",
    "storage.metas_not_written_again",
    "wal.no_directory_sync",
    "wal.release_too_far",
    "wal.torn_tail_accepted",
    "wal.open_without_sync",
    "wal.open_without_directory_sync",
    "wal.tail_not_written_again",
    "wal.tail_not_cleared",
    "wal.spare_not_zeroed",
    "wal.old_segment_not_synced_at_cut",
};

// In lives of clusters.
constexpr uint64_t kClusterSeedsMax = 2000;
constexpr uint64_t kClusterSeedsUnharmed = 50;
struct ClusterMutant {
  const char* name;
  bool is_quick = false;  // found in a few lives, so that a short run hunts it
};
constexpr ClusterMutant kClusterMutants[] = {
    {"cluster.removed_id_returns"},
    {"lease.endless_after_failover", true},
    {"peer.stream_state_kept", true},
    {"raft.conf_change_counted_early"},
    {"raft.heartbeat_commit_unclamped", true},
    {"raft.learner_counted"},
    {"raft.own_vote_before_sync"},
    {"raft.read_before_first_commit"},
    {"raft.read_without_quorum"},
    {"raft.snapshot_conf_ignored"},
    {"raft.vote_before_sync"},
    {"raft.vote_for_a_shorter_log", true},
    {"raft.vote_forgotten_on_restart"},
    {"server.alone_read_beside_another_voter"},
    {"server.answer_before_sync", true},
    {"server.append_acknowledged_before_sync", true},
    {"server.forwarded_count_kept_over_terms"},
    {"server.forwarded_twice_appended", true},
    {"server.held_without_bound", true},
    {"server.image_renamed_before_record", true},
    {"server.index_not_rebuilt_at_installation", true},
    {"server.leases_kept_over_installation", true},
    {"server.log_kept_in_memory", true},
    {"server.log_leaves_memory_before_it_is_stable"},
    {"server.proposed_again_too_early", true},
    {"server.read_before_its_index_is_applied", true},
    {"server.tables_newer_than_the_cluster"},
    {"server.users_not_loaded_at_installation", true},
    {"server.verdict_on_the_wrong_entry"},
    {"server.waiting_without_bound"},
    {"watch.not_told_during_failover", true},
};
constexpr uint64_t kQuickSeedsMax = 100;
constexpr uint64_t kQuickSeedsUnharmed = 10;

bool hunt(const char* mutant, uint64_t seeds, bool in_clusters) {
  sim::Runner runner({.first_seed = 1,
                      .lives = seeds,
                      .jobs = in_clusters ? uint64_t{2} : 1,
                      .failures_max = 1,
                      .progress = false,
                      .mutant = mutant,
                      .of_cluster = in_clusters});
  const sim::Runner::Outcome outcome = runner.run();
  if (outcome.failures.empty()) {
    fmt::print("{:<46} NOT FOUND in {} lives, {:.0f} s\n", mutant, outcome.lives, outcome.seconds);
  } else {
    const auto& failure = outcome.failures.front();
    fmt::print("{:<46} found in life {}, {:.1f} s; --mutant {} --seed {:#x}: {}\n", mutant, failure.seed,
               outcome.seconds, mutant, failure.seed, failure.text.substr(0, 160));
  }
  std::fflush(stdout);
  return !outcome.failures.empty();
}

// Without a mutant nothing may be found.
bool lives_unharmed(uint64_t seeds, bool in_clusters) {
  sim::Runner runner(
      {.first_seed = 1, .lives = seeds, .jobs = 2, .failures_max = 1, .progress = false, .of_cluster = in_clusters});
  const sim::Runner::Outcome outcome = runner.run();
  for (const auto& failure : outcome.failures) {
    fmt::print("FAILED without a mutant: --mutant none --seed {:#x}: {}\n", failure.seed, failure.text);
  }
  return outcome.failures.empty();
}

// What is freed is overwritten, so that who still looks at it gets something else: a tunable of glibc, read at start.
void overwrite_freed(char** argv) {
  constexpr const char* kVariable = "GLIBC_TUNABLES";
  if (std::getenv(kVariable) != nullptr) return;
  ::setenv(kVariable, "glibc.malloc.perturb=165:glibc.malloc.tcache_count=0", 1);
  ::execv("/proc/self/exe", argv);
}

struct Arguments {
  std::string_view only;
  uint64_t seeds = 0;
  uint64_t seed = 0;
  bool in_clusters = false;
  bool is_quick = false;
};

Arguments parse(int argc, char** argv) {
  Arguments out;
  for (int i = 1; i < argc; ++i) {
    const std::string_view name = argv[i];
    if (name == "--cluster") out.in_clusters = true;
    if (name == "--quick") out.is_quick = true;
    if (i + 1 == argc) break;
    if (name == "--mutant") out.only = argv[i + 1];
    if (name == "--lives") out.seeds = std::strtoull(argv[i + 1], nullptr, 0);
    if (name == "--seed") out.seed = std::strtoull(argv[i + 1], nullptr, 0);
  }
  return out;
}

void live_once(const Arguments& arguments) {
  set_mutant(arguments.only);
  if (arguments.in_clusters) {
    sim::ClusterLife life({.seed = arguments.seed, .verbose = true});
    fmt::print("{}\n", life.run());
  } else {
    sim::Life life({.seed = arguments.seed, .verbose = true});
    fmt::print("{}\n", life.run());
  }
}

bool hunt_all(const Arguments& arguments) {
  bool all_found = true;
  for (const char* mutant : kMutants) {
    if (!arguments.only.empty() && arguments.only != mutant) continue;
    all_found = hunt(mutant, arguments.seeds != 0 ? arguments.seeds : kSeedsMax, false) && all_found;
  }
  return all_found;
}

bool hunt_all_in_clusters(const Arguments& arguments) {
  const uint64_t otherwise = arguments.is_quick ? kQuickSeedsMax : kClusterSeedsMax;
  bool all_found = true;
  for (const auto& [mutant, is_quick] : kClusterMutants) {
    if (!arguments.only.empty() && arguments.only != mutant) continue;
    if (arguments.is_quick && !is_quick) continue;
    all_found = hunt(mutant, arguments.seeds != 0 ? arguments.seeds : otherwise, true) && all_found;
  }
  return all_found;
}

}  // namespace

// [--cluster [--quick]] [--mutant NAME] [--lives N]: hunts that one, or all. --mutant NAME --seed S: one life with it.
int main(int argc, char** argv) {
  overwrite_freed(argv);
  const Arguments arguments = parse(argc, argv);
  if (arguments.seed != 0) {
    live_once(arguments);
    return 0;
  }
  const uint64_t unharmed = !arguments.in_clusters ? kSeedsUnharmed
                            : arguments.is_quick   ? kQuickSeedsUnharmed
                                                   : kClusterSeedsUnharmed;
  const bool is_sound = !arguments.only.empty() || lives_unharmed(unharmed, arguments.in_clusters);
  const bool all_found = arguments.in_clusters ? hunt_all_in_clusters(arguments) : hunt_all(arguments);
  return is_sound && all_found ? 0 : 1;
}
