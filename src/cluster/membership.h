// cluster/membership.h: who belongs to the cluster, as a value.
//
// A Membership changes only through apply() and the setters below, in log order, on every member alike. It is stored
// as one JSON text per member (bucket `members`, conf change contexts), as the v2 tree (`.snap` files,
// cluster/v2_store.h) and as the conf state (bucket `meta`, cluster/codec.h).
//
// Always true: no id is both a member and removed; an id, once removed, never comes back.
// Threads:     a plain value; its owner is the apply side.
// Source:      docs/compatibility.md; clients match on the error texts, which are in base/errors.def.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/strong.h"

namespace cairn::cluster {

struct Member {
  NodeId id;
  std::vector<std::string> peer_urls;
  bool is_learner = false;
  std::string name;                      // empty until the member has published itself
  std::vector<std::string> client_urls;  // likewise

  [[nodiscard]] bool is_started() const { return !name.empty(); }
  friend bool operator==(const Member&, const Member&) = default;
};

struct Downgrade {
  std::string target_version;  // "3.6.0"; empty when not enabled
  bool enabled = false;

  friend bool operator==(const Downgrade&, const Downgrade&) = default;
};

struct Membership {
  uint64_t cluster_id = 0;
  std::map<NodeId, Member> members;
  std::set<NodeId> removed;
  std::string version;  // "3.7.0"; empty: not decided yet
  Downgrade downgrade;

  [[nodiscard]] const Member* find(NodeId id) const;
  [[nodiscard]] const Member* find_name(std::string_view name) const;
  [[nodiscard]] size_t voter_count() const;
  [[nodiscard]] std::vector<NodeId> voters() const;    // ascending
  [[nodiscard]] std::vector<NodeId> learners() const;  // ascending
  friend bool operator==(const Membership&, const Membership&) = default;
};

// SHA-1(sorted URLs, token, decimal seconds)[0..8). Founders: the cluster's token and no time. A member added at run
// time: an empty token and the time.
[[nodiscard]] NodeId compute_member_id(std::vector<std::string> peer_urls, std::string_view token,
                                       std::optional<int64_t> unix_seconds = std::nullopt);
// SHA-1(ids as 8 bytes, ascending)[0..8).
[[nodiscard]] uint64_t compute_cluster_id(std::span<const NodeId> founders);

// The founders' membership, ids computed.
//   errors: kInvalidArgument when two names have the same URLs
[[nodiscard]] Result<Membership> found_cluster(const std::map<std::string, std::vector<std::string>>& initial_cluster,
                                               std::string_view token);

// ---- Configuration changes

// As raftpb.ConfChangeType; a promotion is a kAddNode whose context says so.
enum class ConfChangeType : uint8_t { kAddNode = 0, kRemoveNode = 1, kUpdateNode = 2, kAddLearnerNode = 3 };

enum class ChangeKind : uint8_t { kAdd, kPromote, kUpdate, kRemove };

// The meaning of a conf change entry. kRemove and kPromote use member.id only, kUpdate also peer_urls.
struct MemberChange {
  ChangeKind kind = ChangeKind::kAdd;
  Member member;
  // Of who proposed a learner: so many there may be with it. Members that allow other numbers come to the same verdict.
  std::optional<uint64_t> learner_count_max = std::nullopt;

  [[nodiscard]] ConfChangeType raft_type() const;
  friend bool operator==(const MemberChange&, const MemberChange&) = default;
};

// The context that etcd writes; "" for a removal.
[[nodiscard]] std::string change_context(const MemberChange& change);
//   errors: kDataLoss when the context is not what etcd writes for this type, or names another id than `node`
[[nodiscard]] Result<MemberChange> decode_change(ConfChangeType type, NodeId node, std::string_view context);

// Whether `change` may be applied. The check is repeated at apply time. A change that fails there is a no-op for raft
// (node id 0), and its proposer gets the error.
//   errors: member_not_found, member_exist, peer_url_exist, too_many_learners, member_not_learner of base/errors.h
[[nodiscard]] Status check_change(const Membership& cluster, const MemberChange& change, size_t learner_count_max);

// needs: check_change() passed
void apply_change(Membership& cluster, const MemberChange& change);

// Takes the member's own announcement. Returns false and does nothing when `id` is not a member (after a removal).
bool set_attributes(Membership& cluster, NodeId id, std::string name, std::vector<std::string> client_urls);

// --strict-reconfig-check: would a majority of voters be started after the change? A proposer asks this before it
// proposes; it is not part of apply.
//   errors: errors::member_not_enough_started()
[[nodiscard]] Status check_quorum_after(const Membership& cluster, const MemberChange& change);

// What a member knows of its connections.
struct Connections {
  NodeId self;
  int64_t now_ns = 0;
  // Since when, monotonic, there has been one without a break; nullopt: there is none. Empty: there are none at all.
  std::function<std::optional<int64_t>(NodeId)> active_since_ns = {};
};
// The other half of the same: is this member connected, and has been for 5 s, to so many voters that the change leaves
// a majority that is at work? Whom an addition brings counts as down.
//   errors: errors::unhealthy()
[[nodiscard]] Status check_active_after(const Membership& cluster, const MemberChange& change,
                                        const Connections& connections);

// What member add and member update accept: at least one URL, each with a known scheme, host:port and no path.
// Returns them sorted.
//   errors: errors::member_bad_urls()
[[nodiscard]] Result<std::vector<std::string>> check_peer_urls(std::vector<std::string> urls);

}  // namespace cairn::cluster
