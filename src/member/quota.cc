#include "member/quota.h"

#include <algorithm>

#include "proto/raft_internal.pb.h"

namespace cairn::member {

uint64_t txn_cost(const etcdserverpb::TxnRequest& request) {
  const auto branch_cost = [](const auto& ops) {
    uint64_t cost = 0;
    for (const auto& op : ops) {
      if (op.has_request_put()) cost += put_cost(op.request_put().key().size(), op.request_put().value().size());
      if (op.has_request_txn()) cost += txn_cost(op.request_txn());
    }
    return cost;
  };
  return std::max(branch_cost(request.success()), branch_cost(request.failure()));
}

std::string alarm_request(uint64_t member_id, uint32_t type, uint64_t request_id) {
  etcdserverpb::InternalRaftRequest request;
  request.mutable_header()->set_id(request_id);
  auto* const alarm = request.mutable_alarm();
  alarm->set_action(etcdserverpb::AlarmRequest::ACTIVATE);
  alarm->set_memberid(member_id);
  alarm->set_alarm(static_cast<etcdserverpb::AlarmType>(type));
  return request.SerializeAsString();
}

}  // namespace cairn::member
