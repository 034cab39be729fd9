// member/access.h: whether a user may make a request. What it touches (mvcc/kv/visit.h) is held against what the rules
// permit (auth/rules.h). Both meet here alone. Reads are checked with the state that they read, writes with the state
// that they change.
#pragma once

#include <cstdint>

#include <string_view>

#include "auth/rules.h"
#include "mvcc/kv/visit.h"

namespace cairn::member {

[[nodiscard]] inline Status check_touch(const auth::Rules& rules, const auth::Identity& who, const mvcc::Touch& touch) {
  // As mvcc::KeyInterval::of() took them apart.
  const auth::KeyRange range{touch.interval.low, touch.interval.high};
  return rules.permits(who, touch.access == mvcc::Access::kRead ? auth::Wants::kRead : auth::Wants::kWrite, range);
}

// `check_lease(id)`, a Status(int64_t), says whether the keys that are attached to a lease may be written.
//   errors: user_empty, auth_old_revision, permission_denied
template <class Request, class CheckLease>
[[nodiscard]] Status check_access(const auth::Rules& rules, const auth::Identity& who, const Request& request,
                                  const CheckLease& check_lease) {
  if (!rules.enabled()) return {};
  return mvcc::visit_touches(request, [&](const mvcc::Touch& touch) -> Status {
    if (touch.lease != 0) return check_lease(touch.lease);
    return check_touch(rules, who, touch);
  });
}
// Where leases and their keys are not at hand: of a write, which is checked again when it is applied.
template <class Request>
[[nodiscard]] Status check_access(const auth::Rules& rules, const auth::Identity& who, const Request& request) {
  return check_access(rules, who, request, [](int64_t) -> Status { return {}; });
}

// Of a read: as in etcd, a token whose revision has not been yet is good for writes alone.
//   errors: user_empty, auth_old_revision, permission_denied
template <class Request>
[[nodiscard]] Status check_read(const auth::Rules& rules, const auth::Identity& who, const Request& request) {
  CAIRN_CHECK(check_access(rules, who, request));
  return rules.check_current(who);
}

// The interval of a watch that somebody asks for; the same interval is checked and watched. It views the arguments.
//   errors: user_empty, auth_old_revision, permission_denied
[[nodiscard]] Result<mvcc::KeyInterval> admit_watch(const auth::Rules& rules, const auth::Identity& who,
                                                    std::string_view key, std::string_view range_end);

}  // namespace cairn::member
