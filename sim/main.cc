// cairn_sim: lives of a member, or of a cluster, in the simulator; a seed replays one.

#include <charconv>
#include <cstdio>
#include <optional>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "base/log.h"
#include "sim/cluster/cluster_life.h"
#include "sim/coverage.h"
#include "sim/life.h"
#include "sim/runner.h"

namespace {

using namespace cairn;

constexpr uint64_t kLivesToReachAll = 500;

constexpr uint64_t kClusterLivesToReachAll = 100;

constexpr const char* kUsage =
    R"(cairn_sim [--cluster] [--seed S] [--lives N] [--first S] [--jobs N] [--coverage] [--verbose] [--history DIR]
  --seed S    one life; prints what it does with --verbose
  --lives N   so many lives, default 100
  --first S   the seed of the first one; default 1
  --jobs N    processes; default 2
  --coverage  prints how often the lives reached each case and each kind of event and effect of the member, and fails
              when they never reached one; so does a run of 500 lives or more
  --cluster   lives of a cluster
  --members N of the cluster; without it the seed chooses
  --bytes     all messages of the cluster go as bytes over simulated connections, whatever the seed says
  --history DIR  writes there what the clients of a cluster saw, as cairn_check_history reads it: of the life of --seed,
              or of those of one seed in a hundred, whose clients ask only what etcd's own judge knows
)";

struct Arguments {
  std::optional<uint64_t> seed;
  uint64_t lives = 100;
  uint64_t first = 1;
  uint64_t jobs = 2;
  uint64_t members = 0;
  std::string histories;
  bool cluster = false;
  bool coverage = false;
  bool verbose = false;
  bool bytes = false;
};

std::optional<uint64_t> number(std::string_view text) {
  uint64_t value = 0;
  const int base = text.starts_with("0x") ? 16 : 10;
  if (base == 16) text.remove_prefix(2);
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<Arguments> parse(int count, char** values) {
  Arguments out;
  for (int i = 1; i < count; ++i) {
    const std::string_view name = values[i];
    bool* const flag = name == "--verbose"    ? &out.verbose
                       : name == "--coverage" ? &out.coverage
                       : name == "--cluster"  ? &out.cluster
                       : name == "--bytes"    ? &out.bytes
                                              : nullptr;
    if (flag != nullptr) {
      *flag = true;
      continue;
    }
    if (name == "--history" && i + 1 < count) {
      out.histories = values[++i];
      continue;
    }
    const auto value = i + 1 < count ? number(values[++i]) : std::nullopt;
    if (!value) return std::nullopt;
    if (name == "--seed") {
      out.seed = value;
    } else if (name == "--lives") {
      out.lives = *value;
    } else if (name == "--first") {
      out.first = *value;
    } else if (name == "--jobs") {
      out.jobs = *value;
    } else if (name == "--members") {
      out.members = *value;
    } else {
      return std::nullopt;
    }
  }
  return out;
}

// False: something was never reached.
bool report(const sim::Coverage& coverage, bool of_clusters) {
  fmt::print("{:>10}  {}\n", "times", "what");
  for (const auto& [what, times] : coverage.counts()) fmt::print("{:>10}  {}\n", times, what);
  const auto missing = of_clusters ? sim::never_reached_by_clusters(coverage) : sim::never_reached(coverage);
  for (const std::string& what : missing) fmt::print("{:>10}  {}\n", "NEVER", what);
  return missing.empty();
}

std::string live_once(const Arguments& arguments) {
  if (!arguments.cluster) {
    sim::Life life({.seed = *arguments.seed, .verbose = arguments.verbose});
    return life.run();
  }
  const std::string& histories = arguments.histories;
  sim::ClusterLife life({.seed = *arguments.seed,
                         .members = arguments.members,
                         .verbose = arguments.verbose,
                         .has_byte_links = arguments.bytes ? std::optional(true) : std::nullopt,
                         .history_path = histories.empty() ? "" : sim::history_path(histories, *arguments.seed)});
  std::string violation = life.run();
  if (arguments.coverage) report(life.coverage(), true);
  return violation;
}

}  // namespace

int main(int argc, char** argv) {
  const auto arguments = parse(argc, argv);
  if (!arguments) {
    std::fputs(kUsage, stderr);
    return 2;
  }
  if (arguments->seed) {
    std::setvbuf(stdout, nullptr, _IOLBF, 0);  // an assertion leaves what was said before
    if (!arguments->verbose) sim::silence_log();
    const std::string violation = live_once(*arguments);
    if (violation.empty()) {
      fmt::print("seed {:#x}: all held\n", *arguments->seed);
      return 0;
    }
    fmt::print("seed {:#x}: {}\n", *arguments->seed, violation);
    return 1;
  }
  sim::Runner runner({.first_seed = arguments->first,
                      .lives = arguments->lives,
                      .jobs = arguments->jobs,
                      .of_cluster = arguments->cluster,
                      .over_bytes = arguments->bytes,
                      .members = arguments->members,
                      .histories = arguments->histories});
  const sim::Runner::Outcome outcome = runner.run();
  // Many lives that all held prove little if they never met what they are for.
  const uint64_t enough = arguments->cluster ? kClusterLivesToReachAll : kLivesToReachAll;
  const bool many = arguments->coverage || (arguments->lives >= enough && !arguments->bytes);
  const bool blind = many && !report(outcome.coverage, arguments->cluster);
  fmt::print("{} lives in {:.1f} s: {:.0f} lives/s\n", outcome.lives, outcome.seconds,
             static_cast<double>(outcome.lives) / outcome.seconds);
  if (!outcome.failures.empty()) fmt::print("{} FAILED, see above\n", outcome.failures.size());
  if (blind) fmt::print("FAILED: something was never reached, see above\n");
  return outcome.failures.empty() && !blind ? 0 : 1;
}
