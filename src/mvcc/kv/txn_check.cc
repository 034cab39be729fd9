// What a Txn is refused for before it reaches the log.
#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include <google/protobuf/io/coded_stream.h>

#include "base/errors.h"
#include "base/wire.h"
#include "mvcc/kv/txn.h"
#include "proto/rpc.pb.h"

namespace cairn::mvcc {
namespace {

// Levels of messages, two a transaction: far above what ops_max allows, and no danger to the stack.
constexpr int kParseDepthMax = 2000;

using etcdserverpb::RequestOp;
using etcdserverpb::TxnRequest;

std::unexpected<Error> error(Error e) { return std::unexpected(std::move(e)); }

enum class Kind : uint8_t { kTxn, kOperation, kLeaf };

// The message that a field of such a message holds; nullopt: none.
std::optional<Kind> held_by(Kind kind, uint32_t field) {
  if (kind == Kind::kTxn && field == 1) return Kind::kLeaf;  // a compare
  if (kind == Kind::kTxn && (field == 2 || field == 3)) return Kind::kOperation;
  if (kind == Kind::kOperation && field >= 1 && field <= 3) return Kind::kLeaf;
  if (kind == Kind::kOperation && field == 4) return Kind::kTxn;
  return std::nullopt;
}

bool is_well_formed(std::string_view bytes, Kind kind) {
  wire::Reader in(bytes);
  while (in.next()) {
    const auto held = held_by(kind, in.field());
    if (held && in.type() == wire::Type::kBytes && !is_well_formed(in.bytes(), *held)) return false;
  }
  return in.ok();
}

// The keys that one branch puts, and the intervals that it deletes.
struct Touched {
  std::set<std::string_view> puts;
  std::vector<KeyInterval> deletes;
};

bool deletes_one_of(const std::vector<KeyInterval>& deletes, const std::set<std::string_view>& puts) {
  return std::any_of(deletes.begin(), deletes.end(), [&](const KeyInterval& interval) {
    auto at = puts.lower_bound(interval.low);
    return at != puts.end() && interval.contains(*at);
  });
}

// The intervals and puts of a branch; puts of nested transactions may repeat between the two branches of one of them
// (only one is taken), but not otherwise.
Result<Touched> collect(const google::protobuf::RepeatedPtrField<RequestOp>& ops) {
  Touched all;
  for (const RequestOp& op : ops) {
    if (op.has_request_delete_range()) {
      const auto& request = op.request_delete_range();
      const KeyInterval interval = KeyInterval::of(request.key(), request.range_end());
      // compat: as etcd, one that goes on to the last key is not looked at here, and may meet puts.
      if (!interval.to_end) all.deletes.push_back(interval);
    }
  }
  for (const RequestOp& op : ops) {
    if (!op.has_request_txn()) continue;
    CAIRN_TRY(const Touched then_branch, collect(op.request_txn().success()));
    CAIRN_TRY(const Touched else_branch, collect(op.request_txn().failure()));
    std::set<std::string_view> nested = then_branch.puts;
    nested.insert(else_branch.puts.begin(), else_branch.puts.end());
    for (const std::string_view key : nested) {
      if (!all.puts.insert(key).second) return error(errors::duplicate_key());
    }
    if (deletes_one_of(all.deletes, nested)) return error(errors::duplicate_key());
    for (const Touched* branch : {&then_branch, &else_branch}) {
      all.deletes.insert(all.deletes.end(), branch->deletes.begin(), branch->deletes.end());
    }
  }
  for (const RequestOp& op : ops) {
    if (!op.has_request_put()) continue;
    const std::string_view key = op.request_put().key();
    if (!all.puts.insert(key).second) return error(errors::duplicate_key());
    if (deletes_one_of(all.deletes, {key})) return error(errors::duplicate_key());
  }
  return all;
}

Status check_ops(const TxnRequest& request, int64_t budget) {
  const int64_t width = std::max({request.compare_size(), request.success_size(), request.failure_size()});
  if (width > budget) return error(errors::too_many_ops());
  for (const auto& compare : request.compare()) {
    if (compare.key().empty()) return error(errors::empty_key());
  }
  for (const auto* branch : {&request.success(), &request.failure()}) {
    for (const RequestOp& op : *branch) {
      switch (op.request_case()) {
        case RequestOp::kRequestRange: CAIRN_CHECK(check_range(from_proto(op.request_range()))); break;
        case RequestOp::kRequestPut: CAIRN_CHECK(check_put(from_proto(op.request_put()))); break;
        case RequestOp::kRequestDeleteRange:
          CAIRN_CHECK(check_delete_range(from_proto(op.request_delete_range())));
          break;
        case RequestOp::kRequestTxn: CAIRN_CHECK(check_ops(op.request_txn(), budget - width)); break;
        case RequestOp::REQUEST_NOT_SET: return error(errors::key_not_found());
      }
    }
  }
  return {};
}

}  // namespace

bool parse_txn(std::string_view bytes, TxnRequest& out) {
  google::protobuf::io::CodedInputStream in(reinterpret_cast<const uint8_t*>(bytes.data()),
                                            static_cast<int>(bytes.size()));
  in.SetRecursionLimit(kParseDepthMax);
  return out.ParseFromCodedStream(&in) && in.ConsumedEntireMessage();
}

bool is_well_formed_txn(std::string_view bytes) { return is_well_formed(bytes, Kind::kTxn); }

Status check_range(const RangeRequest& request) {
  if (request.key.empty()) return error(errors::empty_key());
  const auto order = static_cast<int32_t>(request.sort_order);
  const auto target = static_cast<int32_t>(request.sort_target);
  if (order < 0 || order > 2 || target < 0 || target > 4) return error(errors::invalid_sort_option());
  return {};
}

Status check_put(const PutRequest& request) {
  if (request.key.empty()) return error(errors::empty_key());
  if (request.ignore_value && !request.value.empty()) return error(errors::value_provided());
  if (request.ignore_lease && request.lease != 0) return error(errors::lease_provided());
  return {};
}

Status check_delete_range(const DeleteRangeRequest& request) {
  if (request.key.empty()) return error(errors::empty_key());
  return {};
}

Status check_txn(const TxnRequest& request, uint32_t ops_max) {
  CAIRN_CHECK(check_ops(request, ops_max));
  for (const auto* branch : {&request.success(), &request.failure()}) {
    if (auto touched = collect(*branch); !touched) return std::unexpected(std::move(touched).error());
  }
  return {};
}

bool is_read_only(const TxnRequest& request) {
  for (const auto* branch : {&request.success(), &request.failure()}) {
    for (const RequestOp& op : *branch) {
      if (!op.has_request_range()) return false;
    }
  }
  return true;
}

bool is_serializable(const TxnRequest& request) {
  for (const auto* branch : {&request.success(), &request.failure()}) {
    for (const RequestOp& op : *branch) {
      if (!op.has_request_range() || !op.request_range().serializable()) return false;
    }
  }
  return true;
}

}  // namespace cairn::mvcc
