#include "member/apply/lease_applier.h"

#include "base/check.h"
#include "base/errors.h"
#include "member/quota.h"
#include "proto/rpc.pb.h"

namespace cairn::member {

void LeaseApplier::grant(const etcdserverpb::LeaseGrantRequest& request, Tag tag) {
  const auto refused = alarms_.refusal(true);
  const bool fits = refused || alarms_.within_quota(kLeaseCost);
  const auto granted = refused ? Result<int64_t>(std::unexpected(*refused))
                               : lessor_.grant(request.id(), request.ttl(), bench_.tables());
  if (!granted) return bench_.answer_error(tag, granted.error());
  if (!fits) {  // it is granted all the same, as by the others
    alarms_.raise_no_space();
    return bench_.answer_error(tag, errors::no_space());
  }
  etcdserverpb::LeaseGrantResponse response;
  response.set_id(request.id());
  response.set_ttl(*granted);
  bench_.reply(tag, [&](std::string& out) { out += response.SerializeAsString(); });
}

Status LeaseApplier::revoke(const etcdserverpb::LeaseRevokeRequest& request, Tag tag) {
  if (const auto refused = alarms_.refusal(false)) {
    bench_.answer_error(tag, *refused);
    return {};
  }
  const auto keys = lessor_.revoke(request.id(), bench_.tables());
  if (!keys) {
    bench_.answer_error(tag, keys.error());
    return {};
  }
  CAIRN_CHECK(keys_.remove(*keys));
  bench_.reply(tag);
  return {};
}

void LeaseApplier::checkpoint(const etcdserverpb::LeaseCheckpointRequest& request, Schema schema) {
  for (const auto& point : request.checkpoints()) {
    // As etcd without its flag for it: up to 3.5 what is left of a lease is not stored.
    lessor_.checkpoint(point.id(), point.remaining_ttl(), schema >= Schema::k3_6 ? &bench_.tables() : nullptr);
  }
}

}  // namespace cairn::member
