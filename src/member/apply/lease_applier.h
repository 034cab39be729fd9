// member/apply/lease_applier.h: grants, revokes and checkpoints of leases.
//
// Threads: the apply thread's.
#pragma once

#include "lease/lessor.h"
#include "member/apply/alarm_applier.h"
#include "member/apply/key_applier.h"
#include "member/apply/workbench.h"

namespace etcdserverpb {
class LeaseCheckpointRequest;
class LeaseGrantRequest;
class LeaseRevokeRequest;
}  // namespace etcdserverpb

namespace cairn::member {

class LeaseApplier {
 public:
  LeaseApplier(Workbench& bench, AlarmApplier& alarms, lease::Lessor& lessor, KeyApplier& keys)
      : bench_(bench), alarms_(alarms), lessor_(lessor), keys_(keys) {}

  void grant(const etcdserverpb::LeaseGrantRequest& request, Tag tag);
  //   errors: kDataLoss: of the store
  Status revoke(const etcdserverpb::LeaseRevokeRequest& request, Tag tag);
  void checkpoint(const etcdserverpb::LeaseCheckpointRequest& request, Schema schema);

 private:
  Workbench& bench_;
  AlarmApplier& alarms_;
  lease::Lessor& lessor_;
  KeyApplier& keys_;
};

}  // namespace cairn::member
