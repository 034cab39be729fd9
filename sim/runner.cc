#include "sim/runner.h"

#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <span>

#include <fmt/format.h>

#include "base/check.h"
#include "base/fault.h"
#include "base/log.h"
#include "sim/cluster/cluster_life.h"
#include "sim/life.h"
#include "sim/step_kinds.h"

namespace cairn::sim {
namespace {

// A child writes lines to its pipe: "begin SEED", "count TIMES what", then "ok SEED" or "fail SEED text".
struct Child {
  pid_t pid = -1;
  int pipe = -1;
  std::string unread;
  std::optional<uint64_t> living;  // the seed of the life that has begun and not ended
  uint64_t next_seed = 0;          // where a successor goes on
  uint64_t end_seed = 0;
  uint64_t step = 1;
};

int child_pipe = -1;

void send(const std::string& line) {
  size_t done = 0;
  while (done < line.size()) {
    const ssize_t n = ::write(child_pipe, line.data() + done, line.size() - done);
    if (n <= 0) std::_Exit(3);
    done += static_cast<size_t>(n);
  }
}

std::string one_line(std::string text) {
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text;
}

template <class AnyLife>
void live_one(AnyLife life, uint64_t seed) {
  send(fmt::format("begin {}\n", seed));
  const std::string violation = life->run();
  for (const auto& [what, times] : life->coverage().counts()) send(fmt::format("count {} {}\n", times, what));
  send(violation.empty() ? fmt::format("ok {}\n", seed) : fmt::format("fail {} {}\n", seed, one_line(violation)));
}

[[noreturn]] void live(const Child& child, const Runner::Options& options) {
  silence_log();
  std::freopen("/dev/null", "w", stderr);
  set_assertion_hook([](std::string_view text) { send("assertion " + one_line(std::string(text)) + "\n"); });
#ifdef CAIRN_MUTANTS
  set_mutant(options.mutant);
#endif
  for (uint64_t seed = child.next_seed; seed < child.end_seed; seed += child.step) {
    if (options.of_cluster) {
      const bool keeps = !options.histories.empty() && seed % kLivesForOneHistory == 0;
      live_one(std::make_unique<ClusterLife>(
                   ClusterLife::Options{.seed = seed,
                                        .members = options.members,
                                        .has_byte_links = options.over_bytes ? std::optional(true) : std::nullopt,
                                        .history_path = keeps ? history_path(options.histories, seed) : ""}),
               seed);
    } else {
      live_one(std::make_unique<Life>(Life::Options{.seed = seed}), seed);
    }
  }
  std::_Exit(0);
}

void spawn(Child& child, const Runner::Options& options) {
  int ends[2];
  CAIRN_ASSERT(::pipe(ends) == 0);
  std::fflush(nullptr);
  child.pid = ::fork();
  CAIRN_ASSERT(child.pid >= 0);
  if (child.pid == 0) {
    ::close(ends[0]);
    child_pipe = ends[1];
    live(child, options);
  }
  ::close(ends[1]);
  child.pipe = ends[0];
  child.unread.clear();
  child.living.reset();
}

}  // namespace

std::string history_path(const std::string& directory, uint64_t seed) {
  return fmt::format("{}/{}.jsonl", directory, seed);
}

void silence_log() {
  log::set_sink([](const log::Entry&) {}, log::Level::kFatal);
}

Runner::Outcome Runner::run() {
  Outcome out;
  const auto began = std::chrono::steady_clock::now();
  const auto elapsed = [&] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count(); };
  std::vector<Child> children(std::max<uint64_t>(1, std::min(options_.jobs, options_.lives)));
  for (size_t i = 0; i < children.size(); ++i) {
    children[i].next_seed = options_.first_seed + i;
    children[i].end_seed = options_.first_seed + options_.lives;
    children[i].step = children.size();
    spawn(children[i], options_);
  }
  std::string assertion;
  double next_progress = 10;
  const auto fail = [&](uint64_t seed, const std::string& text) {
    out.failures.push_back({seed, text});
    if (!options_.progress) return;
    fmt::print("FAILED: {}\n        {}\n", options_.of_cluster ? cluster_replay_command(seed) : replay_command(seed),
               text);
    std::fflush(stdout);
  };
  const auto take_line = [&](Child& child, const std::string& line) {
    uint64_t number = 0;
    const size_t space = line.find(' ');
    const std::string word = line.substr(0, space);
    const std::string rest = line.substr(space + 1);
    if (word == "assertion") {
      assertion = rest;
      return;
    }
    char* end = nullptr;
    number = std::strtoull(rest.c_str(), &end, 10);
    const std::string text = *end == ' ' ? end + 1 : "";
    if (word == "begin") {
      child.living = number;
      child.next_seed = number + child.step;
    } else if (word == "ok" || word == "fail") {
      child.living.reset();
      ++out.lives;
      if (word == "fail") fail(number, text);
    } else if (word == "count") {
      out.coverage.hit(text, number);
    }
  };
  size_t running = children.size();
  while (running > 0 && out.failures.size() < options_.failures_max) {
    std::vector<pollfd> polls;
    for (const Child& child : children) polls.push_back({child.pipe, POLLIN, 0});
    ::poll(polls.data(), polls.size(), 1000);
    for (size_t i = 0; i < children.size(); ++i) {
      Child& child = children[i];
      if (child.pipe < 0 || (polls[i].revents & (POLLIN | POLLHUP)) == 0) continue;
      char buffer[65536];
      const ssize_t n = ::read(child.pipe, buffer, sizeof buffer);
      if (n > 0) {
        child.unread.append(buffer, static_cast<size_t>(n));
        size_t at = 0;
        for (size_t end = child.unread.find('\n'); end != std::string::npos; end = child.unread.find('\n', at)) {
          take_line(child, child.unread.substr(at, end - at));
          at = end + 1;
        }
        child.unread.erase(0, at);
        continue;
      }
      ::close(std::exchange(child.pipe, -1));
      int status = 0;
      ::waitpid(std::exchange(child.pid, -1), &status, 0);
      --running;
      if (!child.living) continue;
      ++out.lives;
      const std::string signal = WIFSIGNALED(status) ? fmt::format("signal {}", WTERMSIG(status)) : "exit";
      fail(*child.living, assertion.empty() ? signal : std::exchange(assertion, {}));
      if (child.next_seed < child.end_seed && out.failures.size() < options_.failures_max) {
        spawn(child, options_);
        ++running;
      }
    }
    if (options_.progress && elapsed() > next_progress) {
      next_progress += 10;
      fmt::print("{:>6.0f} s  {} of {} lives, {:.0f}/s, {} failed\n", elapsed(), out.lives, options_.lives,
                 static_cast<double>(out.lives) / elapsed(), out.failures.size());
      std::fflush(stdout);
    }
  }
  for (Child& child : children) {
    if (child.pid <= 0) continue;
    ::kill(child.pid, SIGKILL);
    ::waitpid(child.pid, nullptr, 0);
    ::close(child.pipe);
  }
  out.seconds = elapsed();
  std::sort(out.failures.begin(), out.failures.end(), [](const auto& a, const auto& b) { return a.seed < b.seed; });
  return out;
}

