// cairn_check_history: judges recorded histories.
//
//     cairn_check_history FILE...              lines of JSON (record_json.h); - is standard input
//     cairn_check_history --generate SEED [--lie NAME] [--operations N] [--watched]
//                                              prints a random history of a correct cluster, with requests that etcd's
//                                              model knows too; with a lie in it; without a log
//     cairn_check_history --lies               the names of the lies that etcd's validate can find
//
// Ends with 0: right; 1: violations; 2: it cannot be judged, or not be read; 3: the lie does not fit this history.
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <string>
#include <string_view>

#include <fmt/format.h>

#include "sim/history/generator.h"
#include "sim/history/judge.h"
#include "sim/history/mutations.h"
#include "sim/history/record_json.h"

namespace cairn::sim {
namespace {

constexpr int kRight = 0;
constexpr int kWrong = 1;
constexpr int kUnjudged = 2;
constexpr int kNoPlace = 3;

int check(const std::string& path) {
  std::ifstream file;
  if (path != "-") file.open(path, std::ios::binary);
  std::istream& in = path == "-" ? std::cin : file;
  auto history =
      path != "-" && !file.is_open() ? Result<History>(fail(Code::kNotFound, "cannot be read")) : history_from_json(in);
  if (history && in.bad()) history = fail(Code::kNotFound, "cannot be read");
  if (!history) {
    fmt::print("{}: {}\n", path, history.error().message);
    return kUnjudged;
  }
  const Verdict verdict = judge(*history);
  for (const std::string& one : verdict.violations) fmt::print("{}: {}\n", path, one);
  if (!verdict.unjudged.empty()) fmt::print("{}: it cannot be judged: {}\n", path, verdict.unjudged);
  fmt::print(
      "{}: {}: {} operations: {} writes up to revision {} ({} of unknown outcome), {} reads, {} serializable; {} "
      "watches, {} events\n",
      path, verdict.ok() ? "right" : "WRONG", history->operations.size(), verdict.writes, verdict.revision,
      verdict.unknown_applied, verdict.reads, verdict.serializable_reads, history->watches.size(),
      verdict.watch_events);
  if (!verdict.violations.empty()) return kWrong;
  return verdict.unjudged.empty() ? kRight : kUnjudged;
}

int print_random(int count, char** arguments) {
  GeneratorOptions options{.seed = std::strtoull(arguments[0], nullptr, 0), .is_for_etcd = true};
  std::string lie;
  bool is_watched = false;
  for (int i = 1; i < count; ++i) {
    const std::string_view argument = arguments[i];
    if (argument == "--watched") is_watched = true;
    if (argument == "--lie" && i + 1 < count) lie = arguments[++i];
    if (argument == "--operations" && i + 1 < count) options.operations = std::strtoull(arguments[++i], nullptr, 0);
  }
  History history = generate(options);
  if (!lie.empty()) {
    Random chance(options.seed);
    bool is_told = false;
    for (const Mutation& one : mutations()) {
      if (one.name == lie) is_told = one.apply(history, chance);
    }
    if (!is_told) return kNoPlace;
  }
  if (is_watched) history.log.clear();
  std::cout << to_json(history);
  return kRight;
}

int run(int count, char** arguments) {
  const std::string_view first = count > 1 ? arguments[1] : "";
  if (first == "--generate" && count > 2) return print_random(count - 2, arguments + 2);
  if (first == "--lies") {
    for (const Mutation& one : mutations()) {
      if (one.is_known_to_etcd) std::cout << one.name << "\n";
    }
    return kRight;
  }
  if (count < 2 || first.starts_with("--")) {
    std::cerr
        << "usage: cairn_check_history FILE... | --generate SEED [--lie NAME] [--operations N] [--watched] | --lies\n";
    return kUnjudged;
  }
  int worst = kRight;
  for (int i = 1; i < count; ++i) {
    const int result = check(arguments[i]);
    if (worst != kWrong && result != kRight) worst = result;
  }
  return worst;
}

}  // namespace
}  // namespace cairn::sim

int main(int count, char** arguments) { return cairn::sim::run(count, arguments); }
