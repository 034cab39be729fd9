// Leases, alarms, versions; what an entry asks for, and what was when.
#include <algorithm>

#include "base/bytes.h"
#include "base/errors.h"
#include "base/wire.h"
#include "sim/model.h"

namespace cairn::sim {
namespace {

using storage::Table;

Reply refused(const Error& error) { return {.code = error.code, .text = error.message}; }
Reply unanswered() { return {.kind = Reply::Kind::kNone}; }

std::string number_bytes(uint64_t number) {
  std::string out(8, '\0');
  store_be64(out.data(), number);
  return out;
}

}  // namespace

void Model::put_table(Table table, std::string key, std::string value) {
  const auto at = tables_.find({table, key});
  undo_.push_back({index_, {table, key}, at == tables_.end() ? std::nullopt : std::optional(at->second)});
  tables_[{table, std::move(key)}] = std::move(value);
}

void Model::erase_table(Table table, const std::string& key) {
  const auto at = tables_.find({table, key});
  if (at == tables_.end()) return;
  undo_.push_back({index_, {table, key}, at->second});
  tables_.erase(at);
}

Model::Tables Model::tables(Index index) const {
  Tables out = tables_;
  for (auto change = undo_.rbegin(); change != undo_.rend() && change->index > index; ++change) {
    if (change->old) {
      out[change->key] = *change->old;
    } else {
      out.erase(change->key);
    }
  }
  return out;
}

std::map<int64_t, Model::Lease> Model::leases(Index index) const {
  std::map<int64_t, Lease> out;
  for (const auto& [key, value] : tables(index)) {
    if (key.first != Table::kLease) continue;
    Lease lease;
    wire::Reader in(value);
    while (in.next()) {
      if (in.field() == 2) lease.ttl = in.int64();
      if (in.field() == 3) lease.remaining = in.int64();
    }
    out[static_cast<int64_t>(load_be64(key.second.data()))] = lease;
  }
  for (const auto& [key, versions] : keys_) {
    const Version* const version = find(key, state(index).revision);
    if (version != nullptr && version->lease != 0 && out.contains(version->lease)) out[version->lease].keys.insert(key);
  }
  return out;
}

void Model::header(etcdserverpb::ResponseHeader* out, int64_t revision, uint64_t term) const {
  out->set_cluster_id(options_.cluster_id);
  out->set_member_id(options_.member_id);
  out->set_revision(revision);
  out->set_raft_term(term);
}
void Model::header(etcdserverpb::ResponseHeader* out, int64_t revision) const { header(out, revision, term_); }

Reply Model::ok(const google::protobuf::MessageLite& response) const { return {.text = response.SerializeAsString()}; }

std::optional<Error> Model::alarmed(bool puts) const {
  for (const auto& [member, type] : alarms_) {
    if (type == etcdserverpb::CORRUPT) return errors::corrupt();
  }
  for (const auto& [member, type] : alarms_) {
    if (puts && type == etcdserverpb::NOSPACE) return errors::no_space();
  }
  return std::nullopt;
}

Result<Reply> Model::apply(const raft::Entry& entry) {
  index_ = entry.index;
  term_ = entry.term.value;
  Result<Reply> reply = unanswered();
  if (entry.type != raft::EntryType::kNormal) {
    reply = apply_conf_change(entry);
  } else if (!entry.bytes().empty()) {
    const auto request = request_of(entry.bytes());
    if (!request) return fail(Code::kDataLoss, "entry {} is no request", entry.index);
    sender_ = request->header().username();
    sender_revision_ = request->header().auth_revision();
    reply = apply_request(*request);
  }
  states_.push_back({entry.term, schema_, revision_, compacted_});
  return reply;
}

Result<Reply> Model::apply_request(const etcdserverpb::InternalRaftRequest& request) {
  if (request.has_put()) return apply_put(request.put());
  if (request.has_delete_range()) return apply_delete(request.delete_range());
  if (request.has_txn()) return apply_txn(request.txn());
  if (request.has_compaction()) return apply_compaction(request.compaction());
  if (request.has_range()) return apply_range(request.range());
  if (request.has_lease_grant()) return apply_grant(request.lease_grant());
  if (request.has_lease_revoke()) return apply_revoke(request.lease_revoke());
  if (request.has_alarm()) return apply_alarm(request.alarm());
  if (request.has_lease_checkpoint()) {
    for (const auto& point : request.lease_checkpoint().checkpoints()) {
      const auto lease = leases_.find(point.id());
      if (lease == leases_.end()) continue;
      lease->second.remaining = point.remaining_ttl();
      store_lease(point.id(), lease->second.ttl, lease->second.remaining);
    }
    return unanswered();
  }
  if (request.has_cluster_version_set()) {
    set_version(request.cluster_version_set().ver());
    return unanswered();
  }
  if (request.has_cluster_member_attr_set()) {
    set_attributes(request.cluster_member_attr_set());
    return unanswered();
  }
  if (request.has_downgrade_info_set()) {
    const auto& info = request.downgrade_info_set();
    put_table(Table::kCluster, "downgrade",
              "{\"target-version\":\"" + (info.enabled() ? info.ver() : std::string()) +
                  "\",\"enabled\":" + (info.enabled() ? "true" : "false") + "}");
    return unanswered();
  }
  if (request.has_downgrade_version_test()) return unanswered();
  bool handled = true;
  Reply reply = apply_auth(request, handled);
  if (!handled) return fail(Code::kDataLoss, "a request of no known kind");
  return reply;
}

// --- leases, alarms

void Model::store_lease(int64_t id, int64_t ttl, int64_t remaining) {
  std::string value;
  wire::append_varint_if(value, 1, static_cast<uint64_t>(id));
  wire::append_varint_if(value, 2, static_cast<uint64_t>(ttl));
  wire::append_varint_if(value, 3, static_cast<uint64_t>(remaining));
  put_table(Table::kLease, number_bytes(static_cast<uint64_t>(id)), value);
}

Reply Model::apply_grant(const etcdserverpb::LeaseGrantRequest& request) {
  if (const auto error = alarmed(true)) return refused(*error);
  if (request.id() == 0) return refused(errors::lease_not_found());
  if (request.ttl() > 9'000'000'000) return refused(errors::lease_ttl_too_large());
  if (leases_.contains(request.id())) return refused(errors::lease_exist());
  const int64_t ttl = std::max(request.ttl(), options_.lease_ttl_min);
  leases_[request.id()] = {ttl, 0};
  store_lease(request.id(), ttl, 0);
  etcdserverpb::LeaseGrantResponse response;
  header(response.mutable_header(), revision_);
  response.set_id(request.id());
  response.set_ttl(ttl);
  Reply reply = ok(response);
  if (options_.has_quota) reply.kind = Reply::Kind::kExactOrNoSpace;
  return reply;
}

Reply Model::apply_revoke(const etcdserverpb::LeaseRevokeRequest& request) {
  if (const auto error = alarmed(false)) return refused(*error);
  if (const auto error = denied_lease(request.id())) return refused(*error);
  if (leases_.erase(request.id()) == 0) return refused(errors::lease_not_found());
  erase_table(Table::kLease, number_bytes(static_cast<uint64_t>(request.id())));
  std::vector<std::string> attached;
  for (const auto& [key, versions] : keys_) {
    const Version* const version = find(key, revision_);
    if (version != nullptr && version->lease == request.id()) attached.push_back(key);
  }
  for (const std::string& key : attached) write_delete(key, "", nullptr, false);
  end_write();
  etcdserverpb::LeaseRevokeResponse response;
  header(response.mutable_header(), revision_);
  return ok(response);
}

Reply Model::apply_alarm(const etcdserverpb::AlarmRequest& request) {
  etcdserverpb::AlarmResponse response;
  const auto add = [&](uint64_t member, int type) {
    auto* const alarm = response.add_alarms();
    alarm->set_memberid(member);
    alarm->set_alarm(static_cast<etcdserverpb::AlarmType>(type));
  };
  etcdserverpb::AlarmMember stored;
  stored.set_memberid(request.memberid());
  stored.set_alarm(request.alarm());
  const std::pair<uint64_t, int> one{request.memberid(), request.alarm()};
  if (request.action() == etcdserverpb::AlarmRequest::GET) {
    for (const auto& [member, type] : alarms_) {
      if (request.alarm() == etcdserverpb::NONE || type == request.alarm()) add(member, type);
    }
  } else if (request.action() == etcdserverpb::AlarmRequest::ACTIVATE) {
    if (request.alarm() != etcdserverpb::NONE) {
      if (alarms_.insert(one).second) put_table(Table::kAlarm, stored.SerializeAsString(), "");
      add(one.first, one.second);
    }
  } else if (alarms_.erase(one) > 0) {
    erase_table(Table::kAlarm, stored.SerializeAsString());
    add(one.first, one.second);
  }
  header(response.mutable_header(), revision_);
  return ok(response);
}

}  // namespace cairn::sim
