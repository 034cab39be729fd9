// member/duties.h: what a leader does at its own times: it looks after leases, compacts and decides the cluster
// version; and how every member announces itself.
//
// A duty is a value in MemberCore. It is told when this member begins and ceases to lead, sees what is applied, brings
// a time at which it wants to be asked, and proposes entries that are appended in the leader's term or dropped, never
// forwarded. A new duty is one more member here.
//
// Threads: the core thread's.
#pragma once

#include <optional>
#include <string>
#include <utility>

#include "base/strong.h"
#include "member/announcement.h"
#include "member/compaction_duty.h"
#include "member/lease_duty.h"
#include "member/version_duty.h"

namespace cairn::member {

class Duties {
 public:
  Duties(Announcement::Options announcement, const LeaseOptions& leases, const AutoCompaction& compaction,
         const VersionOptions& versions, const LeaseDuty::NextRequestId& next_request_id)
      : announcement_(std::move(announcement)),
        leases_(leases, next_request_id),
        compaction_(compaction, next_request_id),
        versions_(versions, next_request_id) {}

  // Whether this member leads, and everything of the terms before `term` is applied.
  void set_leadership(bool leads, Term term, const LeaseDuty::Scene& scene) {
    const Term next = leads ? term : Term{};
    if (next == term_) return;
    if (term_ != Term{}) leases_.end_term();
    term_ = next;
    if (term_ != Term{}) leases_.begin_term(scene);
  }
  // In which it leads; 0: it does not.
  [[nodiscard]] Term term() const { return term_; }

  [[nodiscard]] Announcement& announcement() { return announcement_; }
  [[nodiscard]] LeaseDuty& leases() { return leases_; }
  [[nodiscard]] const LeaseDuty& leases() const { return leases_; }
  [[nodiscard]] CompactionDuty& compaction() { return compaction_; }
  [[nodiscard]] const CompactionDuty& compaction() const { return compaction_; }
  [[nodiscard]] VersionDuty& versions() { return versions_; }

 private:
  Announcement announcement_;
  LeaseDuty leases_;
  CompactionDuty compaction_;
  VersionDuty versions_;
  Term term_;
};

}  // namespace cairn::member
