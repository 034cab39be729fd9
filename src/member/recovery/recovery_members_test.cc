// Who the members are, from directories that are made here entry by entry.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "base/bytes.h"
#include "cluster/codec.h"
#include "cluster/membership.h"
#include "member/recovery/bootstrap.h"
#include "member/recovery/recovery.h"
#include "proto/raft_internal.pb.h"
#include "raft/conf_change.h"
#include "storage/bolt/engine.h"
#include "storage/write_buffer.h"
#include "testing/temp_dir.h"

namespace cairn::member {
namespace {

namespace fs = std::filesystem;
using storage::Table;

constexpr NodeId kSelf{0x11};
constexpr NodeId kFirst{0x22};
constexpr NodeId kSecond{0x33};

class Nobody final : public PeerProbe {
 public:
  Result<PeerAnswer> get(const std::string&, int64_t) override { return fail(Code::kUnavailable, "nobody"); }
};

class MembersTest : public ::testing::Test {
 protected:
  void SetUp() override {
    fs::create_directories(path_ + "/member/snap");
    change({cluster::ChangeKind::kAdd, member(kSelf, false)});
  }

  static cluster::Member member(NodeId id, bool is_learner) {
    return {.id = id,
            .peer_urls = {"http://" + hex_id(id.value) + ":2380"},
            .is_learner = is_learner,
            .name = {},
            .client_urls = {}};
  }
  void change(const cluster::MemberChange& change) {
    entries_.emplace_back(raft::EntryType::kConfChange,
                          raft::encode(raft::ConfChangeV1{.type = static_cast<raft::ConfChangeType>(change.raft_type()),
                                                          .node = change.member.id,
                                                          .context = cluster::change_context(change)}));
  }
  void request(const etcdserverpb::InternalRaftRequest& request) {
    entries_.emplace_back(raft::EntryType::kNormal, request.SerializeAsString());
  }
  void one_learner_too_many() {
    change({cluster::ChangeKind::kAdd, member(kFirst, true)});
    change({cluster::ChangeKind::kAdd, member(kSecond, true)});
    change({cluster::ChangeKind::kRemove, member(kFirst, true)});
  }
  // Writes log and db, the latter with all up to `applied`, and opens the directory.
  Result<Bootstrapped> open(uint64_t applied, Schema schema) {
    wal::Options wal;
    wal.sync = false;
    {
      auto log = wal::Log::create(env::posix_fs(), path_ + "/member/wal", {kSelf, 0x99}, wal);
      EXPECT_TRUE(log);
      std::vector<wal::Entry> entries;
      for (const auto& [type, data] : entries_) {
        entries.push_back({static_cast<uint8_t>(type), Term(1), Index(entries.size() + 1), data});
      }
      EXPECT_TRUE((*log)->save(entries, {Term(1), NodeId(), Index(entries.size() - uncommitted_)}, true));
    }
    {
      const auto number = [](uint64_t value) {
        std::string bytes(8, '\0');
        store_be64(bytes.data(), value);
        return bytes;
      };
      storage::WriteBuffer tables;
      tables.put(Table::kMeta, "consistent_index", number(applied));
      if (schema >= Schema::k3_5) tables.put(Table::kMeta, "term", number(1));
      if (schema == Schema::k3_5) tables.put(Table::kCluster, "clusterVersion", "3.5.0");
      if (schema >= Schema::k3_6) {
        tables.put(Table::kMeta, "storageVersion", "3.6.0");
        for (const NodeId id : in_db_) {
          tables.put(Table::kMembers, hex_id(id.value), cluster::member_json(member(id, false)));
        }
      }
      tables.freeze();
      auto engine = storage::open_bolt(env::posix_fs(), path_ + "/member/snap/db");
      EXPECT_TRUE(engine);
      EXPECT_TRUE((*engine)->commit({.changes = tables.changes()}));
      EXPECT_TRUE((*engine)->close());
    }
    BootstrapOptions options;
    options.data_dir = path_;
    options.sync = false;
    options.wal = wal;
    options.learner_count_max = 3;
    options.force_new_cluster = forces_;
    if (has_peers_) options.probe = &nobody_;
    auto opened = bootstrap(env::posix_fs(), options);
    if (opened) {
      EXPECT_EQ(opened->state.schema, schema);
    }
    return opened;
  }

