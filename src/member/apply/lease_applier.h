// member/apply/lease_applier.h: grants, revokes and checkpoints of leases.
//
// Threads: the core thread's.
#pragma once

#include "lease/lessor.h"
#include "member/apply/alarm_applier.h"
#include "member/apply/key_applier.h"
#include "member/apply/workbench.h"

namespace etcdserverpb {
class LeaseCheckpointRequest;
}  // namespace etcdserverpb

namespace cairn::member {

class LeaseApplier {
 public:
  LeaseApplier(Workbench& bench, AlarmApplier& alarms, const AuthApplier& auth, lease::Lessor& lessor, KeyApplier& keys)
      : bench_(bench), alarms_(alarms), auth_(auth), lessor_(lessor), keys_(keys) {}

  // Both take the request's bytes.
  //   errors: kDataLoss: they cannot be read; or of the store
  Status grant(std::string_view bytes, Tag tag);
  Status revoke(std::string_view bytes, Tag tag);
  void checkpoint(const etcdserverpb::LeaseCheckpointRequest& request, Schema schema);

 private:
  void note(LeaseChange::Kind kind, lease::LeaseId id, int64_t ttl);

  Workbench& bench_;
  AlarmApplier& alarms_;
  const AuthApplier& auth_;
  lease::Lessor& lessor_;
  KeyApplier& keys_;
};

}  // namespace cairn::member
