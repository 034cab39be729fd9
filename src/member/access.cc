#include "member/access.h"

#include "base/check.h"

namespace cairn::member {

// GHSA-xg4h-6gfc-h4m8: etcd had read "from the key on" as another interval where it checked than where it watched.
Result<mvcc::KeyInterval> admit_watch(const auth::Rules& rules, const auth::Identity& who, std::string_view key,
                                      std::string_view range_end) {
  if (key.empty()) key = std::string_view("\0", 1);
  const mvcc::KeyInterval watched = mvcc::KeyInterval::of(key, range_end);
  const bool is_cut = watched.to_end && CAIRN_MUTANT("auth.watch_checked_before_normalised");
  const mvcc::KeyInterval checked = is_cut ? mvcc::KeyInterval::of(key, {}) : watched;
  CAIRN_CHECK(check_touch(rules, who, {checked, mvcc::Access::kRead}));
  return watched;
}

}  // namespace cairn::member
