#include "sim/cluster/operators.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <utility>

#include <fmt/format.h>

#include "base/errors.h"
#include "raft/conf_change.h"

namespace cairn::sim {
namespace {

using cluster::ChangeKind;
using Standing = ClusterNode::Standing;

constexpr size_t kOperator = SIZE_MAX;  // the client of these calls
constexpr int64_t kSecond = 1'000'000'000;
constexpr int64_t kActiveNs = 5 * kSecond;
constexpr std::string_view kUrlHead = "http://10.";
constexpr std::string_view kPort = ":2380";

std::string url_of(size_t network, size_t address) {
  return fmt::format("http://10.{}.0.{}:2380", network, address + 1);
}

std::string_view name_of(ChangeKind kind) {
  switch (kind) {
    case ChangeKind::kAdd: return "add";
    case ChangeKind::kPromote: return "promote";
    case ChangeKind::kUpdate: return "update";
    case ChangeKind::kRemove: return "remove";
  }
  return "";
}

cluster::MemberChange change_of(ChangeKind kind, NodeId id) {
  cluster::MemberChange out;
  out.kind = kind;
  out.member.id = id;
  return out;
}

}  // namespace

std::string machine_name(size_t address) { return fmt::format("m{}", address); }
std::string peer_url_of(size_t address) { return url_of(0, address); }

std::optional<size_t> address_of(std::string_view url) {
  if (!url.starts_with(kUrlHead)) return std::nullopt;
  const std::string_view host = url.substr(0, url.find(kPort));
  const std::string_view number = host.substr(host.rfind('.') + 1);
  size_t out = 0;
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), out);
  if (error != std::errc{} || end != number.data() + number.size() || out == 0) return std::nullopt;
  return out - 1;
}

ClusterOperators::ClusterOperators(Schedule& schedule, Random chance, Options options, Nodes& nodes, Judge& judge,
                                   Coverage& coverage, Host& host)
    : schedule_(schedule),
      chance_(chance),
      options_(options),
      nodes_(nodes),
      judge_(judge),
      coverage_(coverage),
      host_(host),
      addresses_(nodes.size()) {}

void ClusterOperators::begin() { turn(); }

void ClusterOperators::end() { has_ended_ = true; }

void ClusterOperators::turn() {
  const auto mean = static_cast<uint64_t>(has_ended_ ? kSecond / 4 : options_.pause_mean_ns);
  schedule_.after(static_cast<int64_t>(chance_.below(2 * mean)) + 1, [this] {
    if (has_left_) return;
    act();
    turn();
  });
}

// --- what there is

bool ClusterOperators::is_member(size_t place) const {
  return judge_.model().members().contains(nodes_[place]->member_id());
}

bool ClusterOperators::is_unresolved(const Change& change) const {
  const ClusterCall& call = judge_.call(change.call);
  return call.index == Index{} && call.state != ClusterCall::State::kRefused;
}

std::set<NodeId> ClusterOperators::on_their_way_out() const {
  std::set<NodeId> out;
  for (const Change& change : changes_) {
    const NodeId id = change.what.member.id;
    const bool is_there = judge_.model().members().contains(id.value);
    if (change.what.kind == ChangeKind::kRemove && is_there && is_unresolved(change)) out.insert(id);
  }
  return out;
}

std::set<NodeId> ClusterOperators::lost_members() const {
  std::set<NodeId> out;
  for (const auto& node : nodes_) {
    if (node->standing() == Standing::kLost && is_member(node->place())) out.insert(NodeId(node->member_id()));
  }
  return out;
}

// Who has not applied the last change yet still counts by the members before it, and may have to elect by these; and so
// does, after its power was cut, who has applied it before it has synced that it is committed.
bool ClusterOperators::all_know_the_members() const {
  const auto& members = judge_.model().members();
  Index last;
  for (const Change& change : changes_) last = std::max(last, judge_.call(change.call).index);
  return std::ranges::all_of(nodes_, [&](const auto& node) {
    if (node->standing() != Standing::kServes || !members.contains(node->member_id())) return true;
    if (!node->is_running() || node->is_dead()) return false;
    if (node->member().core().replication().durable_commit() < last) return false;
    const auto& known = node->member().published().newest().members->members;
    return std::ranges::equal(known, members, [](const auto& one, const auto& other) {
      return one.first.value == other.first && one.second.is_learner == other.second.is_learner;
    });
  });
}

