#include "tracing/exporter.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstring>
#include <optional>
#include <thread>

#include "base/log.h"
#include "base/mutex.h"
#include "net/client/grpc_client.h"

namespace cairn::tracing {
namespace {

using Clock = std::chrono::steady_clock;

Clock::time_point at(int64_t monotonic_ns) { return Clock::time_point(std::chrono::nanoseconds(monotonic_ns)); }

// Whether the same batch may be taken the next time.
bool is_retryable(Code code) {
  switch (code) {
    case Code::kCancelled:
    case Code::kDeadlineExceeded:
    case Code::kAborted:
    case Code::kOutOfRange:
    case Code::kUnavailable:
    case Code::kDataLoss: return true;
    default: return false;
  }
}

}  // namespace

void read_environment(ExporterOptions& options, const char* (*find)(const char* name)) {
  const auto number = [find](const char* name) -> std::optional<int64_t> {
    const char* const text = find(name);
    if (text == nullptr) return std::nullopt;
    int64_t value = 0;
    const char* const end = text + std::strlen(text);
    const auto [stop, error] = std::from_chars(text, end, value);
    constexpr int64_t kMax = 1'000'000'000;
    return error == std::errc() && stop == end && value > 0 ? std::optional(std::min(value, kMax)) : std::nullopt;
  };
  constexpr int64_t kMillisecondNs = 1'000'000;
  if (const auto given = number("OTEL_BSP_SCHEDULE_DELAY")) options.delay_ns = *given * kMillisecondNs;
  if (const auto given = number("OTEL_BSP_EXPORT_TIMEOUT")) {
    options.export_timeout_ns = std::min(options.export_timeout_ns, *given * kMillisecondNs);
  }
  if (const auto given = number("OTEL_BSP_MAX_QUEUE_SIZE")) options.queue_spans_max = static_cast<size_t>(*given);
  if (const auto given = number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE")) {
    options.batch_spans_max = static_cast<size_t>(*given);
  }
  options.batch_spans_max = std::min(options.batch_spans_max, options.queue_spans_max);
}

struct Exporter::State {
  State(ExporterOptions wanted, ExporterMetrics& counts) : options(std::move(wanted)), metrics(counts) {}

  // --- any thread

  void take(Span span) {
    const size_t bytes = span.bytes();
    {
      const MutexLock lock(mutex);
      const bool has_room = queue.size() < options.queue_spans_max && queue_bytes + bytes <= options.queue_bytes_max;
      if (has_room && !is_stopping) {
        queue.push_back(std::move(span));
        queue_bytes += bytes;
        if (queue.size() == options.batch_spans_max || queue_bytes >= options.batch_bytes_max) changed.notify_one();
        return;
      }
    }
    metrics.dropped.add();
  }

  // --- the exporter's thread

  void run() {
    int64_t next_ns = net::monotonic_now_ns() + options.delay_ns;
    std::vector<Span> batch;
    while (wait_for_batch(next_ns, batch)) {
      next_ns = net::monotonic_now_ns() + options.delay_ns;
      if (!batch.empty()) send(batch);
    }
    client.reset();
    const MutexLock lock(mutex);
    is_over = true;
    changed.notify_all();
  }

  // False: there is nothing more to send, and there will not be.
  bool wait_for_batch(int64_t latest_ns, std::vector<Span>& batch) {
    batch.clear();
    MutexLock lock(mutex);
    while (!is_stopping && queue.size() < options.batch_spans_max && queue_bytes < options.batch_bytes_max) {
      if (!changed.wait_until(lock, at(latest_ns))) break;
    }
    if (is_stopping && queue.empty()) return false;
    for (size_t bytes = 0; !queue.empty() && batch.size() < options.batch_spans_max;) {
      const size_t next = queue.front().bytes();
      if (bytes > 0 && bytes + next > options.batch_bytes_max) break;
      bytes += next;
      queue_bytes -= next;
      batch.push_back(std::move(queue.front()));
      queue.pop_front();
    }
    return true;
  }

