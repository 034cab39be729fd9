#include "cluster/membership.h"

#include <algorithm>
#include <array>
#include <set>

#include <openssl/evp.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/errors.h"
#include "cluster/codec.h"
#include "cluster/urls.h"

namespace cairn::cluster {
namespace {

uint64_t sha1_head(std::string_view bytes) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned size = 0;
  const int done = EVP_Digest(bytes.data(), bytes.size(), digest.data(), &size, EVP_sha1(), nullptr);
  CAIRN_ASSERT(done == 1 && size == 20);
  return load_be64(digest.data());
}

constexpr int64_t kHealthIntervalNs = 5'000'000'000;  // etcd's HealthInterval

bool url_is_used(const Membership& cluster, const std::vector<std::string>& urls, NodeId except) {
  const std::set<std::string_view> wanted(urls.begin(), urls.end());
  return std::ranges::any_of(cluster.members, [&](const auto& entry) {
    return entry.first != except &&
           std::ranges::any_of(entry.second.peer_urls, [&](const std::string& url) { return wanted.contains(url); });
  });
}

}  // namespace

const Member* Membership::find(NodeId id) const {
  const auto it = members.find(id);
  return it == members.end() ? nullptr : &it->second;
}

const Member* Membership::find_name(std::string_view name) const {
  const auto it = std::ranges::find_if(members, [&](const auto& entry) { return entry.second.name == name; });
  return it == members.end() ? nullptr : &it->second;
}

size_t Membership::voter_count() const { return voters().size(); }

std::vector<NodeId> Membership::voters() const {
  std::vector<NodeId> ids;
  for (const auto& [id, member] : members) {
    if (!member.is_learner) ids.push_back(id);
  }
  return ids;
}

std::vector<NodeId> Membership::learners() const {
  std::vector<NodeId> ids;
  for (const auto& [id, member] : members) {
    if (member.is_learner) ids.push_back(id);
  }
  return ids;
}

NodeId compute_member_id(std::vector<std::string> peer_urls, std::string_view token,
                         std::optional<int64_t> unix_seconds) {
  std::ranges::sort(peer_urls);
  std::string text;
  for (const std::string& url : peer_urls) text += url;
  text += token;
  if (unix_seconds) text += std::to_string(*unix_seconds);
  return NodeId(sha1_head(text));
}

uint64_t compute_cluster_id(std::span<const NodeId> founders) {
  std::vector<NodeId> sorted(founders.begin(), founders.end());
  std::ranges::sort(sorted);
  std::string bytes(sorted.size() * 8, '\0');
  for (size_t i = 0; i < sorted.size(); ++i) store_be64(bytes.data() + i * 8, sorted[i].value);
  return sha1_head(bytes);
}

Result<Membership> found_cluster(const std::map<std::string, std::vector<std::string>>& initial_cluster,
                                 std::string_view token) {
  Membership cluster;
  std::vector<NodeId> ids;
  for (const auto& [name, urls] : initial_cluster) {
    Member member{.id = compute_member_id(urls, token), .peer_urls = urls, .name = name, .client_urls = {}};
    std::ranges::sort(member.peer_urls);
    const NodeId id = member.id;
    if (id == NodeId()) return fail(Code::kInvalidArgument, "cannot use {} as member id", hex_id(id.value));
    if (!cluster.members.emplace(id, std::move(member)).second) {
      return fail(Code::kInvalidArgument, "member exists with identical ID {}", hex_id(id.value));
    }
    ids.push_back(id);
  }
  cluster.cluster_id = compute_cluster_id(ids);
  return cluster;
}

ConfChangeType MemberChange::raft_type() const {
  switch (kind) {
    case ChangeKind::kAdd: return member.is_learner ? ConfChangeType::kAddLearnerNode : ConfChangeType::kAddNode;
    case ChangeKind::kPromote: return ConfChangeType::kAddNode;
    case ChangeKind::kUpdate: return ConfChangeType::kUpdateNode;
    case ChangeKind::kRemove: return ConfChangeType::kRemoveNode;
  }
  CAIRN_ASSERT(false);
}

