#include "member/quota.h"

#include "mvcc/kv/visit.h"
#include "proto/raft_internal.pb.h"

namespace cairn::member {
namespace {

std::string request(etcdserverpb::AlarmRequest::AlarmAction action, uint64_t member_id, uint32_t type,
                    uint64_t request_id) {
  etcdserverpb::InternalRaftRequest request;
  request.mutable_header()->set_id(request_id);
  auto* const alarm = request.mutable_alarm();
  alarm->set_action(action);
  alarm->set_memberid(member_id);
  alarm->set_alarm(static_cast<etcdserverpb::AlarmType>(type));
  return request.SerializeAsString();
}

}  // namespace

uint64_t txn_cost(const mvcc::TxnRequest& request) {
  return mvcc::dearer_branch<uint64_t>(request, [](const mvcc::RequestOp& op) {
    const auto* const put = std::get_if<mvcc::PutRequest>(&op);
    return put != nullptr ? put_cost(put->key.size(), put->value.size()) : 0;
  });
}

std::string alarm_name(uint32_t type) {
  const auto number = static_cast<int32_t>(type);
  const std::string& name = etcdserverpb::AlarmType_Name(static_cast<etcdserverpb::AlarmType>(number));
  return name.empty() ? std::to_string(number) : name;
}

std::string alarm_request(uint64_t member_id, uint32_t type, uint64_t request_id) {
  return request(etcdserverpb::AlarmRequest::ACTIVATE, member_id, type, request_id);
}

std::string disarm_request(uint64_t member_id, uint32_t type, uint64_t request_id) {
  return request(etcdserverpb::AlarmRequest::DEACTIVATE, member_id, type, request_id);
}

}  // namespace cairn::member
