// cairn_loadgen: gRPC load for a Cairn or etcd endpoint, from one thread. `cairn_loadgen` alone prints the usage.

#include <cstdio>
#include <string>
#include <string_view>
#include <thread>

#include "loadgen/fsync_probe.h"
#include "loadgen/handshake_run.h"
#include "loadgen/json_run.h"
#include "loadgen/outage_run.h"
#include "loadgen/runner.h"
#include "loadgen/watch_run.h"

namespace cairn::bench {
namespace {

std::string latency_json(const Histogram& latency_us) {
  return fmt::format(R"({{"p50":{},"p90":{},"p99":{},"p999":{},"max":{},"mean":{:.1f}}})", latency_us.percentile(0.5),
                     latency_us.percentile(0.9), latency_us.percentile(0.99), latency_us.percentile(0.999),
                     latency_us.max(), latency_us.mean());
}

std::string to_json(const LoadOptions& options, const Figures& figures) {
  const double seconds = static_cast<double>(figures.end_ns - figures.begin_ns) / 1e9;
  const auto good = static_cast<double>(figures.good);
  const double cpu_seconds = static_cast<double>(figures.cpu_ns) / 1e9;
  std::string errors;
  for (const auto& [status, count] : figures.errors) {
    errors += fmt::format(R"({}"{}":{})", errors.empty() ? "" : ",", status, count);
  }
  std::string out = fmt::format(
      R"({{"workload":"{}","connections":{},"streams":{},"seconds":{:.6f},"ops":{},"ops_per_s":{:.1f},)"
      R"("lists":{},"latency_us":{},"cpu_us_per_op":{:.3f},"cpu_share":{:.3f},"body_bytes":{},"keys_seen":{},"resumed":{},)"
      R"("begin_ns":{},"end_ns":{},"first_good_ns":{},"errors":{{{}}})",
      options.workload, options.connections, options.streams, seconds, figures.good, seconds > 0 ? good / seconds : 0,
      figures.lists, latency_json(figures.latency_us), good > 0 ? cpu_seconds * 1e6 / good : 0,
      seconds > 0 ? cpu_seconds / seconds : 0, figures.body_bytes, figures.keys_seen, figures.resumed, figures.begin_ns,
      figures.end_ns, figures.first_good_ns, errors);
  if (options.interval_ms != 0) {
    out += ",\"intervals\":[";
    for (size_t i = 0; i < figures.intervals.size(); ++i) {
      const Interval& interval = *figures.intervals[i];
      std::string buckets;
      interval.latency_us.for_each_bucket([&](uint64_t edge, uint64_t count) {
        buckets += fmt::format("{}[{},{}]", buckets.empty() ? "" : ",", edge, count);
      });
      out += fmt::format(R"({}{{"end_ns":{},"ops":{},"latency_us":{},"buckets":[{}]}})", i == 0 ? "" : ",",
                         interval.end_ns, interval.latency_us.count(), latency_json(interval.latency_us), buckets);
    }
    out += "]";
  }
  return out + "}";
}

// One run; with --wait again and again until an answer is good. The pause is short: restarts are timed with it.
Result<std::unique_ptr<Figures>> run(LoadOptions options) {
  const uint64_t give_up_ns = now_ns() + static_cast<uint64_t>(options.wait_seconds * 1e9);
  if (options.wait_seconds > 0) options.timeout_seconds = std::min(options.timeout_seconds, 2.0);
  while (true) {
    CAIRN_TRY(const std::unique_ptr<Workload> workload, make_workload(options));
    auto figures = Runner(options, *workload).run();
    const bool good = figures && (*figures)->good > 0;
    if (good || now_ns() >= give_up_ns) return figures;
    std::this_thread::sleep_for(std::chrono::microseconds(500));
  }
}

int fail_with(const Error& error) {
  fmt::print(stderr, "{}\n", error.message);
  return error.code == Code::kInvalidArgument ? 64 : 1;
}

int main(int count, char** args) {
  if (count == 0) {
    fmt::print(stderr, "{}", kUsage);
    return 64;
  }
  if (count == 2 && std::string_view(args[0]) == "fsync") {
    const auto times_us = probe_fsync(args[1], 500);
    if (!times_us) return fail_with(times_us.error());
    fmt::print("{}\n", latency_json(*times_us));
    return 0;
  }
  const auto options = parse_options(count, args);
  if (!options) return fail_with(options.error());
  if (options->workload == "watch") {
    const auto figures = run_watch(*options);
    if (!figures) return fail_with(figures.error());
    fmt::print("{}\n", to_json(**figures));
    return 0;
  }
  if (options->workload == "outage") {
    const Status done = run_outage(*options);
    return done ? 0 : fail_with(done.error());
  }
  const auto figures = options->workload.starts_with("json-") ? run_json(*options)
                       : options->workload == "handshake"     ? run_handshakes(*options)
                                                              : run(*options);
  if (!figures) return fail_with(figures.error());
  fmt::print("{}\n", to_json(*options, **figures));
  return (*figures)->good > 0 && (*figures)->errors.empty() ? 0 : 1;
}

}  // namespace
}  // namespace cairn::bench

int main(int argc, char** argv) { return cairn::bench::main(argc - 1, argv + 1); }