size_t ClusterOperators::voter_count() const {
  const auto& members = judge_.model().members();
  return static_cast<size_t>(
      std::count_if(members.begin(), members.end(), [](const auto& one) { return !one.second.is_learner; }));
}

bool ClusterOperators::can_do_without(NodeId id, bool is_lost) const {
  const std::set<NodeId> lost = lost_members();
  std::set<NodeId> leaving = on_their_way_out();
  leaving.insert(id);
  size_t there = 0;
  size_t gone = is_lost ? 1 : 0;
  for (const auto& [name, one] : judge_.model().members()) {
    if (one.is_learner) continue;
    if (lost.contains(NodeId(name))) {
      ++gone;
    } else if (!leaving.contains(NodeId(name))) {
      ++there;
    }
  }
  return there > gone;
}

// A member that runs, to be asked.
std::optional<size_t> ClusterOperators::somebody() {
  const size_t place = any_that_serves(nodes_, chance_);
  ClusterNode& node = *nodes_[place];
  if (!node.is_running() || node.is_dead() || node.is_paused(schedule_.now_ns())) return std::nullopt;
  return place;
}

std::optional<NodeId> ClusterOperators::any_member(bool is_learner) {
  std::vector<NodeId> all;
  for (const auto& [id, one] : judge_.model().members()) {
    if (one.is_learner == is_learner) all.emplace_back(id);
  }
  if (all.empty()) return std::nullopt;
  return all[chance_.below(all.size())];
}

// One that nobody has, or that of a member that is gone.
std::optional<size_t> ClusterOperators::free_address() {
  std::set<size_t> used;
  for (const auto& node : nodes_) {
    const bool is_free = !node->is_running() && (node->standing() == Standing::kEnded ||
                                                 (node->standing() == Standing::kLost && !is_member(node->place())));
    if (!is_free) used.insert(node->address());
  }
  if (!returns_.empty() && !used.contains(*returns_.begin())) return *returns_.begin();
  std::vector<size_t> free;
  for (size_t i = 0; i <= addresses_; ++i) {
    if (!used.contains(i)) free.push_back(i);
  }
  return free[chance_.below(free.size())];
}

Admission ClusterOperators::admission_of(ClusterNode& node) const {
  Admission out{.is_strict = options_.is_strict, .self = NodeId(node.member_id())};
  for (const auto& [id, one] : node.member().published().newest().members->members) {
    const auto since_ns = host_.connected_since_ns(node.place(), id);
    if (!since_ns) continue;
    out.connected.insert(id);
    if (*since_ns < schedule_.now_ns() - kActiveNs) out.active.insert(id);
  }
  return out;
}

// --- what they do

void ClusterOperators::act() {
  if (judge_.model().version().empty()) return;  // nobody can join a cluster without a version
  start_who_was_added();
  if (remove_who_is_lost() || has_ended_) return;
  try_to_come_back();
  switch (chance_.below(16)) {
    case 0:
    case 1:
    case 2: return add(false);
    case 3:
    case 4:
    case 5: return add(true);
    case 6:
    case 7:
    case 8: return promote();
    case 9:
    case 10: return remove();
    case 11: return update();
    case 12:
    case 13: return lose();
    case 14: return revive();
    default: return ask_wrongly();
  }
}

void ClusterOperators::start_who_was_added() {
  for (size_t place = 0; place < nodes_.size(); ++place) {
    ClusterNode& node = *nodes_[place];
    if (node.standing() != Standing::kReserved) continue;
    if (judge_.model().removed().contains(node.member_id())) {
      coverage_.hit("members removed before they were started");
      node.set_standing(Standing::kEnded);
    } else if (is_member(place) && (has_ended_ || !chance_.one_in(3))) {
      host_.begin_machine(place);
    }
  }
}

