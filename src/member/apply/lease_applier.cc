#include "member/apply/lease_applier.h"

#include "base/check.h"
#include "base/errors.h"
#include "base/wire.h"
#include "member/quota.h"
#include "member/requests.h"
#include "proto/rpc.pb.h"

namespace cairn::member {

// For the duties of a leader, and for who counts.
void LeaseApplier::note(LeaseChange::Kind kind, lease::LeaseId id, int64_t ttl) {
  bench_.output.leases.push_back({kind, id, ttl});
  bench_.has_output = true;
}

Status LeaseApplier::grant(std::string_view bytes, Tag tag) {
  CAIRN_TRY(const LeaseGrantBody request, decode_lease_grant(bytes));
  const auto refused = alarms_.refusal(true);
  const bool fits = refused || alarms_.within_quota(kLeaseCost);
  const auto granted =
      refused ? Result<int64_t>(std::unexpected(*refused)) : lessor_.grant(request.id, request.ttl, bench_.tables());
  if (!granted) {
    bench_.answer_error(tag, granted.error());
    return {};
  }
  note(LeaseChange::Kind::kGranted, request.id, *granted);
  if (!fits) {  // it is granted all the same, as by the others
    alarms_.raise_no_space();
    bench_.answer_error(tag, errors::no_space());
    return {};
  }
  bench_.reply(tag, [&](std::string& out) {
    wire::append_varint_if(out, 2, static_cast<uint64_t>(request.id));
    wire::append_varint_if(out, 3, static_cast<uint64_t>(*granted));
  });
  return {};
}

Status LeaseApplier::revoke(std::string_view bytes, Tag tag) {
  CAIRN_TRY(const lease::LeaseId id, decode_lease_revoke(bytes));
  if (const auto refused = alarms_.refusal(false)) {
    bench_.answer_error(tag, *refused);
    return {};
  }
  if (const Status allowed = auth_.check_lease(id); !allowed) {
    bench_.answer_error(tag, allowed.error());
    return {};
  }
  const auto keys = lessor_.revoke(id, bench_.tables());
  if (!keys) {
    bench_.answer_error(tag, keys.error());
    return {};
  }
  CAIRN_CHECK(keys_.remove(*keys));
  note(LeaseChange::Kind::kRevoked, id, 0);
  bench_.reply(tag);
  return {};
}

void LeaseApplier::checkpoint(const etcdserverpb::LeaseCheckpointRequest& request, Schema schema) {
  const bool persists = schema >= Schema::k3_6 || bench_.options.lease_checkpoint_persist;
  for (const auto& point : request.checkpoints()) {
    if (CAIRN_MUTANT("lease.checkpoint_ignored")) continue;
    lessor_.checkpoint(point.id(), point.remaining_ttl(), persists ? &bench_.tables() : nullptr);
    note(LeaseChange::Kind::kCheckpointed, point.id(), 0);
  }
}

}  // namespace cairn::member
