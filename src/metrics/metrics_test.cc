#include "metrics/metrics.h"

#include <limits>
#include <numeric>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "metrics/identity.h"
#include "metrics/text.h"

namespace cairn::metrics {
namespace {

using ::testing::HasSubstr;

TEST(Counter, CountsFromAllThreads) {
  Counter counter;
  std::vector<std::jthread> threads;
  for (int i = 0; i < 12; ++i) {
    threads.emplace_back([&counter] {
      for (int n = 0; n < 10'000; ++n) counter.add();
    });
  }
  threads.clear();
  EXPECT_EQ(counter.value(), 120'000u);
}

TEST(Histogram, BoundsAreInclusiveAndGrowByTheFactor) {
  Histogram histogram({0.001, 2, 3}, 1e-9);
  EXPECT_EQ(histogram.upper_bounds(), (std::vector<double>{0.001, 0.002, 0.004}));
  histogram.observe(0);
  histogram.observe(1'000'000);
  histogram.observe(1'000'001);
  histogram.observe(4'000'000);
  histogram.observe(5'000'000'000);
  const auto snapshot = histogram.snapshot();
  EXPECT_EQ(snapshot.counts, (std::vector<uint64_t>{2, 1, 1, 1}));
  EXPECT_DOUBLE_EQ(snapshot.sum, 5.006000001);
}

TEST(Registry, RendersTheTextFormat) {
  Registry registry;
  registry.counter("b_total", "Bees.").add(3);
  registry.gauge("a_size", "Ayes.", {{"z", "1"}, {"k", "quo\"te\n"}}).set(-7);
  Histogram& histogram = registry.histogram("h_seconds", "Haitch.", {0.001, 2, 2}, 1e-9);
  histogram.observe(1'500'000);
  histogram.observe(9'000'000);
  registry.collect("c_now", "Sea.", Kind::kGauge, [] { return std::vector<Sample>{{{{"x", "y"}}, 1.5}}; });
  registry.collect("none", "Nothing.", Kind::kGauge, [] { return std::vector<Sample>{}; });
  EXPECT_EQ(registry.render(),
            "# HELP a_size Ayes.\n# TYPE a_size gauge\na_size{k=\"quo\\\"te\\n\",z=\"1\"} -7\n"
            "# HELP b_total Bees.\n# TYPE b_total counter\nb_total 3\n"
            "# HELP c_now Sea.\n# TYPE c_now gauge\nc_now{x=\"y\"} 1.5\n"
            "# HELP h_seconds Haitch.\n# TYPE h_seconds histogram\n"
            "h_seconds_bucket{le=\"0.001\"} 0\nh_seconds_bucket{le=\"0.002\"} 1\nh_seconds_bucket{le=\"+Inf\"} 2\n"
            "h_seconds_sum 0.0105\nh_seconds_count 2\n");
}

TEST(Text, NumbersAreAsGoWritesThem) {
  EXPECT_EQ(number_text(0), "0");
  EXPECT_EQ(number_text(-7), "-7");
  EXPECT_EQ(number_text(999'999), "999999");
  EXPECT_EQ(number_text(1'000'000), "1e+06");
  EXPECT_EQ(number_text(1'048'576), "1.048576e+06");
  EXPECT_EQ(number_text(2'147'483'648), "2.147483648e+09");
  EXPECT_EQ(number_text(18'446'744'073'709'551'615.0), "1.8446744073709552e+19");
  EXPECT_EQ(number_text(0.0001), "0.0001");
  EXPECT_EQ(number_text(0.00001), "1e-05");
  EXPECT_EQ(number_text(52.4288), "52.4288");
  EXPECT_EQ(number_text(std::numeric_limits<double>::infinity()), "+Inf");
}

TEST(Registry, TheSameNameAndLabelsAreTheSameSeries) {
  Registry registry;
  Counter& one = registry.counter("n", "", {{"a", "1"}, {"b", "2"}});
  EXPECT_EQ(&one, &registry.counter("n", "", {{"b", "2"}, {"a", "1"}}));
  EXPECT_NE(&one, &registry.counter("n", "", {{"a", "1"}, {"b", "3"}}));
}

TEST(Registry, MayBeRenderedWhileOthersRecord) {
  Registry registry;
  Counter& counter = registry.counter("n_total", "");
  Histogram& histogram = registry.histogram("n_seconds", "", kDiskBuckets);
  std::atomic<bool> stop{false};
  std::jthread writer([&] {
    while (!stop) {
      counter.add();
      histogram.observe(100'000);
    }
  });
  for (int i = 0; i < 20; ++i) EXPECT_THAT(registry.render(), HasSubstr("n_total "));
  stop = true;
}

TEST(StopWatch, ObservesHowLongItLives) {
  Histogram histogram(kDiskBuckets, kSeconds);
  {
    const StopWatch watch(&histogram);
    const StopWatch nobody_looks(nullptr);
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  const Histogram::Snapshot seen = histogram.snapshot();
  EXPECT_EQ(std::accumulate(seen.counts.begin(), seen.counts.end(), uint64_t{0}), 1u);
  EXPECT_GE(seen.sum, 0.002);
  EXPECT_EQ(seen.counts[0], 0u) << "more than a millisecond";
}

TEST(Histogram, TakesSeveralAtOnce) {
  Histogram histogram({1, 2, 3}, 1);
  histogram.observe(2, 5);
  EXPECT_EQ(histogram.snapshot().counts[1], 5u);
  EXPECT_EQ(histogram.snapshot().sum, 10);
}

TEST(Process, SaysWhatTheKernelSays) {
  Registry registry;
  add_process(registry);
  const std::string text = registry.render();
  const auto value_of = [&](const std::string& name) {
    const size_t at = text.find("\n" + name + " ");
    return at == std::string::npos ? -1.0 : std::stod(text.substr(at + name.size() + 2));
  };
  EXPECT_GT(value_of("process_resident_memory_bytes"), 1e6);
  EXPECT_GT(value_of("process_virtual_memory_bytes"), value_of("process_resident_memory_bytes"));
  const double anonymous = value_of("cairn_resident_memory_bytes{kind=\"anonymous\"}");
  const double file = value_of("cairn_resident_memory_bytes{kind=\"file\"}");
  EXPECT_GT(anonymous, 1e5);
  EXPECT_GT(file, 1e5);
  EXPECT_NEAR(anonymous + file, value_of("process_resident_memory_bytes"), 4e6);
  EXPECT_GE(value_of("process_open_fds"), 3);
  EXPECT_GE(value_of("os_fd_limit"), value_of("os_fd_used"));
  const double now = static_cast<double>(time(nullptr));
  EXPECT_NEAR(value_of("process_start_time_seconds"), now, 300);
  EXPECT_GE(value_of("process_cpu_seconds_total"), 0);
}

TEST(ClusterVersion, IsAbsentUntilDecidedAndHasTwoParts) {
  Registry registry;
  std::string version;
  add_cluster_version(registry, [&] { return version; });
  EXPECT_EQ(registry.render(), "");
  version = "3.7.0";
  EXPECT_THAT(registry.render(), HasSubstr("etcd_cluster_version{cluster_version=\"3.7\"} 1\n"));
  version = "3.6.0";
  EXPECT_THAT(registry.render(), HasSubstr("etcd_cluster_version{cluster_version=\"3.6\"} 1\n"
                                           "etcd_cluster_version{cluster_version=\"3.7\"} 0\n"));
}

}  // namespace
}  // namespace cairn::metrics
