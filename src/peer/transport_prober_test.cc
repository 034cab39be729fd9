#include "peer/transport_prober.h"

#include <gtest/gtest.h>

#include "peer/transport_world_test.h"

namespace cairn::peer {
namespace {

TEST(Prober, ReadsWhatItWrites) {
  EXPECT_EQ(probing_answer(1'763'688'853'008'113'696), "{\"OK\":true,\"Now\":\"2025-11-21T01:34:13.008113696Z\"}\n");
  EXPECT_EQ(probing_answer(1'763'688'853'500'000'000), "{\"OK\":true,\"Now\":\"2025-11-21T01:34:13.5Z\"}\n");
  EXPECT_EQ(probing_answer(1'763'688'853'000'000'000), "{\"OK\":true,\"Now\":\"2025-11-21T01:34:13Z\"}\n");
  for (const int64_t ns :
       {int64_t{0}, int64_t{1}, int64_t{951'782'399'999'999'999}, int64_t{1'763'688'853'008'113'696}}) {
    EXPECT_EQ(probed_wall_ns(probing_answer(ns)), ns);
  }
  EXPECT_EQ(probed_wall_ns("{\"OK\":true,\"Now\":\"2025-11-21T03:34:13.5+02:00\"}\n"), 1'763'688'853'500'000'000);
  for (const char* text : {"", "{}", "{\"OK\":false,\"Now\":\"2025-11-21T01:34:13Z\"}", "{\"OK\":true}",
                           "{\"OK\":true,\"Now\":\"yesterday\"}", "{\"OK\":true,\"Now\":\"2025-11-21T01:34:13\"}"}) {
    EXPECT_EQ(probed_wall_ns(text), std::nullopt) << text;
  }
}

TEST(Prober, MembersProbeEachOther) {
  const auto often = [](Transport::Options& options) { options.probe_interval_ns = 10'000'000; };
  TestMember a(1, often);
  TestMember b(2, often);
  know_each_other(a, b);
  // Both ways are looked at for the first time after five seconds.
  EXPECT_TRUE(cairn::testing::wait_until(
      [&] { return a.metric("etcd_network_peer_round_trip_time_seconds_count{To=\"2\"}") >= 2; }));
}

}  // namespace
}  // namespace cairn::peer