// Before anything else. True: there was somebody.
bool ClusterOperators::remove_who_is_lost() {
  const std::set<NodeId> lost = lost_members();
  if (lost.empty()) return false;
  const NodeId id = *lost.begin();
  const size_t place = *host_.place_of(id);
  if (!has_ended_ && tries_[id].founds && chance_.one_in(3)) {
    tries_[id].founds = false;
    host_.come_back_empty(place, false);
    return true;
  }
  const bool waits = std::any_of(changes_.begin(), changes_.end(), [&](const Change& change) {
    return change.what.member.id == id && change.what.kind == ChangeKind::kRemove &&
           judge_.call(change.call).state == ClusterCall::State::kWaiting;
  });
  if (!waits) remove(id, true);
  return true;
}

// As a member that the others do not have any more.
void ClusterOperators::try_to_come_back() {
  for (auto& [id, tries] : tries_) {
    if (!tries.joins || judge_.model().members().contains(id.value) || !chance_.one_in(4)) continue;
    tries.joins = false;
    return host_.come_back_empty(*host_.place_of(id), true);
  }
}

void ClusterOperators::add(bool is_learner) {
  const bool has_room = nodes_.size() < options_.places_max && voter_count() < options_.voters_max;
  if (const auto address = free_address(); has_room && address) add_at(*address, is_learner);
}

void ClusterOperators::add_at(size_t address, bool is_learner) {
  const auto asked = somebody();
  if (!asked) return;
  ClusterNode& node = *nodes_[*asked];
  cluster::MemberChange change = change_of(ChangeKind::kAdd, {});
  change.member.peer_urls = *cluster::check_peer_urls({peer_url_of(address)});
  change.member.is_learner = is_learner;
  change.member.id =
      cluster::compute_member_id(change.member.peer_urls, "", node.wall_ns(schedule_.now_ns()) / kSecond);
  if (is_learner) change.learner_count_max = node.member_options().core.apply.learner_count_max;
  propose(node, std::move(change));
}

void ClusterOperators::remove() {
  if (const auto leads = leader_of(nodes_); leads && chance_.one_in(3)) {
    return remove(NodeId(nodes_[*leads]->member_id()), false);
  }
  if (const auto id = any_member(chance_.one_in(3))) remove(*id, false);
}

void ClusterOperators::remove(NodeId id, bool is_lost) {
  const auto asked = somebody();
  if (!asked) return;
  const bool is_learner =
      judge_.model().members().contains(id.value) && judge_.model().members().at(id.value).is_learner;
  // Who alone votes may be asked for: that is refused.
  const bool is_last = voter_count() == 1 && on_their_way_out().empty();
  if (!is_lost && !is_learner && !is_last && !can_do_without(id, false)) return;
  propose(*nodes_[*asked], change_of(ChangeKind::kRemove, id));
}

void ClusterOperators::promote() {
  const auto id = any_member(!chance_.one_in(8));
  const auto asked = somebody();
  if (id && asked) ask_progress(*asked, {.id = *id});
}

// A second address, or none any more.
void ClusterOperators::update() {
  const auto id = any_member(chance_.one_in(3));
  const auto asked = somebody();
  if (!id || !asked) return;
  const auto place = host_.place_of(*id);
  if (!place) return;
  const auto& present = judge_.model().members().at(id->value);
  cluster::MemberChange change = change_of(ChangeKind::kUpdate, *id);
  change.member.peer_urls = {peer_url_of(nodes_[*place]->address())};
  if (present.peer_urls.size() < 2) change.member.peer_urls.push_back(url_of(1, nodes_[*place]->address()));
  change.member.is_learner = present.is_learner;
  propose(*nodes_[*asked], std::move(change));
}