namespace {

// Of src/rpc, of a flag, and of what other members send.
constexpr std::string_view kNotOfMember[] = {"beforeSendWatchResponse",      "beforeRangeStreamChunk",
                                             "beforeCheckpointInLeaseRenew", "beforeLookupWhenForwardLeaseTimeToLive",
                                             "beforeServeHTTPLeaseRenew",    "mlockError",
                                             "applyBeforeOpenSnapshot",      "applyAfterOpenSnapshot",
                                             "raftBeforeSaveSnap",           "raftAfterSaveSnap",
                                             "raftBeforeApplySnap",          "raftAfterApplySnap",
                                             "raftAfterWALRelease",          "raftDropHeartbeat"};
// Of src/rpc, of a flag, of the transport, and of a defragmentation, which no client of a cluster asks for.
constexpr std::string_view kNotOfClusters[] = {"beforeSendWatchResponse",
                                               "beforeRangeStreamChunk",
                                               "beforeCheckpointInLeaseRenew",
                                               "beforeLookupWhenForwardLeaseTimeToLive",
                                               "beforeServeHTTPLeaseRenew",
                                               "mlockError",
                                               "defragBeforeCopy",
                                               "defragBeforeRename",
                                               "defragOpenFileError",
                                               "defragdbFail",
                                               "raftDropHeartbeat"};

void note_unreached_points(const Coverage& coverage, std::span<const std::string_view> but,
                           std::vector<std::string>& out) {
  for (const fault::PointInfo& point : fault::kPoints) {
    const std::string what = fmt::format("fault point {}", point.name);
    if (std::ranges::find(but, point.name) == but.end() && coverage.count(what) == 0) out.push_back(what);
  }
}

}  // namespace

