#include "sim/cluster/cluster_life.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/check.h"
#include "cluster/membership.h"
#include "mvcc/kv/hash.h"

namespace cairn::sim {
namespace {

constexpr uint64_t kFaultsMin = 10;
constexpr size_t kFaultKindsMin = 3;
constexpr int64_t kSecond = 1'000'000'000;
constexpr uint64_t kEventsMax = 20'000'000;
// After everything is healed: until a put succeeds, and until all agree.
constexpr int64_t kProgressNsMax = 20 * kSecond;
constexpr int64_t kAgreementNsMax = 60 * kSecond;
constexpr int64_t kStopNsMax = 60 * kSecond;

}  // namespace

std::string cluster_replay_command(uint64_t seed) { return fmt::format("./dev sim --cluster --seed {:#x}", seed); }

ClusterLife::ClusterLife(const Options& options)
    : options_(options),
      chance_(options.seed ^ 0x636c7573746572),
      judge_(coverage_, [this](std::string text) { violation(std::move(text)); }),
      network_(schedule_, chance_.fork(), coverage_, [this](size_t to, raft::Message message) {
        ClusterNode& node = *nodes_[to];
        if (!node.is_running()) return coverage_.hit("message to nobody");
        mix(message.index.value);
        node.receive(std::move(message), schedule_.now_ns());
      }) {}

ClusterLife::~ClusterLife() {
  nodes_.clear();
  schedule_.clear();
}

void ClusterLife::violation(std::string text) {
  if (!violation_.empty()) return;
  violation_ = fmt::format("{} members, at {} us: {}", nodes_.size(), schedule_.now_ns() / 1000, text);
}

void ClusterLife::note(const std::string& text) {
  if (options_.verbose) fmt::print("{:>12} us  {}\n", schedule_.now_ns() / 1000, text);
}

void ClusterLife::mix(uint64_t value) {
  fingerprint_ = (fingerprint_ ^ value ^ static_cast<uint64_t>(schedule_.now_ns())) * 0x9e3779b97f4a7c15;
}

// --- what kind of life

void ClusterLife::choose() {
  if (options_.members == 0) {
    constexpr size_t kRare[] = {1, 2, 4, 7};
    options_.members = chance_.one_in(10) ? kRare[chance_.below(4)] : chance_.one_in(3) ? 5 : 3;
  }
  for (size_t i = 0; i < options_.members; ++i) {
    initial_cluster_[fmt::format("m{}", i)] = {fmt::format("http://10.0.0.{}:2380", i + 1)};
  }
  network_.options().delay_mean_ns =
      chance_.one_in(3) ? 50'000 : static_cast<int64_t>(chance_.between(100, 5000)) * 1000;
  if (chance_.one_in(4)) {
    network_.options().loss_one_in = chance_.between(20, 500);
    network_.options().duplicate_one_in = chance_.between(20, 500);
    network_.options().late_one_in = chance_.between(20, 500);
  }
  member::MemberOptions& core = common_.core;
  raft::Config& raft = core.replication.raft;
  constexpr uint32_t kElectionTicks[] = {100, 100, 50, 20};
  raft.election_ticks = kElectionTicks[chance_.below(4)];
  raft.heartbeat_ticks = raft.election_ticks / 10;
  raft.pre_vote = !chance_.one_in(8);
  if (chance_.one_in(3)) raft.max_inflight_messages = static_cast<uint32_t>(chance_.between(1, 8));
  if (chance_.one_in(3)) raft.max_bytes_per_message = chance_.between(100, 2000);
  core.leases.extension_ns = int64_t{raft.election_ticks} * core.raft_tick_ns;
  member::BootstrapOptions& bootstrap = common_.bootstrap;
  bootstrap.data_dir = "/data/member.etcd";
  bootstrap.initial_cluster = initial_cluster_;
  bootstrap.probe = &probe_;
  bootstrap.mapping_reserved_bytes = 64 << 20;
  bootstrap.poison_free_pages = true;
  bootstrap.wal.segment_bytes = uint64_t{32768} << chance_.below(5);
  bootstrap.wal.zero_ahead_bytes = uint64_t{4096} << chance_.below(4);
  core.segment_bytes = bootstrap.wal.segment_bytes;
  core.spare_mark_bytes = bootstrap.wal.segment_bytes / 8;
  // A leader reads what a follower lacks from memory: so all stays there, and is there again after a start.
  core.apply.commit_interval_ns = int64_t{3600} * kSecond;
  core.rest_after_ns = int64_t{3600} * kSecond;
  bootstrap.wal.segments_kept = UINT64_MAX;
  common_.disk = {.reserve_bytes = 16 << 10, .low_bytes = 64 << 10, .log_low_bytes = 16 << 10};
  constexpr int64_t kDelays[] = {0, 5'000, 50'000, 500'000};
  common_.delay_mean_ns = kDelays[chance_.below(4)];
}

MemberOptions ClusterLife::member_options(const std::string& name) {
  MemberOptions out = common_;
  out.bootstrap.name = name;
  out.core.announcement = {.name = name, .client_urls = {"http://" + name + ":2379"}};
  return out;
}

void ClusterLife::found() {
  const auto founders = cluster::found_cluster(initial_cluster_, common_.bootstrap.initial_cluster_token);
  CAIRN_ASSERT(founders);
  judge_.begin({.member_id = founders->members.begin()->first.value,
                .cluster_id = founders->cluster_id,
                .founders = options_.members},
               options_.members);
  for (const auto& [name, urls] : initial_cluster_) {
    const size_t place = nodes_.size();
    const auto drift_ppm = static_cast<int64_t>(chance_.below(401)) - 200;
    nodes_.push_back(std::make_unique<ClusterNode>(
        ClusterNode::Options{
            .place = place, .member = member_options(name), .drift_ppm = drift_ppm, .seed = chance_.next()},
        schedule_.now_ns(), static_cast<NodeHost&>(*this)));
    ClusterNode& node = *nodes_.back();
    const NodeId id = founders->find_name(name)->id;
    node.set_member_id(id.value);
    places_[id] = place;
    node.disk().sync_ns = chance_.one_in(6) ? 20'000'000 : static_cast<int64_t>(chance_.between(50, 2000)) * 1000;
    schedule_.after(static_cast<int64_t>(chance_.below(500'000'000)), [this, place] { start_process(place); });
  }
}

// --- time

// The next thing that happens anywhere; at the same moment the world comes first, then the members by place.
bool ClusterLife::step() {
  std::optional<int64_t> when_ns = schedule_.next_ns();
  ClusterNode* who = nullptr;
  for (const auto& node : nodes_) {
    const auto next = node->is_running() ? node->next_ns() : std::nullopt;
    if (!next || (when_ns && *when_ns <= *next)) continue;
    when_ns = next;
    who = node.get();
  }
  if (!when_ns) return false;
  ++events_;
  if (who == nullptr) return schedule_.step();
  schedule_.advance_to(*when_ns);
  who->step(schedule_.now_ns());
  look_at(*who);
  return true;
}

bool ClusterLife::live(int64_t ns_max, const std::function<bool()>& is_done) {
  const int64_t end_ns = schedule_.now_ns() + ns_max;
  while (violation_.empty()) {
    if (is_done()) return true;
    if (schedule_.now_ns() > end_ns || !step()) return false;
    if (events_ > kEventsMax) violation("too much happens");
  }
  return false;
}

// A process that has ended by itself.
void ClusterLife::look_at(ClusterNode& node) {
  if (!node.is_dead()) return;
  const auto& failure = node.member().failure();
  const std::string text = failure ? failure->message : "the power is off";
  // Only a power cut ends one.
  if (text.find("crashed") == std::string::npos && text.find("power") == std::string::npos) {
    return violation(fmt::format("member {} gave up: {}", node.place(), text));
  }
  cut_power(node.place());
  faults_->restart_later(node.place());
}

// --- a life

const std::string& ClusterLife::run() {
  choose();
  found();
  clients_ = std::make_unique<ClusterClients>(
      schedule_, chance_.fork(),
      ClusterClients::Options{.closed = static_cast<size_t>(chance_.between(4, 8)),
                              .open = static_cast<size_t>(chance_.below(3)),
                              .think_mean_ns = static_cast<int64_t>(chance_.between(5, 80)) * 1'000'000,
                              .keys = chance_.between(2, 30)},
      nodes_, judge_, coverage_);
  faults_ = std::make_unique<ClusterFaults>(schedule_, chance_.fork(), nodes_, network_, coverage_,
                                            static_cast<ClusterFaults::Host&>(*this));
  clients_->begin();
  if (options_.has_faults) faults_->begin();
  const int64_t began_ns = schedule_.now_ns();
  live(options_.length_ns * 20, [&] {
    if (schedule_.now_ns() - began_ns < options_.length_ns || clients_->calls() < options_.calls_min) return false;
    return !options_.has_faults || (faults_->count() >= kFaultsMin && faults_->kinds() >= kFaultKindsMin);
  });
  if (violation_.empty()) heal();
  if (violation_.empty()) converge();
  if (violation_.empty()) stop();
  if (violation_.empty()) coverage_.hit("lives");
  coverage_.hit(fmt::format("lives of {} members", options_.members));
  coverage_.hit("calls", clients_->calls());
  coverage_.hit("calls answered", judge_.answered());
  coverage_.hit("entries", judge_.last().value);
  coverage_.hit("messages", network_.delivered());
  for (const auto& node : nodes_) node->kinds().add_to(coverage_);
  return violation_;
}

// Everything works again: soon there is a leader that takes a put.
void ClusterLife::heal() {
  note("all is healed");
  faults_->end();
  const int64_t healed_ns = schedule_.now_ns();
  uint64_t probe = 0;
  const auto succeeds = [&] {
    if (probe != 0 && judge_.call(probe).state == ClusterCall::State::kAnswered) return true;
    if (probe != 0 && judge_.call(probe).state == ClusterCall::State::kWaiting) return false;
    const auto leading = leader_of(nodes_);
    if (leading) probe = clients_->probe(*leading);
    return false;
  };
  // A probe at a leader that is deposed may wait for ever.
  const int64_t patience_ns = 2 * kSecond;
  while (violation_.empty() && schedule_.now_ns() - healed_ns < kProgressNsMax) {
    if (live(patience_ns, succeeds)) {
      coverage_.hit("virtual ms from healing to a put",
                    static_cast<uint64_t>(schedule_.now_ns() - healed_ns) / 1'000'000);
      return;
    }
    probe = 0;
  }
  std::string members;
  for (const auto& node : nodes_) members += "; " + (node->is_running() ? node->member().describe() : "down");
  violation("no put succeeds after all is healed" + members);
}

bool ClusterLife::agree() const {
  for (const auto& node : nodes_) {
    if (!node->is_running() || node->member().apply().applied() != judge_.last()) return false;
    if (node->raft().last_index() != judge_.last()) return false;
  }
  return true;
}

void ClusterLife::converge() {
  clients_->end();
  if (!live(kAgreementNsMax, [this] { return agree(); })) {
    std::string members;
    for (const auto& node : nodes_) members += "; " + (node->is_running() ? node->member().describe() : "down");
    return violation(fmt::format("the members do not agree, entry {} is the last{}", judge_.last(), members));
  }
  for (const auto& node : nodes_) {
    const auto state = node->reader().enter();
    mvcc::KvHasher hasher(state->kv.root, state->kv.revision, state->kv.compact_revision);
    const auto done = hasher.step(state->kv.records, UINT64_MAX);
    const uint32_t wanted = judge_.model().hash(state->kv.revision, state->kv.compact_revision);
    if (!done || !*done || hasher.hash() != wanted) {
      return violation(fmt::format("the hash of member {} at revision {} is not that of the model", node->place(),
                                   state->kv.revision));
    }
  }
}

void ClusterLife::stop() {
  for (const auto& node : nodes_) node->stop(schedule_.now_ns());
  const bool stopped = live(kStopNsMax, [this] {
    return std::all_of(nodes_.begin(), nodes_.end(), [](const auto& node) { return node->member().stopped(); });
  });
  if (!stopped) {
    std::string members;
    for (const auto& node : nodes_) members += "; " + node->member().describe();
    return violation("a member does not stop" + members);
  }
  for (const auto& node : nodes_) {
    const Index applied = node->member().apply().applied();
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

// --- processes

void ClusterLife::start_process(size_t place) {
  ClusterNode& node = *nodes_[place];
  if (node.is_running() || !violation_.empty()) return;
  note(fmt::format("member {} starts", place));
  const Status started = node.start(schedule_.now_ns());
  if (!started) {
    if (!node.fs().crashed()) {
      return violation(fmt::format("member {} does not start: {}", place, started.error().message));
    }
    coverage_.hit("power cut during the start");
    node.cut_power(Damage::kMixed);
    return faults_->restart_later(place);
  }
  coverage_.hit("starts");
  judge_.on_start(place, node.member().apply().applied());
}

void ClusterLife::kill_process(size_t place) {
  ClusterNode& node = *nodes_[place];
  network_.forget(place);
  node.kill();
  was_leader_[place] = false;
  clients_->on_gone(node);
}

void ClusterLife::cut_power(size_t place) {
  ClusterNode& node = *nodes_[place];
  network_.forget(place);
  if (node.fs().volatile_changes() > 0) coverage_.hit("power cuts with something unsynced");
  node.cut_power(chance_.one_in(4) ? Damage::kLoseUnsynced : Damage::kMixed);
  was_leader_[place] = false;
  clients_->on_gone(node);
  check_left_over(node, std::nullopt);
}

// --- what members do

void ClusterLife::on_messages(ClusterNode& node, std::vector<raft::Message>& messages) {
  for (const raft::Message& message : messages) {
    const auto to = places_.find(message.to);
    if (to == places_.end()) {
      violation(fmt::format("a message to {}, who is no member", message.to));
      continue;
    }
    coverage_.hit("sent: " + std::string(raft::name_of(message.type)));
    network_.send(node.place(), to->second, message);
  }
}

void ClusterLife::on_committed(ClusterNode& node, const std::vector<raft::Entry>& entries) {
  judge_.on_committed(node.place(), entries);
}

void ClusterLife::on_own_proposal(ClusterNode&, const member::Proposal& proposal) { judge_.on_own_proposal(proposal); }

void ClusterLife::on_answer(ClusterNode& node, member::Tag tag, Code code, std::string_view text) {
  mix(tag);
  clients_->on_answer(node, tag, code, text);
}

void ClusterLife::on_refused(ClusterNode& node, member::Tag tag, const Error& error) {
  mix(tag);
  clients_->on_refused(node, tag, error);
}

void ClusterLife::on_step(ClusterNode& node) {
  const bool leads = node.raft().is_leader();
  if (leads) judge_.on_leader(node.place(), node.raft().term());
  bool& was = was_leader_[node.place()];
  if (leads && !was) note(fmt::format("member {} leads in term {}", node.place(), node.raft().term()));
  if (!leads && was) coverage_.hit("leaders deposed");
  was = leads;
}

Fault ClusterLife::on_operation(ClusterNode& node, const Operation& operation) {
  return is_aside_ ? Fault::kNone : faults_->on_operation(node, operation);
}

}  // namespace cairn::sim
