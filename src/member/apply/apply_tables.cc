// Everything in the log that is not about keys: leases, users, alarms, members, versions.
#include <algorithm>

#include "base/bytes.h"
#include "base/check.h"
#include "base/errors.h"
#include "base/log.h"
#include "cluster/codec.h"
#include "member/apply/apply_core.h"
#include "member/quota.h"
#include "proto/raft_internal.pb.h"

namespace cairn::member {
namespace {

using storage::Table;

constexpr const char* kNewStorageVersion = "3.7.0";

std::string alarm_key(const Alarm& alarm) {
  std::string key;
  wire::append_varint_if(key, 1, alarm.member_id);
  wire::append_varint_if(key, 2, alarm.type);
  return key;
}

// "3.6.0" >= 3.6
bool at_least_3_6(std::string_view version) {
  const size_t dot = version.find('.');
  if (dot == std::string_view::npos) return false;
  const int major = std::atoi(std::string(version.substr(0, dot)).c_str());
  const int minor = std::atoi(std::string(version.substr(dot + 1)).c_str());
  return major > 3 || (major == 3 && minor >= 6);
}

}  // namespace

Status ApplyCore::apply_other(std::string_view bytes, Tag tag) {
  etcdserverpb::InternalRaftRequest request;
  if (!request.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return fail(Code::kDataLoss, "server: a request in the log cannot be read");
  }
  storage::WriteBuffer& tables = store_.tables();
  if (request.has_lease_grant()) {
    const auto& grant = request.lease_grant();
    const auto refused = refused_by_alarm(true);
    const bool fits = refused || within_quota(kLeaseCost);
    const auto granted =
        refused ? Result<int64_t>(std::unexpected(*refused)) : lessor_.grant(grant.id(), grant.ttl(), tables);
    if (!granted) {
      answer_error(tag, granted.error());
      return {};
    }
    if (!fits) {  // it is granted all the same, as by the others
      raise_no_space();
      answer_error(tag, errors::no_space());
      return {};
    }
    etcdserverpb::LeaseGrantResponse response;
    response.set_id(grant.id());
    response.set_ttl(*granted);
    std::string out;
    mvcc::append_header(out, header(store_.revision()));
    answer(tag, Code::kOk, out + response.SerializeAsString());
    return {};
  }
  if (request.has_lease_revoke()) return apply_lease_revoke(request.lease_revoke().id(), tag);
  if (request.has_lease_checkpoint()) {
    for (const auto& point : request.lease_checkpoint().checkpoints()) {
      // As etcd without its flag for it: up to 3.5 what is left of a lease is not stored.
      lessor_.checkpoint(point.id(), point.remaining_ttl(), schema_ >= Schema::k3_6 ? &tables : nullptr);
    }
    return {};
  }
  if (request.has_alarm()) {
    apply_alarm(request.alarm(), tag);
    return {};
  }
  if (request.has_cluster_version_set()) {
    set_version(request.cluster_version_set().ver());
    return {};
  }
  if (request.has_cluster_member_attr_set()) {
    const auto& set = request.cluster_member_attr_set();
    const auto& urls = set.member_attributes().client_urls();
    set_attributes(NodeId(set.member_id()), set.member_attributes().name(), {urls.begin(), urls.end()});
    return {};
  }
  if (request.has_downgrade_info_set()) {
    auto members = std::make_shared<cluster::Membership>(*members_);
    members->downgrade.enabled = request.downgrade_info_set().enabled();
    members->downgrade.target_version = members->downgrade.enabled ? request.downgrade_info_set().ver() : "";
    tables.put(Table::kCluster, "downgrade", cluster::downgrade_json(members->downgrade));
    members_ = std::move(members);
    return {};
  }
  if (request.has_downgrade_version_test()) return {};
  bool handled = false;
  CAIRN_CHECK(apply_auth(request, tag, handled));
  if (handled) return {};
  return fail(Code::kDataLoss, "server: a request of a kind that is not known");
}

Status ApplyCore::apply_lease_revoke(int64_t id, Tag tag) {
  if (const auto refused = refused_by_alarm(false)) {
    answer_error(tag, *refused);
    return {};
  }
  const auto keys = lessor_.revoke(id, store_.tables());
  if (!keys) {
    answer_error(tag, keys.error());
    return {};
  }
  store_.begin();
  for (const std::string& key : *keys) {
    CAIRN_TRY([[maybe_unused]] const int64_t deleted, store_.remove(mvcc::KeyInterval::of(key, ""), nullptr));
  }
  end_write();
  std::string out;
  mvcc::append_header(out, header(store_.revision()));
  answer(tag, Code::kOk, out);
  return {};
}

void ApplyCore::apply_alarm(const etcdserverpb::AlarmRequest& request, Tag tag) {
  etcdserverpb::AlarmResponse response;
  const Alarm alarm{request.memberid(), static_cast<uint32_t>(request.alarm())};
  const auto add = [&](const Alarm& one) {
    auto* const out = response.add_alarms();
    out->set_memberid(one.member_id);
    out->set_alarm(static_cast<etcdserverpb::AlarmType>(one.type));
  };
  switch (request.action()) {
    case etcdserverpb::AlarmRequest::GET:
      for (const Alarm& one : alarms_) {
        if (alarm.type == 0 || one.type == alarm.type) add(one);
      }
      break;
    case etcdserverpb::AlarmRequest::ACTIVATE:
      if (alarm.type == 0) break;
      if (alarms_.insert(alarm).second) store_.tables().put(Table::kAlarm, alarm_key(alarm), "");
      add(alarm);
      log::warn("alarm raised", {{"alarm", etcdserverpb::AlarmType_Name(request.alarm())},
                                 {"raised-by-member-id", hex_id(alarm.member_id)}});
      break;
    case etcdserverpb::AlarmRequest::DEACTIVATE:
      if (alarms_.erase(alarm) == 0) break;
      store_.tables().erase(Table::kAlarm, alarm_key(alarm));
      add(alarm);
      log::warn("alarm disarmed", {{"alarm", etcdserverpb::AlarmType_Name(request.alarm())},
                                   {"from-member-id", hex_id(alarm.member_id)}});
      break;
    default: break;
  }
  if (alarm.member_id == options_.member_id && alarm.type == kAlarmNoSpace) nospace_proposed_ = false;
  alarm_list_ = std::make_shared<const std::vector<Alarm>>(alarms_.begin(), alarms_.end());
  if (tag == 0) return;
  std::string out;
  mvcc::append_header(out, header(store_.revision()));
  answer(tag, Code::kOk, out + response.SerializeAsString());
}

void ApplyCore::propose_no_space() {
  output_.proposals.push_back(std::make_shared<const raft::Payload>(
      raft::Payload{.bytes = alarm_request(options_.member_id, kAlarmNoSpace, 0)}));
  has_output_ = true;
}

Status ApplyCore::apply_auth(const etcdserverpb::InternalRaftRequest& request, Tag tag, bool& handled) {
  storage::WriteBuffer& tables = store_.tables();
  Status status;
  handled = true;
  if (request.has_auth_enable()) {
    status = auth_.enable(tables);
    if (auth_.enabled()) {
      return fail(Code::kFailedPrecondition, "auth is enabled; this build cannot check it");
    }
  } else if (request.has_auth_disable()) {
    status = auth_.disable(tables);
  } else if (request.has_auth_user_add()) {
    status = auth_.user_add(request.auth_user_add(), tables);
  } else if (request.has_auth_user_delete()) {
    status = auth_.user_delete(request.auth_user_delete().name(), tables);
  } else if (request.has_auth_user_change_password()) {
    status = auth_.user_change_password(request.auth_user_change_password(), tables);
  } else if (request.has_auth_user_grant_role()) {
    status =
        auth_.user_grant_role(request.auth_user_grant_role().user(), request.auth_user_grant_role().role(), tables);
  } else if (request.has_auth_user_revoke_role()) {
    status =
        auth_.user_revoke_role(request.auth_user_revoke_role().name(), request.auth_user_revoke_role().role(), tables);
  } else if (request.has_auth_role_add()) {
    status = auth_.role_add(request.auth_role_add().name(), tables);
  } else if (request.has_auth_role_delete()) {
    status = auth_.role_delete(request.auth_role_delete().role(), tables);
  } else if (request.has_auth_role_grant_permission()) {
    status = auth_.role_grant_permission(request.auth_role_grant_permission(), tables);
  } else if (request.has_auth_role_revoke_permission()) {
    status = auth_.role_revoke_permission(request.auth_role_revoke_permission(), tables);
  } else if (request.has_authenticate() || request.has_auth_status() || request.has_auth_user_get() ||
             request.has_auth_user_list() || request.has_auth_role_get() || request.has_auth_role_list()) {
    // No table changes: tokens are not kept across a restart, and reads are answered by whoever asked.
  } else {
    handled = false;
  }
  if (!status) answer_error(tag, status.error());
  return {};
}

Status ApplyCore::apply_v2(std::string_view bytes) {
  CAIRN_TRY(const cluster::V2Effect effect, cluster::decode_v2_request(bytes));
  if (const auto* set = std::get_if<cluster::AttributesSet>(&effect)) {
    set_attributes(set->id, set->name, set->client_urls);
  } else if (const auto* version = std::get_if<cluster::VersionSet>(&effect)) {
    set_version(version->version);
  }
  return {};
}

void ApplyCore::set_version(const std::string& version) {
  auto members = std::make_shared<cluster::Membership>(*members_);
  log::info(members->version.empty() ? "set initial cluster version" : "updated cluster version",
            {{"cluster-id", hex_id(members->cluster_id)},
             {"local-member-id", hex_id(options_.member_id)},
             {"cluster-version", version}});
  members->version = version;
  members_ = std::move(members);
  store_.tables().put(Table::kCluster, "clusterVersion", version);
  if (at_least_3_6(version)) {
    storage_version_ = version;
    store_.tables().put(Table::kMeta, "storageVersion", version);
    schema_ = std::max(schema_, Schema::k3_6);
  }
}

void ApplyCore::set_attributes(NodeId id, std::string name, std::vector<std::string> client_urls) {
  auto members = std::make_shared<cluster::Membership>(*members_);
  if (!cluster::set_attributes(*members, id, std::move(name), std::move(client_urls))) {
    log::warn("attributes of a member that is not there", {{"member-id", hex_id(id.value)}});
    return;
  }
  members_ = std::move(members);
  store_member(id);
}

void ApplyCore::store_member(NodeId id) {
  storage::WriteBuffer& tables = store_.tables();
  const std::string key = hex_id(id.value);
  if (const cluster::Member* member = members_->find(id)) {
    tables.put(Table::kMembers, key, cluster::member_json(*member));
  } else {
    tables.erase(Table::kMembers, key);
    if (members_->removed.contains(id)) tables.put(Table::kMembersRemoved, key, "removed");
  }
}

void ApplyCore::store_conf_state() {
  if (schema_ == Schema::k3_4) return;
  store_.tables().put(Table::kMeta, "confState", cluster::conf_state_json(conf_));
}

void ApplyCore::rewrite_members(const cluster::Membership& old) {
  for (const auto& [id, member] : old.members) store_member(id);
  for (const NodeId id : old.removed) store_.tables().erase(Table::kMembersRemoved, hex_id(id.value));
  for (const auto& [id, member] : members_->members) store_member(id);
  for (const NodeId id : members_->removed) store_member(id);
  store_conf_state();
}

void ApplyCore::store_first_tables() {
  auth_.finish_load(store_.tables());
  if (schema_ == Schema::k3_7 && storage_version_.empty()) {
    // From its first commit on: whoever opens it before there is a cluster version must not take it for an older one.
    storage_version_ = kNewStorageVersion;
    store_.tables().put(Table::kMeta, "storageVersion", storage_version_);
  }
}

}  // namespace cairn::member
