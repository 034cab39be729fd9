// Entries of users who may and may not: what applying them changes and shows lies in what was granted.
#include <algorithm>
#include <map>
#include <set>

#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include "base/errors.h"
#include "base/random.h"
#include "env/clock.h"
#include "member/apply/apply_core.h"
#include "member/requests.h"
#include "mvcc/index/index.h"
#include "mvcc/kv/range.h"
#include "proto/raft_internal.pb.h"
#include "storage/memory/engine.h"
#include "testing/manual_clock.h"
#include "testing/seeds.h"

namespace cairn::member {
namespace {

using authpb::Permission;
using etcdserverpb::InternalRaftRequest;

constexpr Tag kTag = 5;

class AuthApply : public ::testing::Test {
 protected:
  void SetUp() override { start(Schema::k3_7); }

  void start(Schema schema) {
    tokens_ = std::make_shared<auth::SimpleTokens>(clock_, 300'000'000'000);
    engine_ = *storage::open_memory();
    AppliedState state;
    state.index = std::make_unique<mvcc::Index>();
    state.file = engine_->view();
    state.members.cluster_id = 9;
    state.new_directory = true;
    state.schema = schema;
    core_ = std::make_unique<ApplyCore>(ApplyOptions{.member_id = 77, .tokens = tokens_}, std::move(state),
                                        all_answers_, 1);
    ApplyBatch first;
    first.leader_state = LeaderState{.term = Term(3), .leader = NodeId(77), .is_leader = true, .sole_member = true};
    ASSERT_TRUE(core_->apply(std::move(first), 1));
  }

  // The error's text; "": none, and the answer is in answer_.
  std::string apply(InternalRaftRequest request, const std::string& user = "", std::optional<uint64_t> revision = {}) {
    request.mutable_header()->set_id(++index_);
    if (!user.empty()) {
      request.mutable_header()->set_username(user);
      request.mutable_header()->set_auth_revision(revision.value_or(core_->auth().revision()));
    }
    ApplyBatch batch;
    batch.entries.push_back({.term = Term(3),
                             .index = Index(index_),
                             .data = std::make_shared<const raft::Payload>(
                                 raft::Payload{.bytes = request.SerializeAsString(), .tag = kTag})});
    EXPECT_TRUE(core_->apply(std::move(batch), 1));
    (void)core_->take_output();
    std::string error = "no answer";
    all_answers_.hand_out([&](unsigned, const AnswerBatch& all) {
      answer_ = all.text(all.answers.at(0));
      error = all.answers[0].code == Code::kOk ? "" : answer_;
    });
    return error;
  }
  static InternalRaftRequest request(const std::string& text) {
    InternalRaftRequest out;
    EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &out)) << text;
    return out;
  }
  std::string as(const std::string& user, const std::string& text) { return apply(request(text), user); }
  void do_all(std::initializer_list<const char*> texts, const std::string& user = "") {
    for (const char* const text : texts) EXPECT_EQ(apply(request(text), user), "") << text;
  }
  void enable() {
    do_all({R"(auth_user_add { name: "root" options { no_password: true } })",
            R"(auth_user_grant_role { user: "root" role: "root" })", R"(auth_role_add { name: "r" })",
            R"(auth_user_add { name: "alice" options { no_password: true } })",
            R"(auth_user_grant_role { user: "alice" role: "r" })", "auth_enable {}"});
  }
  void grant(const std::string& key, const std::string& end, Permission::Type type) {
    InternalRaftRequest grant;
    grant.mutable_auth_role_grant_permission()->set_name("r");
    auto* const permission = grant.mutable_auth_role_grant_permission()->mutable_perm();
    permission->set_key(key);
    permission->set_range_end(end);
    permission->set_permtype(type);
    EXPECT_EQ(apply(grant, "root"), "");
  }
  // Key -> its record.
  std::map<std::string, std::string> all_keys() {
    std::map<std::string, std::string> out;
    const mvcc::StoreView view = const_cast<mvcc::Store&>(core_->store()).working();
    mvcc::IndexCursor cursor(view.root, {});
    for (cursor.seek_first(); cursor.valid(); cursor.next()) {
      const std::string key(cursor.key());
      out[key] = **mvcc::find_record(view, key, view.revision);
    }
    return out;
  }

