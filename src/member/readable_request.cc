#include "member/readable_request.h"

#include <algorithm>
#include <variant>

#include "base/bytes.h"
#include "base/log.h"
#include "cluster/codec.h"
#include "member/requests.h"
#include "mvcc/kv/requests.h"
#include "proto/raft_internal.pb.h"

namespace cairn::member {
namespace {

// One of the kinds that apply knows, whatever is in it.
bool is_readable_other(std::string_view bytes) {
  etcdserverpb::InternalRaftRequest request;
  if (!request.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) return false;
  request.DiscardUnknownFields();
  request.clear_header();
  request.clear_id();
  return request.ByteSizeLong() > 0;
}

bool is_readable(const RaftRequest& request, std::string_view bytes) {
  switch (request.kind) {
    case RequestKind::kRange: return mvcc::decode_range(request.body).has_value();
    case RequestKind::kPut: return mvcc::decode_put(request.body).has_value();
    case RequestKind::kDeleteRange: return mvcc::decode_delete_range(request.body).has_value();
    case RequestKind::kTxn: {
      mvcc::TxnRequest txn;
      std::string anew;
      return mvcc::decode_txn(request.body, mvcc::TxnSource::kLog, txn, anew).has_value();
    }
    case RequestKind::kCompaction: return mvcc::decode_compaction(request.body).has_value();
    case RequestKind::kLeaseGrant: return decode_lease_grant(request.body).has_value();
    case RequestKind::kLeaseRevoke: return decode_lease_revoke(request.body).has_value();
    case RequestKind::kOther: return is_readable_other(bytes);
  }
  return false;
}

bool is_quick(const mvcc::RequestOp& op) {
  if (const auto* const range = std::get_if<mvcc::RangeRequest>(&op)) return range->range_end.empty();
  if (const auto* const removal = std::get_if<mvcc::DeleteRangeRequest>(&op)) return removal->range_end.empty();
  return std::holds_alternative<mvcc::PutRequest>(op);
}

bool is_quick(const mvcc::TxnRequest& txn) {
  return std::ranges::all_of(txn.compare, [](const mvcc::Compare& one) { return one.range_end.empty(); }) &&
         std::ranges::all_of(txn.success, [](const mvcc::RequestOp& op) { return is_quick(op); }) &&
         std::ranges::all_of(txn.failure, [](const mvcc::RequestOp& op) { return is_quick(op); });
}

}  // namespace

bool is_quick_request(std::string_view bytes) {
  if (bytes.empty()) return true;
  if (cluster::payload_kind(bytes) != cluster::PayloadKind::kRaftRequest) return false;
  const auto request = split_request(bytes);
  if (!request) return false;
  if (request->kind == RequestKind::kPut || request->kind == RequestKind::kLeaseGrant) return true;
  if (request->kind != RequestKind::kTxn) return false;
  mvcc::TxnRequest txn;
  std::string anew;
  return mvcc::decode_txn(request->body, mvcc::TxnSource::kLog, txn, anew).has_value() && is_quick(txn);
}

bool is_readable_request(std::string_view bytes) {
  if (bytes.empty()) return true;
  switch (cluster::payload_kind(bytes)) {
    case cluster::PayloadKind::kEmpty: return true;
    case cluster::PayloadKind::kV2Request: return cluster::decode_v2_request(bytes).has_value();
    case cluster::PayloadKind::kRaftRequest: break;
  }
  const auto request = split_request(bytes);
  return request && decode_header(request->header) && is_readable(*request, bytes);
}

void empty_unreadable(raft::Message& message) {
  if (message.type != raft::MessageType::kProp) return;
  for (raft::Entry& entry : message.entries) {
    if (entry.type != raft::EntryType::kNormal || is_readable_request(entry.bytes())) continue;
    log::warn("dropped a proposal of another member, which cannot be read",
              {{"remote-peer-id", hex_id(message.from.value)}, {"bytes", entry.bytes().size()}});
    entry.data = nullptr;
  }
}

}  // namespace cairn::member
