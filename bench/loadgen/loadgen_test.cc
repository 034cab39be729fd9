#include <set>

#include <gtest/gtest.h>

#include "base/random.h"
#include "base/wire.h"
#include "loadgen/histogram.h"
#include "loadgen/outage_run.h"
#include "loadgen/permutation.h"
#include "loadgen/workload.h"

namespace cairn::bench {
namespace {

TEST(Histogram, PercentilesAreWithinTwoPercent) {
  Random random(7);
  std::vector<uint64_t> values;
  Histogram histogram;
  for (int i = 0; i < 20'000; ++i) {
    values.push_back(random.next() >> (random.below(60)));
    histogram.add(values.back());
  }
  std::sort(values.begin(), values.end());
  for (const double share : {0.001, 0.5, 0.9, 0.99, 0.999, 1.0}) {
    const auto rank = static_cast<size_t>(share * static_cast<double>(values.size()) + 0.999999) - 1;
    const auto exact = static_cast<double>(values[rank]);
    EXPECT_GE(static_cast<double>(histogram.percentile(share)), exact) << share;
    EXPECT_LE(static_cast<double>(histogram.percentile(share)), exact * 1.02 + 1) << share;
  }
  EXPECT_EQ(histogram.percentile(1.0), values.back());
}

TEST(Histogram, EmptyIsZero) { EXPECT_EQ(Histogram().percentile(0.99), 0u); }

TEST(Outage, AnAnswersTermIsFound) {
  EXPECT_EQ(raft_term_of({}), 0u);
  std::string header;
  wire::append_varint_field(header, 1, 0xfeedull);
  EXPECT_EQ(raft_term_of({"\x0a\x02\x20\x07", 4}), 7u);
  wire::append_varint_field(header, 4, 300);
  std::string answer;
  wire::append_bytes_field(answer, 1, header);
  wire::append_bytes_field(answer, 2, "previous value");
  EXPECT_EQ(raft_term_of(answer), 300u);
}

TEST(Permutation, EveryNumberOnceAndNotInOrder) {
  for (const uint64_t n : {1u, 2u, 3u, 10u, 1000u, 4097u}) {
    const Permutation permutation(n, 5);
    std::set<uint64_t> seen;
    uint64_t steps_of_one = 0;
    for (uint64_t i = 0; i < n; ++i) {
      EXPECT_LT(permutation(i), n);
      seen.insert(permutation(i));
      if (i > 0 && permutation(i) == permutation(i - 1) + 1) ++steps_of_one;
    }
    EXPECT_EQ(seen.size(), n);
    EXPECT_LE(steps_of_one, 2 + n / 100);
  }
}

std::string build(const LoadOptions& options, uint64_t n) {
  auto workload = make_workload(options);
  EXPECT_TRUE(workload);
  std::string out;
  (*workload)->build(n, {}, out);
  return out;
}

TEST(Workload, PutIsKeyAndValue) {
  const std::string message = build({.workload = "put", .keys = 100, .order = "sequential", .value_bytes = 300}, 42);
  wire::Reader in(message);
  ASSERT_TRUE(in.next());
  EXPECT_EQ(in.field(), 1u);
  EXPECT_EQ(in.bytes(), "/bench/0000000042");
  ASSERT_TRUE(in.next());
  EXPECT_EQ(in.field(), 2u);
  EXPECT_EQ(in.bytes().size(), 300u);
  EXPECT_FALSE(in.next());
  EXPECT_TRUE(in.ok());
}

TEST(Workload, TxnNestsItsOperations) {
  const std::string message = build({.workload = "txn", .order = "one"}, 0);
  std::string fields;
  for (wire::Reader in(message); in.next();) {
    fields += fmt::format("{}", in.field());
    wire::Reader operation(in.bytes());
    ASSERT_TRUE(operation.next());
    if (in.field() == 1) continue;
    wire::Reader inner(operation.bytes());
    ASSERT_TRUE(inner.next());
    EXPECT_EQ(inner.bytes(), "/bench/0000000000");
    while (inner.next()) {
    }
    EXPECT_TRUE(inner.ok());
    EXPECT_FALSE(operation.next());
  }
  EXPECT_EQ(fields, "123");
}

TEST(Workload, PagesGoOnBehindTheLastKeyAtOneRevision) {
  auto workload = make_workload({.workload = "pages", .order = "one", .limit = 2});
  ASSERT_TRUE(workload);
  std::string answer;
  wire::append_bytes_field(answer, 1, "\x18\x09");  // header: revision 9
  wire::append_bytes_field(answer, 2, std::string("\x0a\x01", 2) + "a");
  wire::append_bytes_field(answer, 2, std::string("\x0a\x01", 2) + "b");
  wire::append_varint_field(answer, 3, 1);
  CallState state;
  EXPECT_FALSE((*workload)->on_answer(answer, state));
  EXPECT_EQ(state.next_key, std::string("b\0", 2));
  EXPECT_EQ(state.revision, 9);
  EXPECT_EQ((*workload)->keys_seen(), 2u);
  EXPECT_TRUE((*workload)->on_answer("", state));
  EXPECT_EQ(state.next_key, "");
}

TEST(Workload, RefusesWhatItDoesNotKnow) {
  EXPECT_FALSE(make_workload({.workload = "fly", .order = "one"}));
  EXPECT_FALSE(make_workload({.workload = "put", .order = "backwards"}));
}

}  // namespace
}  // namespace cairn::bench