  testing::ManualClock clock_;
  std::shared_ptr<auth::SimpleTokens> tokens_;
  uint64_t index_ = 0;
  std::unique_ptr<storage::Engine> engine_;
  Answers all_answers_;
  std::unique_ptr<ApplyCore> core_;
  std::string answer_;
};

TEST_F(AuthApply, WritesAreForThoseWhoMay) {
  enable();
  grant("a", "c", Permission::READWRITE);
  EXPECT_EQ(as("alice", R"(put { key: "a" value: "1" })"), "");
  EXPECT_EQ(as("alice", R"(put { key: "c" value: "1" })"), errors::permission_denied().message);
  EXPECT_EQ(as("", R"(put { key: "a" value: "1" })"), errors::user_empty().message);
  EXPECT_EQ(as("nobody", R"(put { key: "a" value: "1" })"), errors::permission_denied().message);
  EXPECT_EQ(as("root", R"(put { key: "c" value: "1" })"), "");
  EXPECT_EQ(as("alice", R"(delete_range { key: "a" range_end: "d" })"), errors::permission_denied().message);
  EXPECT_EQ(as("alice", R"(range { key: "c" })"), errors::permission_denied().message);
  EXPECT_EQ(all_keys().size(), 2u);
}

TEST_F(AuthApply, AnEntryFromBeforeAChangeIsRefused) {
  enable();
  grant("a", "c", Permission::READWRITE);
  const uint64_t before = core_->auth().revision();
  EXPECT_EQ(apply(request(R"(put { key: "a" value: "1" })"), "alice", before), "");
  do_all({R"(auth_role_add { name: "more" })"}, "root");
  EXPECT_EQ(apply(request(R"(put { key: "a" value: "2" })"), "alice", before), errors::auth_old_revision().message);
  EXPECT_EQ(apply(request(R"(put { key: "a" value: "2" })"), "root", before), errors::auth_old_revision().message);
}

TEST_F(AuthApply, ALeaseIsWrittenWithAllItsKeys) {
  do_all({R"(lease_grant { ID: 7 TTL: 100 })", R"(put { key: "x" value: "1" lease: 7 })"});
  enable();
  grant("a", "c", Permission::READWRITE);
  const std::string denied = errors::permission_denied().message;
  EXPECT_EQ(as("alice", R"(put { key: "a" value: "1" lease: 7 })"), denied);
  EXPECT_EQ(as("alice", R"(txn { success { request_put { key: "a" lease: 7 } } })"), denied);
  EXPECT_EQ(as("alice", R"(txn { failure { request_txn { success { request_put { key: "a" lease: 7 } } } } })"),
            denied);
  EXPECT_EQ(as("alice", "lease_revoke { ID: 7 }"), denied);
  EXPECT_EQ(as("", "lease_revoke { ID: 7 }"), errors::user_empty().message);
  const auth::Identity alice{true, "alice", core_->auth().revision()};
  EXPECT_EQ(core_->check_renewal(&alice, 7).error(), errors::permission_denied());
  EXPECT_EQ(core_->check_renewal(nullptr, 7).error(), errors::user_empty());
  const auth::Identity root{true, "root", 1};
  EXPECT_TRUE(core_->check_renewal(&root, 7)) << "as etcd: root's revision is not looked at";
  EXPECT_EQ(as("root", R"(delete_range { key: "x" })"), "");
  EXPECT_TRUE(core_->check_renewal(&alice, 7));
  EXPECT_EQ(as("alice", R"(put { key: "a" value: "1" lease: 7 })"), "");
  EXPECT_EQ(as("alice", "lease_revoke { ID: 7 }"), "");
}

// Of a lease with many keys it is remembered who may write them all, until somebody else attaches another.
TEST_F(AuthApply, ALeaseWithManyKeysIsLookedAtAgainWhenOthersAttachToIt) {
  do_all({R"(lease_grant { ID: 7 TTL: 100 })"});
  enable();
  grant("a", "c", Permission::READWRITE);
  const auto put = [&](const std::string& user, const std::string& key) {
    return as(user, "put { key: \"" + key + "\" lease: 7 }");
  };
  for (int i = 0; i < 40; ++i) EXPECT_EQ(put("alice", "a" + std::to_string(i)), "");
  EXPECT_EQ(put("root", "x"), "");
  EXPECT_EQ(put("alice", "a0"), errors::permission_denied().message);
  EXPECT_EQ(as("root", R"(delete_range { key: "x" })"), "");
  EXPECT_EQ(put("alice", "a0"), "");
  grant("a", "c", Permission::READ);
  EXPECT_EQ(put("alice", "a0"), errors::permission_denied().message);
  const auth::Identity alice{true, "alice", core_->auth().revision()};
  EXPECT_EQ(core_->check_renewal(&alice, 7).error(), errors::permission_denied());
}

// What a leader proposes when a lease has run out.
TEST_F(AuthApply, ALeaderRevokesAsRoot) {
  do_all({R"(lease_grant { ID: 7 TTL: 100 })", R"(put { key: "x" value: "1" lease: 7 })"});
  enable();
  EXPECT_EQ(apply(request("lease_revoke { ID: 7 }"), "root", 0), "");
  EXPECT_TRUE(all_keys().empty());
}

TEST_F(AuthApply, UsersAndRolesAreForRoot) {
  enable();
  for (const char* const text :
       {"auth_enable {}", "auth_disable {}", R"(auth_user_add { name: "x" })", R"(auth_user_delete { name: "alice" })",
        R"(auth_user_change_password { name: "alice" })", R"(auth_user_grant_role { user: "alice" role: "root" })",
        R"(auth_user_revoke_role { name: "alice" role: "r" })", R"(auth_role_add { name: "x" })",
        R"(auth_role_delete { role: "r" })", R"(auth_role_grant_permission { name: "r" perm { key: "a" } })",
        R"(auth_role_revoke_permission { role: "r" key: "a" })", "auth_user_list {}", "auth_role_list {}",
        R"(auth_user_get { name: "root" })", R"(auth_role_get { role: "root" })"}) {
    EXPECT_EQ(as("alice", text), errors::permission_denied().message) << text;
    EXPECT_EQ(as("", text), errors::user_empty().message) << text;
    EXPECT_EQ(as("nobody", text), errors::user_not_found().message) << text;
  }
  EXPECT_TRUE(core_->auth().enabled());
  EXPECT_EQ(as("alice", R"(auth_user_get { name: "alice" })"), "");
  EXPECT_EQ(as("alice", R"(auth_role_get { role: "r" })"), "");
  EXPECT_EQ(as("", "auth_status {}"), "");
}

TEST_F(AuthApply, AuthenticateGivesAToken) {
  EXPECT_EQ(as("", R"(authenticate { name: "alice" simple_token: "abc" })"), errors::auth_not_enabled().message);
  enable();
  EXPECT_EQ(as("", R"(authenticate { name: "alice" simple_token: "abc" })"), errors::auth_failed().message)
      << "she has no password";
  do_all({R"(auth_user_add { name: "bob" hashedPassword: "aGlkZGVu" })"}, "root");
  EXPECT_EQ(as("", R"(authenticate { name: "bob" simple_token: "abc" })"), "");
  etcdserverpb::AuthenticateResponse response;
  ASSERT_TRUE(response.ParseFromString(answer_));
  EXPECT_EQ(response.token(), auth::simple_token("abc", index_ - 1)) << "as etcd since 3.5";
  EXPECT_NE(tokens_->find(response.token()), nullptr);
  do_all({R"(auth_user_change_password { name: "bob" hashedPassword: "aGlkZGVu" })"}, "root");
  EXPECT_EQ(tokens_->find(response.token()), nullptr);
  EXPECT_EQ(as("", R"(authenticate { name: "bob" simple_token: "abc" })"), "");
  ASSERT_TRUE(response.ParseFromString(answer_));
  do_all({"auth_disable {}"}, "root");
  EXPECT_EQ(tokens_->find(response.token()), nullptr);
}

// A client shows its token to any member, whoever gave it.
TEST_F(AuthApply, AMemberOf34GivesATokenTheIndexOfItsEntry) {
  start(Schema::k3_4);
  enable();
  do_all({R"(auth_user_add { name: "bob" hashedPassword: "aGlkZGVu" })"}, "root");
  EXPECT_EQ(as("", R"(authenticate { name: "bob" simple_token: "abc" })"), "");
  etcdserverpb::AuthenticateResponse response;
  ASSERT_TRUE(response.ParseFromString(answer_));
  EXPECT_EQ(response.token(), auth::simple_token("abc", index_));
}

// --- the property

class AuthApplyProperty : public AuthApply {
 protected:
  struct Grant {
    std::string key;
    std::string end;
    Permission::Type type;
    [[nodiscard]] bool holds(const std::string& one, Permission::Type wanted) const {
      if (type != Permission::READWRITE && type != wanted) return false;
      if (end.empty()) return one == key;
      return one >= key && (end == std::string(1, '\0') || one < end);
    }
  };

