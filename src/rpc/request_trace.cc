#include "rpc/request_trace.h"

#include <chrono>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "base/go_duration.h"
#include "base/log.h"
#include "proto/rpc.pb.h"
#include "rpc/request_stats.h"

namespace cairn::rpc {
namespace {

using etcdserverpb::RangeResponse;
using etcdserverpb::TxnResponse;

std::string duration(int64_t ns) { return go_duration(std::chrono::nanoseconds(ns)); }

template <class Message>
bool parse(std::string_view bytes, Message& out) {
  return !bytes.empty() && out.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()));
}

// "{key:a; req_size:3; }", "" without any.
class Detail {
 public:
  void add(std::string_view key, const auto& value) { out_ += fmt::format("{}:{}; ", key, value); }
  [[nodiscard]] std::string text() const { return out_.empty() ? "" : "{" + out_ + "}"; }

 private:
  std::string out_;
};

std::string_view operation_of(std::string_view method) {
  if (method == "Range") return "range";
  if (method == "Put") return "put";
  if (method == "Txn") return "transaction";
  if (method == "Compact") return "compact";
  return "";  // etcd traces no other
}

std::string detail_of(const SlowRequest& slow) {
  Detail detail;
  const std::string_view method = slow.method.name;
  if (etcdserverpb::RangeRequest request; method == "Range" && parse(slow.request, request)) {
    detail.add("range_begin", request.key());
    detail.add("range_end", request.range_end());
  }
  if (etcdserverpb::PutRequest request; method == "Put" && parse(slow.request, request)) {
    detail.add("key", request.key());
    detail.add("req_size", slow.request_bytes);
  }
  if (method == "Txn") detail.add("read_only", slow.reads);
  if (etcdserverpb::CompactionRequest request; method == "Compact" && parse(slow.request, request)) {
    detail.add("revision", request.revision());
  }
  if (RangeResponse response; method == "Range" && parse(slow.answer, response)) {
    detail.add("response_count", response.kvs_size());
    detail.add("response_revision", response.header().revision());
  }
  if (TxnResponse response; method == "Txn" && parse(slow.answer, response)) {
    detail.add("number_of_response", response.responses_size());
    detail.add("response_revision", response.header().revision());
  }
  if (etcdserverpb::PutResponse response; method == "Put" && parse(slow.answer, response)) {
    detail.add("response_revision", response.header().revision());
  }
  if (etcdserverpb::CompactionResponse response; method == "Compact" && parse(slow.answer, response)) {
    detail.add("response_revision", response.header().revision());
  }
  return detail.text();
}

// Those that took more than their share of the threshold.
std::vector<std::string> steps_of(const SlowRequest& slow) {
  std::vector<std::pair<std::string_view, int64_t>> steps;
  if (slow.agreed_ns > 0) steps.emplace_back("agreement among raft nodes before linearized reading", slow.agreed_ns);
  steps.emplace_back(slow.reads ? "assemble the response" : "process raft request", slow.took_ns - slow.agreed_ns);
  const int64_t share_ns = kTraceThresholdNs / static_cast<int64_t>(steps.size() + 1);
  std::vector<std::string> out;
  for (const auto& [name, took_ns] : steps) {
    if (took_ns > share_ns) out.push_back(fmt::format("'{}'  (duration: {})", name, duration(took_ns)));
  }
  return out;
}

void log_trace(const SlowRequest& slow, uint32_t trace_id) {
  const std::vector<std::string> steps = steps_of(slow);
  const auto count = static_cast<int64_t>(steps.size());
  const log::Field fields[] = {{"trace_id", int64_t{trace_id & INT32_MAX}},
                               {"operation", std::string(operation_of(slow.method.name))},
                               {"detail", detail_of(slow)},
                               {"duration", duration(slow.took_ns)},
                               {"start", time_text(slow.began_wall_ns)},
                               {"end", time_text(slow.began_wall_ns + slow.took_ns)},
                               {"steps", steps},
                               {"step_count", count}};
  log::write(log::Level::kInfo, "trace", std::span<const log::Field>(fields));
}

std::string response_text(const SlowRequest& slow) {
  if (RangeResponse response; slow.method.name == "Range" && parse(slow.answer, response)) {
    return fmt::format("range_response_count:{} size:{}", response.kvs_size(), slow.answer.size());
  }
  TxnResponse response;
  if (slow.method.name != "Txn" || !parse(slow.answer, response)) return "";
  std::string counts;
  for (const auto& each : response.responses()) {
    if (!each.has_response_range()) continue;
    counts += fmt::format("{}range_response_count:{}", counts.empty() ? "" : " ", each.response_range().kvs_size());
  }
  return fmt::format("responses:<{}> size:{}", counts, slow.answer.size());
}

void log_slow_read(const SlowRequest& slow, int64_t expected_ns) {
  std::vector<log::Field> fields = {{"took", duration(slow.took_ns)},
                                    {"expected-duration", duration(expected_ns)},
                                    {"prefix", slow.method.name == "Txn" ? "read-only txn " : "read-only range "},
                                    {"request", loggable_request(slow.method.name, slow.request)},
                                    {"response", response_text(slow)}};
  if (slow.code != Code::kOk) fields.emplace_back("error", std::string(slow.error));
  log::write(log::Level::kWarn, "apply request took too long", std::span<const log::Field>(fields));
}

}  // namespace

void log_slow_request(const SlowRequest& slow, int64_t expected_ns, uint32_t trace_id) {
  if (operation_of(slow.method.name).empty()) return;
  if (slow.reads && slow.took_ns > expected_ns) log_slow_read(slow, expected_ns);
  // A write that was refused has no steps in etcd either.
  if (slow.took_ns > kTraceThresholdNs && (slow.reads || slow.code == Code::kOk)) log_trace(slow, trace_id);
}

}  // namespace cairn::rpc
