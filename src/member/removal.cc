#include "member/removal.h"

namespace cairn::member {

bool Removal::is_over(const cluster::Membership& members, int64_t now_ns) {
  if (is_over_ || !is_known(members)) return is_over_;
  if (!known_since_ns_) known_since_ns_ = now_ns;
  size_t others = 0;
  for (const auto& [id, member] : members.members) others += id == self_ || member.is_learner ? 0 : 1;
  // Who has told it may be no member as far as this one has applied the log.
  is_over_ = told_.size() > others / 2 || now_ns >= *known_since_ns_ + kPatienceNs;
  return is_over_;
}

std::optional<int64_t> Removal::next_ns() const {
  if (!known_since_ns_ || is_over_) return std::nullopt;
  return *known_since_ns_ + kPatienceNs;
}

}  // namespace cairn::member
