// member/apply/key_applier.h: puts, deletes, transactions and compactions. Leases follow the keys that name them.
//
// Threads: the core thread's.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "lease/lessor.h"
#include "member/apply/alarm_applier.h"
#include "member/apply/auth_applier.h"
#include "member/apply/compaction_hashes.h"
#include "member/apply/compaction_pass.h"
#include "member/apply/workbench.h"
#include "member/requests.h"
#include "mvcc/kv/txn.h"

namespace cairn::member {

class KeyApplier {
 public:
  KeyApplier(Workbench& bench, AlarmApplier& alarms, AuthApplier& auth, lease::Lessor& lessor, CompactionPass& pass,
             CompactionHashes& hashes)
      : bench_(bench), alarms_(alarms), auth_(auth), lessor_(lessor), pass_(pass), hashes_(hashes) {}

  // `request` is of one of the kinds that are about keys.
  //   errors: kDataLoss: the request, or what it needs of the store, cannot be read
  Status apply(const RaftRequest& request, Tag tag);
  // A revoked lease takes its keys with it, in one transaction.
  Status remove(const std::vector<std::string>& keys);

 private:
  Status put(std::string_view bytes, Tag tag);
  Status delete_range(std::string_view bytes, Tag tag);
  Status txn(std::string_view bytes, Tag tag);
  Status compact(std::string_view bytes, Tag tag);
  Status range(std::string_view bytes, Tag tag);
  void end_write();

  Workbench& bench_;
  AlarmApplier& alarms_;
  AuthApplier& auth_;
  lease::Lessor& lessor_;
  CompactionPass& pass_;
  CompactionHashes& hashes_;
  mvcc::TxnRequest txn_;  // the one that is applied: kept for its memory
};

}  // namespace cairn::member
