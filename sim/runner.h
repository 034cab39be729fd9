// sim/runner.h: many lives, in child processes, so that a life that ends in an assertion is one more finding.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "sim/coverage.h"

namespace cairn::sim {

class Runner {
 public:
  struct Options {
    uint64_t first_seed = 1;
    uint64_t lives = 100;
    uint64_t jobs = 2;
    uint64_t failures_max = 10;  // then it stops
    bool progress = true;        // a line now and then
    std::string mutant;          // switched on in the children
    bool of_cluster = false;     // lives of clusters, not of one member
    bool over_bytes = false;     // messages go over byte links in each life of a cluster
    size_t members = 0;          // of each cluster; 0: the seed chooses
    std::string histories{};     // a directory for those of one cluster in a hundred; "": none are kept
  };
  struct Failure {
    uint64_t seed = 0;
    std::string text;
  };
  struct Outcome {
    uint64_t lives = 0;  // that were lived
    double seconds = 0;
    Coverage coverage;
    std::vector<Failure> failures;  // by seed
  };

  explicit Runner(const Options& options) : options_(options) {}
  Outcome run();

 private:
  Options options_;
};

// Where the history of a life stands.
[[nodiscard]] std::string history_path(const std::string& directory, uint64_t seed);

// The cases that a run of many lives should have reached and did not.
[[nodiscard]] std::vector<std::string> never_reached(const Coverage& coverage);
[[nodiscard]] std::vector<std::string> never_reached_by_clusters(const Coverage& coverage);
void silence_log();

}  // namespace cairn::sim
