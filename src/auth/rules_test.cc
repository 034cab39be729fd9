// Who may do what, as etcd answers it.
#include "auth/rules.h"

#include <gtest/gtest.h>

#include "auth/store.h"
#include "base/errors.h"
#include "proto/auth.pb.h"
#include "proto/rpc.pb.h"

namespace cairn::auth {
namespace {

using authpb::Permission;

class AuthRules : public ::testing::Test {
 protected:
  void SetUp() override {
    store_.finish_load(tables_);
    add_user("root", "root");
    ASSERT_TRUE(store_.role_add("reader", tables_));
    grant("reader", "a", "c", Permission::READ);
    add_user("alice", "reader");
    ASSERT_TRUE(store_.enable(tables_));
  }

  void add_user(const std::string& name, const std::string& role) {
    etcdserverpb::AuthUserAddRequest request;
    request.set_name(name);
    request.mutable_options()->set_no_password(true);
    ASSERT_TRUE(store_.user_add(request, tables_));
    if (role.empty()) return;
    ASSERT_TRUE(store_.user_grant_role(name, role, tables_));
  }
  void grant(const std::string& role, const std::string& key, const std::string& end, Permission::Type type) {
    etcdserverpb::AuthRoleGrantPermissionRequest request;
    request.set_name(role);
    request.mutable_perm()->set_key(key);
    request.mutable_perm()->set_range_end(end);
    request.mutable_perm()->set_permtype(type);
    ASSERT_TRUE(store_.role_grant_permission(request, tables_));
  }
  Identity now(const std::string& user) { return {true, user, store_.revision()}; }
  Status read(const Identity& who, const KeyRange& range) { return store_.rules()->permits(who, Wants::kRead, range); }
  Status write(const Identity& who, const KeyRange& range) {
    return store_.rules()->permits(who, Wants::kWrite, range);
  }