  const cairn::testing::TempDir folder_;
  const std::string path_ = folder_.path();
  std::vector<std::pair<raft::EntryType, std::string>> entries_;
  size_t uncommitted_ = 0;  // at the log's end
  bool forces_ = false;
  bool has_peers_ = false;
  Nobody nobody_;
  std::vector<NodeId> in_db_{kSelf};  // from 3.6 on
};

// Up to 3.5 one learner was the limit, and the second one's entry stands in the log all the same.
TEST_F(MembersTest, ASecondLearnerThatAnOldEtcdRefusedIsNotAMember) {
  one_learner_too_many();
  const auto opened = open(entries_.size(), Schema::k3_4);
  ASSERT_TRUE(opened) << opened.error().message;
  EXPECT_EQ(opened->state.members.voters(), std::vector{kSelf});
  EXPECT_EQ(opened->state.members.learners(), std::vector<NodeId>{});
  EXPECT_EQ(opened->state.members.removed, std::set{kFirst});
  EXPECT_EQ(opened->state.conf.learners, std::vector<NodeId>{});
}

// The others may need its vote to find out that it was removed.
TEST_F(MembersTest, WhoWasRemovedStartsBesideTheOthersAndNotAlone) {
  change({cluster::ChangeKind::kAdd, member(kFirst, false)});
  change({cluster::ChangeKind::kRemove, member(kSelf, false)});
  has_peers_ = true;
  const auto opened = open(entries_.size(), Schema::k3_5);
  ASSERT_TRUE(opened) << opened.error().message;
  EXPECT_EQ(opened->state.members.removed, std::set{kSelf});
  EXPECT_EQ(opened->state.conf.voters, std::vector{kFirst});
}

TEST_F(MembersTest, WhoWasRemovedCannotFoundANewCluster) {
  change({cluster::ChangeKind::kAdd, member(kFirst, false)});
  change({cluster::ChangeKind::kRemove, member(kSelf, false)});
  has_peers_ = forces_ = true;
  const auto opened = open(entries_.size(), Schema::k3_5);
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().message, kRemovedText);
}

TEST_F(MembersTest, ASecondLearnerThatAnOldEtcdRefusedIsNoneBehindTheDbEither) {
  one_learner_too_many();
  const auto opened = open(1, Schema::k3_5);
  EXPECT_TRUE(opened) << opened.error().message;
}

TEST_F(MembersTest, From36OnTheFlagSaysHowManyLearnersThereMayBe) {
  one_learner_too_many();
  const auto opened = open(1, Schema::k3_6);
  ASSERT_FALSE(opened);
  EXPECT_NE(opened.error().message.find("a cluster of 2 members"), std::string::npos) << opened.error().message;
}

// The flag of this member allows three.
TEST_F(MembersTest, TheProposersNumberOfLearnersCounts) {
  cluster::MemberChange first{cluster::ChangeKind::kAdd, member(kFirst, true)};
  cluster::MemberChange second{cluster::ChangeKind::kAdd, member(kSecond, true)};
  first.learner_count_max = second.learner_count_max = 1;
  change(first);
  change(second);
  change({cluster::ChangeKind::kRemove, member(kFirst, true)});
  const auto opened = open(1, Schema::k3_6);
  EXPECT_TRUE(opened) << opened.error().message << ": the second one was refused, so it is alone";
}

// 3.5 has no other place for them that it reads.
TEST_F(MembersTest, RequestsAboutMembersAndVersionsAreReadFromALogOf35) {
  etcdserverpb::InternalRaftRequest attributes;
  attributes.mutable_header()->set_id(5);
  auto* const set = attributes.mutable_cluster_member_attr_set();
  set->set_member_id(kSelf.value);
  set->mutable_member_attributes()->set_name("renamed");
  set->mutable_member_attributes()->add_client_urls("http://renamed:2379");
  request(attributes);
  etcdserverpb::InternalRaftRequest version;
  version.mutable_cluster_version_set()->set_ver("3.5.0");
  request(version);
  etcdserverpb::InternalRaftRequest downgrade;
  downgrade.mutable_downgrade_info_set()->set_enabled(true);
  downgrade.mutable_downgrade_info_set()->set_ver("3.4.0");
  request(downgrade);
  etcdserverpb::InternalRaftRequest put;
  put.mutable_put()->set_key("k");
  request(put);
  const auto opened = open(entries_.size(), Schema::k3_5);
  ASSERT_TRUE(opened) << opened.error().message;
  const cluster::Membership& members = opened->state.members;
  ASSERT_NE(members.find(kSelf), nullptr);
  EXPECT_EQ(members.find(kSelf)->name, "renamed");
  EXPECT_EQ(members.find(kSelf)->client_urls, std::vector<std::string>{"http://renamed:2379"});
  EXPECT_EQ(members.version, "3.5.0");
  EXPECT_EQ(members.downgrade, (cluster::Downgrade{.target_version = "3.4.0", .enabled = true}));
}

// The removals that a log ends with, from `from` on.
std::vector<NodeId> removals(const wal::Log& log, Index from) {
  std::vector<NodeId> out;
  EXPECT_TRUE(log.index()->read(from, log.last_index() + 1, UINT64_MAX, [&](const wal::Entry& entry) {
    const auto change = raft::decode_conf_change(static_cast<raft::EntryType>(entry.type), entry.data);
    ASSERT_TRUE(change);
    EXPECT_EQ(change->changes.front().type, raft::ConfChangeType::kRemoveNode);
    out.push_back(change->changes.front().node);
  }));
  return out;
}

TEST_F(MembersTest, AForcedClusterRemovesAllOthersBehindWhatIsCommitted) {
  change({cluster::ChangeKind::kAdd, member(kFirst, false)});
  change({cluster::ChangeKind::kAdd, member(kSecond, true)});
  request({});
  forces_ = true;
  uncommitted_ = 1;
  const auto opened = open(1, Schema::k3_6);
  ASSERT_TRUE(opened) << opened.error().message;
  EXPECT_EQ(removals(*opened->log, Index(4)), (std::vector{kFirst, kSecond}));
  EXPECT_EQ(opened->log->last_index(), Index(5)) << "what was not committed is gone";
  EXPECT_EQ(opened->start.hard.commit, Index(5));
  EXPECT_EQ(opened->log->hard_state().commit, Index(5)) << "a start without the flag finds it alone";
}

TEST_F(MembersTest, AForcedClusterOfWhatTheDbHoldsCountsAsCommitted) {
  change({cluster::ChangeKind::kAdd, member(kFirst, false)});
  forces_ = true;
  uncommitted_ = 1;
  const auto opened = open(entries_.size(), Schema::k3_4);  // the db has applied more than the hard state says
  ASSERT_TRUE(opened) << opened.error().message;
  EXPECT_EQ(removals(*opened->log, Index(3)), std::vector{kFirst});
}

TEST_F(MembersTest, AForcedClusterOfOneLosesOnlyWhatIsNotCommitted) {
  change({cluster::ChangeKind::kAdd, member(kFirst, false)});
  uncommitted_ = 1;
  forces_ = true;
  const auto opened = open(1, Schema::k3_6);
  ASSERT_TRUE(opened) << opened.error().message;
  EXPECT_EQ(opened->log->last_index(), Index(2));
  EXPECT_EQ(opened->state.members.voters(), std::vector{kSelf});
  EXPECT_EQ(opened->log->hard_state().commit, Index(2));
}

// The commit index reaches the disk after the answers.
TEST_F(MembersTest, AForcedClusterOfOneKeepsWhatItMayHaveAcknowledged) {
  etcdserverpb::InternalRaftRequest put;
  put.mutable_put()->set_key("a");
  request(put);
  request(put);
  change({cluster::ChangeKind::kAdd, member(kFirst, false)});
  request(put);
  uncommitted_ = 4;
  forces_ = true;
  const auto opened = open(1, Schema::k3_6);
  ASSERT_TRUE(opened) << opened.error().message;
  EXPECT_EQ(opened->log->last_index(), Index(4)) << "the change of the cluster is gone, and what is behind it";
  EXPECT_EQ(opened->log->hard_state().commit, Index(4));
  std::vector<size_t> sizes;
  ASSERT_TRUE(opened->log->index()->read(Index(2), Index(5), UINT64_MAX,
                                         [&](const wal::Entry& entry) { sizes.push_back(entry.data.size()); }));
  EXPECT_GT(sizes[0], 0U);
  EXPECT_GT(sizes[1], 0U);
  EXPECT_EQ(sizes[2], 0U) << "in its place";
}

TEST_F(MembersTest, ALearnerIsNoForcedCluster) {
  entries_.clear();
  change({cluster::ChangeKind::kAdd, member(kFirst, false)});
  change({cluster::ChangeKind::kAdd, member(kSelf, true)});
  forces_ = true;
  const auto opened = open(entries_.size(), Schema::k3_4);
  ASSERT_FALSE(opened);
  EXPECT_NE(opened.error().message.find("--force-new-cluster needs a voting member"), std::string::npos)
      << opened.error().message;
  wal::Options wal;
  wal.sync = false;
  const auto log = wal::Log::open(env::posix_fs(), path_ + "/member/wal", wal);
  ASSERT_TRUE(log);
  EXPECT_EQ(log->log->last_index(), Index(2)) << "nothing was changed";
}

// 3.4 writes the index of a change of members with the next put, and any etcd may be killed before its next commit.
TEST_F(MembersTest, WhoJoinedMayHaveAppliedOnlyWhatWasBefore) {
  for (const Schema schema : {Schema::k3_4, Schema::k3_5, Schema::k3_6}) {
    SCOPED_TRACE(static_cast<int>(schema));
    fs::remove_all(path_ + "/member");
    fs::create_directories(path_ + "/member/snap");
    entries_.clear();
    change({cluster::ChangeKind::kAdd, member(kFirst, false)});
    etcdserverpb::InternalRaftRequest put;
    put.mutable_put()->set_key("k");
    request(put);
    const uint64_t applied = entries_.size();
    change({cluster::ChangeKind::kAdd, member(kSelf, true)});
    in_db_ = {kFirst};
    has_peers_ = true;
    const auto opened = open(applied, schema);
    ASSERT_TRUE(opened) << opened.error().message;
    EXPECT_EQ(opened->state.members.voters(), std::vector{kFirst});
    EXPECT_EQ(opened->state.conf.voters, std::vector{kFirst});
    EXPECT_EQ(opened->start.applied, Index(applied)) << "its addition is still to be applied";
    EXPECT_EQ(opened->log->last_index(), Index(applied + 1));
  }
}

TEST_F(MembersTest, WhoJoinedMayNotHaveItsAdditionYet) {
  entries_.clear();
  change({cluster::ChangeKind::kAdd, member(kFirst, false)});
  in_db_ = {kFirst};
  has_peers_ = true;
  const auto opened = open(1, Schema::k3_6);
  ASSERT_TRUE(opened) << opened.error().message;
  EXPECT_EQ(opened->state.members.voters(), std::vector{kFirst});
}

TEST_F(MembersTest, ALogOfAnotherClusterIsRefused) {
  change({cluster::ChangeKind::kAdd, member(kSecond, false)});
  in_db_ = {kFirst};
  has_peers_ = true;
  for (const uint64_t applied : {1, 2}) {
    fs::remove_all(path_ + "/member");
    fs::create_directories(path_ + "/member/snap");
    const auto opened = open(applied, Schema::k3_6);
    ASSERT_FALSE(opened);
    EXPECT_NE(opened.error().message.find("are of different clusters"), std::string::npos) << opened.error().message;
  }
}

}  // namespace
}  // namespace cairn::member
