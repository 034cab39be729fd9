// auth/rules.h: who may do what: one immutable object, published with the rest of the state. Every decision of etcd's
// authorisation is one of the functions here.
//
//     permits()      may this user read or write this interval: for each touch of a request (mvcc/kv/visit.h)
//     check_known()  somebody, whoever it is
//     check_root()   a user with the role root
//
// Threads: a value; as const from any.
// Source:  docs/architecture.md, "Auth"; etcd 3.7's auth store and auth applier.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "auth/ranges.h"
#include "base/error.h"

namespace cairn::auth {

inline constexpr std::string_view kRoot = "root";  // the user and the role

// Who asks, as a token or a certificate says it.
struct Identity {
  bool is_known = false;
  std::string user;
  // Of the rules that the identity goes back to. A request is refused when they have changed since, because permissions
  // may have been taken away. 0: nobody.
  uint64_t revision = 0;
};

enum class Wants : uint8_t { kRead, kWrite };

// What some roles permit together. Users of the same roles share it: both may be many.
struct Permissions {
  Ranges readable;
  Ranges writable;
};

struct User {
  bool is_root = false;
  bool no_password = false;
  std::string password;                                      // bcrypt's text
  std::shared_ptr<const Permissions> permissions = nullptr;  // of all roles; null: none

  [[nodiscard]] bool may(Wants wants, const KeyRange& range) const {
    if (is_root) return true;
    if (permissions == nullptr) return false;
    return (wants == Wants::kRead ? permissions->readable : permissions->writable).cover(range);
  }
};

class Rules {
 public:
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view name) const { return std::hash<std::string_view>()(name); }
  };
  using Users = std::unordered_map<std::string, std::shared_ptr<const User>, Hash, std::equal_to<>>;

  Rules() = default;
  Rules(bool is_enabled, uint64_t revision, Users users)
      : is_enabled_(is_enabled), revision_(revision), users_(std::move(users)) {}

  [[nodiscard]] bool enabled() const { return is_enabled_; }
  [[nodiscard]] uint64_t revision() const { return revision_; }
  [[nodiscard]] const Users& users() const { return users_; }  // none while auth is off
  [[nodiscard]] const User* find(std::string_view name) const {
    const auto found = users_.find(name);
    return found == users_.end() ? nullptr : found->second.get();
  }

  //   errors: user_empty
  [[nodiscard]] Status check_known(const Identity& who) const;
  //   errors: user_empty, user_not_found, permission_denied
  [[nodiscard]] Status check_root(const Identity& who) const;
  [[nodiscard]] bool is_root(const Identity& who) const { return check_root(who).has_value(); }
  // Somebody who has read at these rules is not of later ones.
  //   errors: auth_old_revision
  [[nodiscard]] Status check_current(const Identity& who) const;
  // The user, whose may() says the rest. needs: enabled()
  //   errors: user_empty, auth_old_revision, permission_denied
  [[nodiscard]] Result<const User*> admit(const Identity& who) const;
  //   errors: those of admit(); permission_denied
  [[nodiscard]] Status permits(const Identity& who, Wants wants, const KeyRange& range) const;

 private:
  bool is_enabled_ = false;
  uint64_t revision_ = 0;
  Users users_;
};

}  // namespace cairn::auth
