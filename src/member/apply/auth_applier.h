// member/apply/auth_applier.h: users, roles, and whether auth is on; and whether an entry's sender may do what it says.
//
// Every member decides about an entry from the entry and the tables alone, so all decide alike: the header has the user
// and the revision of the rules when it was proposed. An entry with an older revision is refused, whatever it asks for.
//
// Threads: the core thread's.
// Source:  etcd 3.7's auth applier; docs/architecture.md, "Auth".
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <unordered_map>

#include "auth/store.h"
#include "auth/tokens.h"
#include "lease/lessor.h"
#include "member/access.h"
#include "member/apply/applied_state.h"
#include "member/apply/workbench.h"

namespace etcdserverpb {
class InternalAuthenticateRequest;
class InternalRaftRequest;
}  // namespace etcdserverpb

namespace cairn::member {

class AuthApplier {
 public:
  AuthApplier(Workbench& bench, const lease::Lessor& lessor, auth::Store store);

  // The entry that is applied next has this header.
  //   errors: damaged_request()
  Status begin(std::string_view header);

  // Whether its sender may make this request.
  template <class Request>
  [[nodiscard]] Status check(const Request& request) const {
    if (!store_.enabled() || CAIRN_MUTANT("auth.checked_when_proposed_only")) return {};
    return check_access(*store_.rules(), sender_, request, [&](int64_t lease) { return check_lease(lease); });
  }
  // Whether it may write all keys that are attached to a lease.
  [[nodiscard]] Status check_lease(int64_t id) const { return store_.enabled() ? check_lease(sender_, id) : Status(); }
  [[nodiscard]] Status check_lease(const auth::Identity& who, int64_t id) const;
  // The entry has attached a key to the lease; it was allowed to.
  void note_attached(int64_t lease) {
    const auto memo = may_write_.find(lease);
    if (memo != may_write_.end() && memo->second.user != sender_.user) may_write_.erase(memo);
  }

  // False: the request is not about auth.
  Result<bool> apply(const etcdserverpb::InternalRaftRequest& request, Tag tag, Schema schema);
  // The entries of a new directory.
  void store_first() { store_.finish_load(bench_.tables()); }

  [[nodiscard]] const auth::Store& store() const { return store_; }

 private:
  Status enable(storage::WriteBuffer& tables);
  Status disable(storage::WriteBuffer& tables);
  // nullopt: the request changes neither users nor roles.
  std::optional<Status> change(const etcdserverpb::InternalRaftRequest& request);
  std::optional<Status> change_users(const etcdserverpb::InternalRaftRequest& request);
  std::optional<Status> change_roles(const etcdserverpb::InternalRaftRequest& request);
  bool answer_question(const etcdserverpb::InternalRaftRequest& request, Tag tag, Schema schema);
  Result<std::string> user_get(const std::string& name) const;
  Result<std::string> role_get(const std::string& name) const;
  Result<std::string> authenticate(const etcdserverpb::InternalAuthenticateRequest& request, Schema schema);

  // Whoever puts key after key with one lease must not have all its keys looked at each time: of leases with many keys
  // it is remembered who may write them all. What the same user attaches, it may write.
  struct Memo {
    std::shared_ptr<const auth::Rules> rules;
    std::string user;
  };
  static constexpr size_t kKeysOfMemo = 16;
  static constexpr size_t kMemosMax = 4096;

  Workbench& bench_;
  const lease::Lessor& lessor_;
  auth::Store store_;
  auth::Identity sender_;                                // of the entry that is applied
  mutable std::unordered_map<int64_t, Memo> may_write_;  // by lease
};

}  // namespace cairn::member
