// member/published.h: what everybody but the core thread sees of a member's state.
//
// One immutable object, published once a batch and loaded with one guard (mvcc/epoch.h): index root, records, leader,
// membership and the rest always fit each other.
#pragma once

#include <memory>
#include <vector>

#include "auth/rules.h"
#include "base/strong.h"
#include "cluster/membership.h"
#include "member/stages.h"
#include "mvcc/epoch.h"
#include "mvcc/kv/view.h"

namespace cairn::member {

struct Alarm {
  uint64_t member_id = 0;
  uint32_t type = 0;  // etcdserverpb.AlarmType
  friend auto operator<=>(const Alarm&, const Alarm&) = default;
};
inline constexpr uint32_t kAlarmNoSpace = 1;
inline constexpr uint32_t kAlarmCorrupt = 2;

// Where the records lay before a snapshot of the leader took the db's place.
struct FormerRecords {
  uint64_t end_number = 0;  // of what is published: all before it
  mvcc::RecordView records;
  std::shared_ptr<const storage::View> file;
  std::shared_ptr<const FormerRecords> before;
};

struct Published {
  mvcc::StoreView kv;
  std::shared_ptr<const storage::View> file;  // what kv.records.file points at
  Index applied;
  Term applied_term;
  LeaderState leader;
  // A linearizable read needs no round: nobody else decides or answers, and this member has applied an entry of its
  // term. Beside a learner it has to wait: what the learner has applied and shown may not be applied here yet. So may
  // what a member that was removed has: the change of members and entries behind it are committed together at times.
  bool reads_alone = false;
  std::shared_ptr<const cluster::Membership> members;
  std::shared_ptr<const std::vector<Alarm>> alarms;
  std::shared_ptr<const std::vector<CompactionHash>> compaction_hashes;  // the newest, by revision
  std::shared_ptr<const auth::Rules> auth;                               // who may do what
  std::string storage_version;                                           // "" below 3.6
  bool has_large_lease = false;                                          // lease::Lessor::has_large()
  uint64_t db_total_bytes = 0;
  uint64_t db_in_use_bytes = 0;
  uint64_t db_high_water_bytes = 0;             // what etcd would count against the quota
  uint64_t installations = 0;                   // of leaders' snapshots since the start
  std::shared_ptr<const FormerRecords> former;  // null: nobody holds anything that old

  // For who holds what was published under `number`, and its index root: a newer file has all of these records, unless
  // it is another db.
  [[nodiscard]] const mvcc::RecordView& records_of(uint64_t number) const {
    const mvcc::RecordView* records = &kv.records;
    for (const FormerRecords* one = former.get(); one != nullptr && number < one->end_number; one = one->before.get()) {
      records = &one->records;
    }
    return *records;
  }

  [[nodiscard]] bool has_alarm(uint32_t type) const {
    for (const Alarm& alarm : *alarms) {
      if (alarm.type == type) return true;
    }
    return false;
  }
};

using PublishedDomain = mvcc::EpochDomain<Published>;

}  // namespace cairn::member
