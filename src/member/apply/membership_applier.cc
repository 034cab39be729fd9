#include "member/apply/membership_applier.h"

#include <algorithm>
#include <array>
#include <span>
#include <utility>

#include "base/bytes.h"
#include "base/check.h"
#include "base/log.h"
#include "cluster/codec.h"
#include "cluster/versions.h"
#include "member/recovery/takeover.h"
#include "proto/raft_internal.pb.h"
#include "raft/conf_change.h"

namespace cairn::member {
namespace {

using storage::Table;

// etcd's words, for which its tests wait. What is served does not depend on the version.
void log_capabilities(const std::string& version) {
  log::info("enabled capabilities for version", {{"cluster-version", cluster::short_version(version)}});
}

// `before` is the member as it was, if there was one: a removal does not say whom it is about.
void log_change(const cluster::Membership& cluster, uint64_t self, const cluster::MemberChange& change,
                const cluster::Member* before) {
  struct Words {
    std::string_view message;
    std::string_view id_key;
    std::string_view urls_key;
    std::string_view learner_key;
  };
  static constexpr Words kWords[] = {
      {"added member", "added-peer-id", "added-peer-peer-urls", "added-peer-is-learner"},
      {"promote member", "promoted-member-id", "", ""},
      {"updated member", "updated-remote-peer-id", "updated-remote-peer-urls", "updated-remote-peer-is-learner"},
      {"removed member", "removed-remote-peer-id", "removed-remote-peer-urls", "removed-remote-peer-is-learner"},
  };
  const Words& words = kWords[static_cast<size_t>(change.kind)];
  const bool is_gone = change.kind == cluster::ChangeKind::kRemove && before != nullptr;
  const cluster::Member& member = is_gone ? *before : change.member;
  const auto fields = std::to_array<log::Field>({{"cluster-id", hex_id(cluster.cluster_id)},
                                                 {"local-member-id", hex_id(self)},
                                                 {words.id_key, hex_id(change.member.id.value)},
                                                 {words.urls_key, member.peer_urls},
                                                 {words.learner_key, member.is_learner}});
  log::write(log::Level::kInfo, words.message, std::span(fields).first(words.urls_key.empty() ? 3 : 5));
}

}  // namespace

MembershipApplier::MembershipApplier(Workbench& bench, AppliedState& state)
    : bench_(bench),
      members_(std::make_shared<const cluster::Membership>(std::move(state.members))),
      conf_(std::move(state.conf)),
      storage_version_(std::move(state.storage_version)),
      schema_(state.schema),
      version_is_open_(state.version_is_open) {
  if (!members_->version.empty()) log_capabilities(members_->version);
}

void MembershipApplier::store_first() {
  if (schema_ < Schema::k3_6 || !storage_version_.empty() || version_is_open_) return;
  // From its first commit on: whoever opens it before there is a cluster version must not take it for an older one.
  storage_version_ = schema_ == Schema::k3_6 ? "3.6.0" : "3.7.0";
  bench_.tables().put(Table::kMeta, "storageVersion", storage_version_);
}

bool MembershipApplier::apply(const etcdserverpb::InternalRaftRequest& request) {
  if (request.has_cluster_version_set()) {
    set_version(request.cluster_version_set().ver());
  } else if (request.has_cluster_member_attr_set()) {
    const auto& set = request.cluster_member_attr_set();
    const auto& urls = set.member_attributes().client_urls();
    set_attributes(NodeId(set.member_id()), set.member_attributes().name(), {urls.begin(), urls.end()});
  } else if (request.has_downgrade_info_set()) {
    set_downgrade(request.downgrade_info_set().enabled(), request.downgrade_info_set().ver());
  } else {
    return request.has_downgrade_version_test();
  }
  return true;
}

Result<ConfVerdict> MembershipApplier::apply_conf_change(const raft::Entry& entry) {
  auto change = raft::decode_conf_change(entry.type, entry.bytes());
  if (!change) {
    return fail(Code::kDataLoss, "server: configuration change at entry {} cannot be read: {}", entry.index,
                change.error().message);
  }
  ConfVerdict verdict{entry.index, false};
  if (entry.type == raft::EntryType::kConfChange && !change->changes.empty()) {
    const raft::ConfChangeSingle single = change->changes.front();
    auto decoded =
        cluster::decode_change(static_cast<cluster::ConfChangeType>(single.type), single.node, change->context);
    const Status allowed =
        decoded ? cluster::check_change(*members_, *decoded,
                                        learner_count_max(schema_, bench_.options.learner_count_max, *decoded))
                : Status(std::unexpected(decoded.error()));
    if (allowed) {
      auto members = std::make_shared<cluster::Membership>(*members_);
      cluster::apply_change(*members, *decoded);
      const auto before = std::exchange(members_, std::move(members));
      auto conf = raft::changed(conf_, *change);
      if (!conf) return fail(Code::kDataLoss, "server: entry {}: {}", entry.index, conf.error().message);
      conf_ = *std::move(conf);
      verdict.accepted = true;
      store_member(single.node);
      store_conf_state();
      log_change(*members_, bench_.options.member_id, *decoded, before->find(single.node));
      bench_.answer(entry.tag(), Code::kOk, "");
    } else {
      log::error("Validation on configuration change failed",
                 {{"index", entry.index.value}, {"error", allowed.error().message}});
      bench_.answer_error(entry.tag(), allowed.error());
    }
  }
  return verdict;
}

Status MembershipApplier::apply_v2(std::string_view bytes) {
  CAIRN_CHECK(check_v2_request(bytes));
  CAIRN_TRY(const cluster::V2Effect effect, cluster::decode_v2_request(bytes));
  if (const auto* set = std::get_if<cluster::AttributesSet>(&effect)) {
    set_attributes(set->id, set->name, set->client_urls);
  } else if (const auto* version = std::get_if<cluster::VersionSet>(&effect)) {
    set_version(version->version);
  }
  return {};
}

void MembershipApplier::set_version(const std::string& version) {
  auto members = std::make_shared<cluster::Membership>(*members_);
  const std::string before = std::exchange(members->version, version);
  const auto ids = std::to_array<log::Field>(
      {{"cluster-id", hex_id(members->cluster_id)}, {"local-member-id", hex_id(bench_.options.member_id)}});
  if (before.empty()) {
    log::info("set initial cluster version", {ids[0], ids[1], {"cluster-version", cluster::short_version(version)}});
  } else {
    log::info("updated cluster version",
              {ids[0], ids[1], {"from", cluster::short_version(before)}, {"to", cluster::short_version(version)}});
  }
  if (before != version) log_capabilities(version);
  members_ = std::move(members);
  bench_.tables().put(Table::kCluster, "clusterVersion", version);
  const auto was = cluster::parse_version(before);
  const auto is = cluster::parse_version(version);
  if (was && is && *is < *was) {
    log::info("Cluster version downgrade detected, forcing snapshot",
              {{"prev-cluster-version", before}, {"new-cluster-version", version}});
    has_fallen_ = true;
  }
  if (cluster::at_least_3_6(version)) {
    set_storage_version(version);
  } else if (storage_version_.empty() && is && *is != cluster::kPlaceholderVersion) {
    become_older(*is < cluster::MinorVersion{3, 5} ? Schema::k3_4 : Schema::k3_5);
  }
}

// The founders, or the log of a cluster that was joined, are of an older version than this new directory was made for:
// what is written, here and to the log, is to be read by that.
void MembershipApplier::become_older(Schema schema) {
  if (schema >= schema_ || CAIRN_MUTANT("server.tables_newer_than_the_cluster")) return;
  schema_ = schema;
  if (schema_ != Schema::k3_4) return;
  bench_.tables().erase(Table::kMeta, "term");
  bench_.tables().erase(Table::kMeta, "confState");
}

// As etcd's migration of the schema from and to 3.6 and 3.7, between which only this field changes. etcd waits until
// the log holds nothing that the older version does not know; nothing in ours is above 3.5.
void MembershipApplier::set_storage_version(const std::string& version) {
  if (!storage_version_.empty() && storage_version_ != version) {
    log::info("cluster version differs from storage version.",
              {{"cluster-version", version}, {"storage-version", storage_version_}});
    log::info("updated storage version", {{"new-storage-version", version}});
    if (members_->downgrade.enabled) {
      log::info("The server is ready to downgrade", {{"target-version", members_->downgrade.target_version},
                                                     {"server-version", std::string(cluster::kEtcdVersion)}});
    }
  }
  storage_version_ = version;
  bench_.tables().put(Table::kMeta, "storageVersion", version);
  schema_ = std::max(schema_, Schema::k3_6);
}

void MembershipApplier::set_attributes(NodeId id, std::string name, std::vector<std::string> client_urls) {
  auto members = std::make_shared<cluster::Membership>(*members_);
  if (!cluster::set_attributes(*members, id, std::move(name), std::move(client_urls))) {
    log::warn("attributes of a member that is not there", {{"member-id", hex_id(id.value)}});
    return;
  }
  members_ = std::move(members);
  store_member(id);
}

void MembershipApplier::store_member(NodeId id) {
  storage::WriteBuffer& tables = bench_.tables();
  const std::string key = hex_id(id.value);
  if (const cluster::Member* member = members_->find(id)) {
    tables.put(Table::kMembers, key, cluster::member_json(*member));
  } else {
    tables.erase(Table::kMembers, key);
    if (members_->removed.contains(id)) tables.put(Table::kMembersRemoved, key, "removed");
  }
}

void MembershipApplier::store_conf_state() {
  if (schema_ == Schema::k3_4) return;
  bench_.tables().put(Table::kMeta, "confState", cluster::conf_state_json(conf_));
}

void MembershipApplier::rewrite(const cluster::Membership& old) {
  for (const auto& [id, member] : old.members) store_member(id);
  for (const NodeId id : old.removed) bench_.tables().erase(Table::kMembersRemoved, hex_id(id.value));
  for (const auto& [id, member] : members_->members) store_member(id);
  for (const NodeId id : members_->removed) store_member(id);
  store_conf_state();
}

void MembershipApplier::set_downgrade(bool enabled, const std::string& version) {
  auto members = std::make_shared<cluster::Membership>(*members_);
  members->downgrade.enabled = enabled;
  members->downgrade.target_version = enabled ? version : "";
  bench_.tables().put(Table::kCluster, "downgrade", cluster::downgrade_json(members->downgrade));
  members_ = std::move(members);
}

}  // namespace cairn::member
