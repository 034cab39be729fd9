#include "rpc/request_stats.h"

#include <chrono>
#include <ctime>

#include <fmt/format.h>

#include "base/go_duration.h"
#include "proto/rpc.pb.h"

namespace cairn::rpc {
namespace {

template <class Message>
bool parse(std::string_view bytes, Message& out) {
  return out.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()));
}

std::string without_value(etcdserverpb::PutRequest put) {
  const size_t bytes = put.value().size();
  put.clear_value();
  return fmt::format("{} value_size: {}", put.ShortDebugString(), bytes);
}

void hide_values(etcdserverpb::TxnRequest& txn) {
  const auto hide = [](etcdserverpb::RequestOp& op) {
    if (op.has_request_put())
      op.mutable_request_put()->set_value(fmt::format("<{} bytes>", op.request_put().value().size()));
    if (op.has_request_txn()) hide_values(*op.mutable_request_txn());
  };
  for (auto& compare : *txn.mutable_compare()) {
    if (!compare.value().empty()) compare.set_value(fmt::format("<{} bytes>", compare.value().size()));
  }
  for (auto& op : *txn.mutable_success()) hide(op);
  for (auto& op : *txn.mutable_failure()) hide(op);
}

struct Counts {
  int64_t request = -1;  // as etcd says it of methods that are not about keys
  int64_t request_bytes = -1;
  int64_t response = -1;
  int64_t response_bytes = -1;
};

Counts counts_of(const RequestStats& stats) {
  if (stats.method.service != "etcdserverpb.KV") return {};
  Counts out{.request = 0,
             .request_bytes = static_cast<int64_t>(stats.request_bytes),
             .response = 0,
             .response_bytes = static_cast<int64_t>(stats.answer.size())};
  if (stats.method.name == "Range") {
    etcdserverpb::RangeResponse response;
    if (parse(stats.answer, response)) out.response = response.count();
  } else if (stats.method.name == "Put") {
    out.request = 1;
  } else if (stats.method.name == "DeleteRange") {
    etcdserverpb::DeleteRangeResponse response;
    if (parse(stats.answer, response)) out.response = response.deleted();
  } else if (stats.method.name == "Txn") {
    etcdserverpb::TxnRequest request;
    etcdserverpb::TxnResponse response;
    if (parse(stats.request, request) && parse(stats.answer, response)) {
      out.request = response.succeeded() ? request.success_size() : request.failure_size();
    }
  } else {
    return {};
  }
  return out;
}

}  // namespace

std::string time_text(int64_t wall_ns) {
  const std::time_t seconds = wall_ns / 1'000'000'000;
  std::tm broken{};
  gmtime_r(&seconds, &broken);
  char text[32];
  const size_t length = std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &broken);
  return fmt::format("{}.{:06}Z", std::string_view(text, length), wall_ns % 1'000'000'000 / 1000);
}

std::string loggable_request(std::string_view method, std::string_view bytes) {
  if (method == "Range") {
    etcdserverpb::RangeRequest request;
    if (parse(bytes, request)) return request.ShortDebugString();
  } else if (method == "Put") {
    etcdserverpb::PutRequest request;
    if (parse(bytes, request)) return without_value(std::move(request));
  } else if (method == "DeleteRange") {
    etcdserverpb::DeleteRangeRequest request;
    if (parse(bytes, request)) return request.ShortDebugString();
  } else if (method == "Txn") {
    etcdserverpb::TxnRequest request;
    if (parse(bytes, request)) {
      hide_values(request);
      return request.ShortDebugString();
    }
  }
  return "";
}

void log_request_stats(log::Level level, const RequestStats& stats) {
  const Counts counts = counts_of(stats);
  const bool is_about_keys = stats.method.service == "etcdserverpb.KV";
  const log::Field fields[] = {
      {"start time", time_text(stats.began_wall_ns)},
      {"time spent", go_duration(std::chrono::nanoseconds(stats.took_ns))},
      {"remote", stats.remote},
      {"response type", std::string(stats.method.path)},
      {"request count", counts.request},
      {"request size", counts.request_bytes},
      {"response count", counts.response},
      {"response size", counts.response_bytes},
      {"request content", is_about_keys ? loggable_request(stats.method.name, stats.request) : ""},
  };
  log::write(level, "request stats", std::span<const log::Field>(fields));
}

}  // namespace cairn::rpc