  std::string key() {
    return std::string(1, static_cast<char>('a' + random_.below(8))) + (random_.one_in(3) ? "x" : "");
  }
  std::string end() { return random_.one_in(2) ? "" : random_.one_in(4) ? std::string(1, '\0') : key(); }
  void fill(etcdserverpb::PutRequest& put) {
    put.set_key(key());
    put.set_value(std::to_string(random_.next()));
    put.set_prev_kv(random_.one_in(3));
    if (random_.one_in(3)) put.set_lease(static_cast<int64_t>(random_.between(1, 3)));
  }
  void fill(etcdserverpb::DeleteRangeRequest& remove) {
    remove.set_key(key());
    remove.set_range_end(end());
    remove.set_prev_kv(random_.one_in(2));
  }
  void fill(etcdserverpb::TxnRequest& txn, int depth) {
    for (uint64_t n = random_.below(2); n > 0; --n) {
      auto& compare = *txn.add_compare();
      compare.set_key(key());
      compare.set_range_end(end());
      compare.set_target(etcdserverpb::Compare::VERSION);
      compare.set_result(etcdserverpb::Compare::GREATER);
      compared_.insert({compare.key(), compare.range_end()});
    }
    for (auto* const branch : {txn.mutable_success(), txn.mutable_failure()}) {
      for (uint64_t n = random_.below(3); n > 0; --n) {
        auto& op = *branch->Add();
        switch (random_.below(depth > 2 ? 3 : 4)) {
          case 0: fill(*op.mutable_request_put()); break;
          case 1: fill(*op.mutable_request_delete_range()); break;
          case 2:
            op.mutable_request_range()->set_key(key());
            op.mutable_request_range()->set_range_end(end());
            break;
          default: fill(*op.mutable_request_txn(), depth + 1); break;
        }
      }
    }
  }
  static void shown(const etcdserverpb::TxnResponse& response, std::set<std::string>& keys) {
    for (const auto& op : response.responses()) {
      for (const auto& kv : op.response_range().kvs()) keys.insert(kv.key());
      if (op.response_put().has_prev_kv()) keys.insert(op.response_put().prev_kv().key());
      for (const auto& kv : op.response_delete_range().prev_kvs()) keys.insert(kv.key());
      shown(op.response_txn(), keys);
    }
  }
  [[nodiscard]] bool is_granted(const std::string& one, Permission::Type wanted) const {
    return std::any_of(grants_.begin(), grants_.end(), [&](const Grant& grant) { return grant.holds(one, wanted); });
  }

