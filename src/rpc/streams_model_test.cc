#include <gtest/gtest.h>

#include "base/log.h"
#include "base/random.h"
#include "rpc/test_stream_life.h"

namespace cairn::rpc {
namespace {

// Bytes by chance say all that the fuzzer's may; the counts say that they come that deep.
TEST(StreamsModel, KeepEtcdsGuarantees) {
  log::set_sink([](const log::Entry&) {}, log::Level::kFatal);
  test::StreamLife::Counts sum;
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    Random chance(seed);
    std::string bytes(300, '\0');
    for (char& byte : bytes) byte = static_cast<char>(chance.next());
    test::StreamLife life;
    life.run(bytes);
    ASSERT_EQ(life.failure(), "") << "seed " << seed;
    const test::StreamLife::Counts& counts = life.counts();
    sum.created += counts.created;
    sum.refused += counts.refused;
    sum.cancelled += counts.cancelled;
    sum.compacted += counts.compacted;
    sum.events += counts.events;
    sum.progress += counts.progress;
    sum.renewed += counts.renewed;
    sum.renewed_none += counts.renewed_none;
    sum.ended += counts.ended;
  }
  log::set_sink(nullptr, log::Level::kWarn);
  EXPECT_GT(sum.created, 100u);
  EXPECT_GT(sum.refused, 20u);
  EXPECT_GT(sum.cancelled, 10u);
  EXPECT_GT(sum.compacted, 2u);
  EXPECT_GT(sum.events, 400u);
  EXPECT_GT(sum.progress, 20u);
  EXPECT_GT(sum.renewed, 4u);
  EXPECT_GT(sum.renewed_none, 10u);
  EXPECT_GT(sum.ended, 10u);
}

}  // namespace
}  // namespace cairn::rpc
