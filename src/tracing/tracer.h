// tracing/tracer.h: which requests are traced, and the spans of one request while it lasts.
//
//     Tracer::begin() -> CallTrace: open(), close() of its steps, end() -> Exporter
//
// A caller that says whether its trace is sampled decides. Without such a caller so many of a million are, told by the
// low half of the trace's id, so that all who look at the same id come to the same answer.
//
// Threads: a Tracer any; a CallTrace those of its call's loop.
// Source:  etcd 3.7.1, server/embed/config_tracing.go; OpenTelemetry's Go library 1.43, ParentBased(TraceIDRatioBased).
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "env/clock.h"
#include "tracing/span.h"

namespace cairn::tracing {

// Takes the spans that are over.
class SpanSink {
 public:
  virtual ~SpanSink() = default;
  // Threads: any. Does not wait.
  virtual void take(Span span) = 0;
  virtual void note_dropped(uint64_t spans) = 0;
};

inline constexpr uint32_t kAlways = 1'000'000;

[[nodiscard]] bool is_sampled(TraceId trace, uint32_t samples_per_million);

// The random numbers of ids, for many threads at once.
class IdSource {
 public:
  explicit IdSource(uint64_t seed) : state_(seed) {}
  // Not 0.
  uint64_t next();

 private:
  std::atomic<uint64_t> state_;
};

class CallTrace;

class Tracer {
 public:
  struct Options {
    uint32_t samples_per_million = 0;
    uint64_t seed = 0;  // of the ids
  };
  // `clock` and `sink` outlive the tracer and its calls.
  Tracer(const Options& options, const env::Clock& clock, SpanSink& sink);

  struct Asked {
    std::string_view path;         // "/etcdserverpb.KV/Put"
    std::string_view traceparent;  // "": there is none
    std::string_view tracestate;
  };
  // The call begins. `local_address`: a function that gives where it came in, "host:port" or "", asked for calls that
  // are traced. Null: the call is not traced.
  template <class Address>
  [[nodiscard]] std::shared_ptr<CallTrace> begin(const Asked& asked, const Address& local_address) {
    auto context = sample(asked);
    return context ? begin_sampled(asked.path, *std::move(context), local_address()) : nullptr;
  }

 private:
  friend class CallTrace;
  struct Begun {
    SpanContext context;  // the call's own
    uint64_t parent = 0;
  };
  [[nodiscard]] std::optional<Begun> sample(const Asked& asked);
  [[nodiscard]] std::shared_ptr<CallTrace> begin_sampled(std::string_view path, Begun begun,
                                                         const std::string& local_address);

  const Options options_;
  const env::Clock& clock_;
  SpanSink& sink_;
  IdSource ids_;
};

// The spans of one call: the one of the call itself, and those of its steps.
class CallTrace {
 public:
  static constexpr size_t kOpenMax = 1000;        // steps at once; more are dropped
  static constexpr size_t kTextBytesMax = 16384;  // of an attribute; more is cut off

  CallTrace(Tracer& tracer, SpanContext context);
  ~CallTrace();
  CallTrace(const CallTrace&) = delete;
  CallTrace& operator=(const CallTrace&) = delete;

  // A step begins, and ends with close() or with the call. `key`: tells it from others that are open.
  void open(std::string_view name, Attributes attributes, uint64_t key = 0);
  void close(uint64_t key);
  // The call is over; later calls of these functions do nothing.
  void end(Code code, std::string_view message);
  // Of a call that is made for this one: its steps are this call's.
  [[nodiscard]] std::shared_ptr<CallTrace> within() const;

 private:
  friend class Tracer;
  struct Step {
    uint64_t key;
    Span span;
  };
  [[nodiscard]] int64_t now_ns() const;
  void finish(Span& span);

  Tracer& tracer_;
  const SpanContext context_;
  const int64_t began_wall_ns_;
  const int64_t began_ns_;
  std::optional<Span> own_;
  std::vector<Step> open_;
  bool is_over_ = false;
};

}  // namespace cairn::tracing
