#include "cluster/v2_store.h"

#include <fstream>
#include <iterator>

#include <gtest/gtest.h>

#include "cluster/codec.h"
#include "proto/raft.pb.h"
#include "proto/snap.pb.h"

namespace cairn::cluster {
namespace {

// The v2 tree inside a .snap file of tests/data.
std::string tree_of(const std::string& name) {
  std::ifstream in("tests/data/etcd-3.4.23/snap/" + name, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(in), {}};
  snappb::snapshot envelope;
  raftpb::Snapshot snapshot;
  EXPECT_TRUE(envelope.ParseFromString(bytes));
  EXPECT_TRUE(snapshot.ParseFromString(envelope.data()));
  return snapshot.data();
}

TEST(V2Store, ReadsTheSnapshotOfAJoinedMember) {
  const auto cluster = read_v2_store(tree_of("joined.snap"));
  ASSERT_TRUE(cluster) << cluster.error().message;
  ASSERT_EQ(cluster->members.size(), 3u);
  EXPECT_EQ(cluster->version, "3.4.0");
  EXPECT_TRUE(cluster->removed.empty());
  EXPECT_EQ(cluster->voters(), (std::vector<NodeId>{NodeId(0x20a9f295c3588abf), NodeId(0x494560839c463357)}));
  EXPECT_EQ(cluster->learners(), (std::vector<NodeId>{NodeId(0xaa6af4b64397dbc2)}));
  EXPECT_EQ(member_json(*cluster->find(NodeId(0x20a9f295c3588abf))),
            R"({"id":2353679005319203519,"peerURLs":["http://127.0.0.1:32212"],"name":"n2",)"
            R"("clientURLs":["http://127.0.0.1:32222"]})");
}

TEST(V2Store, ReadsASingleMembersAndARestoredOne) {
  const auto single = read_v2_store(tree_of("single.snap"));
  ASSERT_TRUE(single) << single.error().message;
  ASSERT_EQ(single->members.size(), 1u);
  EXPECT_EQ(single->find_name("w1")->id, NodeId(0x5d6292c20a64ba7d));

  const auto restored = read_v2_store(tree_of("restored.snap"));
  ASSERT_TRUE(restored) << restored.error().message;
  ASSERT_EQ(restored->members.size(), 2u);
  EXPECT_TRUE(restored->members.contains(NodeId(0x4e9621962f30ca91)));
  EXPECT_TRUE(restored->members.contains(NodeId(0x9da2ac111c2e9673)));
}

// etcd 3.4.23 wrote this one after it had started from a tree written here (with 77 as a removed id).
TEST(V2Store, ReadsRemovedMembers) {
  const auto cluster = read_v2_store(tree_of("removed.snap"));
  ASSERT_TRUE(cluster) << cluster.error().message;
  EXPECT_EQ(cluster->voters(), (std::vector<NodeId>{NodeId(0xaa6af4b64397dbc2)}));
  EXPECT_EQ(cluster->removed, (std::set<NodeId>{NodeId(0x77), NodeId(0x20a9f295c3588abf), NodeId(0x494560839c463357)}));
}

TEST(V2Store, WhatIsWrittenIsReadBack) {
  for (const char* name : {"joined.snap", "single.snap", "restored.snap", "removed.snap"}) {
    Membership cluster = *read_v2_store(tree_of(name));
    cluster.removed = {NodeId(1), NodeId(UINT64_MAX)};
    cluster.members.begin()->second.name = "q\"<>&\\ \xc3\xa4";
    const std::string written = write_v2_store(cluster, 42);
    const auto back = read_v2_store(written);
    ASSERT_TRUE(back) << back.error().message;
    EXPECT_EQ(*back, cluster);
    EXPECT_EQ(write_v2_store(*back, 42), written);
  }
  EXPECT_EQ(*read_v2_store(write_v2_store(Membership(), 0)), Membership());
}

TEST(V2Store, HasTheShapeThatEtcdLoads) {
  Membership cluster;
  cluster.version = "3.7.0";
  cluster.members.emplace(NodeId(0x1f),
                          Member{.id = NodeId(0x1f), .peer_urls = {"http://h:1"}, .name = {}, .client_urls = {}});
  EXPECT_EQ(write_v2_store(cluster, 3),
            R"({"Root":{"Path":"/","CreatedIndex":3,"ModifiedIndex":3,"ExpireTime":"0001-01-01T00:00:00Z","Value":"",)"
            R"("Children":{"0":{"Path":"/0","CreatedIndex":3,"ModifiedIndex":3,"ExpireTime":"0001-01-01T00:00:00Z",)"
            R"("Value":"","Children":{"members":{"Path":"/0/members","CreatedIndex":3,"ModifiedIndex":3,)"
            R"("ExpireTime":"0001-01-01T00:00:00Z","Value":"","Children":{"1f":{"Path":"/0/members/1f",)"
            R"("CreatedIndex":3,"ModifiedIndex":3,"ExpireTime":"0001-01-01T00:00:00Z","Value":"","Children":{)"
            R"("raftAttributes":{"Path":"/0/members/1f/raftAttributes","CreatedIndex":3,"ModifiedIndex":3,)"
            R"("ExpireTime":"0001-01-01T00:00:00Z","Value":"{\"peerURLs\":[\"http://h:1\"]}","Children":null}}}}},)"
            R"("version":{"Path":"/0/version","CreatedIndex":3,"ModifiedIndex":3,)"
            R"("ExpireTime":"0001-01-01T00:00:00Z","Value":"3.7.0","Children":null}}},)"
            R"("1":{"Path":"/1","CreatedIndex":3,"ModifiedIndex":3,"ExpireTime":"0001-01-01T00:00:00Z","Value":"",)"
            R"("Children":{}}}},"CurrentIndex":3,"CurrentVersion":2})");
}

TEST(V2Store, RefusesWhatIsNot) {
  for (const std::string_view bad :
       {"", "[]", "{}", R"({"Root":1})", R"({"Root":{"Children":1}})",
        R"({"Root":{"Children":{"0":{"Children":{"members":{"Children":{"zz":{}}}}}}}})",
        R"({"Root":{"Children":{"0":{"Children":{"members":{"Children":{"1":{"Children":{}}}}}}}}})",
        R"({"Root":{"Children":{"0":{"Children":{"members":{"Children":{"1":null}}}}}}})"}) {
    const auto parsed = read_v2_store(bad);
    ASSERT_FALSE(parsed) << bad;
    EXPECT_EQ(parsed.error().code, Code::kDataLoss);
  }
}

TEST(V2Store, AnyCutOrFlippedByteIsRefusedOrHarmless) {
  const std::string good = write_v2_store(*read_v2_store(tree_of("joined.snap")), 7);
  for (size_t size = 0; size < good.size(); size += 3) EXPECT_FALSE(read_v2_store(good.substr(0, size)));
  for (size_t at = 0; at < good.size(); ++at) {
    std::string flipped = good;
    flipped[at] = static_cast<char>(flipped[at] ^ 0x11);
    (void)read_v2_store(flipped);  // must not crash
  }
}

}  // namespace
}  // namespace cairn::cluster