void ClusterOperators::lose() {
  const auto id = any_member(chance_.one_in(3));
  const auto place = id ? host_.place_of(*id) : std::nullopt;
  if (!place || nodes_[*place]->standing() != Standing::kServes || !lost_members().empty()) return;
  const bool may_vote = std::any_of(changes_.begin(), changes_.end(), [&](const Change& change) {
    return change.what.member.id == *id && change.what.kind == ChangeKind::kPromote && is_unresolved(change);
  });
  const bool votes = !judge_.model().members().at(id->value).is_learner || may_vote;
  if (votes && !(can_do_without(*id, true) && all_know_the_members())) return;
  coverage_.hit("disks lost");
  host_.lose_disk(*place);
  tries_[*id] = {};
  if (!chance_.one_in(4)) returns_.insert(nodes_[*place]->address());
}

// Somebody starts a member again that was removed.
void ClusterOperators::revive() {
  for (const auto& node : nodes_) {
    if (node->standing() != Standing::kEnded || !judge_.model().removed().contains(node->member_id())) continue;
    const bool is_taken = std::any_of(nodes_.begin(), nodes_.end(), [&](const auto& other) {
      return other->address() == node->address() && other->place() != node->place() &&
             (other->is_running() || other->standing() == Standing::kServes ||
              other->standing() == Standing::kReserved);
    });
    if (is_taken || node->starts() == 0 || !chance_.one_in(2)) continue;
    coverage_.hit("removed members started again");
    return host_.begin_machine(node->place());
  }
}

// What cannot be.
void ClusterOperators::ask_wrongly() {
  const auto asked = somebody();
  const auto member = any_member(false);
  if (!asked || !member) return;
  const auto& removed = judge_.model().removed();
  const NodeId stranger = removed.empty() || chance_.one_in(2) ? NodeId(chance_.next()) : NodeId(*removed.begin());
  const std::vector<std::string> used = judge_.model().members().at(member->value).peer_urls;
  cluster::MemberChange change = change_of(ChangeKind::kRemove, stranger);
  switch (chance_.below(5)) {
    case 0: break;
    case 1:
      change.kind = ChangeKind::kUpdate;
      change.member.peer_urls = {url_of(2, 0)};
      break;
    case 2: {  // another one's address, beside its own: that one may be gone when it is applied
      change.kind = ChangeKind::kUpdate;
      const auto other = any_member(chance_.one_in(2));
      const auto place = other ? host_.place_of(*other) : std::nullopt;
      if (!place || *other == *member) return;
      change.member.id = *other;
      change.member.is_learner = judge_.model().members().at(other->value).is_learner;
      change.member.peer_urls = used;
      const std::string own = peer_url_of(nodes_[*place]->address());
      if (std::ranges::find(used, own) == used.end()) change.member.peer_urls.push_back(own);
      break;
    }
    case 3:
      if (nodes_.size() >= options_.places_max) return;
      change.kind = ChangeKind::kAdd;
      change.member.is_learner = chance_.one_in(2);
      change.member.peer_urls = used;
      if (change.member.is_learner) {
        change.learner_count_max = nodes_[*asked]->member_options().core.apply.learner_count_max;
      }
      break;
    default: return ask_progress(*asked, {.id = stranger});
  }
  propose(*nodes_[*asked], std::move(change));
}

// --- a change

// Only a leader knows. Another member asks it, as the server does.
void ClusterOperators::ask_progress(size_t place, Promotion promotion) {
  promotions_[++last_tag_] = promotion;
  nodes_[place]->control({member::Control::kProgress, last_tag_, {}}, schedule_.now_ns());
}

void ClusterOperators::on_progress(ClusterNode& node, member::Tag tag, Code code, std::string_view text) {
  const auto at = promotions_.find(tag);
  if (at == promotions_.end()) return;
  Promotion promotion = at->second;
  promotions_.erase(at);
  if (code != Code::kOk) {
    if (std::exchange(promotion.is_forwarded, true)) return;
    const auto leader = host_.place_of(node.raft().leader());
    if (!leader || !nodes_[*leader]->is_running() || !host_.connected_since_ns(node.place(), node.raft().leader())) {
      return;
    }
    coverage_.hit("promotions asked of another member");
    return ask_progress(*leader, promotion);
  }
  std::vector<member::PeerProgress> progress(text.size() / sizeof(member::PeerProgress));
  std::memcpy(progress.data(), text.data(), progress.size() * sizeof(member::PeerProgress));
  propose(node, change_of(ChangeKind::kPromote, promotion.id), progress);
}

