#include "tracing/tracer.h"

#include <set>

#include <gmock/gmock.h>

#include "testing/manual_clock.h"

namespace cairn::tracing {
namespace {

using ::testing::ElementsAre;

constexpr std::string_view kCaller = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

struct Collected final : SpanSink {
  void take(Span span) override { spans.push_back(std::move(span)); }
  void note_dropped(uint64_t count) override { dropped += count; }
  std::vector<Span> spans;
  uint64_t dropped = 0;
};

class TracerTest : public ::testing::Test {
 protected:
  std::shared_ptr<CallTrace> begin(Tracer::Asked asked, uint32_t samples_per_million = kAlways) {
    tracer_.emplace(Tracer::Options{samples_per_million, 7}, clock_, sink_);
    if (asked.path.empty()) asked.path = "/etcdserverpb.KV/Put";
    return tracer_->begin(asked, [] { return std::string("127.0.0.1:2379"); });
  }
  testing::ManualClock clock_;
  Collected sink_;
  std::optional<Tracer> tracer_;
};

TEST_F(TracerTest, ACallIsASpanWithItsSteps) {
  clock_.now_ns = 5'000;
  const auto call = begin({});
  ASSERT_NE(call, nullptr);
  clock_.now_ns = 5'100;
  call->open("put", {{"key", "k"}});
  clock_.now_ns = 5'300;
  call->end(Code::kOk, "");
  ASSERT_EQ(sink_.spans.size(), 2U);
  const Span& step = sink_.spans[0];
  const Span& own = sink_.spans[1];
  EXPECT_EQ(own.name, "etcdserverpb.KV/Put");
  EXPECT_EQ(own.kind, Span::Kind::kServer);
  EXPECT_EQ(own.parent, 0U);
  EXPECT_TRUE(own.context.valid());
  EXPECT_EQ(own.context.flags, 1);
  EXPECT_EQ(own.began_ns, 5'000);
  EXPECT_EQ(own.ended_ns, 5'300);
  EXPECT_FALSE(own.failed);
  EXPECT_THAT(own.attributes,
              ElementsAre(Attribute{"rpc.method", "etcdserverpb.KV/Put"}, Attribute{"rpc.system.name", "grpc"},
                          Attribute{"server.address", "127.0.0.1"}, Attribute{"server.port", int64_t{2379}},
                          Attribute{"rpc.response.status_code", "OK"}));
  EXPECT_EQ(step.name, "put");
  EXPECT_EQ(step.kind, Span::Kind::kInternal);
  EXPECT_EQ(step.parent, own.context.span);
  EXPECT_EQ(step.context.trace, own.context.trace);
  EXPECT_NE(step.context.span, own.context.span);
  EXPECT_EQ(step.began_ns, 5'100);
  EXPECT_EQ(step.ended_ns, 5'300);
  EXPECT_THAT(step.attributes, ElementsAre(Attribute{"key", "k"}));
}

TEST_F(TracerTest, ACallerThatSaysSoDecides) {
  const auto sampled = begin({.traceparent = kCaller, .tracestate = "a=1"}, 0);
  ASSERT_NE(sampled, nullptr);
  sampled->end(Code::kOk, "");
  const Span& own = sink_.spans.at(0);
  EXPECT_EQ(own.context.trace, (TraceId{0x0af7651916cd43dd, 0x8448eb211c80319c}));
  EXPECT_EQ(own.parent, 0xb7ad6b7169203331);
  EXPECT_TRUE(own.is_parent_remote);
  EXPECT_EQ(own.context.state, "a=1");
  EXPECT_EQ(begin({.traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"}), nullptr);
  EXPECT_EQ(begin({.traceparent = "nonsense"}, 0), nullptr) << "as without one";
  EXPECT_NE(begin({.traceparent = "nonsense"}), nullptr);
}

TEST_F(TracerTest, SoManyOfAMillionAreSampled) {
  EXPECT_TRUE(is_sampled({1, UINT64_MAX}, kAlways));
  EXPECT_FALSE(is_sampled({1, 0}, 0));
  EXPECT_TRUE(is_sampled({1, 0}, 1));
  EXPECT_TRUE(is_sampled({0, UINT64_MAX / 2 - 2}, 500'000));
  EXPECT_FALSE(is_sampled({0, UINT64_MAX / 2 + 2}, 500'000));
  tracer_.emplace(Tracer::Options{100'000, 7}, clock_, sink_);
  int sampled = 0;
  for (int i = 0; i < 10'000; ++i) {
    if (tracer_->begin({.path = "/a/b"}, [] { return std::string(); }) != nullptr) ++sampled;
  }
  EXPECT_NEAR(sampled, 1000, 150);  // of this seed
}

TEST_F(TracerTest, IdsAreTheirOwn) {
  IdSource ids(3);
  std::set<uint64_t> seen;
  for (int i = 0; i < 1000; ++i) EXPECT_TRUE(seen.insert(ids.next()).second);
  EXPECT_FALSE(seen.contains(0));
}

TEST_F(TracerTest, OnlyTheServersFaultsAreErrors) {
  begin({})->end(Code::kNotFound, "etcdserver: requested lease not found");
  EXPECT_FALSE(sink_.spans.back().failed);
  EXPECT_EQ(sink_.spans.back().error, "");
  EXPECT_EQ(sink_.spans.back().attributes.back(), (Attribute{"rpc.response.status_code", "NOT_FOUND"}));
  begin({})->end(Code::kUnavailable, "etcdserver: no leader");
  EXPECT_TRUE(sink_.spans.back().failed);
  EXPECT_EQ(sink_.spans.back().error, "etcdserver: no leader");
}

TEST_F(TracerTest, StepsEndByTheirKeys) {
  const auto call = begin({});
  call->open("lease_renew", {}, 1);
  call->open("lease_renew", {}, 2);
  call->close(2);
  call->close(7);
  EXPECT_EQ(sink_.spans.size(), 1U);
  call->end(Code::kCancelled, "");
  EXPECT_EQ(sink_.spans.size(), 3U);
  call->end(Code::kOk, "");
  call->open("late", {});
  call->close(0);
  EXPECT_EQ(sink_.spans.size(), 3U);
}

TEST_F(TracerTest, OpenStepsAndTheirTextsHaveAnEnd) {
  const auto call = begin({});
  for (size_t i = 0; i < CallTrace::kOpenMax + 5; ++i) {
    call->open("watch", {{"key", std::string(CallTrace::kTextBytesMax + 5, 'k')}}, i);
  }
  EXPECT_EQ(sink_.dropped, 5U);
  call->close(0);
  EXPECT_EQ(std::get<std::string>(sink_.spans.at(0).attributes.at(0).value).size(), CallTrace::kTextBytesMax);
}

TEST_F(TracerTest, ACallWithinIsPartOfIt) {
  const auto outer = begin({});
  const auto inner = outer->within();
  inner->open("txn", {});
  inner->end(Code::kOk, "");
  outer->end(Code::kOk, "");
  ASSERT_EQ(sink_.spans.size(), 2U) << "an inner call has no span of its own, but its steps";
  EXPECT_EQ(sink_.spans[0].parent, sink_.spans[1].context.span);
}

TEST_F(TracerTest, AddressesOfAllKinds) {
  tracer_.emplace(Tracer::Options{kAlways, 7}, clock_, sink_);
  const auto attributes = [this](const std::string& address) {
    tracer_->begin({.path = "/a/b"}, [&] { return address; })->end(Code::kOk, "");
    Attributes all = sink_.spans.back().attributes;
    return Attributes(all.begin() + 2, all.end() - 1);
  };
  EXPECT_THAT(attributes("[::1]:80"),
              ElementsAre(Attribute{"server.address", "::1"}, Attribute{"server.port", int64_t{80}}));
  EXPECT_THAT(attributes("/run/cairn.sock"), ElementsAre(Attribute{"server.address", "/run/cairn.sock"}));
  EXPECT_THAT(attributes(""), ElementsAre());
}

}  // namespace
}  // namespace cairn::tracing