  void send(std::span<const Span> batch) {
    const std::string request = encode_request(options.resource, batch);
    const int64_t deadline_ns = net::monotonic_now_ns() + options.export_timeout_ns;
    int64_t pause_ns = options.retry_ns;
    while (true) {
      const auto answered = call(request, deadline_ns);
      if (answered) return note_taken(batch.size(), *answered);
      const int64_t later_ns = net::monotonic_now_ns() + pause_ns;
      if (!is_retryable(answered.error().code) || !patience.has_time(deadline_ns) || !pause(later_ns, deadline_ns)) {
        return note_failed(batch.size(), answered.error());
      }
      pause_ns *= 2;
    }
  }

  Result<std::string> call(const std::string& request, int64_t deadline_ns) {
    const bool is_new = client == nullptr || !client->is_open();
    if (is_new) CAIRN_CHECK(connect(deadline_ns));
    auto answered = client->call(kExportPath, request, deadline_ns);
    if (answered || is_new || client->is_open() || answered.error().code != Code::kUnavailable) return answered;
    // The connection had ended since the batch before, which is no failure of this one.
    CAIRN_CHECK(connect(deadline_ns));
    return client->call(kExportPath, request, deadline_ns);
  }

  Status connect(int64_t deadline_ns) {
    client.reset();
    CAIRN_TRY(const net::GrpcTarget target, net::parse_grpc_target(options.address));
    CAIRN_TRY(client, net::GrpcClient::connect(target, patience, deadline_ns));
    return {};
  }

  // False: there is no time for it.
  bool pause(int64_t until_ns, int64_t deadline_ns) {
    if (until_ns >= deadline_ns) return false;
    MutexLock lock(mutex);
    while (!is_stopping) {
      if (!changed.wait_until(lock, at(until_ns))) return true;
    }
    return false;  // a stop does not wait for a collector that is away
  }

  void note_taken(size_t count, std::string_view answer) {
    const auto rejected = decode_response(answer);
    const auto lost =
        static_cast<size_t>(std::clamp<int64_t>(rejected ? rejected->spans : 0, 0, static_cast<int64_t>(count)));
    metrics.sent.add(count - lost);
    metrics.dropped.add(lost);
    if (rejected && (lost != 0 || !rejected->reason.empty())) {
      log::warn("the collector did not take all spans", {{"rejected", lost}, {"reason", rejected->reason}});
    }
    if (std::exchange(is_failing, false)) log::info("spans reach the collector again", {{"address", options.address}});
  }

  void note_failed(size_t count, const Error& error) {
    metrics.dropped.add(count);
    if (std::exchange(is_failing, true)) return;
    log::warn("traces export: spans are dropped until the collector takes them",
              {{"address", options.address}, {"error", error.message}});
  }

  const ExporterOptions options;
  ExporterMetrics& metrics;
  net::Patience patience;

  Mutex mutex;
  Condition changed;
  std::deque<Span> queue CAIRN_GUARDED_BY(mutex);
  size_t queue_bytes CAIRN_GUARDED_BY(mutex) = 0;
  bool is_stopping CAIRN_GUARDED_BY(mutex) = false;
  bool is_started CAIRN_GUARDED_BY(mutex) = false;
  bool is_over CAIRN_GUARDED_BY(mutex) = false;

  std::unique_ptr<net::GrpcClient> client;
  bool is_failing = false;
};

Exporter::Exporter(ExporterOptions options, ExporterMetrics& metrics)
    : state_(std::make_shared<State>(std::move(options), metrics)) {}

Exporter::~Exporter() { stop(0); }

void Exporter::start() {
  {
    const MutexLock lock(state_->mutex);
    state_->is_started = true;
  }
  std::thread([state = state_] { state->run(); }).detach();
}

void Exporter::stop(int64_t grace_ns) {
  constexpr int64_t kAfterwardsNs = 500'000'000;  // for the thread to notice
  const int64_t deadline_ns = net::monotonic_now_ns() + grace_ns;
  MutexLock lock(state_->mutex);
  if (!state_->is_started || state_->is_over) return;
  state_->is_stopping = true;
  state_->patience.end_by(deadline_ns);
  state_->changed.notify_all();
  while (!state_->is_over) {
    if (!state_->changed.wait_until(lock, at(deadline_ns + kAfterwardsNs))) return;
  }
}

void Exporter::take(Span span) { state_->take(std::move(span)); }

void Exporter::note_dropped(uint64_t spans) { state_->metrics.dropped.add(spans); }

}  // namespace cairn::tracing
