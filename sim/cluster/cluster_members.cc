// Of a life of a cluster: members that come and go, what their transport would say to them, and how they end.
#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/bytes.h"
#include "base/check.h"
#include "cluster/codec.h"
#include "cluster/versions.h"
#include "member/recovery/recovery.h"
#include "sim/cluster/cluster_life.h"

namespace cairn::sim {
namespace {

using Standing = ClusterNode::Standing;

constexpr int64_t kSecond = 1'000'000'000;
constexpr int64_t kRemovalDelayNs = kSecond;    // as of the server
constexpr int64_t kLookNs = kSecond / 2;        // until a stream is tried again
constexpr int64_t kQuestionNs = kSecond / 500;  // until others have said which versions they run
constexpr int64_t kTalksOnNs = 12 * kSecond;    // who does not hear that it was removed
constexpr std::string_view kOtherMember = "the simulator: ";
// What a start says to a member that joins when its flags are not the cluster's members, or nobody answers.
constexpr std::string_view kServedText = "has already been bootstrapped";
constexpr std::string_view kJoinRefusals[] = {"cannot fetch cluster info from peer urls", "error validating peerURLs",
                                              "incompatible with current running cluster"};

}  // namespace

// --- what kind of life

void ClusterLife::choose_operators() {
  const bool dice = chance_.one_in(2);
  changes_members_ = options_.changes_members.value_or(dice && !is_for_etcd());
  operating_.is_strict = !chance_.one_in(3);
  operating_.pause_mean_ns = static_cast<int64_t>(chance_.between(300, 3000)) * 1'000'000;
  operating_.voters_max = std::max<size_t>(founders_, 5);
  operating_.places_max = founders_ + chance_.between(2, 12);
  learners_max_ = chance_.between(1, 3);
}

void ClusterLife::begin_operators() {
  if (!changes_members_) return;
  operators_ = std::make_unique<ClusterOperators>(schedule_, chance_.fork(), operating_, nodes_, judge_, coverage_,
                                                  static_cast<ClusterOperators::Host&>(*this));
  operators_->begin();
  look_for_removed();
  coverage_.hit(operating_.is_strict ? "lives that change their members" : "lives that change them without a check");
}

bool ClusterLife::is_member(size_t place) const {
  return judge_.model().members().contains(nodes_[place]->member_id()) || judge_.last() < Index(founders_);
}

std::optional<size_t> ClusterLife::place_of(NodeId id) const {
  const auto at = places_.find(id);
  return at == places_.end() ? std::nullopt : std::optional(at->second);
}

void ClusterLife::reserve(NodeId id, size_t address) {
  judge_.add_member();
  add_node(id, address, Standing::kReserved);
  nodes_.back()->member_options().bootstrap.joins = true;
}

// --- starts

void ClusterLife::begin_machine(size_t place) {
  nodes_[place]->set_standing(Standing::kServes);
  start_process(place);
}

void ClusterLife::start_again(size_t place) {
  schedule_.after(static_cast<int64_t>(chance_.between(100, 1500)) * 1'000'000,
                  [this, place] { start_process(place); });
}

bool ClusterLife::prepare_start(ClusterNode& node) {
  if (node.standing() != Standing::kServes || is_stopping_) return false;
  const bool is_taken = std::any_of(nodes_.begin(), nodes_.end(), [&](const auto& other) {
    return other->address() == node.address() && other->is_running();
  });
  if (is_taken) {
    start_again(node.place());
    return false;
  }
  if (!node.member_options().bootstrap.joins) return true;
  is_aside_ = true;
  const bool has_data = node.has_data();
  is_aside_ = false;
  if (has_data || list_members(node)) return true;
  if (judge_.model().removed().contains(node.member_id())) {  // nobody wants it any more
    node.set_standing(Standing::kEnded);
  } else {
    start_again(node.place());
  }
  return false;
}

// As an operator copies it from what `member add` says, or `member list`: of a member that answers, never of one that
// is down, as the one that is to start is. To ask that one again and again has left a voter out for longer than a life
// waits for its puts.
bool ClusterLife::list_members(ClusterNode& node) {
  ClusterNode* const asked = any_that_answers(nodes_, chance_);
  if (asked == nullptr) return false;
  const auto members = asked->member().published().newest().members;
  const cluster::Member* const self = members->find(NodeId(node.member_id()));
  if (self == nullptr) return false;
  auto& flags = node.member_options().bootstrap.initial_cluster;
  flags.clear();
  for (const auto& [id, one] : members->members) {
    if (&one != self) flags[one.is_started() ? one.name : hex_id(id.value)] = one.peer_urls;
  }
  flags[node.name()] = self->peer_urls;
  return true;
}

bool ClusterLife::may_refuse_start(ClusterNode& node, const Error& error) {
  note(fmt::format("member {} does not start: {}", node.place(), error.message));
  is_aside_ = true;
  const bool has_data = node.has_data();
  if (error.message.starts_with(kOtherMember) && node.member_options().bootstrap.joins) {
    node.wipe();  // its flags were of another time
    is_aside_ = false;
    coverage_.hit("joiners that were told to be somebody else");
    start_again(node.place());
    return true;
  }
  is_aside_ = false;
  const bool is_refused = std::any_of(std::begin(kJoinRefusals), std::end(kJoinRefusals),
                                      [&](std::string_view text) { return error.message.starts_with(text); });
  // Told by one who has not heard yet that this one's address has a new member.
  const bool is_taken_for_another =
      error.message.ends_with(kServedText) && error.message.find(hex_id(node.member_id())) == std::string::npos;
  if (!node.member_options().bootstrap.joins || has_data || !(is_refused || is_taken_for_another)) return false;
  coverage_.hit("joiners that cannot start yet");
  start_again(node.place());
  return true;
}

void ClusterLife::note_start(ClusterNode& node) {
  if (node.starts() > 1) versions_.note_restart(node.place());
  barred_.erase(node.place());
  if (!changes_members_ || judge_.last() < Index(founders_)) return;
  if (node.starts() == 1 && node.member_options().bootstrap.joins) {
    coverage_.hit("joiners started");
    const bool returns = std::any_of(nodes_.begin(), nodes_.end(), [&](const auto& other) {
      return other->address() == node.address() && other->standing() == Standing::kLost;
    });
    if (returns) coverage_.hit("wiped member returned");
  }
  const NodeId id(node.member_id());
  if (!judge_.model().removed().contains(id.value)) return;
  const bool is_known = std::all_of(nodes_.begin(), nodes_.end(), [&](const auto& other) {
    return !is_member(other->place()) ||
           (other->is_running() && other->member().published().newest().members->removed.contains(id));
  });
  if (is_known) barred_.insert(node.place());
}

bool ClusterLife::answers(size_t from, const ClusterNode& node) const {
  return node.is_running() && !node.is_dead() && !node.is_paused(schedule_.now_ns()) &&
         network_.is_connected(from, node.place());
}

// What a member's peer port answers to a process that has no data.
Result<member::PeerAnswer> ClusterLife::Probe::get(const std::string& url, int64_t) {
  const auto unreachable = [] { return std::unexpected(Error{Code::kUnavailable, "nobody answers"}); };
  const auto address = address_of(url);
  const auto at = std::find_if(life_.nodes_.begin(), life_.nodes_.end(), [&](const auto& node) {
    return node->address() == address && node->is_running() && node->place() != life_.starting_;
  });
  if (at == life_.nodes_.end() || !life_.answers(life_.starting_, **at)) return unreachable();
  ClusterNode& node = **at;
  const auto& state = node.member().published().newest();
  member::PeerAnswer out{.status = 200, .cluster_id = hex_id(node.member().cluster_id()), .body = {}};
  if (url.ends_with("/members")) {
    out.body = cluster::members_json(*state.members) + "\n";
  } else if (url.ends_with("/version")) {
    out.body = fmt::format(R"({{"etcdserver":"{}","etcdcluster":"{}","storage":"3.7.0"}})",
                           life_.versions_.version_of(node.place()).text(),
                           state.members->version.empty() ? "not_decided" : state.members->version);
  } else if (url.ends_with("/downgrade/enabled")) {
    out.body = state.members->downgrade.enabled ? "true" : "false";
  } else {
    return unreachable();
  }
  return out;
}

// --- versions

bool ClusterLife::speaks_cairn(size_t place, NodeId other) const {
  const auto at = place_of(other);
  return !versions_.is_etcd(place) && !(at && versions_.is_etcd(*at));
}

void ClusterLife::on_question(ClusterNode& node, const member::VersionQuestion& question) {
  schedule_.after(kQuestionNs, [this, place = node.place(), start = node.starts(), question] {
    ClusterNode& asks = *nodes_[place];
    if (!asks.is_running() || asks.starts() != start || asks.is_dead()) return;
    coverage_.hit("members asked for their versions");
    const auto who_answers = [&](NodeId id) {
      const auto at = place_of(id);
      return at && answers(place, *nodes_[*at]) ? at : std::nullopt;
    };
    asks.tell_versions(versions_.report(question, who_answers), schedule_.now_ns());
  });
}

// --- disks that are lost

void ClusterLife::lose_disk(size_t place) {
  ClusterNode& node = *nodes_[place];
  note(fmt::format("member {} loses its disk", place));
  if (node.is_running()) kill_process(place);
  is_aside_ = true;
  node.kill();
  node.wipe();
  is_aside_ = false;
  node.set_standing(Standing::kLost);
}

// With the flags that it was founded with, if others know it and say so; or those of a cluster that has it no more.
void ClusterLife::come_back_empty(size_t place, bool joins) {
  ClusterNode& node = *nodes_[place];
  const NodeId id(node.member_id());
  bool is_asked = false;
  for (const auto& other : nodes_) {
    if (other->address() == node.address() || !answers(place, *other)) continue;
    const auto members = other->member().published().newest().members;
    const cluster::Member* const known = members->find(id);
    if (joins ? known != nullptr : known == nullptr || known->client_urls.empty()) return;  // it does not know better
    is_asked = is_asked || joins || initial_cluster_.contains(other->name());
  }
  if (!is_asked || (!joins && place >= founders_)) return;
  const bool is_taken = std::any_of(nodes_.begin(), nodes_.end(), [&](const auto& other) {
    return other->address() == node.address() && other->place() != place && other->standing() != Standing::kEnded;
  });
  if (is_taken) return;
  member::BootstrapOptions& flags = node.member_options().bootstrap;
  flags.joins = joins;
  flags.initial_cluster = initial_cluster_;
  if (joins) {
    flags.initial_cluster.clear();
    ClusterNode* const asked = any_that_answers(nodes_, chance_);
    if (asked == nullptr) return;
    for (const auto& [other, one] : asked->member().published().newest().members->members) {
      if (std::ranges::find(one.peer_urls, peer_url_of(node.address())) != one.peer_urls.end()) return;
      flags.initial_cluster[hex_id(other.value)] = one.peer_urls;
    }
  }
  flags.initial_cluster[node.name()] = {peer_url_of(node.address())};
  note(fmt::format("member {} comes back without its disk", place));
  starting_ = place;
  is_aside_ = true;
  const Status started = node.start(schedule_.now_ns());
  node.kill();
  node.wipe();
  is_aside_ = false;
  if (started) return violation(fmt::format("member {} starts without what it had", place));
  const std::string& text = started.error().message;
  const bool is_refused =
      joins ? text.starts_with(kJoinRefusals[0]) || text.starts_with(kJoinRefusals[1]) : text.ends_with(kServedText);
  if (!is_refused) {
    return violation(fmt::format("member {} comes back empty and is told: {}", place, text));
  }
  coverage_.hit(joins ? "wiped member refused after its removal" : "wiped member refused before its removal");
}

// --- what a transport does

std::optional<int64_t> ClusterLife::connected_since_ns(size_t place, NodeId to) {
  if (links_) return links_->active_since_ns(place, to);
  const auto other = place_of(to);
  if (!other || *other == place || !network_.is_connected(place, *other)) return std::nullopt;
  // Nobody keeps a connection to who is no member.
  if (nodes_[place]->member().published().newest().members->find(to) == nullptr) return std::nullopt;
  const ClusterNode& peer = *nodes_[*other];
  if (!peer.is_running() || peer.is_paused(schedule_.now_ns())) return std::nullopt;
  return std::max({network_.connected_since_ns(place, *other), peer.started_ns(), nodes_[place]->started_ns()});
}

// There is no connection to a member that was removed.
bool ClusterLife::is_dropped(ClusterNode& node, const raft::Message& message) {
  if (!changes_members_ || !node.member().published().newest().members->removed.contains(message.to)) return false;
  coverage_.hit("messages to removed members dropped");
  if (message.type == raft::MessageType::kSnap) {
    schedule_.after(1, [this, from = node.place(), to = message.to] {
      report(from, member::PeerReport::Kind::kSnapshotFailed, places_.at(to));
    });
  }
  return true;
}

// A message that was on its way to the core when that applied the removal comes through.
bool ClusterLife::is_rejected(ClusterNode& node, const raft::Message& message) {
  if (!changes_members_ || !node.member().published().newest().members->removed.contains(message.from)) return false;
  coverage_.hit("removed member talked");
  if (!chance_.one_in(20)) return true;
  coverage_.hit("removed member was listened to");
  return false;
}

// Whoever was removed is told so at its next connection to somebody who knows; but some hear of it late.
void ClusterLife::look_for_removed() {
  schedule_.after(kLookNs, [this] { look_for_removed(); });
  for (const auto& node : nodes_) {
    const NodeId id(node->member_id());
    if (!node->is_running() || !judge_.model().removed().contains(id.value)) continue;
    std::vector<size_t> told_by;
    for (const auto& other : nodes_) {
      const bool tells = other.get() != node.get() && answers(node->place(), *other) &&
                         other->member().published().newest().members->removed.contains(id);
      if (tells) told_by.push_back(other->place());
    }
    const bool is_first = !told_late_.contains(node->place());
    uint64_t& looks = told_late_[node->place()];
    if (is_first && chance_.one_in(2)) looks = kTalksOnNs / kLookNs;
    if (told_by.empty()) continue;
    if (looks > 0) --looks;
    if (looks > 0) continue;
    coverage_.hit("removed members told by others");
    for (const size_t other : told_by) report(node->place(), member::PeerReport::Kind::kTellsRemoval, other);
  }
}

// --- how a member ends

void ClusterLife::end_removed(ClusterNode& node) {
  if (dying_ == node.place()) return;
  const auto at = ending_.find(node.place());
  if (at != ending_.end() && at->second == node.starts()) return;
  ending_[node.place()] = node.starts();
  note(fmt::format("member {} ends, since it was removed", node.place()));
  if (node.raft().is_leader()) coverage_.hit("leader removed");
  schedule_.after(kRemovalDelayNs, [this, place = node.place(), process = node.starts()] {
    ClusterNode& removed = *nodes_[place];
    if (removed.is_running() && !removed.is_dead() && removed.starts() == process) removed.stop(schedule_.now_ns());
  });
}

bool ClusterLife::has_left(ClusterNode& node) {
  const auto at = ending_.find(node.place());
  return at != ending_.end() && at->second == node.starts() && !node.is_dead() && node.member().stopped();
}

void ClusterLife::leave(ClusterNode& node) {
  const Index applied = node.member().apply().applied();
  note(fmt::format("member {} has ended at entry {}", node.place(), applied));
  coverage_.hit("removed members that have ended");
  kill_process(node.place());
  node.set_standing(Standing::kEnded);
  check_left_over(node, applied);
}

bool ClusterLife::removed_are_gone() const {
  return std::all_of(nodes_.begin(), nodes_.end(),
                     [this](const auto& node) { return !node->is_running() || is_member(node->place()); });
}

// One of two voters was removed, and has ended after its second, before the other heard that this is committed. That
// one cannot lead alone, nor with anybody: a limit of raft with configurations that count once they are applied, as in
// etcd. A learner may know better, and a stranger may run on with the members of another time: neither can lead.
bool ClusterLife::is_cut_off_by_removal() const {
  ClusterNode* left = nullptr;  // who alone votes, as the log has it
  for (const auto& [id, one] : judge_.model().members()) {
    if (one.is_learner) continue;
    if (left != nullptr) return false;
    left = nodes_[places_.at(NodeId(id))].get();
  }
  if (left == nullptr || !left->is_running()) return false;
  const auto& voters = left->raft().conf().voters;
  return voters.size() == 2 && std::ranges::any_of(voters, [this](NodeId id) {
           return judge_.model().removed().contains(id.value) && !nodes_[places_.at(id)]->is_running();
         });
}

void ClusterLife::check_removed_read(ClusterNode& node, member::Tag tag, Code code) {
  if (!barred_.contains(node.place())) return;
  const ClusterCall& call = judge_.call(tag);
  if (!call.payload.empty() || call.renewed != 0 || code != Code::kOk) return;
  violation(fmt::format("member {} was removed, and serves a linearizable read", node.place()));
}

void ClusterLife::compare_members() {
  for (const auto& node : nodes_) {
    if (!node->is_running()) continue;
    const member::Published& state = node->member().published().newest();
    judge_.on_members(node->place(), state.applied, *state.members, node->raft().conf());
  }
}

}  // namespace cairn::sim
