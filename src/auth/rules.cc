#include "auth/rules.h"

#include "base/check.h"
#include "base/errors.h"

namespace cairn::auth {

Status Rules::check_known(const Identity& who) const {
  if (is_enabled_ && !who.is_known) return std::unexpected(errors::user_empty());
  return {};
}

// As etcd, which does not look at the identity's revision here: who has the role now, may.
Status Rules::check_root(const Identity& who) const {
  if (!is_enabled_) return {};
  if (who.user.empty()) return std::unexpected(errors::user_empty());
  const User* const user = find(who.user);
  if (user == nullptr) return std::unexpected(errors::user_not_found());
  if (!user->is_root) return std::unexpected(errors::permission_denied());
  return {};
}

Status Rules::check_current(const Identity& who) const {
  if (is_enabled_ && who.revision > revision_) return std::unexpected(errors::auth_old_revision());
  return {};
}

Result<const User*> Rules::admit(const Identity& who) const {
  if (who.revision == 0) return std::unexpected(errors::user_empty());
  if (who.revision < revision_ && !CAIRN_MUTANT("auth.old_revision_believed")) {
    return std::unexpected(errors::auth_old_revision());
  }
  const User* const user = find(who.user);
  if (user == nullptr) return std::unexpected(errors::permission_denied());
  return user;
}

Status Rules::permits(const Identity& who, Wants wants, const KeyRange& range) const {
  if (!is_enabled_) return {};
  CAIRN_TRY(const User* const user, admit(who));
  if (!user->may(wants, range)) return std::unexpected(errors::permission_denied());
  return {};
}

}  // namespace cairn::auth
