#include "tracing/exporter.h"

#include <atomic>
#include <cstdlib>
#include <map>
#include <thread>

#include <gmock/gmock.h>

#include "base/mutex.h"
#include "net/testing/test_server.h"
#include "proto/otlp.pb.h"
#include "testing/temp_dir.h"
#include "testing/wait.h"

namespace cairn::tracing {
namespace {

using ::testing::ElementsAre;
using ::testing::Pair;
using testing::wait_until;

constexpr int64_t kSoonNs = 1'000'000;
constexpr int64_t kNeverNs = 3'600'000'000'000;

Span span_named(std::string name) {
  Span span;
  span.context = {.trace = {1, 2}, .span = 3, .flags = 1, .state = "a=1"};
  span.name = std::move(name);
  span.began_ns = 10;
  span.ended_ns = 20;
  return span;
}

// A collector that notes what comes.
class Collector {
 public:
  explicit Collector(net::ServerOptions options = {}) : server_(std::move(options)) {
    server_.router.add(std::string(kExportPath), [this](net::LambdaHandler& handler, net::Call&) {
      handler.message = [this](net::Call& call, std::string_view message) {
        const MutexLock lock(mutex_);
        ++calls_;
        if (refusals_ > 0) {
          --refusals_;
          return call.finish(refusal_, "not now");
        }
        otlp::ExportTraceServiceRequest request;
        CAIRN_ASSERT(request.ParseFromArray(message.data(), static_cast<int>(message.size())));
        requests_.push_back(std::move(request));
        call.reply(answer_);
      };
    });
  }
  const std::string& start() { return server_.start(); }
  void refuse(int times, Code code) {
    const MutexLock lock(mutex_);
    refusals_ = times;
    refusal_ = code;
  }
  void answer(std::string bytes) {
    const MutexLock lock(mutex_);
    answer_ = std::move(bytes);
  }
  [[nodiscard]] std::vector<otlp::ExportTraceServiceRequest> requests() {
    const MutexLock lock(mutex_);
    return requests_;
  }
  [[nodiscard]] int calls() {
    const MutexLock lock(mutex_);
    return calls_;
  }
  net::TestServer& server() { return server_; }

