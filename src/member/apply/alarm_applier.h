// member/apply/alarm_applier.h: alarms, what they refuse, and the quota that raises one.
//
// Threads: the core thread's.
#pragma once

#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "member/apply/workbench.h"

namespace etcdserverpb {
class AlarmRequest;
}  // namespace etcdserverpb

namespace cairn::member {

class AlarmApplier {
 public:
  AlarmApplier(Workbench& bench, std::set<Alarm> alarms);

  void apply(const etcdserverpb::AlarmRequest& request, Tag tag);

  // Why a request is not carried out while alarms are in force. `puts`: it takes space.
  [[nodiscard]] std::optional<Error> refusal(bool puts) const;
  // Whether so many more bytes fit under the quota.
  [[nodiscard]] bool within_quota(uint64_t cost) const;
  // What was written has exceeded the quota: the alarm is proposed, once.
  void raise_no_space();

  [[nodiscard]] const std::shared_ptr<const std::vector<Alarm>>& list() const { return list_; }

 private:
  Workbench& bench_;
  std::set<Alarm> alarms_;
  std::shared_ptr<const std::vector<Alarm>> list_;  // the same, for readers
  bool no_space_proposed_ = false;
};

}  // namespace cairn::member