Status check_change(const Membership& cluster, const MemberChange& change, size_t learner_count_max) {
  const NodeId id = change.member.id;
  if (cluster.removed.contains(id) && !CAIRN_MUTANT("cluster.removed_id_returns"))
    return std::unexpected(errors::member_not_found());
  const Member* present = cluster.find(id);
  switch (change.kind) {
    case ChangeKind::kAdd:
      if (present != nullptr) return std::unexpected(errors::member_exist());
      if (url_is_used(cluster, change.member.peer_urls, id)) {
        return std::unexpected(errors::peer_url_exist());
      }
      if (change.member.is_learner && cluster.learners().size() + 1 > learner_count_max) {
        return std::unexpected(errors::too_many_learners());
      }
      return {};
    case ChangeKind::kPromote:
      if (present == nullptr) return std::unexpected(errors::member_not_found());
      if (!present->is_learner) {
        return std::unexpected(errors::member_not_learner());
      }
      return {};
    case ChangeKind::kUpdate:
      if (present == nullptr) return std::unexpected(errors::member_not_found());
      if (url_is_used(cluster, change.member.peer_urls, id)) {
        return std::unexpected(errors::peer_url_exist());
      }
      return {};
    case ChangeKind::kRemove:
      if (present == nullptr) return std::unexpected(errors::member_not_found());
      return {};
  }
  CAIRN_ASSERT(false);
}

void apply_change(Membership& cluster, const MemberChange& change) {
  const NodeId id = change.member.id;
  const auto it = cluster.members.find(id);
  switch (change.kind) {
    case ChangeKind::kAdd: {
      const bool is_new = cluster.members.emplace(id, change.member).second;
      CAIRN_ASSERT(is_new);
      return;
    }
    case ChangeKind::kPromote:
      CAIRN_ASSERT(it != cluster.members.end());
      it->second.is_learner = false;
      return;
    case ChangeKind::kUpdate:
      // compat: the context of an update has no isLearner; up to 3.6.11 it made a voter of an updated learner.
      CAIRN_ASSERT(it != cluster.members.end());
      it->second.peer_urls = change.member.peer_urls;
      return;
    case ChangeKind::kRemove:
      CAIRN_ASSERT(it != cluster.members.end());
      cluster.members.erase(it);
      cluster.removed.insert(id);
      return;
  }
}

bool set_attributes(Membership& cluster, NodeId id, std::string name, std::vector<std::string> client_urls) {
  const auto it = cluster.members.find(id);
  if (it == cluster.members.end()) return false;
  it->second.name = std::move(name);
  it->second.client_urls = std::move(client_urls);
  return true;
}

Status check_quorum_after(const Membership& cluster, const MemberChange& change) {
  size_t count = 0;
  size_t started = 0;
  for (const auto& [id, member] : cluster.members) {
    if (member.is_learner) continue;
    if (change.kind == ChangeKind::kRemove && id == change.member.id) continue;
    ++count;
    if (member.is_started()) ++started;
  }
  switch (change.kind) {
    case ChangeKind::kUpdate: return {};
    case ChangeKind::kAdd:
      if (change.member.is_learner) return {};
      ++count;
      // A cluster of one may grow to two: there is no other way to begin.
      if (started == 1 && count == 2) return {};
      break;
    case ChangeKind::kPromote:  // it has been following, so it counts as started
      ++count;
      ++started;
      break;
    case ChangeKind::kRemove:
      if (const Member* member = cluster.find(change.member.id); member != nullptr && member->is_learner) return {};
      break;
  }
  if (started < count / 2 + 1) {
    return std::unexpected(errors::member_not_enough_started());
  }
  return {};
}

Status check_active_after(const Membership& cluster, const MemberChange& change, const Connections& connections) {
  const auto active_since = [&](NodeId id) {
    return connections.active_since_ns ? connections.active_since_ns(id) : std::nullopt;
  };
  const std::vector<NodeId> voters = cluster.voters();
  const auto connected = static_cast<size_t>(std::ranges::count_if(voters, [&](NodeId id) {
    if (id == connections.self) return true;
    const auto since_ns = active_since(id);
    return since_ns && *since_ns < connections.now_ns - kHealthIntervalNs;
  }));
  switch (change.kind) {
    case ChangeKind::kUpdate:
    case ChangeKind::kPromote: return {};
    case ChangeKind::kAdd:
      if (voters.size() == 1 || connected >= (voters.size() + 1) / 2 + 1) return {};
      break;
    case ChangeKind::kRemove: {
      const NodeId id = change.member.id;
      if (const Member* member = cluster.find(id); member != nullptr && member->is_learner) return {};
      if (id != connections.self && !active_since(id)) return {};  // who is down is no part of the majority at work
      if (connected >= 1 + 1 + (voters.size() - 1) / 2) return {};
      break;
    }
  }
  return std::unexpected(errors::unhealthy());
}

Result<std::vector<std::string>> check_peer_urls(std::vector<std::string> urls) {
  const auto bad = [] { return std::unexpected(errors::member_bad_urls()); };
  if (urls.empty()) return bad();
  for (std::string& text : urls) {
    const auto url = parse_url(text);
    if (!url) return bad();
    text = url->text;
  }
  std::ranges::sort(urls);
  return urls;
}

}  // namespace cairn::cluster
