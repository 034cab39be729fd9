#include "sim/cluster/membership_check.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/errors.h"

namespace cairn::sim {
namespace {

std::string text_of(uint64_t id, const Model::Member& one) {
  return fmt::format("{:x} {} of {} {}{}", id, one.name, fmt::join(one.peer_urls, " "), fmt::join(one.client_urls, " "),
                     one.is_learner ? " learner" : "");
}

std::vector<uint64_t> numbers(const std::vector<NodeId>& ids) {
  std::vector<uint64_t> out;
  for (const NodeId id : ids) out.push_back(id.value);
  return out;
}

}  // namespace

void MembershipCheck::note(Index index, const Model& model) {
  states_[index] = {model.members(), model.removed(), model.version()};
}

std::string MembershipCheck::compare(Index last, const cluster::Membership& members,
                                     const raft::ConfState& conf) const {
  const auto at = states_.find(last);
  if (at == states_.end()) return "";  // nothing is founded yet
  const State& state = at->second;
  if (members.version != state.version) {
    return fmt::format("has version \"{}\" and should have \"{}\"", members.version, state.version);
  }
  std::map<uint64_t, Model::Member> found;
  for (const auto& [id, one] : members.members) {
    found[id.value] = {
        .peer_urls = one.peer_urls, .is_learner = one.is_learner, .name = one.name, .client_urls = one.client_urls};
  }
  for (const auto& [id, one] : state.members) {
    const auto its = found.find(id);
    if (its == found.end()) return "lacks " + text_of(id, one);
    if (its->second != one) return "has " + text_of(id, its->second) + " and should have " + text_of(id, one);
  }
  if (found.size() != state.members.size()) return "has a member too many";
  std::set<uint64_t> removed;
  for (const NodeId id : members.removed) removed.insert(id.value);
  if (removed != state.removed) return "knows other removed members";
  std::vector<uint64_t> voters;
  std::vector<uint64_t> learners;
  for (const auto& [id, one] : state.members) (one.is_learner ? learners : voters).push_back(id);
  const bool is_plain = conf.voters_outgoing.empty() && conf.learners_next.empty();
  if (is_plain && numbers(conf.voters) == voters && numbers(conf.learners) == learners) return "";
  return fmt::format("counts by voters {:x}, learners {:x}", fmt::join(numbers(conf.voters), " "),
                     fmt::join(numbers(conf.learners), " "));
}

// etcd's IsReadyToAddVotingMember, IsReadyToRemoveVotingMember, IsReadyToPromoteMember, isConnectedFullySince..., by
// their words.
std::optional<Error> refusal_of(const cluster::Membership& members, const cluster::MemberChange& change,
                                const Admission& admission) {
  using cluster::ChangeKind;
  const NodeId id = change.member.id;
  if (change.kind == ChangeKind::kUpdate) return std::nullopt;
  if (change.kind == ChangeKind::kPromote) {
    uint64_t own = 0;
    std::optional<uint64_t> its;
    for (const member::PeerProgress& one : admission.progress) {
      if (NodeId(one.id) == admission.self) own = one.match;
      if (NodeId(one.id) == id) its = one.match;
    }
    if (!its) return errors::member_not_found();
    if (static_cast<double>(*its) < 0.9 * static_cast<double>(own)) return errors::learner_not_ready();
  }
  std::vector<NodeId> voters;
  size_t started = 0;
  for (const auto& [name, one] : members.members) {
    if (!one.is_learner) voters.push_back(name);
  }
  const bool is_learners = change.kind == ChangeKind::kAdd
                               ? change.member.is_learner
                               : members.find(id) != nullptr && members.find(id)->is_learner;
  const bool removes_last = change.kind == ChangeKind::kRemove && voters == std::vector{id};
  if (!admission.is_strict && !removes_last) return std::nullopt;
  if (is_learners && change.kind == ChangeKind::kRemove) return std::nullopt;
  size_t count = 0;
  for (const NodeId one : voters) {
    if (change.kind == ChangeKind::kRemove && one == id) continue;
    ++count;
    if (members.find(one)->is_started()) ++started;
  }
  if (change.kind == ChangeKind::kPromote) {
    ++count;
    ++started;
  } else if (change.kind == ChangeKind::kAdd && !is_learners) {
    ++count;
  }
  const bool grows_to_two = change.kind == ChangeKind::kAdd && started == 1 && count == 2;
  const bool counts = !(change.kind == ChangeKind::kAdd && is_learners);  // who adds a learner only has to be connected
  if (counts && !grows_to_two && started < count / 2 + 1) return errors::member_not_enough_started();
  if (change.kind == ChangeKind::kPromote) return std::nullopt;
  const auto active = static_cast<size_t>(std::count_if(voters.begin(), voters.end(), [&](NodeId one) {
    return one == admission.self || admission.active.contains(one);
  }));
  if (change.kind == ChangeKind::kAdd) {
    if (voters.size() == 1 || active >= (voters.size() + 1) / 2 + 1) return std::nullopt;
    return errors::unhealthy();
  }
  if (id != admission.self && !admission.connected.contains(id)) return std::nullopt;
  if (active >= 2 + (voters.size() - 1) / 2) return std::nullopt;
  return errors::unhealthy();
}

}  // namespace cairn::sim
