#include "sim/cluster/cluster_life.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/check.h"
#include "cluster/membership.h"
#include "sim/state_check.h"

namespace cairn::sim {
namespace {

constexpr uint64_t kFaultsMin = 10;
constexpr size_t kFaultKindsMin = 3;
constexpr int64_t kSecond = 1'000'000'000;
constexpr uint64_t kEventsMax = 20'000'000;
constexpr uint64_t kLivesForByteLinks = 8;
constexpr uint64_t kByteLinksSeed = 0x62797465206c696e;
constexpr uint64_t kBoundsSeed = 0x626f756e6473;
constexpr uint64_t kVersionsSeed = 0x76657273696f6e73;

}  // namespace

std::string cluster_replay_command(uint64_t seed) { return fmt::format("./dev sim --cluster --seed {:#x}", seed); }

ClusterLife::ClusterLife(const Options& options)
    : options_(options),
      probe_(*this),
      chance_(options.seed ^ 0x636c7573746572),
      judge_(coverage_, [this](std::string text) { violation(std::move(text)); }),
      network_(schedule_, chance_.fork(), coverage_, static_cast<Network::Host&>(*this)),
      transfers_(schedule_, chance_.fork(), coverage_, static_cast<Transfers::Host&>(*this)) {}

ClusterLife::~ClusterLife() {
  for (auto& one : fault::armed) one = false;
  fault::set_handler(nullptr);
  watchers_.reset();
  nodes_.clear();
  schedule_.clear();
  links_.reset();
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
  founders_ = options_.members;
  for (size_t i = 0; i < founders_; ++i) initial_cluster_[machine_name(i)] = {peer_url_of(i)};
  network_.options().delay_mean_ns =
      chance_.one_in(3) ? 50'000 : static_cast<int64_t>(chance_.between(100, 5000)) * 1000;
  if (chance_.one_in(4)) {
    network_.options().loss_one_in = chance_.between(20, 500);
    network_.options().duplicate_one_in = chance_.between(20, 500);
    network_.options().late_one_in = chance_.between(20, 500);
  }
  network_.options().has_codec = !chance_.one_in(8);
  Random links_chance(options_.seed ^ kByteLinksSeed);
  const bool chance_has_links = links_chance.one_in(kLivesForByteLinks);
  if (options_.has_byte_links.value_or(chance_has_links)) {
    links_ = std::make_unique<ByteLinks>(schedule_, links_chance.fork(), nodes_, network_, coverage_,
                                         static_cast<ByteLinks::Host&>(*this));
  }
  member::MemberOptions& core = common_.core;
  raft::Config& raft = core.replication.raft;
  constexpr uint32_t kElectionTicks[] = {100, 100, 50, 20};
  raft.election_ticks = kElectionTicks[chance_.below(4)];
  raft.heartbeat_ticks = raft.election_ticks / 10;
  raft.pre_vote = !chance_.one_in(8);
  if (chance_.one_in(3)) raft.max_inflight_messages = static_cast<uint32_t>(chance_.between(1, 8));
  if (chance_.one_in(3)) raft.max_bytes_per_message = chance_.between(100, 2000);
  core.replication.election_ns = int64_t{raft.election_ticks} * core.raft_tick_ns;
  core.replication.request_timeout_ns = 5 * kSecond + 2 * core.replication.election_ns;
  core.leases.extension_ns = core.replication.election_ns;
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
  choose_log();
  common_.disk = {.reserve_bytes = 16 << 10, .low_bytes = 64 << 10, .log_low_bytes = 16 << 10};
  constexpr int64_t kDelays[] = {0, 5'000, 50'000, 500'000};
  common_.delay_mean_ns = kDelays[chance_.below(4)];
  choose_operators();
  bounds_.choose(Random(options_.seed ^ kBoundsSeed), common_);
  versions_.choose(Random(options_.seed ^ kVersionsSeed), founders_, common_);
}

// In most lives the log is short: who was away for long gets what it lacks from the segments, or the db.
void ClusterLife::choose_log() {
  member::MemberOptions& core = common_.core;
  member::BootstrapOptions& bootstrap = common_.bootstrap;
  if (chance_.one_in(6)) {
    core.apply.commit_interval_ns = int64_t{3600} * kSecond;
    core.rest_after_ns = int64_t{3600} * kSecond;
    bootstrap.wal.segments_kept = UINT64_MAX;
    return;
  }
  bootstrap.page_bytes = uint32_t{1024} << chance_.below(3);
  core.apply.commit_interval_ns = int64_t{2'000'000} << chance_.below(11);
  core.apply.snapshot_entries = chance_.between(5, 200);
  core.apply.snapshot_interval_ns = chance_.one_in(2) ? 0 : 50'000'000;
  core.apply.buffer_bytes_max = uint64_t{2048} << chance_.below(8);
  core.apply.buffer_entries_max = chance_.between(3, 500);
  core.apply.wal_bytes_max = uint64_t{8192} << chance_.below(6);
  if (chance_.one_in(4)) bootstrap.wal.segments_kept = chance_.between(1, 5);
  bootstrap.raft_log.memory_bytes_max = uint64_t{512} << chance_.below(8);
  bootstrap.raft_log.windows = {.read_bytes = uint64_t{256} << chance_.below(7),
                                .bytes_max = uint64_t{1024} << chance_.below(7),
                                .reads_max = static_cast<size_t>(chance_.between(1, 4))};
  // As fine as the log is short: else who takes a snapshot in always lacks more than is kept for it, and where clients
  // never pause it is sent one snapshot after another.
  bootstrap.raft_log.size_mark_bytes = 256;
  bootstrap.raft_log.sent_as_log_bytes = uint64_t{2048} << chance_.below(7);
  core.replication.log.bytes = uint64_t{2048} << chance_.below(7);
  if (chance_.one_in(3)) core.replication.log.entries = chance_.between(1, 100);
  if (chance_.one_in(2)) {
    core.auto_compaction = {member::AutoCompaction::Mode::kRevision, static_cast<int64_t>(chance_.between(1, 200))};
  }
  if (chance_.one_in(4)) core.feed_bytes_max = uint64_t{256} << chance_.below(5);
  if (chance_.one_in(4)) core.replication.others_bytes_max = uint64_t{256} << chance_.below(8);
  if (chance_.one_in(2)) core.rest_after_ns = int64_t{50'000'000} << chance_.below(6);
  common_.checkpoint = {.changes_min = chance_.between(1, 60),
                        .changes_min_at_stop = chance_.between(1, 30),
                        .keys_per_step = chance_.between(1, 20)};
  transfers_.options() = {.piece_mean_ns = int64_t{100'000} << chance_.below(6),
                          .piece_bytes = uint64_t{4096} << chance_.below(4),
                          .slow_one_in = chance_.below(8),
                          .broken_one_in = chance_.below(8),
                          .given_up_one_in = chance_.below(10)};
}

MemberOptions ClusterLife::member_options(const std::string& name) {
  MemberOptions out = common_;
  out.bootstrap.name = name;
  out.core.announcement = {.name = name, .client_urls = {"http://" + name + ":2379"}};
  return out;
}

void ClusterLife::add_node(NodeId id, size_t address, ClusterNode::Standing standing) {
  const size_t place = nodes_.size();
  const auto drift_ppm = static_cast<int64_t>(chance_.below(401)) - 200;
  MemberOptions member = member_options(machine_name(address));
  member.core.apply.learner_count_max = chance_.between(1, learners_max_);
  member.bootstrap.learner_count_max = learners_max_;
  member.core.replication.speaks_cairn = [this, place](NodeId other) { return speaks_cairn(place, other); };
  nodes_.push_back(std::make_unique<ClusterNode>(ClusterNode::Options{.place = place,
                                                                      .address = address,
                                                                      .member = std::move(member),
                                                                      .drift_ppm = drift_ppm,
                                                                      .seed = chance_.next()},
                                                 schedule_.now_ns(), static_cast<NodeHost&>(*this)));
  ClusterNode& node = *nodes_.back();
  node.set_member_id(id.value);
  node.set_standing(standing);
  places_[id] = place;
  node.disk().sync_ns = chance_.one_in(6) ? 20'000'000 : static_cast<int64_t>(chance_.between(50, 2000)) * 1000;
}

void ClusterLife::found() {
  const auto founders = cluster::found_cluster(initial_cluster_, common_.bootstrap.initial_cluster_token);
  CAIRN_ASSERT(founders);
  judge_.begin({.member_id = founders->members.begin()->first.value,
                .cluster_id = founders->cluster_id,
                .founders = founders_,
                .changes_members = changes_members_},
               founders_);
  for (size_t place = 0; place < founders_; ++place) {
    add_node(founders->find_name(machine_name(place))->id, place, ClusterNode::Standing::kServes);
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
  current_ = who;
  who->step(schedule_.now_ns());
  current_ = nullptr;
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
  if (dying_ == node.place()) {
    dying_.reset();
    kill_process(node.place());
    return faults_->restart_later(node.place());
  }
  if (has_left(node)) return leave(node);
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
  const auto think_mean_ms =
      static_cast<int64_t>(chance_.one_in(3) ? chance_.between(5, 80) : chance_.between(40, 250));
  ClusterClients::Options asking{.closed = static_cast<size_t>(chance_.between(4, 8)),
                                 .open = static_cast<size_t>(chance_.below(3)),
                                 .think_mean_ns = think_mean_ms * 1'000'000,
                                 .keys = chance_.between(2, 30),
                                 .leases = kLeases,
                                 .is_for_etcd = is_for_etcd()};
  if (is_for_etcd()) {  // to look for an order takes long where many ask at once
    asking.closed = 4;
    asking.open = 0;
    asking.think_mean_ns = 250'000'000;
  }
  clients_ = std::make_unique<ClusterClients>(schedule_, chance_.fork(), asking, nodes_, judge_, coverage_);
  faults_ = std::make_unique<ClusterFaults>(schedule_, chance_.fork(), nodes_, network_, coverage_,
                                            static_cast<ClusterFaults::Host&>(*this));
  plots_ = std::make_unique<ClusterPlots>(schedule_, chance_.fork(), nodes_, network_, coverage_,
                                          static_cast<ClusterFaults::Host&>(*this));
  fault::set_handler([this](fault::Point point) {
    on_fault_point(point);
    return std::optional<std::string>();
  });
  for (auto& one : fault::armed) one = true;
  watchers_ = std::make_unique<ClusterWatchers>(
      schedule_, chance_.fork(),
      ClusterWatchers::Options{.clients = static_cast<size_t>(chance_.between(1, 4)),
                               .is_for_etcd = is_for_etcd(),
                               .lie = options_.watch_lie},
      nodes_, judge_.model(), coverage_, [this](std::string text) { violation(std::move(text)); });
  clients_->begin();
  watchers_->begin();
  if (options_.has_faults) faults_->begin();
  if (options_.has_faults && !chance_.one_in(4)) plots_->begin();
  if (options_.has_faults && links_) links_->begin();
  begin_operators();
  const int64_t began_ns = schedule_.now_ns();
  live(options_.length_ns * 20, [&] {
    if (schedule_.now_ns() - began_ns < options_.length_ns || clients_->calls() < options_.calls_min) return false;
    return !options_.has_faults || (faults_->count() >= kFaultsMin && faults_->kinds() >= kFaultKindsMin);
  });
  if (violation_.empty()) heal();
  if (violation_.empty() && !is_stuck_) converge();
  if (violation_.empty() && !is_stuck_) stop();
  judge_history();
  if (violation_.empty()) coverage_.hit("lives");
  coverage_.hit(fmt::format("lives of {} members", options_.members));
  coverage_.hit("calls", clients_->calls());
  coverage_.hit("calls answered", judge_.answered());
  coverage_.hit("entries", judge_.last().value);
  coverage_.hit("messages", network_.delivered() + (links_ ? links_->delivered() : 0));
  for (const auto& node : nodes_) node->kinds().add_to(coverage_);
  for (fault::Point point = 0; point < fault::kPointCount; ++point) {
    if (points_reached_[point] == 0) continue;
    coverage_.hit(fmt::format("fault point {}", fault::kPoints[point].name), points_reached_[point]);
  }
  return violation_;
}

// --- processes

void ClusterLife::start_process(size_t place) {
  ClusterNode& node = *nodes_[place];
  if (node.is_running() || !violation_.empty() || !prepare_start(node)) return;
  note(fmt::format("member {} starts", place));
  current_ = &node;
  starting_ = place;
  const Status started = node.start(schedule_.now_ns());
  current_ = nullptr;
  if (dying_ == place) {
    dying_.reset();
    coverage_.hit("death during the start");
    lose_connections(place, true);
    node.kill();
    return faults_->restart_later(place);
  }
  if (!started) {
    if (!node.fs().crashed()) {
      if (may_refuse_start(node, started.error())) return;
      return violation(fmt::format("member {} does not start: {}", place, started.error().message));
    }
    coverage_.hit("power cut during the start");
    node.cut_power(Damage::kMixed);
    return faults_->restart_later(place);
  }
  coverage_.hit("starts");
  watchers_->on_start(node);
  arrived_images_.erase(place);
  if (links_) links_->set_members(place);
  judge_.on_start(place, node.member().apply().applied());
  note_start(node);
}

void ClusterLife::kill_process(size_t place) {
  ClusterNode& node = *nodes_[place];
  lose_connections(place, true);
  transfers_.forget(place);
  watchers_->on_gone(node);
  node.kill();
  was_leader_[place] = false;
  clients_->on_gone(node);
  tell_of_death(place);
}

void ClusterLife::lose_connections(size_t place, bool kernel_stays) {
  network_.forget(place);
  if (links_) links_->on_gone(place, kernel_stays);
}

void ClusterLife::move_leader(size_t leader, size_t to) {
  nodes_[leader]->transfer({.to = NodeId(nodes_[to]->member_id()), .tag = kTransferTag}, schedule_.now_ns());
}

void ClusterLife::cut_power(size_t place) {
  ClusterNode& node = *nodes_[place];
  lose_connections(place, false);
  transfers_.forget(place);
  if (node.fs().volatile_changes() > 0) coverage_.hit("power cuts with something unsynced");
  watchers_->on_gone(node);
  node.cut_power(chance_.one_in(4) ? Damage::kLoseUnsynced : Damage::kMixed);
  was_leader_[place] = false;
  clients_->on_gone(node);
  check_left_over(node, std::nullopt);
}

// --- what members do

void ClusterLife::on_messages(ClusterNode& node, std::vector<raft::Message>& messages) {
  if (dying_ == node.place()) return;
  for (raft::Message& message : messages) {
    if (is_dropped(node, message)) continue;
    if (message.forward && !speaks_cairn(node.place(), message.to)) message.forward.reset();
    const auto to = places_.find(message.to);
    if (to == places_.end()) {
      violation(fmt::format("a message to {}, who is no member", message.to));
      continue;
    }
    coverage_.hit("sent: " + std::string(raft::name_of(message.type)));
    if (message.type == raft::MessageType::kSnap) {
      note(fmt::format("member {} sends snapshot {} to {}", node.place(), message.snapshot->index, to->second));
      transfers_.send(node.place(), to->second, message, network_.pass(message));
    } else if (plots_->on_message(node.place(), message)) {
      network_.lose(node.place(), to->second, "message of a lost kind");
    } else if (links_) {
      links_->send(node.place(), message);
    } else {
      network_.send(node.place(), to->second, message);
    }
  }
}

bool ClusterLife::on_arrival(size_t to, raft::Message message) {
  ClusterNode& node = *nodes_[to];
  if (!node.is_running()) return false;
  if (is_rejected(node, message)) return true;
  mix(message.index.value);
  node.receive(std::move(message), schedule_.now_ns());
  return true;
}

// --- snapshots

bool ClusterLife::is_open(size_t from, size_t to) { return !network_.is_cut(from, to) && nodes_[to]->is_running(); }

void ClusterLife::on_image(size_t to, const raft::Message& message, std::string bytes, uint64_t transfer) {
  ClusterNode& node = *nodes_[to];
  if (is_rejected(node, message)) return transfers_.done(transfer, false);
  const Index index = message.snapshot->index;
  is_aside_ = true;
  const auto found = check_image(bytes, judge_.model());
  is_aside_ = false;
  if (!found) return violation(fmt::format("the image of snapshot {}: {}", index, found.error().message));
  if (*found != index) return violation(fmt::format("the image of snapshot {} is at {}", index, *found));
  faults_->on_snapshot(to);
  node.save_image(
      index, std::move(bytes),
      [this, to, message, transfer](const Status& written) { take_image(to, message, transfer, written); },
      schedule_.now_ns());
}

void ClusterLife::take_image(size_t to, const raft::Message& message, uint64_t transfer, const Status& written) {
  if (!written) return transfers_.done(transfer, false);
  note(fmt::format("member {} has snapshot {}", to, message.snapshot->index));
  judge_.on_snapshot(to, *message.snapshot);
  arrived_images_[to] = message.snapshot->index;
  nodes_[to]->receive(message, schedule_.now_ns());
  transfers_.done(transfer, true);
}

void ClusterLife::on_outcome(size_t from, size_t to, bool is_delivered) {
  report(from, is_delivered ? member::PeerReport::Kind::kSnapshotDelivered : member::PeerReport::Kind::kSnapshotFailed,
         to);
}

void ClusterLife::on_installed(ClusterNode& node, Index index) {
  note(fmt::format("member {} installs snapshot {}", node.place(), index));
  coverage_.hit("snapshots installed");
  if (node.member_options().bootstrap.joins) coverage_.hit("joiner caught up by a snapshot");
  installing_.insert(node.place());
}

// --- what a transport reports

void ClusterLife::report(size_t to, member::PeerReport::Kind kind, size_t about) {
  ClusterNode& node = *nodes_[to];
  if (!node.is_running()) return;
  node.report({.kind = kind, .peer = NodeId(nodes_[about]->member_id())}, schedule_.now_ns());
}

void ClusterLife::on_stream_cut(size_t from, size_t to) {
  report(from, member::PeerReport::Kind::kStreamCut, to);
  if (network_.is_cut(from, to) || !nodes_[to]->is_running()) {
    report(from, member::PeerReport::Kind::kUnreachable, to);
  }
}

void ClusterLife::on_link_report(size_t place, member::PeerReport::Kind kind, NodeId about) {
  const auto to = place_of(about);
  if (to) report(place, kind, *to);
}

void ClusterLife::on_told_removed(size_t place, NodeId by) {
  if (judge_.model().removed().contains(nodes_[place]->member_id())) return;
  violation(fmt::format("member {} is told by {} that it was removed", place, by));
}

// The process is gone: streams to it end, and new connections are refused.
void ClusterLife::tell_of_death(size_t place) {
  if (links_) return;  // they find out
  for (const auto& node : nodes_) {
    const size_t other = node->place();
    if (other == place) continue;
    schedule_.after(static_cast<int64_t>(chance_.below(5'000'000)), [this, other, place] {
      if (!network_.is_connected(other, place)) return;
      report(other, member::PeerReport::Kind::kStreamCut, place);
      dial(other, place);
    });
  }
}

// Only a kernel without a process refuses; a machine that is off, or behind a cut, says nothing.
void ClusterLife::dial(size_t from, size_t to) {
  const bool is_refused = network_.is_connected(from, to) && nodes_[to]->is_on() && !nodes_[to]->is_running();
  if (!is_refused) return;
  coverage_.hit("deaths reported");
  report(from, member::PeerReport::Kind::kDied, to);
}

void ClusterLife::on_redial(ClusterNode& node, const std::vector<NodeId>& members) {
  for (const NodeId id : members) {
    coverage_.hit("connections tried again");
    if (links_) {
      links_->redial(node.place(), id);
      continue;
    }
    const size_t to = places_.at(id);
    schedule_.after(static_cast<int64_t>(chance_.below(3'000'000)),
                    [this, from = node.place(), to] { dial(from, to); });
  }
}

void ClusterLife::on_committed(ClusterNode& node, const std::vector<raft::Entry>& entries) {
  judge_.on_committed(node.place(), entries, schedule_.now_ns());
}

void ClusterLife::on_own_proposal(ClusterNode& node, const member::Proposal& proposal) {
  judge_.on_own_proposal(proposal, node.member().apply().applied(), schedule_.now_ns());
}

void ClusterLife::on_answer(ClusterNode& node, member::Tag tag, Code code, std::string_view text) {
  if (dying_ == node.place()) return;
  mix(tag);
  if (tag == kTransferTag) return coverage_.hit("leader moves done");
  if (tag == kRenewalTag) return;
  if (ClusterOperators::is_progress(tag)) return operators_->on_progress(node, tag, code, text);
  check_removed_read(node, tag, code);
  clients_->on_answer(node, tag, code, text);
  if (operators_ && judge_.call(tag).changes_members) operators_->on_answer(node, judge_.call(tag));
}

void ClusterLife::on_refused(ClusterNode& node, member::Tag tag, const Error& error) {
  if (dying_ == node.place()) return;
  mix(tag);
  if (tag == kTransferTag) return coverage_.hit("leader moves refused");
  if (tag == kRenewalTag || ClusterOperators::is_progress(tag)) return;
  clients_->on_refused(node, tag, error);
}

void ClusterLife::on_step(ClusterNode& node) {
  if (dying_ == node.place()) return;
  if (installing_.erase(node.place()) > 0) {
    const std::string wrong = check_state(node.member(), judge_.model(), coverage_);
    if (!wrong.empty()) {
      violation(fmt::format("member {} after a snapshot, at entry {}: {}", node.place(),
                            node.member().apply().applied(), wrong));
    }
  }
  watchers_->check_told(node);
  const std::string beyond = bounds_.check(node);
  if (!beyond.empty()) violation(fmt::format("member {}: {}", node.place(), beyond));
  if (links_) links_->set_members(node.place());
  const member::Published& state = node.member().published().newest();
  // From its arrival on raft counts as the snapshot says, and the member shows it once it is installed.
  const bool is_between = state.applied < arrived_images_[node.place()];
  if (auto& seen = members_seen_[node.place()]; seen != state.members && !is_between) {
    seen = state.members;
    judge_.on_members(node.place(), state.applied, *state.members, node.raft().conf());
  }
  const bool leads = node.raft().is_leader();
  if (leads) judge_.on_leader(node.place(), node.raft().term());
  bool& was = was_leader_[node.place()];
  if (leads && !was) {
    note(fmt::format("member {} leads in term {}", node.place(), node.raft().term()));
    plots_->on_leader(node.place());
  }
  if (!leads && was) coverage_.hit("leaders deposed");
  was = leads;
}

// The process ends there: nothing of what it does from here on gets out.
void ClusterLife::on_fault_point(fault::Point point) {
  if (is_aside_ || current_ == nullptr || dying_) return;
  ++points_reached_[point];
  if (deadly_ != point || --deadly_nth_ > 0) return;
  deadly_.reset();
  note(fmt::format("member {} dies at {}", current_->place(), fault::kPoints[point].name));
  coverage_.hit("death at a fault point");
  dying_ = current_->place();
  current_->fs().kill();
}

void ClusterLife::kill_at_point(fault::Point point, uint64_t nth) {
  deadly_ = point;
  deadly_nth_ = nth;
}

Fault ClusterLife::on_operation(ClusterNode& node, const Operation& operation) {
  return is_aside_ ? Fault::kNone : faults_->on_operation(node, operation);
}

}  // namespace cairn::sim
