// tracing/exporter.h: sends spans to a collector of OpenTelemetry, over OTLP and gRPC in clear text.
//
//     take() -> queue, bounded -> a thread -> batch -> collector
//
// A batch goes when it is full, or `delay_ns` after the one before. What the collector does not take in
// `export_timeout_ns` is dropped, and so is what comes while the queue is full: nobody waits, and memory stays bounded.
// Both are counted. That the collector is away is said once in the log, and once more when it is back.
//
// Threads: take() any; start() and stop() the program's.
// Source:  OpenTelemetry's Go library 1.43: BatchSpanProcessor, otlptracegrpc; its environment variables OTEL_BSP_*.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>

#include "metrics/metrics.h"
#include "tracing/otlp.h"
#include "tracing/tracer.h"

namespace cairn::tracing {

struct ExporterOptions {
  std::string address = "localhost:4317";  // as gRPC writes it
  Resource resource;
  size_t queue_spans_max = 2048;
  size_t queue_bytes_max = 16 << 20;
  size_t batch_spans_max = 512;
  size_t batch_bytes_max = 2 << 20;  // collectors take messages of 4 MB
  int64_t delay_ns = 5'000'000'000;
  int64_t export_timeout_ns = 10'000'000'000;
  int64_t retry_ns = 1'000'000'000;  // the first pause before a batch is sent again; doubles
};

// `find`: the environment. What is no positive number there is as not set.
void read_environment(ExporterOptions& options, const char* (*find)(const char* name));

struct ExporterMetrics {
  explicit ExporterMetrics(metrics::Registry& registry)
      : sent(registry.counter("cairn_tracing_spans_sent_total", "Spans that the collector has taken.")),
        dropped(registry.counter("cairn_tracing_spans_dropped_total",
                                 "Spans that the collector did not take, or that the queue had no room for.")) {}
  metrics::Counter& sent;
  metrics::Counter& dropped;
};

class Exporter final : public SpanSink {
 public:
  // `metrics` outlives the exporter and, if stop() gave up on it, its thread.
  Exporter(ExporterOptions options, ExporterMetrics& metrics);
  ~Exporter() override;  // stops at once when it was started
  Exporter(const Exporter&) = delete;
  Exporter& operator=(const Exporter&) = delete;

  void start();
  // Sends what there is for at most `grace_ns`. A thread that looks a name up for longer is left behind.
  void stop(int64_t grace_ns);

  void take(Span span) override;
  void note_dropped(uint64_t spans) override;

 private:
  struct State;
  std::shared_ptr<State> state_;  // the thread's as well
};

}  // namespace cairn::tracing
