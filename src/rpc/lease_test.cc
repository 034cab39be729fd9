// etcdserverpb.Lease of a real member, called over a socket.
#include <gtest/gtest.h>

#include <set>

#include "rpc/test_services.h"

namespace cairn::rpc {
namespace {

using etcdserverpb::LeaseGrantRequest;
using etcdserverpb::LeaseGrantResponse;
using etcdserverpb::LeaseKeepAliveRequest;
using etcdserverpb::LeaseKeepAliveResponse;
using etcdserverpb::LeaseLeasesRequest;
using etcdserverpb::LeaseLeasesResponse;
using etcdserverpb::LeaseRevokeRequest;
using etcdserverpb::LeaseRevokeResponse;
using etcdserverpb::LeaseTimeToLiveRequest;
using etcdserverpb::LeaseTimeToLiveResponse;

std::string path(const char* method) { return std::string("/etcdserverpb.Lease/") + method; }

class LeaseTest : public ServicesTest {
 protected:
  LeaseGrantResponse grant(int64_t id, int64_t ttl) {
    LeaseGrantRequest request;
    request.set_id(id);
    request.set_ttl(ttl);
    return answer<LeaseGrantResponse>(path("LeaseGrant"), request);
  }
  LeaseTimeToLiveResponse time_to_live(int64_t id) {
    LeaseTimeToLiveRequest request;
    request.set_id(id);
    request.set_keys(true);
    return answer<LeaseTimeToLiveResponse>(path("LeaseTimeToLive"), request);
  }
  void put(const std::string& key, int64_t lease) {
    etcdserverpb::PutRequest request;
    request.set_key(key);
    request.set_lease(lease);
    answer<etcdserverpb::PutResponse>(std::string(kKv) + "Put", request);
  }
  int64_t count(const std::string& key) {
    etcdserverpb::RangeRequest request;
    request.set_key(key);
    return answer<etcdserverpb::RangeResponse>(std::string(kKv) + "Range", request).count();
  }
  static std::string keep_alive(int64_t id) {
    LeaseKeepAliveRequest request;
    request.set_id(id);
    return request.SerializeAsString();
  }
};

TEST_F(LeaseTest, AGrantSaysWhatWasGranted) {
  const auto given = grant(7, 100);
  EXPECT_EQ(given.id(), 7);
  EXPECT_EQ(given.ttl(), 100);
  EXPECT_NE(given.header().cluster_id(), 0u);
  EXPECT_EQ(given.header().revision(), 1);
  const auto chosen = grant(0, 1);
  EXPECT_GT(chosen.id(), 0);
  EXPECT_EQ(chosen.ttl(), 2) << "the least";
  EXPECT_NE(grant(0, 1).id(), chosen.id());
}

TEST_F(LeaseTest, RefusalsAreThoseOfEtcd) {
  grant(7, 100);
  EXPECT_EQ(error_of<LeaseGrantRequest>(path("LeaseGrant"), "ID: 7 TTL: 10"), text_of(errors::lease_exist()));
  EXPECT_EQ(error_of<LeaseGrantRequest>(path("LeaseGrant"), "ID: 8 TTL: 9000000001"),
            text_of(errors::lease_ttl_too_large()));
  EXPECT_EQ(error_of<LeaseRevokeRequest>(path("LeaseRevoke"), "ID: 9"), text_of(errors::lease_not_found()));
  EXPECT_EQ(error_of<etcdserverpb::PutRequest>(std::string(kKv) + "Put", "key: 'k' lease: 9"),
            text_of(errors::lease_not_found()));
  const std::string broken = "proto: cannot parse invalid wire-format data";
  for (const char* method : {"LeaseGrant", "LeaseRevoke", "LeaseTimeToLive", "LeaseLeases"}) {
    EXPECT_EQ(error(path(method), "\xff"), "13 grpc: error unmarshalling request: " + broken) << method;
  }
  EXPECT_EQ(error(path("LeaseKeepAlive"), "\xff"), "13 grpc: failed to unmarshal the received message: " + broken);
}

TEST_F(LeaseTest, AGrantIsRefusedWithoutRoom) {
  Limits limits;
  limits.quota_bytes = 1;
  open(limits);
  EXPECT_EQ(error_of<LeaseGrantRequest>(path("LeaseGrant"), "ID: 7 TTL: 10"), text_of(errors::no_space()));
  EXPECT_EQ(error_of<LeaseRevokeRequest>(path("LeaseRevoke"), "ID: 7"), text_of(errors::lease_not_found()))
      << "a revoke needs none";
}

TEST_F(LeaseTest, ARevokeTakesTheKeysWithIt) {
  grant(7, 100);
  put("a", 7);
  put("b", 7);
  put("c", 7);
  put("c", 0);  // detaches
  const auto shown = time_to_live(7);
  EXPECT_EQ(shown.grantedttl(), 100);
  EXPECT_GT(shown.ttl(), 0);
  ASSERT_EQ(shown.keys_size(), 2);
  EXPECT_EQ(shown.keys(0), "a");
  EXPECT_EQ(shown.header().revision(), 5);
  LeaseRevokeRequest request;
  request.set_id(7);
  EXPECT_EQ(answer<LeaseRevokeResponse>(path("LeaseRevoke"), request).header().revision(), 6);
  EXPECT_EQ(count("a") + count("b"), 0);
  EXPECT_EQ(count("c"), 1);
  const auto gone = time_to_live(7);
  EXPECT_EQ(gone.ttl(), -1);
  EXPECT_EQ(gone.grantedttl(), 0);
}

TEST_F(LeaseTest, AStreamOfRenewalsIsAnsweredInOrder) {
  grant(7, 100);
  grant(8, 200);
  const int32_t id = client_->start(path("LeaseKeepAlive"));
  const int64_t leases[] = {7, 8, 9, 8};
  for (const int64_t lease : leases) client_->send(id, keep_alive(lease));
  client_->pump_until([&] { return client_->stream(id).messages().size() == 4; });
  const auto messages = client_->stream(id).messages();
  ASSERT_EQ(messages.size(), 4u);
  const int64_t ttls[] = {100, 200, 0, 200};
  for (size_t i = 0; i < 4; ++i) {
    LeaseKeepAliveResponse response;
    ASSERT_TRUE(response.ParseFromString(messages[i]));
    EXPECT_EQ(response.id(), leases[i]);
    EXPECT_EQ(response.ttl(), ttls[i]);
    EXPECT_NE(response.header().member_id(), 0u);
  }
  client_->half_close(id);
  client_->pump_until([&] { return client_->stream(id).closed; });
  EXPECT_EQ(client_->stream(id).code(), 0);
}

TEST_F(LeaseTest, ThousandsOfRenewalsAtOnceAreAllAnswered) {
  grant(7, 100);
  const int32_t id = client_->start(path("LeaseKeepAlive"));
  constexpr size_t kCount = 20'000;
  for (size_t i = 0; i < kCount; ++i) client_->send(id, keep_alive(7));
  client_->half_close(id);
  ASSERT_TRUE(client_->pump_until([&] { return client_->stream(id).closed; }));
  EXPECT_EQ(client_->stream(id).code(), 0);
  EXPECT_EQ(client_->stream(id).messages().size(), kCount);
}

TEST_F(LeaseTest, AnAnswerBeforeABrokenRenewalStillComes) {
  grant(7, 100);
  const int32_t id = client_->start(path("LeaseKeepAlive"));
  client_->send(id, keep_alive(7));
  client_->send(id, "\xff");
  client_->pump_until([&] { return client_->stream(id).closed; });
  EXPECT_EQ(client_->stream(id).messages().size(), 1u);
  EXPECT_EQ(client_->stream(id).code(), 13);
}

TEST_F(LeaseTest, TheListIsInTheOrderOfExpiry) {
  grant(1, 300);
  grant(2, 100);
  grant(-3, 200);
  const auto list = answer<LeaseLeasesResponse>(path("LeaseLeases"), LeaseLeasesRequest());
  ASSERT_EQ(list.leases_size(), 3);
  EXPECT_EQ(list.leases(0).id(), 2);
  EXPECT_EQ(list.leases(1).id(), -3);
  EXPECT_EQ(list.leases(2).id(), 1);
}

// More than one part, and more than is sorted in the loop; there is room for each part once.
TEST_F(LeaseTest, ALongListIsWhole) {
  answer_limits_.connection_bytes_max = 500'000;
  open({});
  constexpr int64_t kCount = 12'000;
  std::vector<int32_t> calls;
  for (int64_t id = 1; id <= kCount; ++id) {
    LeaseGrantRequest request;
    request.set_id(id);
    request.set_ttl(1000 + id % 7);
    calls.push_back(client_->start(path("LeaseGrant")));
    client_->send(calls.back(), request.SerializeAsString());
    client_->half_close(calls.back());
    if (id % 100 != 0) continue;
    ASSERT_TRUE(client_->pump_until([&] { return client_->stream(calls.back()).closed; }));
  }
  const auto list = answer<LeaseLeasesResponse>(path("LeaseLeases"), LeaseLeasesRequest());
  std::set<int64_t> ids;
  for (const auto& lease : list.leases()) ids.insert(lease.id());
  EXPECT_EQ(static_cast<int64_t>(ids.size()), kCount);
  EXPECT_EQ(static_cast<int64_t>(list.leases_size()), kCount);
}

TEST_F(LeaseTest, TheManyKeysOfALeaseAreAllNamed) {
  grant(7, 100);
  grant(8, 100);
  etcdserverpb::TxnRequest txn;
  std::set<std::string> expected;
  for (int i = 0; i < 3000; ++i) {
    auto* const put = txn.add_success()->mutable_request_put();
    put->set_key("k" + std::to_string(i));
    put->set_lease(i % 2 == 0 ? 7 : 8);
    if (i % 2 == 0) expected.insert(put->key());
    if (txn.success_size() < 100) continue;
    answer<etcdserverpb::TxnResponse>(std::string(kKv) + "Txn", txn);
    txn.Clear();
  }
  const auto shown = time_to_live(7);
  EXPECT_EQ(std::set<std::string>(shown.keys().begin(), shown.keys().end()), expected);
  EXPECT_EQ(shown.grantedttl(), 100);
}

TEST_F(LeaseTest, ALeaseEndsAndSaysSo) {
  grant(7, 5);
  put("a", 7);
  const int32_t id = client_->start(path("LeaseKeepAlive"));
  ASSERT_TRUE(client_->pump_until([&] { return time_to_live(7).ttl() == -1; }));
  EXPECT_EQ(count("a"), 0);
  client_->send(id, keep_alive(7));
  ASSERT_TRUE(client_->pump_until([&] { return client_->stream(id).messages().size() == 1; }));
  LeaseKeepAliveResponse response;
  ASSERT_TRUE(response.ParseFromString(client_->stream(id).messages()[0]));
  EXPECT_EQ(response.ttl(), 0);
}

// More at once than are read at a time, and some that nobody waits for any more.
TEST_F(LeaseTest, ListsTakeTurns) {
  for (int64_t id = 1; id <= 3; ++id) grant(id, 100);
  std::vector<int32_t> calls;
  for (int i = 0; i < 60; ++i) {
    calls.push_back(client_->start(path("LeaseLeases")));
    client_->send(calls.back(), "");
    client_->half_close(calls.back());
  }
  client_->flush();
  for (size_t i = 0; i < calls.size(); i += 3) client_->reset(calls[i]);
  for (size_t i = 0; i < calls.size(); ++i) {
    if (i % 3 == 0) continue;
    const auto& stream = client_->stream(calls[i]);
    ASSERT_TRUE(client_->pump_until([&] { return stream.closed; }));
    EXPECT_EQ(stream.code(), 0) << stream.message();
    LeaseLeasesResponse list;
    ASSERT_TRUE(list.ParseFromString(stream.messages().at(0)));
    EXPECT_EQ(list.leases_size(), 3);
  }
  EXPECT_EQ(answer<LeaseLeasesResponse>(path("LeaseLeases"), LeaseLeasesRequest()).leases_size(), 3);
}

// Few keys may be long: what an answer takes is counted before it is made.
TEST_F(LeaseTest, LongKeysCountAsAnAnswer) {
  answer_limits_ = {.connection_bytes_max = 100'000, .bytes_max = 100'000};
  open({});
  grant(1, 100);
  std::set<std::string> keys;
  for (const char letter : {'a', 'b', 'c', 'd'}) keys.insert(std::string(50'000, letter));
  for (const std::string& key : keys) put(key, 1);
  const auto found = time_to_live(1);
  EXPECT_EQ(std::set<std::string>(found.keys().begin(), found.keys().end()), keys);

  net::TestClient idle(address_, {.give_window = false});
  LeaseTimeToLiveRequest request;
  request.set_id(1);
  request.set_keys(true);
  const auto ask = [&] {
    const int32_t id = idle.start(path("LeaseTimeToLive"));
    idle.send(id, request.SerializeAsString());
    idle.half_close(id);
    return id;
  };
  const int32_t first = ask();
  ASSERT_TRUE(idle.pump_until([&] { return idle.stream(first).data_bytes > 60'000; }));
  const int32_t second = ask();
  ASSERT_TRUE(idle.pump_until([&] { return idle.stream(second).closed; }));
  EXPECT_EQ(idle.stream(second).message(), "etcdserver: too many requests");
}

}  // namespace
}  // namespace cairn::rpc