  Store store_;
  storage::WriteBuffer tables_;
};

TEST_F(AuthRules, PermitWhatIsGranted) {
  EXPECT_TRUE(read(now("alice"), {"a", "c"}));
  EXPECT_EQ(read(now("alice"), {"a", "d"}).error(), errors::permission_denied());
  EXPECT_EQ(write(now("alice"), {"a", ""}).error(), errors::permission_denied());
  EXPECT_TRUE(write(now("root"), {"a", std::string_view("\0", 1)}));
  EXPECT_EQ(read(now("nobody"), {"a", ""}).error(), errors::permission_denied());
  EXPECT_EQ(read({}, {"a", ""}).error(), errors::user_empty());
}

TEST_F(AuthRules, RefuseAnIdentityFromBeforeAChange) {
  const Identity before = now("alice");
  EXPECT_TRUE(read(before, {"a", ""}));
  add_user("bob", "");
  EXPECT_EQ(read(before, {"a", ""}).error(), errors::auth_old_revision());
  EXPECT_EQ(read(Identity{true, "root", before.revision}, {"a", ""}).error(), errors::auth_old_revision());
  EXPECT_TRUE(read(now("alice"), {"a", ""}));
}

// However many they are, and in whatever order they got the roles.
TEST_F(AuthRules, UsersOfTheSameRolesShareWhatTheyPermit) {
  const auto of = [&](const std::string& user) { return store_.rules()->find(user)->permissions; };
  ASSERT_TRUE(store_.role_add("writer", tables_));
  grant("writer", "a", "c", Permission::WRITE);
  const auto alone = of("alice");
  add_user("bob", "reader");
  EXPECT_EQ(of("bob"), alone);
  ASSERT_TRUE(store_.user_grant_role("bob", "writer", tables_));
  EXPECT_NE(of("bob"), alone);
  add_user("carol", "writer");
  ASSERT_TRUE(store_.user_grant_role("carol", "reader", tables_));
  EXPECT_EQ(of("bob"), of("carol"));
  EXPECT_EQ(of("alice"), alone);
  grant("writer", "x", "", Permission::WRITE);
  EXPECT_EQ(of("bob"), of("carol"));
  EXPECT_TRUE(write(now("bob"), {"x", ""}));
  EXPECT_EQ(write(now("alice"), {"x", ""}).error(), errors::permission_denied());
  ASSERT_TRUE(store_.user_revoke_role("bob", "writer", tables_));
  EXPECT_EQ(of("bob"), of("alice"));
  ASSERT_TRUE(store_.role_delete("writer", tables_));
  EXPECT_EQ(of("carol"), of("alice"));
  EXPECT_EQ(write(now("carol"), {"x", ""}).error(), errors::permission_denied());
}

TEST_F(AuthRules, ForgetWhatWasTakenAway) {
  etcdserverpb::AuthRoleRevokePermissionRequest request;
  request.set_role("reader");
  request.set_key("a");
  request.set_range_end("c");
  EXPECT_TRUE(read(now("alice"), {"a", ""}));
  ASSERT_TRUE(store_.role_revoke_permission(request, tables_));
  EXPECT_EQ(read(now("alice"), {"a", ""}).error(), errors::permission_denied());
  grant("reader", "x", "", Permission::READWRITE);
  EXPECT_TRUE(write(now("alice"), {"x", ""}));
  ASSERT_TRUE(store_.user_revoke_role("alice", "reader", tables_));
  EXPECT_EQ(write(now("alice"), {"x", ""}).error(), errors::permission_denied());
  ASSERT_TRUE(store_.user_grant_role("alice", "reader", tables_));
  EXPECT_TRUE(write(now("alice"), {"x", ""}));
  ASSERT_TRUE(store_.role_delete("reader", tables_));
  EXPECT_EQ(write(now("alice"), {"x", ""}).error(), errors::permission_denied());
  ASSERT_TRUE(store_.user_delete("alice", tables_));
  EXPECT_EQ(store_.rules()->find("alice"), nullptr);
}

TEST_F(AuthRules, OfSeveralRolesAreUnited) {
  ASSERT_TRUE(store_.role_add("next", tables_));
  grant("next", "c", "e", Permission::READWRITE);
  ASSERT_TRUE(store_.user_grant_role("alice", "next", tables_));
  EXPECT_TRUE(read(now("alice"), {"b", "d"}));
  EXPECT_EQ(write(now("alice"), {"b", "d"}).error(), errors::permission_denied());
  EXPECT_TRUE(write(now("alice"), {"c", "d"}));
}

TEST_F(AuthRules, AskForRoot) {
  EXPECT_TRUE(store_.rules()->check_root(now("root")));
  EXPECT_TRUE(store_.rules()->check_root(Identity{true, "root", 1})) << "as etcd: whoever has the role now";
  EXPECT_EQ(store_.rules()->check_root(now("alice")).error(), errors::permission_denied());
  EXPECT_EQ(store_.rules()->check_root(now("nobody")).error(), errors::user_not_found());
  EXPECT_EQ(store_.rules()->check_root({}).error(), errors::user_empty());
  EXPECT_TRUE(store_.rules()->check_known(now("nobody")));
  EXPECT_EQ(store_.rules()->check_known({}).error(), errors::user_empty());
}

TEST_F(AuthRules, AskNothingWhileAuthIsOff) {
  ASSERT_TRUE(store_.disable(tables_));
  EXPECT_TRUE(read({}, {"a", ""}));
  EXPECT_TRUE(store_.rules()->check_root({}));
  EXPECT_TRUE(store_.rules()->check_known({}));
  EXPECT_TRUE(store_.rules()->users().empty());
  add_user("bob", "reader");  // while it is off
  ASSERT_TRUE(store_.enable(tables_));
  EXPECT_TRUE(read(now("bob"), {"a", ""}));
}

TEST_F(AuthRules, OfUnchangedUsersAreNotCompiledAgain) {
  const auto before = store_.rules();
  ASSERT_TRUE(store_.user_grant_role("alice", "root", tables_));
  EXPECT_EQ(before->find("root"), store_.rules()->find("root"));
  EXPECT_NE(before->find("alice"), store_.rules()->find("alice"));
  EXPECT_FALSE(before->find("alice")->is_root);
  EXPECT_TRUE(store_.rules()->find("alice")->is_root);
}

// --- guard rails

TEST_F(AuthRules, CannotBeLostWhileAuthIsOn) {
  EXPECT_EQ(store_.user_delete("root", tables_).error(), errors::invalid_auth_mgmt());
  EXPECT_EQ(store_.user_revoke_role("root", "root", tables_).error(), errors::invalid_auth_mgmt());
  EXPECT_EQ(store_.role_delete("root", tables_).error(), errors::invalid_auth_mgmt());
  ASSERT_TRUE(store_.disable(tables_));
  EXPECT_TRUE(store_.user_delete("root", tables_));
  EXPECT_EQ(store_.enable(tables_).error(), errors::root_user_not_exist());
  add_user("root", "");
  EXPECT_EQ(store_.enable(tables_).error(), errors::root_role_not_exist());
}

TEST_F(AuthRules, AreEnabledTwiceAndDisabledTwice) {
  const uint64_t revision = store_.revision();
  EXPECT_TRUE(store_.enable(tables_));
  EXPECT_EQ(store_.revision(), revision) << "enabling is no new revision";
  EXPECT_TRUE(store_.disable(tables_));
  EXPECT_EQ(store_.revision(), revision + 1);
  EXPECT_TRUE(store_.disable(tables_));
  EXPECT_EQ(store_.revision(), revision + 1);
}

TEST_F(AuthRules, AreNotChangedByWhatIsThereAlready) {
  const uint64_t revision = store_.revision();
  EXPECT_TRUE(store_.user_grant_role("alice", "reader", tables_));
  EXPECT_EQ(store_.revision(), revision);
  EXPECT_EQ(store_.user_grant_role("alice", "none", tables_).error(), errors::role_not_found());
  EXPECT_EQ(store_.user_revoke_role("alice", "none", tables_).error(), errors::role_not_granted());
}

TEST_F(AuthRules, ShowRolesAndPermissions) {
  ASSERT_TRUE(store_.role_add("root", tables_));
  EXPECT_EQ(store_.user_list(), (std::vector<std::string>{"alice", "root"}));
  EXPECT_EQ(store_.role_list(), (std::vector<std::string>{"reader", "root"}));
  EXPECT_EQ(*store_.user_get("alice"), std::vector<std::string>{"reader"});
  EXPECT_EQ(store_.user_get("none").error(), errors::user_not_found());
  etcdserverpb::AuthRoleGetResponse role;
  ASSERT_TRUE(store_.role_get("root", role));
  ASSERT_EQ(role.perm_size(), 1);
  EXPECT_EQ(role.perm(0).permtype(), Permission::READWRITE);
  EXPECT_EQ(role.perm(0).key(), "");
  EXPECT_EQ(role.perm(0).range_end(), std::string(1, '\0'));
  EXPECT_EQ(store_.role_get("none", role).error(), errors::role_not_found());
}

}  // namespace
}  // namespace cairn::auth