  Random random_{1};
  std::vector<Grant> grants_;
  std::set<std::pair<std::string, std::string>> compared_;
};

TEST_F(AuthApplyProperty, WhatAnAnswerShowsOrChangesIsGranted) {
  enable();
  do_all({"lease_grant { ID: 1 TTL: 100 }", "lease_grant { ID: 2 TTL: 100 }", "lease_grant { ID: 3 TTL: 100 }"},
         "root");
  const uint64_t first = testing::first_seed(1);
  uint64_t allowed = 0;
  uint64_t denied = 0;
  for (uint64_t seed = first; seed < first + 3000; ++seed) {
    SCOPED_TRACE(seed);
    random_ = Random(seed);
    if (seed % 10 == first % 10) {  // other permissions
      for (const Grant& old : grants_) {
        InternalRaftRequest revoke;
        revoke.mutable_auth_role_revoke_permission()->set_role("r");
        revoke.mutable_auth_role_revoke_permission()->set_key(old.key);
        revoke.mutable_auth_role_revoke_permission()->set_range_end(old.end);
        (void)apply(revoke, "root");
      }
      grants_.clear();
      for (uint64_t n = random_.between(1, 4); n > 0; --n) {
        Grant one{key(), end(), static_cast<Permission::Type>(random_.below(3))};
        if (!one.end.empty() && one.end != std::string(1, '\0') && one.end <= one.key) one.end = "";
        // One of the same key may replace another, or stand beside it.
        if (std::any_of(grants_.begin(), grants_.end(), [&](const Grant& old) { return old.key == one.key; })) continue;
        grant(one.key, one.end, one.type);
        grants_.push_back(one);
      }
      for (int i = 0; i < 6; ++i) {
        InternalRaftRequest put;
        fill(*put.mutable_put());
        EXPECT_EQ(apply(put, "root"), "");
      }
    }
    compared_.clear();
    const auto before = all_keys();
    InternalRaftRequest request;
    switch (random_.below(4)) {
      case 0: fill(*request.mutable_put()); break;
      case 1: fill(*request.mutable_delete_range()); break;
      case 2: request.mutable_lease_revoke()->set_id(static_cast<int64_t>(random_.between(1, 3))); break;
      default: fill(*request.mutable_txn(), 0); break;
    }
    const std::string error = apply(request, "alice");
    const auto after = all_keys();
    if (!error.empty()) {
      ++denied;
      EXPECT_EQ(before, after) << error;
      continue;
    }
    ++allowed;
    if (request.has_lease_revoke()) {
      InternalRaftRequest again;
      again.mutable_lease_grant()->set_id(request.lease_revoke().id());
      again.mutable_lease_grant()->set_ttl(100);
      EXPECT_EQ(apply(again, "root"), "");
    }
    std::set<std::string> changed;
    for (const auto& [key, record] : before) {
      if (!after.contains(key) || after.at(key) != record) changed.insert(key);
    }
    for (const auto& [key, record] : after) {
      if (!before.contains(key)) changed.insert(key);
    }
    for (const std::string& key : changed) {
      EXPECT_TRUE(is_granted(key, Permission::WRITE)) << key << " " << request.ShortDebugString();
    }
    std::set<std::string> seen;
    etcdserverpb::TxnResponse txn;
    etcdserverpb::PutResponse put;
    etcdserverpb::DeleteRangeResponse removed;
    if (request.has_txn() && txn.ParseFromString(answer_)) shown(txn, seen);
    if (request.has_put() && put.ParseFromString(answer_) && put.has_prev_kv()) seen.insert(put.prev_kv().key());
    if (request.has_delete_range() && removed.ParseFromString(answer_)) {
      for (const auto& kv : removed.prev_kvs()) seen.insert(kv.key());
    }
    for (const auto& [low, high] : compared_) {
      const Grant asked{low, high, Permission::READWRITE};
      for (const auto& [key, record] : before) {
        if (asked.holds(key, Permission::READ)) seen.insert(key);
      }
    }
    for (const std::string& key : seen) {
      EXPECT_TRUE(is_granted(key, Permission::READ)) << key << " " << request.ShortDebugString();
    }
  }
  EXPECT_GT(allowed, 200u);
  EXPECT_GT(denied, 200u);
}

}  // namespace
}  // namespace cairn::member