 private:
  Mutex mutex_;
  int calls_ CAIRN_GUARDED_BY(mutex_) = 0;
  int refusals_ CAIRN_GUARDED_BY(mutex_) = 0;
  Code refusal_ CAIRN_GUARDED_BY(mutex_) = Code::kUnavailable;
  std::string answer_ CAIRN_GUARDED_BY(mutex_);
  std::vector<otlp::ExportTraceServiceRequest> requests_ CAIRN_GUARDED_BY(mutex_);
  net::TestServer server_;  // the last: its threads use the rest
};

class ExporterTest : public ::testing::Test {
 protected:
  metrics::Registry registry_;
  ExporterMetrics metrics_{registry_};
};

TEST_F(ExporterTest, SendsWhatItTakes) {
  Collector collector;
  Exporter exporter({.address = collector.start(), .resource = {{"service.name", "etcd"}}, .delay_ns = kSoonNs},
                    metrics_);
  exporter.start();
  Span server = span_named("etcdserverpb.KV/Put");
  server.kind = Span::Kind::kServer;
  server.parent = 9;
  server.is_parent_remote = true;
  server.attributes = {{"rpc.system.name", "grpc"}, {"server.port", int64_t{2379}}, {"key", "\xff"}, {"flag", true}};
  server.failed = true;
  server.error = "no leader";
  exporter.take(std::move(server));
  ASSERT_TRUE(wait_until([&] { return metrics_.sent.value() == 1; }));
  const auto requests = collector.requests();
  ASSERT_EQ(requests.size(), 1U);
  const otlp::ResourceSpans& all = requests[0].resource_spans(0);
  EXPECT_EQ(all.resource().attributes(0).key(), "service.name");
  EXPECT_EQ(all.resource().attributes(0).value().string_value(), "etcd");
  const otlp::ScopeSpans& scope = all.scope_spans(0);
  EXPECT_EQ(scope.scope().name(), "go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc");
  const otlp::Span& sent = scope.spans(0);
  EXPECT_EQ(sent.trace_id(), std::string("\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\2", 16));
  EXPECT_EQ(sent.span_id(), std::string("\0\0\0\0\0\0\0\3", 8));
  EXPECT_EQ(sent.parent_span_id(), std::string("\0\0\0\0\0\0\0\x9", 8));
  EXPECT_EQ(sent.trace_state(), "a=1");
  EXPECT_EQ(sent.kind(), otlp::Span::SERVER);
  EXPECT_EQ(sent.flags(), 0x301U);
  EXPECT_EQ(sent.start_time_unix_nano(), 10U);
  EXPECT_EQ(sent.end_time_unix_nano(), 20U);
  EXPECT_EQ(sent.attributes(0).value().string_value(), "grpc");
  EXPECT_EQ(sent.attributes(1).value().int_value(), 2379);
  EXPECT_EQ(sent.attributes(2).value().bytes_value(), "\xff");
  EXPECT_TRUE(sent.attributes(3).value().bool_value());
  EXPECT_EQ(sent.status().code(), otlp::SpanStatus::ERROR);
  EXPECT_EQ(sent.status().message(), "no leader");
  exporter.stop(kNeverNs);
}

TEST_F(ExporterTest, AFullBatchGoesAtOnceAndAStopSendsTheRest) {
  Collector collector;
  Exporter exporter({.address = collector.start(), .batch_spans_max = 10, .delay_ns = kNeverNs}, metrics_);
  exporter.start();
  for (int i = 0; i < 10; ++i) exporter.take(span_named("a"));
  ASSERT_TRUE(wait_until([&] { return metrics_.sent.value() == 10; }));
  for (int i = 0; i < 5; ++i) exporter.take(span_named("b"));
  exporter.stop(kNeverNs);
  EXPECT_EQ(metrics_.sent.value(), 15U);
  EXPECT_EQ(metrics_.dropped.value(), 0U);
  EXPECT_EQ(collector.requests().size(), 2U);
  exporter.take(span_named("late"));
  EXPECT_EQ(metrics_.dropped.value(), 1U);
}

TEST_F(ExporterTest, ALargeBatchComesWholeOverManyWindows) {
  Collector collector({.max_request_message_bytes = 64 << 20});
  Exporter exporter({.address = collector.start(), .delay_ns = kNeverNs}, metrics_);
  exporter.start();
  for (int i = 0; i < 300; ++i) {
    Span span = span_named("a");
    span.attributes = {{"key", std::string(CallTrace::kTextBytesMax, 'x')}};
    exporter.take(std::move(span));
  }
  exporter.stop(kNeverNs);
  EXPECT_EQ(metrics_.sent.value(), 300U);
  const auto requests = collector.requests();
  EXPECT_GE(requests.size(), 2U) << "4.7 MB are more than one batch";
  for (const auto& each : requests) EXPECT_LT(each.ByteSizeLong(), 3U << 20);
}

TEST_F(ExporterTest, WithoutACollectorTheQueueIsBoundedAndAStopDoesNotWait) {
  std::string address;
  {
    Collector gone;
    address = gone.start();
  }
  Exporter exporter({.address = address, .queue_spans_max = 100, .batch_spans_max = 100, .delay_ns = kNeverNs},
                    metrics_);
  for (int i = 0; i < 1000; ++i) exporter.take(span_named("a"));
  EXPECT_EQ(metrics_.dropped.value(), 900U);
  exporter.start();
  exporter.stop(kNeverNs);  // it waits for the grace if it waits for the collector
  EXPECT_EQ(metrics_.dropped.value(), 1000U);
  EXPECT_EQ(metrics_.sent.value(), 0U);
}

TEST_F(ExporterTest, TheQueueIsBoundedInBytesToo) {
  Exporter exporter({.queue_bytes_max = 100'000}, metrics_);
  for (int i = 0; i < 100; ++i) {
    Span span = span_named("a");
    span.attributes = {{"key", std::string(10'000, 'x')}};
    exporter.take(std::move(span));
  }
  EXPECT_GE(metrics_.dropped.value(), 91U);
}

TEST_F(ExporterTest, ACollectorThatNeverAnswersDoesNotHoldUpAStop) {
  net::TestServer silent;
  std::atomic<bool> is_asked{false};
  silent.router.add(std::string(kExportPath), [&](net::LambdaHandler& handler, net::Call&) {
    handler.message = [&](net::Call&, std::string_view) { is_asked = true; };
  });
  Exporter exporter({.address = silent.start(), .delay_ns = kSoonNs, .export_timeout_ns = kNeverNs}, metrics_);
  exporter.start();
  exporter.take(span_named("a"));
  ASSERT_TRUE(wait_until([&] { return is_asked.load(); }));
  exporter.stop(0);
  ASSERT_TRUE(wait_until([&] { return metrics_.dropped.value() == 1; }));
}

TEST_F(ExporterTest, ABatchIsSentAgainWhereThatHelps) {
  Collector collector;
  collector.refuse(2, Code::kUnavailable);
  Exporter exporter({.address = collector.start(), .delay_ns = kSoonNs, .export_timeout_ns = kNeverNs, .retry_ns = 1},
                    metrics_);
  exporter.start();
  exporter.take(span_named("a"));
  ASSERT_TRUE(wait_until([&] { return metrics_.sent.value() == 1; }));
  EXPECT_EQ(collector.calls(), 3);
  collector.refuse(1, Code::kInvalidArgument);
  exporter.take(span_named("b"));
  ASSERT_TRUE(wait_until([&] { return metrics_.dropped.value() == 1; }));
  EXPECT_EQ(collector.calls(), 4);
  exporter.stop(kNeverNs);
}

TEST_F(ExporterTest, WhatACollectorRejectsCountsAsDropped) {
  Collector collector;
  otlp::ExportTraceServiceResponse response;
  response.mutable_partial_success()->set_rejected_spans(2);
  collector.answer(response.SerializeAsString());
  Exporter exporter({.address = collector.start(), .batch_spans_max = 3, .delay_ns = kNeverNs}, metrics_);
  exporter.start();
  for (int i = 0; i < 3; ++i) exporter.take(span_named("a"));
  ASSERT_TRUE(wait_until([&] { return metrics_.dropped.value() == 2; }));
  EXPECT_EQ(metrics_.sent.value(), 1U);
  exporter.stop(kNeverNs);
}

TEST_F(ExporterTest, ACollectorMayComeBackAndListenOnAUnixSocket) {
  const testing::TempDir dir;
  const std::string path = dir.path() + "/collector";
  net::ServerOptions options;
  options.listen.push_back({.address = path, .is_unix = true});
  auto first = std::make_unique<Collector>(options);
  first->start();
  Exporter exporter({.address = "unix://" + path, .delay_ns = kSoonNs}, metrics_);
  exporter.start();
  exporter.take(span_named("a"));
  ASSERT_TRUE(wait_until([&] { return metrics_.sent.value() == 1; }));
  first.reset();
  Collector second(options);
  second.start();
  exporter.take(span_named("b"));
  ASSERT_TRUE(wait_until([&] { return metrics_.sent.value() == 2; })) << "over a new connection";
  exporter.stop(kNeverNs);
}

TEST(ExporterOptions, ComeFromTheEnvironment) {
  static std::map<std::string, const char*> variables;
  variables = {{"OTEL_BSP_SCHEDULE_DELAY", "20"},
               {"OTEL_BSP_EXPORT_TIMEOUT", "3000"},
               {"OTEL_BSP_MAX_QUEUE_SIZE", "100"},
               {"OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1000"}};
  const auto find = [](const char* name) -> const char* {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second;
  };
  ExporterOptions options;
  read_environment(options, find);
  EXPECT_EQ(options.delay_ns, 20'000'000);
  EXPECT_EQ(options.export_timeout_ns, 3'000'000'000);
  EXPECT_EQ(options.queue_spans_max, 100U);
  EXPECT_EQ(options.batch_spans_max, 100U);
  variables = {{"OTEL_BSP_SCHEDULE_DELAY", "soon"}, {"OTEL_BSP_MAX_QUEUE_SIZE", "-1"}};
  ExporterOptions untouched;
  read_environment(untouched, find);
  EXPECT_EQ(untouched.delay_ns, ExporterOptions{}.delay_ns);
  EXPECT_EQ(untouched.queue_spans_max, ExporterOptions{}.queue_spans_max);
}

TEST(Resource, IsMergedWithTheEnvironments) {
  EXPECT_THAT(merge_resource(nullptr, nullptr, {{"service.name", "etcd"}}), ElementsAre(Pair("service.name", "etcd")));
  EXPECT_THAT(merge_resource(" b = 2%20x ,bad,a=1%zz", "other", {{"service.name", "etcd"}}),
              ElementsAre(Pair("a", "1%zz"), Pair("b", "2 x"), Pair("service.name", "etcd")));
}

}  // namespace
}  // namespace cairn::tracing