std::vector<std::string> never_reached(const Coverage& coverage) {
  std::vector<std::string> out;
  for (const char* what : {"alarm raised by the member",
                           "alarm withdrawn by the member",
                           "announced",
                           "answers",
                           "answers that refuse",
                           "applied though the db is full",
                           "auto-compactions",
                           "both buffers full",
                           "clean stops",
                           "commit asked for",
                           "commit tried again for want of space",
                           "commits",
                           "commits with a part of a pass",
                           "crash during the start",
                           "crashes with something unsynced",
                           "death at a fault point",
                           "death before a rename",
                           "death before a sync",
                           "death before a write",
                           "disk error in a sync",
                           "disk error in a write",
                           "disk full in a write",
                           "fail-stop after a disk error",
                           "disk error in a create",
                           "disk error in a read",
                           "disk error in a rename",
                           "disk error in a sync directory",
                           "disk full in a allocate",
                           "defragmentations",
                           "ends of the db cut",
                           "free pages punched",
                           "commits that move nothing because of an old view",
                           "passing fault in a punch",
                           "power cut in a punch",
                           "disk full in a create",
                           "hash",
                           "image",
                           "checkpoints of leases",
                           "index checkpoints",
                           "leases that ran out",
                           "leases with too many keys for an answer",
                           "lists of leases",
                           "lists of leases in parts",
                           "renewals",
                           "renewals of leases that are gone",
                           "renewals that clear a rest",
                           "the process stands still",
                           "linearizable read with a round",
                           "linearizable read without a round",
                           "passing fault in a allocate",
                           "passing fault in a write",
                           "physical compaction answered",
                           "power cut between operations",
                           "power cut in a create",
                           "power cut in a remove",
                           "power cut in a rename",
                           "power cut in a sync",
                           "power cut in a sync directory",
                           "power cut in a truncate",
                           "power cut in a write",
                           "power cut in a allocate",
                           "proposals wait before the log",
                           "refused for want of room in a queue",
                           "restart of the process alone",
                           "segments cut",
                           "segments released",
                           "spare segments given back",
                           "spare segments taken",
                           "starts and ends with leases",
                           "stops under load",
                           "stops without room for the db",
                           "starts with a snapshot",
                           "starts with --force-new-cluster",
                           "another program wrote to the db",
                           "another start on the directory",
                           "disk error in a list",
                           "disk error in a map",
                           "disk error in a open",
                           "lives with the log on another device",
                           "sync that failed",
                           "progress of all watchers of a stream",
                           "watch events",
                           "watch streams that stand still",
                           "watchers from now on",
                           "watchers from the future",
                           "watchers from the past",
                           "watchers that go on after a start",
                           "watchers whose history is compacted",
                           "history read for watchers",
                           "written, and refused by the quota"}) {
    if (coverage.count(what) == 0) out.emplace_back(what);
  }
  note_unreached_points(coverage, kNotOfMember, out);
  for (const std::string_view kind : step_kinds()) {
    if (coverage.count(std::string(kind)) == 0) out.emplace_back(kind);
  }
  return out;
}

