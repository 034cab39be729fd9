// What entries about roles leave in the tables: the bytes that etcd leaves.
#include "auth/store.h"

#include <gtest/gtest.h>

#include "base/errors.h"
#include "proto/auth.pb.h"
#include "proto/rpc.pb.h"

namespace cairn::auth {
namespace {

using authpb::Permission;
using storage::Table;

class RolePermissions : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(store_.role_add("r", first_)); }

  void grant(const std::string& key, const std::string& range_end, Permission::Type type) {
    etcdserverpb::AuthRoleGrantPermissionRequest request;
    request.set_name("r");
    request.mutable_perm()->set_key(key);
    request.mutable_perm()->set_range_end(range_end);
    request.mutable_perm()->set_permtype(type);
    storage::WriteBuffer tables;
    ASSERT_TRUE(store_.role_grant_permission(request, tables));
    look(tables);
  }
  Status revoke(const std::string& key, const std::string& range_end) {
    etcdserverpb::AuthRoleRevokePermissionRequest request;
    request.set_role("r");
    request.set_key(key);
    request.set_range_end(range_end);
    storage::WriteBuffer tables;
    const Status status = store_.role_revoke_permission(request, tables);
    if (status) look(tables);
    return status;
  }

  std::string stored_;  // "key-end:type ..." of the role in the table

 private:
  void look(storage::WriteBuffer& tables) {
    tables.freeze();
    const auto changes = tables.changes()[static_cast<size_t>(Table::kAuthRoles)];
    ASSERT_EQ(changes.size(), 1u);
    authpb::Role role;
    ASSERT_TRUE(role.ParseFromString(std::string(changes[0].value())));
    stored_.clear();
    for (const Permission& held : role.keypermission()) {
      stored_ += held.key() + "-" + held.range_end() + ":" + Permission::Type_Name(held.permtype()) + " ";
    }
  }

  Store store_;
  storage::WriteBuffer first_;
};

TEST_F(RolePermissions, AreSortedByKeyAndTheirTypeIsReplaced) {
  grant("m", "", Permission::READ);
  grant("a", "c", Permission::READ);
  grant("m", "", Permission::WRITE);
  EXPECT_EQ(stored_, "a-c:READ m-:WRITE ");
}

// etcd 3.4 and 3.7 leave these bytes.
TEST_F(RolePermissions, OfSeveralWithOneKeyOnlyTheFirstIsReplaced) {
  grant("k", "", Permission::READ);
  grant("k", "z", Permission::READ);
  grant("k", "m", Permission::READ);
  EXPECT_EQ(stored_, "k-:READ k-z:READ k-m:READ ");
  grant("k", "z", Permission::WRITE);
  EXPECT_EQ(stored_, "k-:READ k-z:READ k-m:READ k-z:WRITE ");
  grant("k", "", Permission::WRITE);
  EXPECT_EQ(stored_, "k-:WRITE k-z:READ k-m:READ k-z:WRITE ");
}

TEST_F(RolePermissions, OfOneIntervalAreAllRevoked) {
  grant("k", "", Permission::READ);
  grant("k", "z", Permission::READ);
  grant("k", "z", Permission::WRITE);
  ASSERT_EQ(stored_, "k-:READ k-z:READ k-z:WRITE ");
  EXPECT_TRUE(revoke("k", "z"));
  EXPECT_EQ(stored_, "k-:READ ");
  EXPECT_EQ(revoke("k", "z").error(), errors::permission_not_granted());
}

}  // namespace
}  // namespace cairn::auth
