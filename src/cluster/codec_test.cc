#include "cluster/codec.h"

#include <gtest/gtest.h>

#include "base/bytes.h"
#include "proto/etcdserver.pb.h"
#include "proto/raft_internal.pb.h"

namespace cairn::cluster {
namespace {

TEST(MemberJson, LeavesOutWhatIsEmpty) {
  Member member{
      .id = NodeId(12690157661315932206u), .peer_urls = {"http://127.0.0.1:32101"}, .name = {}, .client_urls = {}};
  EXPECT_EQ(member_json(member), R"({"id":12690157661315932206,"peerURLs":["http://127.0.0.1:32101"]})");
  member.is_learner = true;
  member.name = "a<b";
  member.client_urls = {"http://x:1", "http://y:2"};
  EXPECT_EQ(member_json(member),
            R"({"id":12690157661315932206,"peerURLs":["http://127.0.0.1:32101"],"isLearner":true,"name":"a\u003cb",)"
            R"("clientURLs":["http://x:1","http://y:2"]})");
  member.peer_urls.clear();
  member.name.clear();
  EXPECT_EQ(member_json(member),
            R"({"id":12690157661315932206,"peerURLs":null,"isLearner":true,"clientURLs":["http://x:1","http://y:2"]})");
}

TEST(MemberJson, ComesBackExactly) {
  const Member member{.id = NodeId(UINT64_MAX),
                      .peer_urls = {"http://a:1", "unix://b:2"},
                      .is_learner = true,
                      .name = "n\"<&>\n\xc3\xa4",
                      .client_urls = {"http://c:3"}};
  const auto back = parse_member(member_json(member));
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_EQ(*back, member);
}

TEST(MemberJson, OfThePeerCapture) {
  const std::string_view body =
      R"([{"id":2353679005319203519,"peerURLs":["http://127.0.0.1:32212"],"name":"n2","clientURLs":["http://127.0.0.1:32222"]},)"
      R"({"id":12279896397634329538,"peerURLs":["http://127.0.0.1:32213"],"isLearner":true}])";
  const auto members = parse_members(body);
  ASSERT_TRUE(members) << members.error().message;
  Membership cluster;
  for (const Member& each : *members) cluster.members.emplace(each.id, each);
  EXPECT_EQ(members_json(cluster), body);
  EXPECT_EQ(members_json(Membership()), "[]");
}

TEST(MemberJson, RefusesWhatIsNot) {
  for (const std::string_view bad :
       {"", "{", "[]", "1", R"({"id":"1"})", R"({"id":-1})", R"({"id":1.5})", R"({"id":18446744073709551616})",
        R"({"peerURLs":"x"})", R"({"peerURLs":[1]})", R"({"isLearner":1})", R"({"name":{}})", R"({"id":1} x)"}) {
    const auto parsed = parse_member(bad);
    ASSERT_FALSE(parsed) << bad;
    EXPECT_EQ(parsed.error().code, Code::kDataLoss);
  }
  EXPECT_TRUE(parse_member(R"({"id":1,"unknown":[{}],"name":null})"));
}

TEST(ConfStateJson, IsWhatEtcdWrites) {
  raft::ConfState state;
  state.voters = {NodeId(2353679005319203519u), NodeId(12279896397634329538u)};
  EXPECT_EQ(conf_state_json(state), R"({"voters":[2353679005319203519,12279896397634329538],"auto_leave":false})");
  state.learners = {NodeId(1)};
  state.voters_outgoing = {NodeId(2)};
  state.learners_next = {NodeId(3), NodeId(UINT64_MAX)};
  state.auto_leave = true;
  EXPECT_EQ(conf_state_json(state),
            R"({"voters":[2353679005319203519,12279896397634329538],"learners":[1],"voters_outgoing":[2],)"
            R"("learners_next":[3,18446744073709551615],"auto_leave":true})");
  EXPECT_EQ(*parse_conf_state(conf_state_json(state)), state);
  EXPECT_EQ(*parse_conf_state("{}"), raft::ConfState()) << "3.7 leaves out auto_leave";
  EXPECT_FALSE(parse_conf_state(R"({"voters":[1.0]})"));
}

TEST(DowngradeJson, RoundTrip) {
  EXPECT_EQ(downgrade_json({"3.5.0", true}), R"({"target-version":"3.5.0","enabled":true})");
  EXPECT_EQ(*parse_downgrade(R"({"target-version":"","enabled":false})"), Downgrade());
  EXPECT_EQ(*parse_downgrade(downgrade_json({"3.6.0", true})), (Downgrade{"3.6.0", true}));
}

TEST(V2Request, BytesAreThoseOfEtcd34) {
  EXPECT_EQ(to_hex(encode_v2_version(5, "3.4.0")),
            "0805120350555"
            "41a0a2f302f76657273696f6e2205332e342e30280032003800480050005800600068007000780080"
            "0100");
  const AttributesSet set{NodeId(0xb01c7f285a70202e), "m1", {"http://127.0.0.1:32100"}};
  const std::string bytes = encode_v2_attributes(1, set);
  EXPECT_NE(bytes.find("/0/members/b01c7f285a70202e/attributes"), std::string::npos);
  EXPECT_NE(bytes.find(R"({"name":"m1","clientURLs":["http://127.0.0.1:32100"]})"), std::string::npos);

  const auto effect = decode_v2_request(bytes);
  ASSERT_TRUE(effect) << effect.error().message;
  const auto* back = std::get_if<AttributesSet>(&*effect);
  ASSERT_NE(back, nullptr);
  EXPECT_EQ(back->id, set.id);
  EXPECT_EQ(back->name, "m1");
  EXPECT_EQ(back->client_urls, set.client_urls);

  const auto version = decode_v2_request(encode_v2_version(5, "3.5.0"));
  ASSERT_TRUE(version);
  EXPECT_EQ(std::get<VersionSet>(*version).version, "3.5.0");
}

TEST(V2Request, WithoutEffectOnV3) {
  const auto no_effect = [](auto edit) {
    etcdserverpb::Request request;
    request.set_id(1);
    request.set_method("PUT");
    request.set_path("/0/version");
    request.set_val("3.4.0");
    edit(request);
    const auto effect = decode_v2_request(request.SerializeAsString());
    return effect && std::holds_alternative<V2NoEffect>(*effect);
  };
  EXPECT_FALSE(no_effect([](auto&) {}));
  EXPECT_TRUE(no_effect([](auto& r) { r.set_method("GET"); }));
  EXPECT_TRUE(no_effect([](auto& r) { r.set_method("SYNC"); }));
  EXPECT_TRUE(no_effect([](auto& r) { r.set_path("/1/user/key"); }));
  EXPECT_TRUE(no_effect([](auto& r) { r.set_prevexist(false); }));
  EXPECT_TRUE(no_effect([](auto& r) { r.set_path("/0/members/attributes"); }));
  EXPECT_TRUE(no_effect([](auto& r) { r.set_path("/0/members/1/2/attributes"); }));
}

TEST(V2Request, BrokenOnesAreDataLoss) {
  EXPECT_FALSE(decode_v2_request("\xff\xff"));
  etcdserverpb::Request request;
  request.set_method("PUT");
  request.set_path("/0/members/1f/attributes");
  request.set_val("not json");
  EXPECT_EQ(decode_v2_request(request.SerializeAsString()).error().code, Code::kDataLoss);
  request.set_path("/0/members/xyz/attributes");
  request.set_val("{}");
  EXPECT_EQ(decode_v2_request(request.SerializeAsString()).error().code, Code::kDataLoss);
}

TEST(PayloadKind, TellsV2FromRaftRequests) {
  EXPECT_EQ(payload_kind(""), PayloadKind::kEmpty);
  EXPECT_EQ(payload_kind(encode_v2_version(7, "3.4.0")), PayloadKind::kV2Request);
  EXPECT_EQ(payload_kind(encode_v2_version(0, "3.4.0")), PayloadKind::kV2Request);
  etcdserverpb::Request sync;
  sync.set_id(1);
  sync.set_method("SYNC");
  sync.set_path("");
  sync.set_time(5);
  EXPECT_EQ(payload_kind(sync.SerializeAsString()), PayloadKind::kV2Request);

  etcdserverpb::InternalRaftRequest request;
  request.mutable_header()->set_id(1);
  request.mutable_put()->set_key("PUT");
  EXPECT_EQ(payload_kind(request.SerializeAsString()), PayloadKind::kRaftRequest);
  request.set_id(1);
  EXPECT_EQ(payload_kind(request.SerializeAsString()), PayloadKind::kRaftRequest);
  request.Clear();
  request.mutable_range()->set_key("/x");
  request.set_id(9);
  EXPECT_EQ(payload_kind(request.SerializeAsString()), PayloadKind::kRaftRequest);
}

}  // namespace
}  // namespace cairn::cluster
