#include "sim/cluster/membership_check.h"

#include <memory>
#include <string>
#include <utility>

#include <gtest/gtest.h>

#include "base/errors.h"
#include "base/random.h"
#include "raft/conf_change.h"

namespace cairn::sim {
namespace {

using cluster::ChangeKind;
using cluster::MemberChange;

cluster::Member member_of(uint64_t id, bool is_learner = false, const std::string& name = "a") {
  cluster::Member out;
  out.id = NodeId(id);
  out.peer_urls = {"http://10.0.0." + std::to_string(id) + ":2380"};
  out.is_learner = is_learner;
  out.name = name;
  return out;
}

MemberChange change_of(ChangeKind kind, cluster::Member member) {
  MemberChange out;
  out.kind = kind;
  out.member = std::move(member);
  return out;
}

// The model of a cluster that two members founded.
class MembersModel : public ::testing::Test {
 protected:
  MembersModel() {
    model_.begin({.member_id = 1, .cluster_id = 7, .founders = 2, .changes_members = true});
    for (const uint64_t id : {1, 2}) EXPECT_EQ(apply(change_of(ChangeKind::kAdd, member_of(id))), "");
  }

  // What its proposer is told.
  std::string apply(const MemberChange& change) {
    const std::string bytes =
        raft::encode(raft::ConfChangeV1{.type = static_cast<raft::ConfChangeType>(change.raft_type()),
                                        .node = change.member.id,
                                        .context = cluster::change_context(change)});
    const auto reply = model_.apply({.term = Term(1),
                                     .index = model_.last() + 1,
                                     .type = raft::EntryType::kConfChange,
                                     .data = std::make_shared<raft::Payload>(raft::Payload{.bytes = bytes})});
    EXPECT_TRUE(reply.has_value());
    check_.note(model_.last(), model_);
    return reply->text;
  }
  std::string add(uint64_t id, bool is_learner, std::optional<uint64_t> learners_max = {}) {
    MemberChange change = change_of(ChangeKind::kAdd, member_of(id, is_learner, ""));
    change.learner_count_max = learners_max;
    return apply(change);
  }

  Model model_;
  MembershipCheck check_;
};

TEST_F(MembersModel, SaysWhatEtcdSays) {
  EXPECT_EQ(add(3, true, 1), "");
  EXPECT_EQ(add(4, true, 1), errors::too_many_learners().message);
  EXPECT_EQ(add(4, true, 2), "");
  EXPECT_EQ(add(3, false), errors::member_exist().message);
  MemberChange taken = change_of(ChangeKind::kAdd, member_of(9, false, ""));
  taken.member.peer_urls = member_of(1).peer_urls;
  EXPECT_EQ(apply(taken), errors::peer_url_exist().message);
  taken.kind = ChangeKind::kUpdate;
  EXPECT_EQ(apply(taken), errors::member_not_found().message);
  taken.member.id = NodeId(2);
  EXPECT_EQ(apply(taken), errors::peer_url_exist().message);
  EXPECT_EQ(apply(change_of(ChangeKind::kPromote, member_of(1))), errors::member_not_learner().message);
  EXPECT_EQ(apply(change_of(ChangeKind::kPromote, member_of(3))), "");
  EXPECT_FALSE(model_.members().at(3).is_learner);
  EXPECT_EQ(apply(change_of(ChangeKind::kRemove, member_of(9))), errors::member_not_found().message);
  EXPECT_EQ(apply(change_of(ChangeKind::kRemove, member_of(3))), "");
  EXPECT_EQ(add(3, false), errors::member_not_found().message);  // an id never comes back
  EXPECT_EQ(model_.tables(model_.last()).at({storage::Table::kMembersRemoved, "3"}), "removed");
}

TEST_F(MembersModel, WhoShowsSomethingElseIsFound) {
  EXPECT_EQ(add(3, true), "");
  cluster::Membership members;
  for (const uint64_t id : {1, 2}) members.members[NodeId(id)] = member_of(id);
  members.members[NodeId(3)] = member_of(3, true, "");
  const raft::ConfState conf{.voters = {NodeId(1), NodeId(2)}, .learners = {NodeId(3)}};
  const Index last = model_.last();
  EXPECT_EQ(check_.compare(last, members, conf), "");
  const auto finds = [&](const char* text, const cluster::Membership& shown, const raft::ConfState& counts) {
    const std::string found = check_.compare(last, shown, counts);
    EXPECT_NE(found.find(text), std::string::npos) << found;
  };
  finds("counts by", members, {.voters = {NodeId(1), NodeId(2), NodeId(3)}});
  cluster::Membership other = members;
  other.members.erase(NodeId(3));
  finds("lacks 3", other, conf);
  other = members;
  other.members[NodeId(4)] = member_of(4);
  finds("too many", other, conf);
  other = members;
  other.removed.insert(NodeId(9));
  finds("removed", other, conf);
  other = members;
  other.members[NodeId(3)].is_learner = false;
  finds("should have", other, conf);
}

TEST(Admission, IsThatOfTheServer) {
  // Random memberships, connections and changes: src/cluster and the words of etcd come to the same.
  Random chance(1);
  int refused = 0;
  for (int i = 0; i < 20'000; ++i) {
    cluster::Membership members;
    const uint64_t count = chance.between(1, 6);
    Admission admission{.self = NodeId(chance.between(1, count))};
    cluster::Connections connections{.self = admission.self, .now_ns = 100'000'000'000, .active_since_ns = {}};
    std::map<NodeId, int64_t> since_ns;
    for (uint64_t id = 1; id <= count; ++id) {
      members.members[NodeId(id)] = member_of(id, id > 1 && chance.one_in(4), chance.one_in(4) ? "" : "a");
      if (NodeId(id) == admission.self || chance.one_in(3)) continue;
      admission.connected.insert(NodeId(id));
      since_ns[NodeId(id)] = chance.one_in(3) ? 99'000'000'000 : 1;
      if (since_ns[NodeId(id)] == 1) admission.active.insert(NodeId(id));
    }
    connections.active_since_ns = [&](NodeId id) {
      const auto at = since_ns.find(id);
      return at == since_ns.end() ? std::nullopt : std::optional(at->second);
    };
    const auto kind = chance.one_in(2) ? ChangeKind::kAdd : ChangeKind::kRemove;
    const MemberChange change = change_of(
        kind, kind == ChangeKind::kAdd ? member_of(9, chance.one_in(2), "") : member_of(chance.between(1, count + 1)));
    Status admitted = cluster::check_quorum_after(members, change);
    if (admitted) admitted = cluster::check_active_after(members, change, connections);
    const auto wanted = refusal_of(members, change, admission);
    ASSERT_EQ(wanted, admitted ? std::nullopt : std::optional(admitted.error())) << i;
    refused += wanted ? 1 : 0;
  }
  EXPECT_GT(refused, 1000);
}

TEST(Admission, OnlyALearnerThatHasCaughtUpIsPromoted) {
  cluster::Membership members;
  members.members[NodeId(1)] = member_of(1);
  members.members[NodeId(2)] = member_of(2, true);
  const MemberChange change = change_of(ChangeKind::kPromote, member_of(2));
  Admission admission{.self = NodeId(1), .progress = {{1, 100}, {2, 89}}};
  EXPECT_EQ(refusal_of(members, change, admission), errors::learner_not_ready());
  admission.progress[1].match = 90;
  EXPECT_EQ(refusal_of(members, change, admission), std::nullopt);
  admission.progress.pop_back();
  EXPECT_EQ(refusal_of(members, change, admission), errors::member_not_found());
}

}  // namespace
}  // namespace cairn::sim
