// member/apply/auth_applier.h: users, roles, and whether auth is on.
//
// Threads: the apply thread's.
#pragma once

#include "auth/store.h"
#include "member/apply/workbench.h"

namespace etcdserverpb {
class InternalRaftRequest;
}  // namespace etcdserverpb

namespace cairn::member {

class AuthApplier {
 public:
  AuthApplier(Workbench& bench, auth::Store store) : bench_(bench), store_(std::move(store)) {}

  // False: the request is not about auth.
  //   errors: kFailedPrecondition: auth is on now, and this build cannot check it
  Result<bool> apply(const etcdserverpb::InternalRaftRequest& request, Tag tag);
  // The entries of a new directory.
  void store_first() { store_.finish_load(bench_.tables()); }

  [[nodiscard]] const auth::Store& store() const { return store_; }

 private:
  Workbench& bench_;
  auth::Store store_;
};

}  // namespace cairn::member
