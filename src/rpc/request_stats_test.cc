#include "rpc/request_stats.h"

#include <gtest/gtest.h>

#include "base/log.h"
#include "rpc/test_services.h"

namespace cairn::rpc {
namespace {

using RequestStatsTest = ServicesTest;

TEST(RequestStats, LeaveValuesOut) {
  EXPECT_EQ(loggable_request(
                "Put", message<etcdserverpb::PutRequest>("key: 'k' value: 'secret' lease: 7").SerializeAsString()),
            "key: \"k\" lease: 7 value_size: 6");
  EXPECT_EQ(loggable_request("Range", message<etcdserverpb::RangeRequest>("key: 'k' limit: 3").SerializeAsString()),
            "key: \"k\" limit: 3");
  const std::string txn = loggable_request(
      "Txn",
      message<etcdserverpb::TxnRequest>(
          "compare { key: 'k' target: VALUE value: 'secret' } success { request_put { key: 'k' value: 'secret' } }"
          "failure { request_txn { success { request_put { key: 'n' value: 'secret' } } } }")
          .SerializeAsString());
  EXPECT_EQ(txn.find("secret"), std::string::npos) << txn;
  EXPECT_NE(txn.find("key: \"n\" value: \"<6 bytes>\""), std::string::npos) << txn;
  EXPECT_EQ(loggable_request("Put", "\xff"), "");
  EXPECT_EQ(loggable_request("Status", ""), "");
}

struct Lines {
  static void take(const log::Entry& entry) {
    if (entry.message != "request stats") return;
    std::string line(log::level_name(entry.level));
    for (size_t i = 0; i < entry.field_count; ++i) {
      line += fmt::format(" {}=", entry.fields[i].key);
      if (const auto* const text = std::get_if<std::string>(&entry.fields[i].value)) line += *text;
      if (const auto* const number = std::get_if<int64_t>(&entry.fields[i].value)) line += std::to_string(*number);
    }
    const MutexLock lock(mutex);
    all.push_back(line);
  }
  static std::vector<std::string> taken() {
    const MutexLock lock(mutex);
    return std::exchange(all, {});
  }
  static inline Mutex mutex;
  static inline std::vector<std::string> all CAIRN_GUARDED_BY(mutex);
};

// A limit below zero: each call is too slow.
TEST_F(RequestStatsTest, TellOfCallsThatTakeTooLong) {
  Limits limits;
  limits.warning_unary_ns = INT64_MAX;
  open(limits);
  log::set_sink(Lines::take, log::Level::kInfo);
  put("quick", "value");
  EXPECT_TRUE(Lines::taken().empty());
  limits.warning_unary_ns = -1;
  open(limits);
  put("key", "value");
  etcdserverpb::RangeRequest range;
  range.set_key("key");
  answer<etcdserverpb::RangeResponse>(std::string(kKv) + "Range", range);
  answer<etcdserverpb::StatusResponse>(std::string(kMaintenance) + "Status", etcdserverpb::StatusRequest());
  const auto lines = Lines::taken();
  log::set_sink(nullptr, log::Level::kWarn);
  ASSERT_EQ(lines.size(), 3u);
  const auto has = [&](size_t at, const std::string& text) {
    EXPECT_NE(lines[at].find(text), std::string::npos) << lines[at];
  };
  has(0, "warn start time=20");
  has(0, "response type=/etcdserverpb.KV/Put request count=1 request size=12 response count=0");
  has(0, "request content=key: \"key\" value_size: 5");
  has(1, "response type=/etcdserverpb.KV/Range request count=0 request size=");
  has(2, "response type=/etcdserverpb.Maintenance/Status request count=-1 request size=-1 response count=-1");
}

TEST_F(RequestStatsTest, CallsAreTimedWhenAskedTo) {
  Limits limits;
  limits.times_calls = true;
  open(limits);
  put("key", "value");
  const std::string page = member_->registry.render();
  EXPECT_NE(page.find("grpc_server_handling_seconds_count{grpc_method=\"Put\",grpc_service=\"etcdserverpb.KV\","
                      "grpc_type=\"unary\"} 1\n"),
            std::string::npos);
  EXPECT_NE(page.find("grpc_server_handling_seconds_bucket{grpc_method=\"Watch\",grpc_service=\"etcdserverpb.Watch\","
                      "grpc_type=\"bidi_stream\",le=\"0.005\"} 0\n"),
            std::string::npos);
}

}  // namespace
}  // namespace cairn::rpc
