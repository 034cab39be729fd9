// v3lockpb.Lock and v3electionpb.Election of a real member, called over a socket.
#include <gtest/gtest.h>

#include "proto/v3election.pb.h"
#include "proto/v3lock.pb.h"
#include "rpc/test_services.h"

namespace cairn::rpc {
namespace {

using v3electionpb::CampaignRequest;
using v3electionpb::CampaignResponse;
using v3electionpb::LeaderRequest;
using v3electionpb::LeaderResponse;
using v3electionpb::ProclaimRequest;
using v3electionpb::ProclaimResponse;
using v3electionpb::ResignRequest;
using v3electionpb::ResignResponse;
using v3lockpb::LockRequest;
using v3lockpb::LockResponse;
using v3lockpb::UnlockRequest;
using v3lockpb::UnlockResponse;

constexpr const char* kLock = "/v3lockpb.Lock/Lock";
constexpr const char* kUnlock = "/v3lockpb.Lock/Unlock";
constexpr const char* kLease = "/etcdserverpb.Lease/";

std::string election(const char* method) { return std::string("/v3electionpb.Election/") + method; }

class ContestTest : public ServicesTest {
 protected:
  void grant(int64_t id) {
    etcdserverpb::LeaseGrantRequest request;
    request.set_id(id);
    request.set_ttl(10'000);
    answer<etcdserverpb::LeaseGrantResponse>(std::string(kLease) + "LeaseGrant", request);
  }
  void revoke(int64_t id) {
    etcdserverpb::LeaseRevokeRequest request;
    request.set_id(id);
    answer<etcdserverpb::LeaseRevokeResponse>(std::string(kLease) + "LeaseRevoke", request);
  }
  std::vector<std::string> keys(const std::string& prefix) {
    etcdserverpb::RangeRequest request;
    request.set_key(prefix);
    request.set_range_end(prefix.substr(0, prefix.size() - 1) + static_cast<char>(prefix.back() + 1));
    std::vector<std::string> found;
    const auto range = answer<etcdserverpb::RangeResponse>(std::string(kKv) + "Range", request);
    for (const auto& kv : range.kvs()) found.push_back(kv.key());
    return found;
  }
  void wait_for_keys(const std::string& prefix, const std::vector<std::string>& wanted) {
    for (int looks = 0; keys(prefix) != wanted; ++looks) {
      ASSERT_LT(looks, 100'000);
      client_->pump(1);
    }
  }

  // Until `wanted` are the keys of a contest, and all but the first wait for the one before.
  void wait_for_contest(const std::string& prefix, const std::vector<std::string>& wanted) {
    wait_for_keys(prefix, wanted);
    const auto waiting = static_cast<int64_t>(wanted.size()) - 1;
    ASSERT_TRUE(client_->pump_until([&] { return metrics_->watch_streams.value() == waiting; }));
  }

  int32_t start(const std::string& path, const google::protobuf::MessageLite& request,
                const net::Headers& headers = {}) {
    const int32_t id = client_->start(path, headers);
    client_->send(id, request.SerializeAsString());
    client_->half_close(id);
    client_->flush();
    return id;
  }
  // Of a call that start() began.
  bool is_over(int32_t id) { return client_->stream(id).closed; }
  template <class Response>
  Response answer_of(int32_t id) {
    EXPECT_TRUE(client_->pump_until([&] { return client_->stream(id).closed; }));
    EXPECT_EQ(client_->stream(id).code(), 0) << client_->stream(id).message();
    Response response;
    const auto messages = client_->stream(id).messages();
    EXPECT_EQ(messages.size(), 1u);
    EXPECT_TRUE(messages.empty() || response.ParseFromString(messages[0]));
    return response;
  }
  std::string outcome_of(int32_t id) {
    EXPECT_TRUE(client_->pump_until([&] { return client_->stream(id).closed; }));
    return std::to_string(client_->stream(id).code()) + " " + client_->stream(id).message();
  }

  static LockRequest lock(const std::string& name, int64_t lease) {
    LockRequest request;
    request.set_name(name);
    request.set_lease(lease);
    return request;
  }
  UnlockResponse unlock(const std::string& key) {
    UnlockRequest request;
    request.set_key(key);
    return answer<UnlockResponse>(kUnlock, request);
  }
  static CampaignRequest campaign(const std::string& name, int64_t lease, const std::string& value) {
    CampaignRequest request;
    request.set_name(name);
    request.set_lease(lease);
    request.set_value(value);
    return request;
  }
  ProclaimRequest proclamation(const v3electionpb::LeaderKey& leader, const std::string& value) {
    ProclaimRequest request;
    *request.mutable_leader() = leader;
    request.set_value(value);
    return request;
  }
  ResignResponse resign(const v3electionpb::LeaderKey& leader) {
    ResignRequest request;
    *request.mutable_leader() = leader;
    return answer<ResignResponse>(election("Resign"), request);
  }
  // The next message of a stream of LeaderResponse.
  LeaderResponse observed(int32_t id, size_t number) {
    EXPECT_TRUE(client_->pump_until([&] { return client_->stream(id).messages().size() > number; }));
    LeaderResponse response;
    const auto messages = client_->stream(id).messages();
    EXPECT_TRUE(messages.size() > number && response.ParseFromString(messages[number]));
    return response;
  }
};

// --- locks

TEST_F(ContestTest, AFreeLockIsHeldAtOnce) {
  grant(0x7b);
  const auto held = answer<LockResponse>(kLock, lock("m", 0x7b));
  EXPECT_EQ(held.key(), "m/7b");
  EXPECT_EQ(held.header().revision(), 2);
  EXPECT_NE(held.header().cluster_id(), 0u);
  etcdserverpb::RangeRequest get;
  get.set_key("m/7b");
  const auto found = answer<etcdserverpb::RangeResponse>(std::string(kKv) + "Range", get);
  ASSERT_EQ(found.kvs_size(), 1);
  EXPECT_EQ(found.kvs(0).lease(), 0x7b);
  EXPECT_EQ(found.kvs(0).value(), "");
  EXPECT_EQ(unlock("m/7b").header().revision(), 3);
  EXPECT_TRUE(keys("m/").empty());
}

TEST_F(ContestTest, ALockIsHandedOnInTheOrderOfArrival) {
  std::vector<int32_t> calls;
  std::vector<std::string> waiting;
  for (int64_t lease = 1; lease <= 5; ++lease) {
    grant(lease);
    calls.push_back(start(kLock, lock("m", lease)));
    waiting.push_back("m/" + std::to_string(lease));
    wait_for_contest("m/", waiting);
  }
  for (size_t i = 0; i < calls.size(); ++i) {
    EXPECT_EQ(answer_of<LockResponse>(calls[i]).key(), waiting[i]);
    for (size_t later = i + 1; later < calls.size(); ++later) EXPECT_FALSE(is_over(calls[later]));
    unlock(waiting[i]);
  }
}

TEST_F(ContestTest, EachWaitsForTheOneJustBeforeItAndThenLooksAgain) {
  for (int64_t lease = 1; lease <= 3; ++lease) grant(lease);
  answer<LockResponse>(kLock, lock("m", 1));
  const int32_t second = start(kLock, lock("m", 2));
  wait_for_contest("m/", {"m/1", "m/2"});
  const int32_t third = start(kLock, lock("m", 3));
  wait_for_contest("m/", {"m/1", "m/2", "m/3"});
  revoke(2);
  put("x");  // has gone the way that the deletion has gone
  EXPECT_FALSE(is_over(third));
  EXPECT_FALSE(is_over(second));
  const auto freed = unlock("m/1").header().revision();
  const auto held = answer_of<LockResponse>(third);
  EXPECT_EQ(held.key(), "m/3");
  EXPECT_EQ(held.header().revision(), freed);
  EXPECT_EQ(outcome_of(second), "2 mutex: session is expired");
}

TEST_F(ContestTest, ALeaseLocksANameMoreThanOnce) {
  grant(1);
  EXPECT_EQ(answer<LockResponse>(kLock, lock("m", 1)).header().revision(), 2);
  put("x");
  const auto again = answer<LockResponse>(kLock, lock("m", 1));
  EXPECT_EQ(again.key(), "m/1");
  EXPECT_EQ(again.header().revision(), 3);
}

TEST_F(ContestTest, ALockWithoutALeaseGetsOne) {
  const auto held = answer<LockResponse>(kLock, lock("m", 0));
  ASSERT_TRUE(held.key().starts_with("m/"));
  etcdserverpb::LeaseTimeToLiveRequest request;
  request.set_id(std::stoll(held.key().substr(2), nullptr, 16));
  request.set_keys(true);
  const auto lease = answer<etcdserverpb::LeaseTimeToLiveResponse>(std::string(kLease) + "LeaseTimeToLive", request);
  EXPECT_EQ(lease.grantedttl(), 60);
  ASSERT_EQ(lease.keys_size(), 1);
  EXPECT_EQ(lease.keys(0), held.key());
}

TEST_F(ContestTest, WhoGivesUpWaitingLeavesNoKey) {
  grant(1);
  grant(2);
  grant(3);
  answer<LockResponse>(kLock, lock("m", 1));
  const int32_t second = start(kLock, lock("m", 2));
  wait_for_contest("m/", {"m/1", "m/2"});
  const int32_t third = start(kLock, lock("m", 3));
  wait_for_contest("m/", {"m/1", "m/2", "m/3"});
  client_->reset(second);
  wait_for_keys("m/", {"m/1", "m/3"});
  unlock("m/1");
  EXPECT_EQ(answer_of<LockResponse>(third).key(), "m/3");
}

TEST_F(ContestTest, WhoWaitsTooLongLeavesNoKey) {
  grant(1);
  grant(2);
  answer<LockResponse>(kLock, lock("m", 1));
  const auto waits = [&] { return metrics_->watch_streams.value() == 1; };
  for (int timeout_ms = 300;; timeout_ms *= 2) {
    const int32_t second = start(kLock, lock("m", 2), {{"grpc-timeout", std::to_string(timeout_ms) + "m"}});
    ASSERT_TRUE(client_->pump_until([&] { return waits() || is_over(second); }));
    const bool has_waited = waits();
    EXPECT_EQ(outcome_of(second), "4 context deadline exceeded");
    if (has_waited) break;  // else the machine was slow
    revoke(2);
    grant(2);
  }
  wait_for_keys("m/", {"m/1"});
}

TEST_F(ContestTest, AConnectionThatIsLostLeavesNoKey) {
  grant(1);
  grant(2);
  answer<LockResponse>(kLock, lock("m", 1));
  start(kLock, lock("m", 2));
  wait_for_contest("m/", {"m/1", "m/2"});
  client_ = std::make_unique<net::TestClient>(address_);
  wait_for_keys("m/", {"m/1"});
}

TEST_F(ContestTest, AMemberThatStopsEndsThoseThatWait) {
  grant(1);
  grant(2);
  answer<LockResponse>(kLock, lock("m", 1));
  const int32_t second = start(kLock, lock("m", 2));
  wait_for_contest("m/", {"m/1", "m/2"});
  services_->end_streams();
  EXPECT_EQ(outcome_of(second), "2 " + errors::stopped().message);
  EXPECT_EQ(keys("m/"), std::vector<std::string>{"m/1"});
}

TEST_F(ContestTest, RefusalsOfLocksAreThoseOfEtcd) {
  EXPECT_EQ(error_of<LockRequest>(kLock, "name: 'm' lease: 77"), "2 etcdserver: requested lease not found");
  EXPECT_EQ(error_of<LockRequest>(kLock, "name: 'm' lease: -1"), "2 etcdserver: requested lease not found");
  EXPECT_EQ(error_of<UnlockRequest>(kUnlock, ""), "2 etcdserver: key is not provided");
  EXPECT_EQ(error(kLock, "\xff"), "13 grpc: error unmarshalling request: proto: cannot parse invalid wire-format data");
  EXPECT_EQ(unlock("nothing").header().revision(), 1);
  grant(1);
  EXPECT_EQ(answer<LockResponse>(kLock, lock("", 1)).key(), "/1");
}

TEST_F(ContestTest, InnerCallsAreNotCountedAsCallsOfTheServer) {
  grant(1);
  answer<LockResponse>(kLock, lock("m", 1));
  std::vector<std::string> called;
  for (const auto& method : server_->stats().methods) called.push_back(method.path);
  EXPECT_EQ(called, (std::vector<std::string>{"/etcdserverpb.Lease/LeaseGrant", kLock}));
}

// --- elections

TEST_F(ContestTest, ACampaignEndsWithTheOfficeAndAResignationEndsThat) {
  grant(0xa);
  grant(0xb);
  const auto first = answer<CampaignResponse>(election("Campaign"), campaign("e", 0xa, "A"));
  EXPECT_EQ(first.leader().ShortDebugString(),
            message<v3electionpb::LeaderKey>("name: 'e' key: 'e/a' rev: 2 lease: 10").ShortDebugString());
  EXPECT_EQ(first.header().revision(), 2);
  const int32_t second = start(election("Campaign"), campaign("e", 0xb, "B"));
  wait_for_contest("e/", {"e/a", "e/b"});
  EXPECT_FALSE(is_over(second));
  EXPECT_EQ(resign(first.leader()).header().revision(), 4);
  const auto won = answer_of<CampaignResponse>(second);
  EXPECT_EQ(won.leader().key(), "e/b");
  EXPECT_EQ(won.leader().rev(), 3);
  EXPECT_EQ(won.header().revision(), 3) << "of its entry, as with etcd";
}

TEST_F(ContestTest, TheLeaderIsWhoCameFirst) {
  EXPECT_EQ(error_of<LeaderRequest>(election("Leader"), "name: 'e'"), "2 election: no leader");
  grant(2);
  grant(1);
  answer<CampaignResponse>(election("Campaign"), campaign("e", 2, "two"));
  start(election("Campaign"), campaign("e", 1, "one"));
  wait_for_contest("e/", {"e/1", "e/2"});
  LeaderRequest request;
  request.set_name("e");
  const auto leader = answer<LeaderResponse>(election("Leader"), request);
  EXPECT_EQ(leader.kv().key(), "e/2");
  EXPECT_EQ(leader.kv().value(), "two");
  EXPECT_EQ(leader.header().revision(), 3);
}

TEST_F(ContestTest, OnlyTheLeaderProclaims) {
  grant(1);
  const auto won = answer<CampaignResponse>(election("Campaign"), campaign("e", 1, "old"));
  const auto header = answer<ProclaimResponse>(election("Proclaim"), proclamation(won.leader(), "new")).header();
  EXPECT_EQ(header.revision(), 3);
  auto other = won.leader();
  other.set_rev(7);
  EXPECT_EQ(error(election("Proclaim"), proclamation(other, "x").SerializeAsString()), "2 election: not leader");
  EXPECT_EQ(resign(other).header().revision(), 3) << "who does not lead gives nothing up";
  EXPECT_EQ(keys("e/"), std::vector<std::string>{"e/1"});
  other = won.leader();
  other.set_lease(99);
  EXPECT_EQ(error(election("Proclaim"), proclamation(other, "x").SerializeAsString()),
            "2 etcdserver: requested lease not found");
}

TEST_F(ContestTest, RefusalsOfElectionsAreThoseOfEtcd) {
  EXPECT_EQ(error_of<ProclaimRequest>(election("Proclaim"), "value: 'x'"), R"(2 "leader" field must be provided)");
  EXPECT_EQ(error_of<ResignRequest>(election("Resign"), ""), R"(2 "leader" field must be provided)");
  EXPECT_EQ(error_of<ProclaimRequest>(election("Proclaim"), "leader {}"), "2 etcdserver: key is not provided");
  EXPECT_EQ(error_of<CampaignRequest>(election("Campaign"), "name: 'e' lease: 5"),
            "2 etcdserver: requested lease not found");
}

TEST_F(ContestTest, ACampaignOfALeaseThatHasAKeyProclaims) {
  grant(1);
  answer<CampaignResponse>(election("Campaign"), campaign("e", 1, "old"));
  const auto same = answer<CampaignResponse>(election("Campaign"), campaign("e", 1, "old"));
  EXPECT_EQ(same.header().revision(), 2);
  const auto again = answer<CampaignResponse>(election("Campaign"), campaign("e", 1, "new"));
  EXPECT_EQ(again.leader().rev(), 2);
  EXPECT_EQ(again.header().revision(), 2);
  LeaderRequest request;
  request.set_name("e");
  EXPECT_EQ(answer<LeaderResponse>(election("Leader"), request).kv().value(), "new");
}

TEST_F(ContestTest, WhoGivesUpCampaigningLeavesNoKey) {
  grant(1);
  grant(2);
  answer<CampaignResponse>(election("Campaign"), campaign("e", 1, "one"));
  const int32_t second = start(election("Campaign"), campaign("e", 2, "two"));
  wait_for_contest("e/", {"e/1", "e/2"});
  client_->reset(second);
  wait_for_keys("e/", {"e/1"});
}

TEST_F(ContestTest, AnObserverHearsOfEachLeaderAndEachValue) {
  grant(1);
  grant(2);
  LeaderRequest request;
  request.set_name("e");
  const int32_t observer = start(election("Observe"), request);
  const auto first = answer<CampaignResponse>(election("Campaign"), campaign("e", 1, "one"));
  auto told = observed(observer, 0);
  EXPECT_EQ(told.kv().value(), "one");
  EXPECT_EQ(told.header().revision(), 2);
  const int32_t second = start(election("Campaign"), campaign("e", 2, "two"));
  wait_for_keys("e/", {"e/1", "e/2"});
  answer<ProclaimResponse>(election("Proclaim"), proclamation(first.leader(), "more"));
  told = observed(observer, 1);
  EXPECT_EQ(told.kv().value(), "more");
  EXPECT_EQ(told.header().revision(), 4);
  resign(first.leader());
  answer_of<CampaignResponse>(second);
  told = observed(observer, 2);
  EXPECT_EQ(told.kv().key(), "e/2");
  EXPECT_EQ(told.kv().value(), "two");
  revoke(2);
  grant(3);
  answer<CampaignResponse>(election("Campaign"), campaign("e", 3, "three"));
  EXPECT_EQ(observed(observer, 3).kv().value(), "three");
  services_->end_streams();
  EXPECT_EQ(outcome_of(observer), "0 ");
}

TEST_F(ContestTest, AnObserverThatDoesNotReadIsToldMoreOnceItDoes) {
  grant(1);
  const auto won = answer<CampaignResponse>(election("Campaign"), campaign("e", 1, "0"));
  net::TestClient slow(address_, {.stream_window_bytes = 1000, .receive_buffer_bytes = 0, .give_window = false});
  LeaderRequest request;
  request.set_name("e");
  const int32_t observer = slow.start(election("Observe"));
  slow.send(observer, request.SerializeAsString());
  slow.half_close(observer);
  ASSERT_TRUE(slow.pump_until([&] { return !slow.stream(observer).messages().empty(); }));
  constexpr int kValues = 100;
  for (int i = 1; i <= kValues; ++i) {
    answer<ProclaimResponse>(election("Proclaim"),
                             proclamation(won.leader(), std::to_string(i) + std::string(10'000, '.')));
  }
  for (int i = 0; i < 20; ++i) slow.pump(1);
  EXPECT_LT(answer_bytes(), 400'000u);
  nghttp2_submit_window_update(slow.session(), NGHTTP2_FLAG_NONE, observer, 2'000'000);
  nghttp2_submit_window_update(slow.session(), NGHTTP2_FLAG_NONE, 0, 2'000'000);
  ASSERT_TRUE(slow.pump_until([&] { return slow.stream(observer).messages().size() == kValues + 1; }));
  const auto messages = slow.stream(observer).messages();
  for (int i = 0; i <= kValues; ++i) {
    LeaderResponse response;
    ASSERT_TRUE(response.ParseFromString(messages[static_cast<size_t>(i)]));
    EXPECT_TRUE(response.kv().value().starts_with(std::to_string(i)));
  }
}

}  // namespace
}  // namespace cairn::rpc