void ClusterOperators::propose(ClusterNode& node, cluster::MemberChange change,
                               const std::vector<member::PeerProgress>& progress) {
  const std::string_view what = name_of(change.kind);
  const auto members = node.member().published().newest().members;
  Admission admission = admission_of(node);
  admission.progress = progress;
  const auto wanted = refusal_of(*members, change, admission);
  std::optional<Error> refused;
  const bool is_last = change.kind == ChangeKind::kRemove && members->voters() == std::vector<NodeId>{change.member.id};
  if (change.kind == ChangeKind::kPromote && wanted &&
      (*wanted == errors::member_not_found() || *wanted == errors::learner_not_ready())) {
    refused = wanted;  // src/rpc decides that, which is not here
  } else if ((options_.is_strict || is_last) && change.kind != ChangeKind::kUpdate) {
    Status admitted = cluster::check_quorum_after(*members, change);
    const cluster::Connections connections{
        .self = NodeId(node.member_id()), .now_ns = schedule_.now_ns(), .active_since_ns = [&](NodeId id) {
          return host_.connected_since_ns(node.place(), id);
        }};
    if (admitted && change.kind != ChangeKind::kPromote) {
      admitted = cluster::check_active_after(*members, change, connections);
    }
    if (!admitted) refused = admitted.error();
  }
  if (refused != wanted) {
    return host_.violation(fmt::format("member {} says \"{}\" to {} {}, and should say \"{}\"", node.place(),
                                       refused ? refused->message : "", what, change.member.id,
                                       wanted ? wanted->message : ""));
  }
  host_.note(fmt::format("{} {:x} is asked of member {}{}{}", what, change.member.id.value, node.place(),
                         change.member.is_learner ? ", a learner" : "", refused ? ": " + refused->message : ""));
  if (refused) return coverage_.hit(fmt::format("member {} not proposed: {}", what, refused->message));
  if (change.kind == ChangeKind::kAdd && !host_.place_of(change.member.id)) {
    const size_t address = *address_of(change.member.peer_urls.front());
    addresses_ = std::max(addresses_, address + 1);
    returns_.erase(address);
    host_.reserve(change.member.id, address);
  }
  ClusterCall& call = judge_.begin_call(kOperator, node.place(), schedule_.now_ns());
  call.changes_members = true;
  judge_.begin_write(call,
                     raft::encode(raft::ConfChangeV1{.id = node.member().core().next_request_id(),
                                                     .type = static_cast<raft::ConfChangeType>(change.raft_type()),
                                                     .node = change.member.id,
                                                     .context = cluster::change_context(change)}));
  node.change_members(std::make_shared<const raft::Payload>(raft::Payload{.bytes = call.payload, .tag = call.number}),
                      schedule_.now_ns());
  changes_.push_back({call.number, std::move(change)});
  schedule_.after(static_cast<int64_t>(chance_.between(1, 8)) * kSecond, [this, number = call.number] {
    ClusterCall& late = judge_.call(number);
    if (late.state != ClusterCall::State::kWaiting) return;
    judge_.on_lost(late, schedule_.now_ns());
    late.is_late = true;
  });
}

void ClusterOperators::on_answer(ClusterNode& node, const ClusterCall& call) {
  const auto at =
      std::find_if(changes_.begin(), changes_.end(), [&](const Change& change) { return change.call == call.number; });
  if (at == changes_.end() || call.index == Index{} || !call.reply) return;
  const std::string_view what = name_of(at->what.kind);
  if (call.reply->code != Code::kOk) return coverage_.hit(fmt::format("member {}: {}", what, call.reply->text));
  coverage_.hit(fmt::format("member {} done", what));
  // The list of members that the answer brings is read now.
  const Index applied = node.member().published().newest().applied;
  if (applied >= call.index) return;
  host_.violation(
      fmt::format("member {} answers to entry {} and shows the members of {}", node.place(), call.index, applied));
}

}  // namespace cairn::sim
