// Who belongs to the cluster after each entry, in the words of etcd's own rules: an id that was removed never comes
// back, no two members have the same peer URL, and there are so many learners at most as the proposer of a learner
// says.
#include <algorithm>
#include <cstdlib>

#include "base/bytes.h"
#include "base/errors.h"
#include "proto/etcdserver.pb.h"
#include "proto/raft.pb.h"
#include "sim/model.h"

namespace cairn::sim {
namespace {

using storage::Table;

std::string quoted_list(const std::vector<std::string>& texts) {
  std::string out = "[";
  for (const std::string& text : texts) out += (out.size() > 1 ? ",\"" : "\"") + text + "\"";
  return out + "]";
}

// The texts of a JSON list, as far as a change of the members needs it.
std::vector<std::string> texts_in_list(const std::string& json, const std::string& name) {
  std::vector<std::string> out;
  size_t at = json.find("\"" + name + "\":[");
  if (at == std::string::npos) return out;
  at += name.size() + 4;
  const size_t end = json.find(']', at);
  while (at < end) {
    const size_t from = json.find('"', at);
    if (from == std::string::npos || from > end) break;
    const size_t to = json.find('"', from + 1);
    out.push_back(json.substr(from + 1, to - from - 1));
    at = to + 1;
  }
  return out;
}

std::string text_of(const std::string& json, const std::string& name) {
  const size_t at = json.find("\"" + name + "\":\"");
  if (at == std::string::npos) return "";
  const size_t from = at + name.size() + 4;
  return json.substr(from, json.find('"', from) - from);
}

uint64_t number_of(const std::string& json, const std::string& name, uint64_t otherwise) {
  const size_t at = json.find("\"" + name + "\":");
  return at == std::string::npos ? otherwise : std::strtoull(json.c_str() + at + name.size() + 3, nullptr, 10);
}

bool says(const std::string& json, const std::string& name) {
  return json.find("\"" + name + "\":true") != std::string::npos;
}

}  // namespace

std::optional<etcdserverpb::InternalRaftRequest> request_of(std::string_view bytes) {
  const auto size = static_cast<int>(bytes.size());
  etcdserverpb::InternalRaftRequest out;
  if (out.ParseFromArray(bytes.data(), size)) return out;
  constexpr std::string_view kMembers = "/0/members/";
  etcdserverpb::Request old;
  if (!old.ParseFromArray(bytes.data(), size) || old.method() != "PUT") return std::nullopt;
  out.Clear();
  if (old.path() == "/0/version") {
    out.mutable_cluster_version_set()->set_ver(old.val());
  } else if (old.path().starts_with(kMembers) && old.path().ends_with("/attributes")) {
    auto* const set = out.mutable_cluster_member_attr_set();
    set->set_member_id(std::strtoull(old.path().c_str() + kMembers.size(), nullptr, 16));
    set->mutable_member_attributes()->set_name(text_of(old.val(), "name"));
    for (std::string& url : texts_in_list(old.val(), "clientURLs")) {
      set->mutable_member_attributes()->add_client_urls(std::move(url));
    }
  } else {
    return std::nullopt;
  }
  return out;
}

void Model::store_member(uint64_t id) {
  const Member& member = members_.at(id);
  std::string json = "{\"id\":" + std::to_string(id) + ",\"peerURLs\":" + quoted_list(member.peer_urls);
  if (member.is_learner) json += ",\"isLearner\":true";
  if (!member.name.empty()) json += ",\"name\":\"" + member.name + "\"";
  if (!member.client_urls.empty()) json += ",\"clientURLs\":" + quoted_list(member.client_urls);
  put_table(Table::kMembers, hex_id(id), json + "}");
}

void Model::store_conf_state() {
  if (is_of_3_4()) return;
  std::string voters;
  std::string learners;
  for (const auto& [id, member] : members_) {
    std::string& list = member.is_learner ? learners : voters;
    list += (list.empty() ? "" : ",") + std::to_string(id);
  }
  std::string json = "{";
  if (!voters.empty()) json += "\"voters\":[" + voters + "],";
  if (!learners.empty()) json += "\"learners\":[" + learners + "],";
  put_table(Table::kMeta, "confState", json + "\"auto_leave\":false}");
}

void Model::set_version(const std::string& version) {
  version_ = version;
  put_table(Table::kCluster, "clusterVersion", version);
  const int64_t minor = std::atoi(version.c_str() + version.find('.') + 1);
  if (minor >= 6) {
    put_table(Table::kMeta, "storageVersion", version);
    schema_ = std::max<int64_t>(schema_, 6);
  } else if (!tables_.contains({Table::kMeta, "storageVersion"}) && minor < schema_) {
    schema_ = minor;
    if (is_of_3_4()) erase_table(Table::kMeta, "confState");
  }
}

void Model::set_attributes(const membershippb::ClusterMemberAttrSetRequest& set) {
  const auto member = members_.find(set.member_id());
  if (member == members_.end()) return;
  member->second.name = set.member_attributes().name();
  member->second.client_urls.assign(set.member_attributes().client_urls().begin(),
                                    set.member_attributes().client_urls().end());
  store_member(set.member_id());
}

Result<Reply> Model::apply_conf_change(const raft::Entry& entry) {
  raftpb::ConfChange change;
  const bool is_founding = entry.index <= Index(options_.founders);
  if (!(is_founding || options_.changes_members) || entry.type != raft::EntryType::kConfChange ||
      !change.ParseFromArray(entry.bytes().data(), static_cast<int>(entry.bytes().size())) ||
      (options_.founders == 1 && is_founding && change.node_id() != options_.member_id)) {
    return fail(Code::kDataLoss, "entry {} is a configuration change that nobody asked for", entry.index);
  }
  if (is_founding) {
    Member& member = members_[change.node_id()];
    member.peer_urls = texts_in_list(change.context(), "peerURLs");
    if (member.peer_urls.empty()) return fail(Code::kDataLoss, "the founding entry names no peer URLs");
    member.name = text_of(change.context(), "name");
    store_member(change.node_id());
    // Of several members, only once they know which version all of them have.
    if (options_.founders == 1) put_table(Table::kMeta, "storageVersion", "3.7.0");
    store_conf_state();
    if (entry.index == Index(1)) bump_auth();  // a new store begins with revision 1
    return Reply{.kind = Reply::Kind::kNone};
  }
  if (const auto refused = change_members(change)) return Reply{.code = refused->code, .text = refused->message};
  if (members_.contains(change.node_id())) {
    store_member(change.node_id());
  } else {
    erase_table(Table::kMembers, hex_id(change.node_id()));
    put_table(Table::kMembersRemoved, hex_id(change.node_id()), "removed");
  }
  store_conf_state();
  return Reply{};
}

// Why not; nullopt: it is done.
std::optional<Error> Model::change_members(const raftpb::ConfChange& change) {
  const uint64_t id = change.node_id();
  const std::string& context = change.context();
  const auto present = members_.find(id);
  const std::vector<std::string> urls = texts_in_list(context, "peerURLs");
  const bool is_used = std::any_of(members_.begin(), members_.end(), [&](const auto& one) {
    const auto& its = one.second.peer_urls;
    return one.first != id && std::find_first_of(its.begin(), its.end(), urls.begin(), urls.end()) != its.end();
  });
  if (removed_.contains(id)) return errors::member_not_found();
  if (change.type() == raftpb::ConfChangeRemoveNode) {
    if (present == members_.end()) return errors::member_not_found();
    members_.erase(present);
    removed_.insert(id);
  } else if (change.type() == raftpb::ConfChangeUpdateNode) {
    if (present == members_.end()) return errors::member_not_found();
    if (is_used) return errors::peer_url_exist();
    present->second.peer_urls = urls;
  } else if (says(context, "isPromote")) {
    if (present == members_.end()) return errors::member_not_found();
    if (!present->second.is_learner) return errors::member_not_learner();
    present->second.is_learner = false;
  } else {
    const bool is_learner = change.type() == raftpb::ConfChangeAddLearnerNode;
    const auto learners = static_cast<uint64_t>(
        std::count_if(members_.begin(), members_.end(), [](const auto& one) { return one.second.is_learner; }));
    if (present != members_.end()) return errors::member_exist();
    if (is_used) return errors::peer_url_exist();
    const uint64_t learners_max = schema_ < 6 ? 1 : number_of(context, "cairnMaxLearners", 1);
    if (is_learner && learners >= learners_max) return errors::too_many_learners();
    members_[id] = {.peer_urls = urls, .is_learner = is_learner, .name = {}, .client_urls = {}};
  }
  return std::nullopt;
}

}  // namespace cairn::sim
