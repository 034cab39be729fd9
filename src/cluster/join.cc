#include "cluster/join.h"

#include <algorithm>

#include "base/bytes.h"
#include "base/log.h"
#include "cluster/json_read.h"

namespace cairn::cluster {
namespace {

constexpr MinorVersion kOldestCluster{3, 0};

// As Go prints a member.
std::string describe(const Member& member) {
  return fmt::format("&{{ID:{} RaftAttributes:{{PeerURLs:[{}] IsLearner:{}}} Attributes:{{Name:{} ClientURLs:[{}]}}}}",
                     hex_id(member.id.value), fmt::join(member.peer_urls, " "), member.is_learner, member.name,
                     fmt::join(member.client_urls, " "));
}

void warn_about(const MemberVersions& said, std::string_view what, std::string_view bound_key, std::string bound) {
  log::warn(fmt::format("cluster version of remote member is not compatible; too {}", what),
            {{"remote-member-id", hex_id(said.member.value)},
             {"remote-member-cluster-version", said.cluster},
             {bound_key, std::move(bound)}});
}

}  // namespace

std::vector<std::string> other_peer_urls(const Membership& cluster, std::string_view own_name) {
  std::vector<std::string> urls;
  for (const auto& [id, member] : cluster.members) {
    if (member.name == own_name) continue;
    urls.insert(urls.end(), member.peer_urls.begin(), member.peer_urls.end());
  }
  std::ranges::sort(urls);
  return urls;
}

Result<Membership> assign_ids(const Membership& configured, const Membership& existing, const Resolver& resolve) {
  if (configured.members.size() != existing.members.size()) {
    return fail(Code::kInvalidArgument, "member count is unequal");
  }
  std::vector<Member> members;
  for (const auto& [id, member] : configured.members) members.push_back(member);
  for (const auto& [id, member] : existing.members) {
    std::string difference;
    const auto same = std::ranges::find_if(members, [&](const Member& candidate) {
      auto differs = url_difference(member.peer_urls, candidate.peer_urls, resolve);
      difference = differs ? *std::move(differs) : std::move(differs.error().message);
      return difference.empty();
    });
    if (same == members.end()) {
      return fail(Code::kInvalidArgument,
                  "PeerURLs: no match found for existing member ({}, [{}]), last resolver error ({})", hex_id(id.value),
                  fmt::join(member.peer_urls, " "), difference);
    }
    same->id = id;
  }
  Membership out;
  out.cluster_id = existing.cluster_id;
  for (Member& member : members) {
    const NodeId id = member.id;
    out.members[id] = std::move(member);
  }
  // compat: where one of the flag's members fits two of the cluster's, etcd goes on with one that is not there.
  for (const auto& [id, member] : existing.members) {
    if (out.find(id) == nullptr) {
      return fail(Code::kInvalidArgument, "PeerURLs: no match found for existing member ({}, [{}])", hex_id(id.value),
                  fmt::join(member.peer_urls, " "));
    }
  }
  return out;
}

std::string describe(const Membership& cluster) {
  std::vector<std::string> members;
  for (const auto& [id, member] : cluster.members) members.push_back(describe(member));
  std::vector<std::string> removed;
  for (const NodeId id : cluster.removed) removed.push_back(hex_id(id.value));
  return fmt::format("{{ClusterID:{} Members:[{}] RemovedMemberIDs:[{}]}}", hex_id(cluster.cluster_id),
                     fmt::join(members, " "), fmt::join(removed, " "));
}

Result<MemberVersions> parse_member_versions(NodeId member, std::string_view text) {
  CAIRN_TRY(const json::object in, json::parse_object(text, "versions"));
  MemberVersions out{.member = member, .server = {}, .cluster = {}};
  CAIRN_TRY(out.server, json::get_text(in, "etcdserver"));
  CAIRN_TRY(out.cluster, json::get_text(in, "etcdcluster"));
  return out;
}

std::optional<MinorVersion> joinable_version(const std::vector<MemberVersions>& versions, bool downgrade_enabled) {
  // A cluster that goes down by one version can be joined by who is of that version.
  const MinorVersion highest{kOwnVersion.major, kOwnVersion.minor + (downgrade_enabled ? 1 : 0)};
  const MinorVersion lowest = downgrade_enabled ? highest : kOldestCluster;
  std::optional<MinorVersion> found;
  for (const MemberVersions& said : versions) {
    const auto version = parse_version(said.cluster);
    if (!version) {
      log::warn("failed to parse cluster version of remote member",
                {{"remote-member-id", hex_id(said.member.value)}, {"remote-member-cluster-version", said.cluster}});
      continue;
    }
    if (*version < lowest) {
      warn_about(said, "low", "minimum-cluster-version-supported", lowest.text());
      return std::nullopt;
    }
    if (*version > highest) {
      warn_about(said, "high", "maximum-cluster-version-supported", highest.text());
      return std::nullopt;
    }
    found = std::min(found.value_or(*version), *version);
  }
  return found;
}

}  // namespace cairn::cluster
