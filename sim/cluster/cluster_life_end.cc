// Of a life of a cluster: its end. Everything is healed, all come to agree, and what was seen is judged.
#include <algorithm>
#include <fstream>
#include <utility>

#include <fmt/format.h>

#include "sim/cluster/cluster_life.h"
#include "sim/cluster/patience.h"
#include "sim/cluster/recording.h"
#include "sim/directory.h"
#include "sim/history/judge.h"
#include "sim/history/record_json.h"

namespace cairn::sim {
namespace {

constexpr int64_t kSecond = 1'000'000'000;
// After everything is healed: until a put succeeds, and until all agree.
constexpr int64_t kProgressNsMax = 20 * kSecond;
constexpr int64_t kCatchingUpNsMax = 120 * kSecond;  // the same where a member has much of the log to take in
constexpr uint64_t kOverloadEntries = 200;           // committed meanwhile
constexpr int64_t kProbeNs = kSecond / 100;
constexpr int64_t kAgreementNsMax = 90 * kSecond;  // a removed member may wait for a minute
constexpr int64_t kSettlingNsMax = 10 * kSecond;   // of who watches
constexpr int64_t kLeaseSlackNs = 3 * kSecond;
constexpr int64_t kLeaseNsMax = 200 * kSecond;
constexpr int64_t kStopNsMax = 60 * kSecond;

}  // namespace

// Everything works again: soon a put at any member succeeds, if it is not still taking in the log.
void ClusterLife::heal() {
  note("all is healed");
  faults_->end();
  plots_->end();
  if (links_) links_->end();
  if (operators_) operators_->end();
  deadly_.reset();
  transfers_.options().slow_one_in = transfers_.options().broken_one_in = transfers_.options().given_up_one_in = 0;
  const int64_t healed_ns = schedule_.now_ns();
  std::map<size_t, uint64_t> probes;    // by place
  std::map<size_t, int64_t> probed_ns;  // by place: one that is refused at once is not put again at the same moment
  const auto succeeds = [&] {
    bool all = !operators_ || operators_->is_done();
    for (const auto& node : nodes_) {
      if (!is_member(node->place())) continue;
      uint64_t& probe = probes[node->place()];
      const bool has_failed = probe == 0 || judge_.call(probe).state == ClusterCall::State::kUnknown ||
                              judge_.call(probe).state == ClusterCall::State::kRefused;
      if (has_failed && schedule_.now_ns() >= probed_ns[node->place()] + kProbeNs) {
        probed_ns[node->place()] = schedule_.now_ns();
        probe = node->is_running() ? clients_->probe(node->place()) : 0;
      }
      all = all && probe != 0 && judge_.call(probe).state == ClusterCall::State::kAnswered;
    }
    return all;
  };
  Patience patience(healed_ns, kProgressNsMax);
  bool has_succeeded = false;
  const auto is_over = [&] {
    has_succeeded = succeeds();
    // Its leader may still have to commit what it was left with.
    const auto leads = leader_of(nodes_);
    const Index last = leads ? std::max(judge_.last(), nodes_[*leads]->raft().last_index()) : judge_.last();
    for (const auto& node : nodes_) {
      if (!is_member(node->place()) || !node->is_running()) continue;
      patience.note(node->place(), last.value - node->member().apply().applied().value, schedule_.now_ns());
    }
    return has_succeeded || patience.is_over(schedule_.now_ns());
  };
  const auto waits = [&] { return live(kCatchingUpNsMax, is_over) && has_succeeded; };
  // What is taken is committed, entry by entry, and the leader's own put waits behind it for longer than it may.
  const auto is_overloaded = [&, healed = judge_.last()] {
    const auto leads = leader_of(nodes_);
    if (!violation_.empty() || !leads || probes[*leads] == 0) return false;
    return judge_.last().value - healed.value >= kOverloadEntries &&
           judge_.call(probes[*leads]).state != ClusterCall::State::kAnswered;
  };
  if (!waits() && is_overloaded()) {
    coverage_.hit("lives whose clients ask for more than their cluster can do");
    clients_->end();
    patience = Patience(schedule_.now_ns(), kProgressNsMax);
    waits();
  }
  if (!has_succeeded) {
    is_stuck_ = violation_.empty() && is_cut_off_by_removal();
    if (is_stuck_) return coverage_.hit("lives that end with the removal of one of two");
    std::string left;
    for (const auto& [place, probe] : probes) {
      const bool is_answered = probe != 0 && judge_.call(probe).state == ClusterCall::State::kAnswered;
      if (is_member(place) && !is_answered) left += fmt::format(" {}", place);
    }
    return violation("puts do not succeed after all is healed at" + left + describe());
  }
  coverage_.hit("virtual ms from healing to puts", static_cast<uint64_t>(schedule_.now_ns() - healed_ns) / 1'000'000);
}

std::string ClusterLife::describe() const {
  std::string out;
  for (const auto& node : nodes_) {
    if (!node->is_running() && !is_member(node->place())) continue;
    out += fmt::format("; {}{}: {}", node->place(), is_member(node->place()) ? "" : ", a stranger",
                       node->is_running() ? node->member().describe() : "down");
  }
  return out;
}

bool ClusterLife::agree() const {
  for (const auto& node : nodes_) {
    if (!is_member(node->place())) continue;
    if (!node->is_running() || node->member().apply().applied() != judge_.last()) return false;
    if (node->raft().last_index() != judge_.last()) return false;
  }
  return true;
}

void ClusterLife::converge() {
  clients_->end();
  if (!live(kAgreementNsMax, [this] { return agree() && removed_are_gone(); })) {
    return violation(fmt::format("the members do not agree, entry {} is the last{}", judge_.last(), describe()));
  }
  watchers_->settle();
  // A removal that somebody has kept may be an entry only now: who is removed so has no news for its watchers until it
  // ends.
  int64_t agreed_ns = schedule_.now_ns();
  bool has_settled = false;
  const auto is_over = [&] {
    if (!agree() || !removed_are_gone()) agreed_ns = schedule_.now_ns();
    has_settled = watchers_->settled();
    return has_settled || schedule_.now_ns() - agreed_ns > kSettlingNsMax;
  };
  if (!live(kAgreementNsMax + kSettlingNsMax, is_over) || !has_settled) {
    return violation(fmt::format("who watches does not have all up to revision {}{}", judge_.model().newest().revision,
                                 watchers_->describe()));
  }
  for (const auto& node : nodes_) {
    if (node->is_running()) clients_->hash(*node);
  }
  compare_members();
  if (violation_.empty() && (chance_.one_in(3) || options_.renews_for_ever)) outlive_leases();
}

void ClusterLife::renew_all() {
  const auto leads = leader_of(nodes_);
  if (!leads || schedule_.now_ns() < renewed_ns_ + kSecond / 2) return;
  renewed_ns_ = schedule_.now_ns();
  for (int64_t id = 1; id <= kLeases; ++id) {
    nodes_[*leads]->ask({.kind = member::LeaseRequest::Kind::kRenew, .id = id, .tag = kRenewalTag}, renewed_ns_);
  }
}

// Nobody renews any more: leases end at last, counted from when the leader began to lead. One may be granted meanwhile:
// a member has kept the request while nobody led.
void ClusterLife::outlive_leases() {
  if (is_for_etcd() || judge_.longest_lease() == 0) return;
  const int64_t slack_ns = 2 * common_.core.leases.extension_ns + kLeaseSlackNs;
  std::optional<size_t> leads;
  int64_t since_ns = schedule_.now_ns();
  const bool have_ended = live(kLeaseNsMax, [&] {
    const auto now_leads = leader_of(nodes_);
    if (now_leads != leads) since_ns = schedule_.now_ns();
    leads = now_leads;
    if (options_.renews_for_ever) renew_all();
    return schedule_.now_ns() > judge_.leases_end_ns(since_ns) + slack_ns || judge_.longest_lease() == 0;
  });
  if (!violation_.empty()) return;
  if (!have_ended || judge_.longest_lease() != 0) {
    return violation(fmt::format("a lease of {} s lives on, and nobody has renewed it for {} ms{}",
                                 judge_.longest_lease(), (schedule_.now_ns() - since_ns) / 1'000'000, describe()));
  }
  coverage_.hit("lives that outlive their leases");
}

void ClusterLife::stop() {
  watchers_->leave();
  if (operators_) operators_->leave();
  is_stopping_ = true;
  for (const auto& node : nodes_) {
    if (node->is_running()) node->stop(schedule_.now_ns());
  }
  const bool stopped = live(kStopNsMax, [this] {
    return std::all_of(nodes_.begin(), nodes_.end(),
                       [](const auto& node) { return !node->is_running() || node->member().stopped(); });
  });
  if (!stopped) return violation("a member does not stop" + describe());
  judge_.check_answered();
  for (const auto& node : nodes_) {
    if (!node->is_running()) continue;
    const Index applied = node->member().apply().applied();
    watchers_->on_gone(*node);
    node->kill();
    check_left_over(*node, applied);
  }
}

void ClusterLife::check_left_over(ClusterNode& node, std::optional<Index> applied) {
  is_aside_ = true;
  const auto state = check_directory(node.fs(), node.directories(), judge_.model(), applied.value_or(Index{}));
  is_aside_ = false;
  if (!state) return violation(fmt::format("the directory of member {}: {}", node.place(), state.error().message));
  if (applied && state->consistent != *applied) {
    violation(
        fmt::format("after its stop the db of member {} is at {} of {}", node.place(), state->consistent, *applied));
  }
}

// Also of a life that has failed: somebody may want to read it.
void ClusterLife::judge_history() {
  std::vector<NodeId> members;
  for (const auto& node : nodes_) members.emplace_back(node->member_id());
  history_ = history_of(judge_, members, watchers_->take());
  if (!options_.history_path.empty()) std::ofstream(options_.history_path, std::ios::binary) << to_json(history_);
  if (!violation_.empty()) return;
  const Verdict verdict = sim::judge(history_);
  if (!verdict.violations.empty()) return violation("the history: " + verdict.violations.front());
  if (!verdict.unjudged.empty()) return violation("the history cannot be judged: " + verdict.unjudged);
  coverage_.hit("writes in histories", verdict.writes);
  coverage_.hit("reads in histories", verdict.reads + verdict.serializable_reads);
  coverage_.hit("unknown outcomes that were applied", verdict.unknown_applied);
}

}  // namespace cairn::sim
