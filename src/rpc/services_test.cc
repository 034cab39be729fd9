// The services of a real member, called over a socket by a client of the test's own.
#include "rpc/services.h"

#include <openssl/sha.h>

#include <gtest/gtest.h>

#include "base/errors.h"
#include "proto/health.pb.h"
#include "proto/rpc.pb.h"
#include "rpc/test_services.h"

namespace cairn::rpc {
namespace {

// --- what is no request -------------------------------------------------------------------------------------------

TEST_F(ServicesTest, BytesThatAreNoMessageAreAnsweredAsGoDoes) {
  const std::string unary = "13 grpc: error unmarshalling request: proto: cannot parse invalid wire-format data";
  const std::string stream =
      "13 grpc: failed to unmarshal the received message: proto: cannot parse invalid wire-format data";
  for (const char* method : {"Range", "Put", "DeleteRange", "Txn", "Compact"}) {
    EXPECT_EQ(error(std::string(kKv) + method, "\xff"), unary) << method;
  }
  for (const char* method : {"Status", "Alarm", "HashKV", "Hash"}) {
    EXPECT_EQ(error(std::string(kMaintenance) + method, "\xff"), unary) << method;
  }
  EXPECT_EQ(error("/etcdserverpb.Cluster/MemberList", "\xff"), unary);
  EXPECT_EQ(error(std::string(kKv) + "RangeStream", "\xff"), stream);
  EXPECT_EQ(error(std::string(kMaintenance) + "Snapshot", "\xff"), stream);
}

TEST_F(ServicesTest, AStringThatIsNoUtf8IsNamedAsSuch) {
  const std::string broken = "13 grpc: error unmarshalling request: proto: cannot parse invalid wire-format data";
  const std::string not_utf8 = "13 grpc: error unmarshalling request: string field contains invalid UTF-8";
  EXPECT_EQ(error("/grpc.health.v1.Health/Check", "\x0a\x01\xff"), not_utf8);
  const std::string user_add = "/etcdserverpb.Auth/UserAdd";
  EXPECT_EQ(error(user_add, "\x0a\x01\xff"), not_utf8);
  EXPECT_EQ(error(user_add, "\x1a\x02\x61\xd4"), broken) << "in the options, where there are no strings";
  EXPECT_EQ(error(user_add, "\x0a\x01\xff\x1a\x02\x61\xd4"), not_utf8) << "what comes first is named";
  EXPECT_EQ(error(user_add, "\x1a\x02\x61\xd4\x0a\x01\xff"), broken);
}

// It would be a label of /metrics, which is UTF-8.
TEST_F(ServicesTest, AClientVersionThatIsNoUtf8IsRefused) {
  for (const char* const path : {"/etcdserverpb.KV/Range", "/etcdserverpb.Watch/Watch"}) {
    const int32_t id = client_->start(path, {{"client-api-version", "3.\xff"}});
    client_->send(id, "\x0a\x01x");
    ASSERT_TRUE(client_->pump_until([&, at = id] { return client_->stream(at).closed; })) << path;
    EXPECT_EQ(fmt::format("{} {}", client_->stream(id).code(), client_->stream(id).message()),
              text_of(errors::invalid_client_api_version()));
  }
}

TEST_F(ServicesTest, FieldsOfAnotherTypeArePassedOver) {
  EXPECT_EQ(error(std::string(kKv) + "Put", "\x08\x01"), text_of(errors::empty_key())) << "the key as a number";
}

TEST_F(ServicesTest, NumbersBeyond64BitsAreRefusedInNestedMessagesToo) {
  const std::string number = std::string("\x18\xfb") + std::string(8, '\xff') + "\x21";  // the limit of a range
  const std::string operation = "\x0a\x0b" + number;
  EXPECT_TRUE(error(std::string(kKv) + "Txn", "\x12\x0d" + operation).starts_with("13 "));
}

TEST_F(ServicesTest, UnknownMethodsAndServicesAreUnimplemented) {
  EXPECT_EQ(error("/etcdserverpb.KV/Nothing", ""), "12 unknown method Nothing for service etcdserverpb.KV");
  EXPECT_EQ(error("/nothing.Service/Call", ""), "12 unknown service nothing.Service");
}

TEST_F(ServicesTest, TooLargeIsSaidByTheServiceAndBeyondByTheTransport) {
  etcdserverpb::PutRequest request;
  request.set_key("big");
  request.set_value(std::string(1'572'864, 'x'));
  EXPECT_EQ(error(std::string(kKv) + "Put", request.SerializeAsString()), text_of(errors::request_too_large()));
  request.set_value(std::string(2'097'152, 'x'));
  const std::string bytes = request.SerializeAsString();
  EXPECT_EQ(error(std::string(kKv) + "Put", bytes),
            "8 grpc: received message larger than max (" + std::to_string(bytes.size()) + " vs. 2097152)");
}

// --- KV -----------------------------------------------------------------------------------------------------------

TEST_F(ServicesTest, ATransactionWithoutOperationsIsAnsweredAtOnce) {
  const auto response = answer<etcdserverpb::TxnResponse>(std::string(kKv) + "Txn", etcdserverpb::TxnRequest());
  EXPECT_TRUE(response.succeeded());
  EXPECT_EQ(response.header().revision(), 1);
}

TEST_F(ServicesTest, NoRoomIsSaidBeforeWhatIsWrongWithTheRequest) {
  Limits limits;
  limits.quota_bytes = 1;
  open(limits);
  EXPECT_EQ(error(std::string(kKv) + "Put", ""), text_of(errors::no_space()));
  EXPECT_EQ(error_of<etcdserverpb::TxnRequest>(std::string(kKv) + "Txn", "success { request_put { } }"),
            text_of(errors::no_space()));
  EXPECT_EQ(error_of<etcdserverpb::TxnRequest>(std::string(kKv) + "Txn", "success { }"),
            text_of(errors::key_not_found()))
      << "costs nothing";
}

TEST_F(ServicesTest, StreamedRangesAddUpToTheUnaryAnswer) {
  for (int i = 0; i < 137; ++i) put("key" + std::to_string(1000 + i), std::string(static_cast<size_t>(i), 'v'));
  for (const char* text : {R"(key: "k" range_end: "l")", R"(key: "k" range_end: "l" limit: 50)",
                           R"(key: "k" range_end: "l" keys_only: true)", R"(key: "k" range_end: "l" count_only: true)",
                           R"(key: "k" range_end: "l" sort_order: ASCEND revision: 60)",
                           R"(key: "k" range_end: "l" sort_target: MOD)", R"(key: "none")", R"(key: "key1000")"}) {
    const auto request = message<etcdserverpb::RangeRequest>(text);
    auto expected = answer<etcdserverpb::RangeResponse>(std::string(kKv) + "Range", request);
    const auto& stream = call(std::string(kKv) + "RangeStream", request);
    ASSERT_EQ(stream.code(), 0) << stream.message();
    etcdserverpb::RangeResponse whole;
    const auto messages = stream.messages();
    for (size_t i = 0; i < messages.size(); ++i) {
      etcdserverpb::RangeStreamResponse part;
      ASSERT_TRUE(part.ParseFromString(messages[i]));
      EXPECT_EQ(part.range_response().has_header(), i + 1 == messages.size()) << "the header comes last";
      EXPECT_TRUE(i == 0 || part.range_response().kvs_size() > 0) << "and with keys";
      whole.MergeFrom(part.range_response());
    }
    EXPECT_EQ(whole.SerializeAsString(), expected.SerializeAsString()) << text;
  }
}

TEST_F(ServicesTest, StreamedRangesHaveNoOrderButTheKeys) {
  const std::string path = std::string(kKv) + "RangeStream";
  const std::string orders = "12 RangeStream does not support custom sort orders";
  EXPECT_EQ(error_of<etcdserverpb::RangeRequest>(path, R"(key: "a" sort_order: DESCEND)"), orders);
  EXPECT_EQ(error_of<etcdserverpb::RangeRequest>(path, R"(key: "a" sort_order: ASCEND sort_target: MOD)"), orders);
  EXPECT_EQ(error_of<etcdserverpb::RangeRequest>(path, R"(key: "a" max_mod_revision: 1)"),
            "12 RangeStream does not support revision filters");
}

// --- headers ------------------------------------------------------------------------------------------------------

TEST_F(ServicesTest, ClusterAnswersHaveNoRevision) {
  const auto list =
      answer<etcdserverpb::MemberListResponse>("/etcdserverpb.Cluster/MemberList", etcdserverpb::MemberListRequest());
  EXPECT_EQ(list.header().revision(), 0);
  EXPECT_NE(list.header().member_id(), 0u);
  EXPECT_NE(list.header().cluster_id(), 0u);
  EXPECT_NE(list.header().raft_term(), 0u);
  ASSERT_EQ(list.members_size(), 1);
  EXPECT_EQ(list.members(0).name(), "default");
  EXPECT_EQ(list.members(0).id(), list.header().member_id());
  const auto status =
      answer<etcdserverpb::StatusResponse>(std::string(kMaintenance) + "Status", etcdserverpb::StatusRequest());
  EXPECT_EQ(status.header().revision(), 1);
}

// --- maintenance --------------------------------------------------------------------------------------------------

TEST_F(ServicesTest, ASnapshotIsTheFileAndItsHashWithoutHeaders) {
  put("a", "1");
  const auto& stream = call(std::string(kMaintenance) + "Snapshot", etcdserverpb::SnapshotRequest());
  ASSERT_EQ(stream.code(), 0) << stream.message();
  std::string file;
  uint64_t remaining_before = UINT64_MAX;
  std::string last;
  const auto messages = stream.messages();
  for (const std::string& bytes : messages) {
    etcdserverpb::SnapshotResponse part;
    ASSERT_TRUE(part.ParseFromString(bytes));
    EXPECT_FALSE(part.has_header());
    EXPECT_EQ(part.version(), "3.7.0");
    EXPECT_LE(part.remaining_bytes(), remaining_before);
    EXPECT_LE(part.blob().size(), 32768u);
    remaining_before = part.remaining_bytes();
    file += part.blob();
    last = part.blob();
  }
  EXPECT_EQ(remaining_before, 0u);
  EXPECT_EQ(file.size() % 512, 32u) << "how tools see that the hash is there";
  ASSERT_EQ(last.size(), 32u);
  unsigned char hash[SHA256_DIGEST_LENGTH];
  SHA256(reinterpret_cast<const unsigned char*>(file.data()), file.size() - 32, hash);
  EXPECT_EQ(last, std::string(reinterpret_cast<const char*>(hash), sizeof hash));
}

TEST_F(ServicesTest, HashKvTellsItsRevisionsAndRefusesOthers) {
  put("a", "1");
  const auto hash = [&](int64_t revision) {
    etcdserverpb::HashKVRequest request;
    request.set_revision(revision);
    return answer<etcdserverpb::HashKVResponse>(std::string(kMaintenance) + "HashKV", request);
  };
  EXPECT_EQ(hash(0).compact_revision(), -1) << "never compacted";
  EXPECT_EQ(hash(0).hash_revision(), 2);
  EXPECT_EQ(hash(0).hash(), hash(2).hash());
  EXPECT_NE(hash(1).hash(), hash(2).hash());
  EXPECT_EQ(hash(1).header().revision(), 2);
  EXPECT_EQ(error_of<etcdserverpb::HashKVRequest>(std::string(kMaintenance) + "HashKV", "revision: 3"),
            text_of(errors::future_rev()));
  answer<etcdserverpb::CompactionResponse>(std::string(kKv) + "Compact",
                                           message<etcdserverpb::CompactionRequest>("revision: 2 physical: true"));
  EXPECT_EQ(hash(0).compact_revision(), 2);
  EXPECT_EQ(error_of<etcdserverpb::HashKVRequest>(std::string(kMaintenance) + "HashKV", "revision: 1"),
            text_of(errors::compacted()));
}

TEST_F(ServicesTest, StatusTellsAlarmsQuotaAndVersions) {
  const auto status = [&] {
    return answer<etcdserverpb::StatusResponse>(std::string(kMaintenance) + "Status", etcdserverpb::StatusRequest());
  };
  EXPECT_EQ(status().version(), "3.7.1");
  EXPECT_EQ(status().storageversion(), "3.7.0");
  EXPECT_EQ(status().dbsizequota(), int64_t{2} << 30);
  EXPECT_EQ(status().leader(), status().header().member_id());
  EXPECT_EQ(status().errors_size(), 0);
  EXPECT_FALSE(status().islearner());
  const auto alarm = [&](const std::string& text) {
    return answer<etcdserverpb::AlarmResponse>(std::string(kMaintenance) + "Alarm",
                                               message<etcdserverpb::AlarmRequest>(text));
  };
  EXPECT_EQ(alarm("action: ACTIVATE memberID: 5 alarm: NOSPACE").alarms_size(), 1);
  alarm("action: ACTIVATE alarm: CORRUPT");
  ASSERT_EQ(status().errors_size(), 2);
  EXPECT_EQ(status().errors(0), "alarm:CORRUPT");
  EXPECT_EQ(status().errors(1), "memberID:5 alarm:NOSPACE");
}

// --- health -------------------------------------------------------------------------------------------------------

TEST_F(ServicesTest, HealthKnowsTheWholeServerOnly) {
  const auto check = answer<grpc::health::v1::HealthCheckResponse>("/grpc.health.v1.Health/Check",
                                                                   grpc::health::v1::HealthCheckRequest());
  EXPECT_EQ(check.status(), grpc::health::v1::HealthCheckResponse::SERVING);
  EXPECT_EQ(error("/grpc.health.v1.Health/Check", "\x0a\x01x"), "5 unknown service");
  const auto list = answer<grpc::health::v1::HealthListResponse>("/grpc.health.v1.Health/List",
                                                                 grpc::health::v1::HealthListRequest());
  ASSERT_EQ(list.statuses_size(), 1);
  EXPECT_EQ(list.statuses().at("").status(), grpc::health::v1::HealthCheckResponse::SERVING);
}

TEST_F(ServicesTest, NoRequestIsAnError) {
  for (const auto& [path, said] : {std::pair("/etcdserverpb.KV/Range", "2 EOF"),
                                   std::pair("/etcdserverpb.KV/RangeStream",
                                             "13 cardinality violation: received no request message from "
                                             "non-client-streaming RPC")}) {
    for (const bool with_headers : {true, false}) {
      const int32_t id = client_->start(path, {}, with_headers);
      if (!with_headers) client_->half_close(id);
      ASSERT_TRUE(client_->pump_until([&, at = id] { return client_->stream(at).closed; }));
      EXPECT_EQ(fmt::format("{} {}", client_->stream(id).code(), client_->stream(id).message()), said);
    }
  }
}

TEST_F(ServicesTest, ASecondRequestToAMethodThatTakesOneIsAnError) {
  for (const char* const path :
       {"/etcdserverpb.KV/RangeStream", "/etcdserverpb.Maintenance/Snapshot", "/grpc.health.v1.Health/Watch"}) {
    const int32_t id = client_->start(path);
    client_->send(id, "\x0a\x01x");
    client_->send(id, "");
    client_->half_close(id);
    ASSERT_TRUE(client_->pump_until([&] { return client_->stream(id).closed; }));
    EXPECT_EQ(client_->stream(id).code(), 13) << path;
    EXPECT_EQ(client_->stream(id).message(),
              "cardinality violation: received multiple request messages for non-client-streaming RPC");
  }
}

TEST_F(ServicesTest, AHealthWatchTellsOnceAndStaysOpen) {
  for (const auto& [bytes, status] : {std::pair("", grpc::health::v1::HealthCheckResponse::SERVING),
                                      std::pair("\x0a\x01x", grpc::health::v1::HealthCheckResponse::SERVICE_UNKNOWN)}) {
    const int32_t id = client_->start("/grpc.health.v1.Health/Watch");
    client_->send(id, bytes);
    client_->half_close(id);
    ASSERT_TRUE(client_->pump_until([&] { return !client_->stream(id).messages().empty(); }));
    grpc::health::v1::HealthCheckResponse response;
    ASSERT_TRUE(response.ParseFromString(client_->stream(id).messages()[0]));
    EXPECT_EQ(response.status(), status);
    EXPECT_FALSE(client_->stream(id).closed);
    client_->reset(id);
  }
}

// --- the table of errors ------------------------------------------------------------------------------------------

// Client libraries map these two by their texts; on the wire etcd gives them no code of their own.
TEST(Errors, TwoTravelAsUnknown) {
  EXPECT_EQ(errors::member_not_enough_started().code, Code::kUnknown);
  EXPECT_EQ(errors::request_too_many_requests().code, Code::kUnknown);
}

// Go's clients repeat what is answered Unavailable: nothing that refuses a write for good may be.
TEST(Errors, RefusalsAreNotUnavailable) {
  for (const Error& error : {errors::key_not_found(), errors::lease_not_found(), errors::no_space(), errors::corrupt(),
                             errors::request_too_large(), errors::request_too_many_requests(), errors::compacted()}) {
    EXPECT_NE(error.code, Code::kUnavailable) << error.message;
  }
}

}  // namespace
}  // namespace cairn::rpc