std::vector<std::string> never_reached_by_clusters(const Coverage& coverage) {
  std::vector<std::string> out;
  for (const char* what :
       {"answers",
        "answers that refuse",
        "as many proposals held as may be",
        "byte links: POSTs",
        "byte links: bytes lost with their connection",
        "byte links: bytes sent again",
        "byte links: connections broken",
        "byte links: connections refused",
        "byte links: connections that time out",
        "byte links: cut in the middle of a frame",
        "byte links: frames in chunks",
        "byte links: full",
        "byte links: half open, and given up by who reads",
        "byte links: messages dropped from a full queue",
        "byte links: streams dialled again",
        "calls given up",
        "death at a fault point",
        "deaths reported",
        "effect: install a snapshot",
        "effect: read the log",
        "elections",
        "fault: bad network",
        "fault: death at a fault point",
        "fault: jump of the wall clock",
        "fault: leader alone",
        "fault: leader killed",
        "fault: leader moved",
        "fault: leader paused",
        "fault: one-way cut",
        "fault: partial cut",
        "fault: partition",
        "fault: power cut",
        "fault: power cut in an operation",
        "fault: power cut of all",
        "fault: process killed",
        "fault: process paused",
        "fault: slow disk",
        "fault: stalled disk",
        "disks lost",
        "joiner caught up by a snapshot",
        "joiners started",
        "joiners that cannot start yet",
        "leader removed",
        "lives that change their members",
        "lives with small queues",
        "more log in memory than may be, all of it needed",
        "lives that change them without a check",
        "member add done",
        "member add: etcdserver: Peer URLs already exists",
        "member add: etcdserver: too many learner members in cluster",
        "member promote done",
        "member promote not proposed: etcdserver: can only promote a learner member which is in sync with leader",
        "member promote: etcdserver: can only promote a learner member",
        "member remove done",
        "member remove: etcdserver: member not found",
        "member update done",
        "member update: etcdserver: Peer URLs already exists",
        "member update: etcdserver: member not found",
        "promotions asked of another member",
        "removed member talked",
        "removed members started again",
        "removed members that have ended",
        "removed members told by others",
        "wiped member refused after its removal",
        "wiped member refused before its removal",
        "wiped member returned",
        "leaders deposed",
        "linearizable reads",
        "lives of 3 members",
        "lives of 5 members",
        "lives of mixed versions",
        "cluster version 3.4.0",
        "cluster version 3.5.0",
        "cluster version 3.6.0",
        "cluster version changed",
        "members asked for their versions",
        "members of an older version replaced",
        "message doubled",
        "message into a cut path",
        "message lost",
        "message lost with its connection",
        "message out of order",
        "message to nobody",
        "power cuts with something unsynced",
        "renewals",
        "serializable reads",
        "snapshots broken on their way",
        "snapshots delivered",
        "snapshots given up by who sends them",
        "snapshots installed",
        "snapshots sent",
        "snapshots sent during another one",
        "snapshots whose receiver dies",
        "hashes",
        "history read for watchers",
        "leases that ran out",
        "lives that outlive their leases",
        "members compared",
        "progress of watchers",
        "reads in histories",
        "reads that are refused",
        "unknown outcomes that were applied",
        "watch events",
        "watch responses lost with their connection",
        "watchers from now on",
        "watchers from the future",
        "watchers from the past",
        "watchers that go on at another member",
        "watchers that stand still",
        "watchers whose history is compacted",
        "writes in histories"}) {
    if (coverage.count(what) == 0) out.emplace_back(what);
  }
  note_unreached_points(coverage, kNotOfClusters, out);
  return out;
}

}  // namespace cairn::sim
