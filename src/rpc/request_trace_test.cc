#include "rpc/request_trace.h"

#include <gmock/gmock.h>

#include "base/log.h"
#include "rpc/test_services.h"

namespace cairn::rpc {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int64_t kMs = 1'000'000;
constexpr int64_t kWallNs = 1'700'000'000'000'000'000;

// What is logged while it lives, as "level message key=value ...".
class Lines {
 public:
  Lines() {
    (void)taken();
    log::set_sink(take, log::Level::kInfo);
  }
  ~Lines() { log::set_sink(nullptr, log::Level::kWarn); }
  Lines(const Lines&) = delete;
  Lines& operator=(const Lines&) = delete;

  static std::vector<std::string> taken() {
    const MutexLock lock(mutex_);
    return std::exchange(all_, {});
  }

 private:
  static void take(const log::Entry& entry) {
    if (entry.message != "trace" && entry.message != "apply request took too long") return;
    std::string line = fmt::format("{} {}", log::level_name(entry.level), entry.message);
    for (size_t i = 0; i < entry.field_count; ++i) {
      line += fmt::format(" {}=", entry.fields[i].key);
      const log::Value& value = entry.fields[i].value;
      if (const auto* const text = std::get_if<std::string>(&value)) line += *text;
      if (const auto* const number = std::get_if<int64_t>(&value)) line += std::to_string(*number);
      if (const auto* const texts = std::get_if<std::vector<std::string>>(&value)) {
        line += fmt::format("[{}]", fmt::join(*texts, ", "));
      }
    }
    const MutexLock lock(mutex_);
    all_.push_back(line);
  }
  static inline Mutex mutex_;
  static inline std::vector<std::string> all_ CAIRN_GUARDED_BY(mutex_);
};

const Method& method(const std::string& name) { return *find_method(kKv + name); }

TEST(RequestTrace, OfARangeThatWaitedForAgreement) {
  const auto request = message<etcdserverpb::RangeRequest>("key: 'a' range_end: 'b'").SerializeAsString();
  const auto answer =
      message<etcdserverpb::RangeResponse>("header { revision: 5 } kvs { key: 'a' } count: 1").SerializeAsString();
  const Lines lines;
  log_slow_request({.method = method("Range"),
                    .began_wall_ns = kWallNs,
                    .took_ns = 250 * kMs,
                    .agreed_ns = 240 * kMs,
                    .reads = true,
                    .request = request,
                    .answer = answer},
                   100 * kMs, 7);
  EXPECT_THAT(
      Lines::taken(),
      ElementsAre(
          fmt::format("warn apply request took too long took=250ms expected-duration=100ms prefix=read-only range  "
                      "request=key: \"a\" range_end: \"b\" response=range_response_count:1 size:{}",
                      answer.size()),
          "info trace trace_id=7 operation=range "
          "detail={range_begin:a; range_end:b; response_count:1; response_revision:5; } duration=250ms "
          "start=2023-11-14T22:13:20.000000Z end=2023-11-14T22:13:20.250000Z "
          "steps=['agreement among raft nodes before linearized reading'  (duration: 240ms)] step_count=1"));
}

TEST(RequestTrace, OfAPut) {
  const auto request = message<etcdserverpb::PutRequest>("key: 'a' value: 'secret'").SerializeAsString();
  const auto answer = message<etcdserverpb::PutResponse>("header { revision: 5 }").SerializeAsString();
  const Lines lines;
  log_slow_request({.method = method("Put"),
                    .began_wall_ns = kWallNs,
                    .took_ns = 150 * kMs,
                    .request = request,
                    .request_bytes = request.size(),
                    .answer = answer},
                   100 * kMs, 7);
  EXPECT_THAT(Lines::taken(), ElementsAre(HasSubstr("operation=put detail={key:a; req_size:11; response_revision:5; } "
                                                    "duration=150ms")));
}

TEST(RequestTrace, OfTransactions) {
  const auto answer = message<etcdserverpb::TxnResponse>(
                          "header { revision: 5 } responses { response_range { kvs { key: 'a' } kvs { key: 'b' } } }"
                          "responses { response_range { } }")
                          .SerializeAsString();
  const Lines lines;
  log_slow_request({.method = method("Txn"), .took_ns = 150 * kMs, .reads = true, .answer = answer}, 100 * kMs, 7);
  auto told = Lines::taken();
  ASSERT_EQ(told.size(), 2U);
  EXPECT_THAT(told[0],
              HasSubstr(fmt::format("prefix=read-only txn  request= response=responses:<range_response_count:2 "
                                    "range_response_count:0> size:{}",
                                    answer.size())));
  EXPECT_THAT(told[1], HasSubstr("operation=transaction detail={read_only:true; number_of_response:2; "
                                 "response_revision:5; }"));
  log_slow_request({.method = method("Txn"), .took_ns = 150 * kMs}, 100 * kMs, 7);
  EXPECT_THAT(Lines::taken(), ElementsAre(HasSubstr("detail={read_only:false; }")));
}

TEST(RequestTrace, OfAReadThatFailed) {
  const Lines lines;
  log_slow_request({.method = method("Range"),
                    .took_ns = 7'000 * kMs,
                    .agreed_ns = 7'000 * kMs,
                    .reads = true,
                    .code = Code::kUnavailable,
                    .error = "etcdserver: request timed out"},
                   100 * kMs, 7);
  auto told = Lines::taken();
  ASSERT_EQ(told.size(), 2U);
  EXPECT_THAT(told[0], HasSubstr("response= error=etcdserver: request timed out"));
  EXPECT_THAT(told[1], HasSubstr("trace_id=7 operation=range detail= duration=7s"));
}

TEST(RequestTrace, NotOfTheOthers) {
  const Lines lines;
  log_slow_request({.method = method("Put"), .took_ns = 150 * kMs, .code = Code::kNotFound}, 100 * kMs, 7);
  log_slow_request({.method = method("DeleteRange"), .took_ns = 150 * kMs}, 100 * kMs, 7);
  log_slow_request({.method = method("Range"), .took_ns = 100 * kMs, .reads = true}, 100 * kMs, 7);
  EXPECT_THAT(Lines::taken(), ElementsAre());
}

using RequestTraceTest = ServicesTest;

// A limit below zero: each read is too slow.
TEST_F(RequestTraceTest, OfReadsThatTakeLongerThanTheFlagAllows) {
  Limits limits;
  limits.warning_apply_ns = -1;
  open(limits);
  put("key", "value");
  const Lines lines;
  etcdserverpb::RangeRequest range;
  range.set_key("key");
  answer<etcdserverpb::RangeResponse>(std::string(kKv) + "Range", range);
  answer<etcdserverpb::TxnResponse>(std::string(kKv) + "Txn",
                                    message<etcdserverpb::TxnRequest>("success { request_range { key: 'key' } }"));
  put("key", "value");
  std::vector<std::string> told = Lines::taken();
  // On a slow machine writes may be told of as well.
  std::erase_if(told, [](const std::string& line) { return line.find("prefix=read-only ") == std::string::npos; });
  ASSERT_EQ(told.size(), 2U);
  EXPECT_THAT(told[0], HasSubstr("prefix=read-only range "));
  EXPECT_THAT(told[0], HasSubstr("response=range_response_count:1"));
  EXPECT_THAT(told[1], HasSubstr("prefix=read-only txn "));
  EXPECT_GE(metrics_->slow_apply.value(), 2U);
}

}  // namespace
}  // namespace cairn::rpc
