#include "member/recovery/joining.h"

#include <optional>

#include "base/bytes.h"
#include "base/log.h"
#include "cluster/codec.h"

namespace cairn::member {
namespace {

constexpr int64_t kBootstrapTimeoutNs = 1'000'000'000;
constexpr int64_t kMembersTimeoutNs = 10'000'000'000;

// The members as one who listens at `url` tells them. Without a value: nobody tells any.
std::optional<cluster::Membership> ask_members(PeerProbe& probe, const std::string& url, int64_t timeout_ns,
                                               bool tells) {
  const std::string address = url + "/members";
  const auto answer = probe.get(address, timeout_ns);
  if (!answer) {
    if (tells) log::warn("failed to get cluster response", {{"address", address}, {"error", answer.error().message}});
    return std::nullopt;
  }
  auto members = cluster::parse_members(answer->body);
  if (!members) {
    if (tells) {
      log::warn("failed to unmarshal cluster response", {{"address", address}, {"error", members.error().message}});
    }
    return std::nullopt;
  }
  const auto cluster_id = parse_hex(answer->cluster_id);
  if (!cluster_id) {
    if (tells) log::warn("failed to parse cluster ID", {{"address", address}, {"header", answer->cluster_id}});
    return std::nullopt;
  }
  cluster::Membership out;
  out.cluster_id = *cluster_id;
  for (cluster::Member& member : *members) {
    const NodeId id = member.id;
    out.members[id] = std::move(member);
  }
  return out;
}

// What `member` answers to GET `path` on the first of its URLs where somebody does, if `read` can read it.
template <class T, class Read>
std::optional<T> ask_one(PeerProbe& probe, const cluster::Member& member, std::string_view path, int64_t timeout_ns,
                         std::string_view failure, const Read& read) {
  for (const std::string& url : member.peer_urls) {
    const std::string address = url + std::string(path);
    const std::string id = hex_id(member.id.value);
    const auto answer = probe.get(address, timeout_ns);
    if (!answer) {
      log::warn("failed to reach the peer URL",
                {{"address", address}, {"remote-member-id", id}, {"error", answer.error().message}});
      continue;
    }
    Result<T> value = read(answer->body);
    if (value) return *std::move(value);
    log::warn(failure, {{"address", address}, {"remote-member-id", id}, {"error", value.error().message}});
  }
  return std::nullopt;
}

std::vector<cluster::MemberVersions> ask_versions(PeerProbe& probe, const cluster::Membership& members, NodeId self,
                                                  int64_t timeout_ns) {
  std::vector<cluster::MemberVersions> out;
  for (const auto& [id, member] : members.members) {
    if (id == self) continue;
    auto said = ask_one<cluster::MemberVersions>(
        probe, member, "/version", timeout_ns, "failed to unmarshal response",
        [&, who = id](std::string_view body) { return cluster::parse_member_versions(who, body); });
    if (said) {
      out.push_back(*std::move(said));
    } else {
      log::warn("failed to get version", {{"remote-member-id", hex_id(id.value)}});
    }
  }
  return out;
}

// Texts of Go's ParseBool.
Result<bool> parse_bool(std::string_view text) {
  for (const std::string_view yes : {"1", "t", "T", "true", "TRUE", "True"}) {
    if (text == yes) return true;
  }
  for (const std::string_view no : {"0", "f", "F", "false", "FALSE", "False"}) {
    if (text == no) return false;
  }
  return fail(Code::kInvalidArgument, "strconv.ParseBool: parsing \"{}\": invalid syntax", text);
}

// The first answer counts: each is linearizable. Members up to 3.4 have none.
bool ask_downgrade_enabled(PeerProbe& probe, const cluster::Membership& members, NodeId self, int64_t timeout_ns) {
  for (const auto& [id, member] : members.members) {
    if (id == self) continue;
    const auto enabled =
        ask_one<bool>(probe, member, "/downgrade/enabled", timeout_ns, "failed to convert response", parse_bool);
    if (enabled) return *enabled;
    log::warn("failed to get downgrade enabled status", {{"remote-member-id", hex_id(id.value)}});
  }
  return false;
}

// A member publishes its client URLs once its log has begun.
bool has_served(const cluster::Membership& members, NodeId id) {
  const cluster::Member* const known = members.find(id);
  return known != nullptr && !known->client_urls.empty();
}

std::unexpected<Error> already_bootstrapped(NodeId id) {
  return fail(Code::kFailedPrecondition, "member {} has already been bootstrapped", hex_id(id.value));
}

struct Found {
  cluster::Membership existing;
  cluster::Membership members;  // the flags' ones, with the ids of `existing`
  NodeId self;
};

Result<Found> match(const JoinRequest& request, cluster::Membership existing) {
  if (existing.members.empty()) {
    return fail(Code::kFailedPrecondition,
                "cannot fetch cluster info from peer urls: failed to get raft cluster member(s) from the given URLs");
  }
  auto members = cluster::assign_ids(request.configured, existing, request.resolve);
  if (!members) {
    return fail(members.error().code, "error validating peerURLs {}: {}", cluster::describe(existing),
                members.error().message);
  }
  const cluster::Member* const own = members->find_name(request.name);
  if (own == nullptr) {
    return fail(Code::kInvalidArgument, "couldn't find local name \"{}\" in the initial cluster configuration",
                request.name);
  }
  // compat: etcd lets it join again. It has lost what it acknowledged, and may vote for who lacks the same.
  if (has_served(existing, own->id)) return already_bootstrapped(own->id);
  const NodeId self = own->id;
  return Found{std::move(existing), *std::move(members), self};
}

// compat: etcd takes the first answer. Who answers may itself be new and know nobody yet, and may wait for this member;
// or may not have heard yet that this one was removed and added again. And all are asked whether it has served.
Result<Found> ask_cluster(const JoinRequest& request, PeerProbe& probe) {
  std::vector<cluster::Membership> answers;
  std::optional<Found> found;
  std::optional<Error> first_reason;
  for (const std::string& url : cluster::other_peer_urls(request.configured, request.name)) {
    auto existing = ask_members(probe, url, found ? kBootstrapTimeoutNs : kMembersTimeoutNs, /*tells=*/!found);
    if (!existing) continue;
    answers.push_back(*existing);
    if (found) continue;
    auto matched = match(request, *std::move(existing));
    if (matched) {
      found = *std::move(matched);
    } else if (!first_reason) {
      first_reason = std::move(matched.error());
    }
  }
  if (found) {
    for (const cluster::Membership& answer : answers) {
      if (has_served(answer, found->self)) return already_bootstrapped(found->self);
    }
    return *std::move(found);
  }
  if (first_reason) return std::unexpected(*std::move(first_reason));
  return fail(Code::kFailedPrecondition,
              "cannot fetch cluster info from peer urls: could not retrieve cluster information from the given URLs");
}

}  // namespace

Status check_not_bootstrapped(const JoinRequest& request, PeerProbe& probe) {
  const cluster::Member* const own = request.configured.find_name(request.name);
  if (own == nullptr) return {};
  for (const std::string& url : cluster::other_peer_urls(request.configured, request.name)) {
    const auto found = ask_members(probe, url, kBootstrapTimeoutNs, /*tells=*/false);
    if (found && has_served(*found, own->id)) return already_bootstrapped(own->id);
  }
  return {};
}

Result<Joined> find_cluster(const JoinRequest& request, PeerProbe& probe) {
  CAIRN_TRY(auto found, ask_cluster(request, probe));
  const cluster::Membership& existing = found.existing;
  cluster::Membership& members = found.members;
  const NodeId self = found.self;
  const auto versions = ask_versions(probe, members, self, request.request_timeout_ns);
  const bool downgrades = ask_downgrade_enabled(probe, members, self, request.request_timeout_ns);
  const auto version = cluster::joinable_version(versions, downgrades);
  if (!version) return fail(Code::kFailedPrecondition, "incompatible with current running cluster");
  if (existing.learners().size() > request.learner_count_max) {
    return fail(Code::kFailedPrecondition, "membership: too many learner members in cluster");
  }
  return Joined{.self = self, .members = std::move(members), .version = *version};
}

}  // namespace cairn::member
