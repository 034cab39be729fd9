// What clients ask of a member that does not lead, and what members ask each other for it.
#include <gtest/gtest.h>

#include "auth/tokens.h"
#include "base/bytes.h"
#include "proto/lease.pb.h"
#include "rpc/hash_kv_json.h"
#include "rpc/test_pair.h"

namespace cairn::rpc {
namespace {

using etcdserverpb::LeaseKeepAliveRequest;
using etcdserverpb::LeaseKeepAliveResponse;
using etcdserverpb::LeaseTimeToLiveRequest;
using etcdserverpb::LeaseTimeToLiveResponse;

const std::string kLease = "/etcdserverpb.Lease/";
const std::string kAuth = "/etcdserverpb.Auth/";

class FollowersTest : public PairTest {
 protected:
  void change(member::NodeOptions& options, size_t) override {
    options.apply.tokens = std::make_shared<auth::SimpleTokens>(clock_, int64_t{300} * 1'000'000'000);
  }
  void grant(int64_t id, int64_t ttl) {
    etcdserverpb::LeaseGrantRequest request;
    request.set_id(id);
    request.set_ttl(ttl);
    EXPECT_EQ(answer<etcdserverpb::LeaseGrantResponse>(follower(), kLease + "LeaseGrant", request).id(), id);
  }
  static void put(Side& side, const std::string& key, int64_t lease) {
    etcdserverpb::PutRequest request;
    request.set_key(key);
    request.set_lease(lease);
    answer<etcdserverpb::PutResponse>(side, std::string(kKv) + "Put", request);
  }
  static LeaseTimeToLiveRequest time_to_live(int64_t id, bool keys) {
    LeaseTimeToLiveRequest request;
    request.set_id(id);
    request.set_keys(keys);
    return request;
  }
  static LeaseTimeToLiveResponse ask_time_to_live(Side& side, int64_t id) {
    return answer<LeaseTimeToLiveResponse>(side, kLease + "LeaseTimeToLive", time_to_live(id, true));
  }
  static std::string keep_alive(int64_t id) {
    LeaseKeepAliveRequest request;
    request.set_id(id);
    return request.SerializeAsString();
  }
  // The times that a stream of renewals is told, and how it ended: "10 0", "10 code text".
  static std::string renew(
      Side& side, const std::vector<int64_t>& ids, const std::function<void()>& meanwhile = [] {},
      const net::Headers& headers = {}) {
    net::TestClient& client = *side.client;
    const int32_t stream = client.start(kLease + "LeaseKeepAlive", headers);
    for (const int64_t id : ids) client.send(stream, keep_alive(id));
    client.half_close(stream);
    EXPECT_TRUE(client.pump_until([&] {
      meanwhile();
      return client.stream(stream).closed;
    }));
    std::string out;
    for (const std::string& message : client.stream(stream).messages()) {
      LeaseKeepAliveResponse response;
      EXPECT_TRUE(response.ParseFromString(message));
      EXPECT_EQ(response.header().member_id(), side.id().value);
      EXPECT_GT(response.header().revision(), 0);
      out += std::to_string(response.ttl()) + " ";
    }
    return out + std::to_string(client.stream(stream).code()) + " " + client.stream(stream).message();
  }
  static net::HttpRequest request(const std::string& method, const std::string& path, std::string body = "") {
    net::HttpRequest out;
    out.method = method;
    out.path = path;
    out.body = std::move(body);
    return out;
  }
  static std::string text(const net::HttpResponse& response) {
    return std::to_string(response.status) + " " + response.content_type + " " + std::string(response.bytes());
  }
  static std::string refused(int status, const std::string& words) {
    return std::to_string(status) + " text/plain; charset=utf-8 " + words + "\n";
  }
};

TEST_F(FollowersTest, TheLeaderIsAskedAboutLeases) {
  grant(7, 100);
  grant(8, 200);
  put(follower(), "a", 7);
  wait_for_follower();
  EXPECT_EQ(renew(follower(), {7, 8, 9, 7}), "100 200 0 100 0 ") << "in order; 9 is none";
  const auto shown = ask_time_to_live(follower(), 7);
  EXPECT_EQ(shown.header().member_id(), follower().id().value);
  EXPECT_EQ(shown.header().revision(), 2);
  EXPECT_EQ(shown.grantedttl(), 100);
  EXPECT_GT(shown.ttl(), 0);
  ASSERT_EQ(shown.keys_size(), 1);
  EXPECT_EQ(shown.keys(0), "a");
  EXPECT_EQ(ask_time_to_live(follower(), 9).ttl(), -1);
  EXPECT_EQ(
      answer<etcdserverpb::LeaseLeasesResponse>(follower(), kLease + "LeaseLeases", etcdserverpb::LeaseLeasesRequest())
          .leases_size(),
      2);
  lead(1);
  EXPECT_EQ(renew(follower(), {7}), "100 0 ");
  EXPECT_EQ(renew(leader(), {7}), "100 0 ");
}

TEST_F(FollowersTest, ALeaseOfManyKeysIsShownWhole) {
  grant(7, 100);
  etcdserverpb::TxnRequest txn;
  for (int i = 0; i < 100; ++i) txn.add_success()->mutable_request_put()->set_lease(7);
  for (int part = 0; part < 11; ++part) {
    for (int i = 0; i < 100; ++i) {
      txn.mutable_success(i)->mutable_request_put()->set_key("k" + std::to_string(part * 100 + i));
    }
    answer<etcdserverpb::TxnResponse>(leader(), std::string(kKv) + "Txn", txn);
  }
  EXPECT_EQ(ask_time_to_live(follower(), 7).keys_size(), 1100);
}

TEST_F(FollowersTest, WithoutAnAnswerARenewalEndsByTheTimeout) {
  grant(7, 100);
  wait_for_follower();
  is_cut_ = true;
  const auto skip = [this] { clock_.skip(int64_t{60} * 1'000'000'000); };
  EXPECT_EQ(renew(follower(), {7}, skip), "14 " + errors::timeout().message);
}

TEST_F(FollowersTest, WhoMayNotRenewIsRefusedWhereHeAsks) {
  grant(7, 100);
  put(follower(), "a", 7);
  wait_for_follower();
  const auto ask = [&](const std::string& method, const std::string& text, const auto& request) {
    auto filled = request;
    EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &filled));
    EXPECT_EQ(error(follower(), kAuth + method, filled), "0 ");
  };
  ask("UserAdd", "name: 'root' password: 'r'", etcdserverpb::AuthUserAddRequest());
  ask("UserAdd", "name: 'u' password: 'u'", etcdserverpb::AuthUserAddRequest());
  ask("UserGrantRole", "user: 'root' role: 'root'", etcdserverpb::AuthUserGrantRoleRequest());
  ask("AuthEnable", "", etcdserverpb::AuthEnableRequest());
  wait_for_follower();
  const auto token_of = [&](const std::string& user, const std::string& password) {
    etcdserverpb::AuthenticateRequest request;
    request.set_name(user);
    request.set_password(password);
    return answer<etcdserverpb::AuthenticateResponse>(follower(), kAuth + "Authenticate", request).token();
  };
  EXPECT_EQ(renew(follower(), {7}, [] {}, {{"token", token_of("u", "u")}}), "7 " + errors::permission_denied().message);
  EXPECT_EQ(renew(follower(), {7}, [] {}, {{"token", token_of("root", "r")}}), "100 0 ");
  EXPECT_EQ(renew(follower(), {7}), "3 " + errors::user_empty().message);
}

TEST_F(FollowersTest, AnEtcdMemberIsAnsweredAboutLeases) {
  grant(7, 100);
  const auto renewed = ask_page(leader(), request("POST", "/leases", keep_alive(7)));
  EXPECT_EQ(text(renewed), std::string("200 application/protobuf \x10\x07\x18\x64"));
  EXPECT_EQ(text(ask_page(leader(), request("POST", "/leases", keep_alive(9)))), refused(404, "lease not found"));
  EXPECT_EQ(text(ask_page(follower(), request("POST", "/leases", keep_alive(7)))),
            refused(400, "not a primary lessor"));
  EXPECT_EQ(text(ask_page(leader(), request("POST", "/leases", "\xff"))), refused(400, "error unmarshalling request"));
  EXPECT_EQ(text(ask_page(leader(), request("POST", "/leases", std::string(70'000, 'a')))),
            refused(413, "request body too large"));
  const auto get = ask_page(leader(), request("GET", "/leases"));
  EXPECT_EQ(text(get), refused(405, "Method Not Allowed"));

  leasepb::LeaseInternalRequest wanted;
  *wanted.mutable_leasetimetoliverequest() = time_to_live(7, true);
  const auto shown = ask_page(leader(), request("POST", "/leases/internal", wanted.SerializeAsString()));
  EXPECT_EQ(shown.status, 200);
  leasepb::LeaseInternalResponse said;
  ASSERT_TRUE(said.ParseFromString(std::string(shown.bytes())));
  EXPECT_TRUE(said.leasetimetoliveresponse().has_header());
  EXPECT_EQ(said.leasetimetoliveresponse().header().revision(), 0);
  EXPECT_EQ(said.leasetimetoliveresponse().grantedttl(), 100);
  EXPECT_EQ(text(ask_page(follower(), request("POST", "/leases/internal", wanted.SerializeAsString()))),
            refused(500, "not a primary lessor"));
  *wanted.mutable_leasetimetoliverequest() = time_to_live(9, false);
  EXPECT_EQ(text(ask_page(leader(), request("POST", "/leases/internal", wanted.SerializeAsString()))),
            refused(404, "lease not found"));
}

TEST_F(FollowersTest, MembersTellEachOtherTheirHashes) {
  put(leader(), "a", 0);
  wait_for_follower();
  const auto shown = ask_page(follower(), request("GET", "/members/hashkv", hash_kv_request(2)));
  const auto said = parse_hash_kv_response(shown.bytes());
  ASSERT_TRUE(said) << shown.bytes();
  EXPECT_EQ(text(shown), "200 application/json {\"header\":{\"revision\":2},\"hash\":" + std::to_string(said->hash) +
                             ",\"compact_revision\":-1,\"hash_revision\":2}");
  EXPECT_EQ(parse_hash_kv_response(ask_page(leader(), request("GET", "/members/hashkv", "{}")).bytes())->hash,
            said->hash);
  EXPECT_EQ(text(ask_page(leader(), request("GET", "/members/hashkv", "{\"revision\":9}"))),
            refused(400, "mvcc: required revision is a future revision"));
  EXPECT_EQ(text(ask_page(leader(), request("GET", "/members/hashkv", "no"))),
            refused(400, "error unmarshalling request"));
  auto of_another = request("GET", "/members/hashkv", "{}");
  of_another.headers = {{"X-Etcd-Cluster-ID", "77"}};
  EXPECT_EQ(text(ask_page(leader(), of_another)), refused(412, "cluster ID mismatch"));
}

TEST_F(FollowersTest, MembersTellEachOtherTheirVersions) {
  const auto page = [&](const std::string& path) { return text(ask_page(follower(), request("GET", path))); };
  ASSERT_TRUE(cairn::testing::wait_until([&] { return !follower().state()->members->version.empty(); }));
  EXPECT_TRUE(
      page("/version").starts_with(R"(200 application/json {"etcdserver":"3.7.1","etcdcluster":"3.7.0","storage":")"))
      << page("/version");
  EXPECT_EQ(ask_page(follower(), request("GET", "/version")).headers.front().first, "X-Cairn-Version");
  EXPECT_EQ(page("/downgrade/enabled"), "200 text/plain false");
  EXPECT_FALSE(follower().services->answer_peer(request("GET", "/health"), [](const net::HttpResponse&) {}));
}

// Members that are taken for etcd's: the leader must ask for their versions.
class StrangersTest : public FollowersTest {
 protected:
  StrangersTest() { speak_cairn_ = false; }
  std::optional<net::HttpResponse> answer_instead(const net::HttpRequest& request) override {
    if (request.path != "/version") return std::nullopt;
    return net::HttpResponse{.content_type = "application/json",
                             .body = R"({"etcdserver":"3.6.5","etcdcluster":"not_decided"})"};
  }
};

TEST_F(StrangersTest, TheLowestVersionBecomesTheClusters) {
  EXPECT_TRUE(cairn::testing::wait_until([&] {
    return follower().state()->members->version == "3.6.0" && leader().state()->members->version == "3.6.0";
  }));
  EXPECT_TRUE(cairn::testing::wait_until([&] {
    const auto state = follower().state();
    return state->members->find(leader().id())->name == "m0" && state->members->find(follower().id())->name == "m1";
  }));
}

class CorruptionTest : public FollowersTest {
 protected:
  void change(Services& services) override { services.check_corruption({.periodic_ns = 1'000'000}); }
  std::optional<net::HttpResponse> answer_instead(const net::HttpRequest& request) override {
    if (request.path != kHashKvPath || !is_corrupt_) return std::nullopt;
    EXPECT_NE(request.header("x-etcd-cluster-id"), "");
    return net::HttpResponse{.body = hash_kv_response({.revision = 1, .hash = 77, .compact_revision = -1})};
  }
  std::atomic<bool> is_corrupt_{false};
};

TEST_F(CorruptionTest, TheMemberThatDiffersHasTheAlarm) {
  is_corrupt_ = true;
  ASSERT_TRUE(cairn::testing::wait_until([&] { return !follower().state()->alarms->empty(); }));
  const member::Alarm alarm = follower().state()->alarms->front();
  EXPECT_EQ(alarm.type, member::kAlarmCorrupt);
  EXPECT_EQ(NodeId(alarm.member_id), follower().id());
  const auto status = answer<etcdserverpb::StatusResponse>(leader(), std::string(kMaintenance) + "Status",
                                                           etcdserverpb::StatusRequest());
  ASSERT_EQ(status.errors_size(), 1);
  EXPECT_EQ(status.errors(0), "memberID:" + std::to_string(alarm.member_id) + " alarm:CORRUPT");
}

TEST(HashKvJson, IsReadAsItIsWritten) {
  EXPECT_EQ(hash_kv_request(0), "{}");
  EXPECT_EQ(parse_hash_kv_request(hash_kv_request(5)), 5);
  const PeerHash hash{.revision = 7, .hash = 4'000'000'000, .compact_revision = -1, .hash_revision = 6};
  EXPECT_EQ(hash_kv_response(hash),
            R"({"header":{"revision":7},"hash":4000000000,"compact_revision":-1,"hash_revision":6})");
  const auto read = parse_hash_kv_response(hash_kv_response(hash));
  ASSERT_TRUE(read);
  EXPECT_EQ(read->hash, hash.hash);
  EXPECT_EQ(read->revision, 7);
  EXPECT_EQ(read->compact_revision, -1);
  EXPECT_FALSE(parse_hash_kv_response("[]"));
  EXPECT_FALSE(parse_hash_kv_response(R"({"hash":5000000000})"));
  EXPECT_FALSE(parse_hash_kv_request(R"({"revision":"5"})"));
}

}  // namespace
}  // namespace cairn::rpc
