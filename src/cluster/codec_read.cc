// Reading the JSON that codec.cc writes.
#include "cluster/codec.h"
#include "cluster/json_read.h"

namespace cairn::cluster {
namespace {

Result<Member> to_member(const json::object& in) {
  Member member;
  CAIRN_TRY(const uint64_t id, json::get_u64(in, "id"));
  member.id = NodeId(id);
  CAIRN_TRY(member.peer_urls, json::get_texts(in, "peerURLs"));
  CAIRN_TRY(member.is_learner, json::get_bool(in, "isLearner"));
  CAIRN_TRY(member.name, json::get_text(in, "name"));
  CAIRN_TRY(member.client_urls, json::get_texts(in, "clientURLs"));
  return member;
}

}  // namespace

Result<Member> parse_member(std::string_view text) {
  CAIRN_TRY(const json::object in, json::parse_object(text, "member"));
  return to_member(in);
}

Result<std::vector<Member>> parse_members(std::string_view text) {
  CAIRN_TRY(const json::value in, json::parse(text, "member list"));
  if (!in.is_array()) return fail(Code::kDataLoss, "cluster: member list is not a list");
  std::vector<Member> members;
  for (const json::value& each : in.get_array()) {
    if (!each.is_object()) return fail(Code::kDataLoss, "cluster: member is not a JSON object");
    CAIRN_TRY(Member member, to_member(each.get_object()));
    members.push_back(std::move(member));
  }
  return members;
}

Result<Downgrade> parse_downgrade(std::string_view text) {
  CAIRN_TRY(const json::object in, json::parse_object(text, "downgrade"));
  Downgrade downgrade;
  CAIRN_TRY(downgrade.target_version, json::get_text(in, "target-version"));
  CAIRN_TRY(downgrade.enabled, json::get_bool(in, "enabled"));
  return downgrade;
}

Result<raft::ConfState> parse_conf_state(std::string_view text) {
  CAIRN_TRY(const json::object in, json::parse_object(text, "confState"));
  const auto ids = [&in](const char* key) -> Result<std::vector<NodeId>> {
    CAIRN_TRY(const std::vector<uint64_t> numbers, json::get_u64s(in, key));
    return std::vector<NodeId>(numbers.begin(), numbers.end());
  };
  raft::ConfState conf;
  CAIRN_TRY(conf.voters, ids("voters"));
  CAIRN_TRY(conf.learners, ids("learners"));
  CAIRN_TRY(conf.voters_outgoing, ids("voters_outgoing"));
  CAIRN_TRY(conf.learners_next, ids("learners_next"));
  CAIRN_TRY(conf.auto_leave, json::get_bool(in, "auto_leave"));
  return conf;
}

Result<MemberChange> decode_change(ConfChangeType type, NodeId node, std::string_view context) {
  MemberChange change;
  change.member.id = node;
  if (type == ConfChangeType::kRemoveNode) {
    change.kind = ChangeKind::kRemove;
    return change;
  }
  CAIRN_TRY(const json::object in, json::parse_object(context, "conf change context"));
  CAIRN_TRY(change.member, to_member(in));
  if (change.member.id != node) {
    return fail(Code::kDataLoss, "cluster: conf change for node {:x} with a context for {:x}", node, change.member.id);
  }
  CAIRN_TRY(const bool is_promote, json::get_bool(in, "isPromote"));
  if (type == ConfChangeType::kUpdateNode) {
    change.kind = ChangeKind::kUpdate;
  } else if (is_promote) {
    change.kind = ChangeKind::kPromote;
  } else {
    change.kind = ChangeKind::kAdd;
    change.member.is_learner = type == ConfChangeType::kAddLearnerNode;  // what raft goes by
    if (json::find(in, "cairnMaxLearners") != nullptr) {
      CAIRN_TRY(change.learner_count_max, json::get_u64(in, "cairnMaxLearners"));
    }
  }
  return change;
}

}  // namespace cairn::cluster
