#include "rpc/spans.h"

#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "mvcc/kv/txn.h"

namespace cairn::rpc {
namespace {

using Ops = std::vector<mvcc::RequestOp>;

// The first that is not empty.
std::string first_key(const std::vector<mvcc::Compare>& compares) {
  for (const mvcc::Compare& each : compares) {
    if (!each.key.empty()) return std::string(each.key);
  }
  return {};
}

std::string_view key_of(const mvcc::RequestOp& op) {
  if (const auto* const put = std::get_if<mvcc::PutRequest>(&op)) return put->key;
  if (const auto* const range = std::get_if<mvcc::RangeRequest>(&op)) return range->key;
  if (const auto* const gone = std::get_if<mvcc::DeleteRangeRequest>(&op)) return gone->key;
  return {};
}

std::string first_key(const Ops& ops) {
  for (const mvcc::RequestOp& each : ops) {
    if (!key_of(each).empty()) return std::string(key_of(each));
  }
  return {};
}

std::string first_type(const Ops& ops) {
  for (const mvcc::RequestOp& each : ops) {
    if (std::holds_alternative<mvcc::PutRequest>(each)) return "put";
    if (std::holds_alternative<mvcc::RangeRequest>(each)) return "range";
    if (std::holds_alternative<mvcc::DeleteRangeRequest>(each)) return "delete_range";
    if (mvcc::txn_of(each) != nullptr) return "txn";
  }
  return {};
}

// -1: there is no put.
int64_t first_lease(const Ops& ops) {
  for (const mvcc::RequestOp& each : ops) {
    if (const auto* const put = std::get_if<mvcc::PutRequest>(&each)) return put->lease;
  }
  return -1;
}

int64_t count_of(const auto& list) { return static_cast<int64_t>(list.size()); }

}  // namespace

void open_span(tracing::CallTrace& call, const mvcc::RangeRequest& request, bool streams) {
  tracing::Attributes attributes = {{"range_begin", std::string(request.key)},
                                    {"range_end", std::string(request.range_end)},
                                    {"rev", request.revision},
                                    {"limit", request.limit},
                                    {"count_only", request.count_only}};
  if (!streams) attributes.push_back({"keys_only", request.keys_only});
  call.open(streams ? "range_streaming" : "range", std::move(attributes));
}

void open_span(tracing::CallTrace& call, const mvcc::PutRequest& request) {
  call.open("put", {{"key", std::string(request.key)}});
}

void open_span(tracing::CallTrace& call, const mvcc::DeleteRangeRequest& request) {
  call.open("delete_range", {{"range_begin", std::string(request.key)}, {"range_end", std::string(request.range_end)}});
}

void open_span(tracing::CallTrace& call, const mvcc::TxnRequest& request) {
  call.open("txn", {{"compare_first_key", first_key(request.compare)},
                    {"success_first_key", first_key(request.success)},
                    {"success_first_type", first_type(request.success)},
                    {"success_first_lease", first_lease(request.success)},
                    {"compare_len", count_of(request.compare)},
                    {"success_len", count_of(request.success)},
                    {"failure_len", count_of(request.failure)},
                    {"read_only", mvcc::is_read_only(request)}});
}

void open_span(tracing::CallTrace& call, const mvcc::CompactionRequest& request) {
  call.open("compact", {{"is_physical", request.physical}, {"rev", request.revision}});
}

}  // namespace cairn::rpc
