#include "sim/history/answers.h"

#include <algorithm>
#include <memory>

#include "base/wire.h"

namespace cairn::sim {
namespace {

using etcdserverpb::Compare;
using etcdserverpb::InternalRaftRequest;
using etcdserverpb::RangeRequest;
using etcdserverpb::RequestOp;
using etcdserverpb::TxnRequest;

constexpr size_t kTextBytesMax = 300;

std::unique_ptr<google::protobuf::Message> response_of(Rpc rpc) {
  switch (rpc) {
    case Rpc::kRange: return std::make_unique<etcdserverpb::RangeResponse>();
    case Rpc::kPut: return std::make_unique<etcdserverpb::PutResponse>();
    case Rpc::kDeleteRange: return std::make_unique<etcdserverpb::DeleteRangeResponse>();
    case Rpc::kTxn: return std::make_unique<etcdserverpb::TxnResponse>();
    case Rpc::kCompact: return std::make_unique<etcdserverpb::CompactionResponse>();
    case Rpc::kLeaseGrant: return std::make_unique<etcdserverpb::LeaseGrantResponse>();
    case Rpc::kLeaseRevoke: return std::make_unique<etcdserverpb::LeaseRevokeResponse>();
    default: return nullptr;
  }
}

google::protobuf::Message* request_of(Rpc rpc, InternalRaftRequest& out) {
  switch (rpc) {
    case Rpc::kRange: return out.mutable_range();
    case Rpc::kPut: return out.mutable_put();
    case Rpc::kDeleteRange: return out.mutable_delete_range();
    case Rpc::kTxn: return out.mutable_txn();
    case Rpc::kCompact: return out.mutable_compaction();
    case Rpc::kLeaseGrant: return out.mutable_lease_grant();
    case Rpc::kLeaseRevoke: return out.mutable_lease_revoke();
    default: return &out;
  }
}

template <class Message>
Message parsed(std::string_view bytes) {
  Message message;
  message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()));
  return message;
}

std::string shortened(std::string text) {
  if (text.size() > kTextBytesMax) text = text.substr(0, kTextBytesMax) + " ...";
  return text;
}

std::optional<uint64_t> take_varint(std::string_view& in) {
  uint64_t value = 0;
  for (unsigned shift = 0; shift < 64 && !in.empty(); shift += 7) {
    const auto byte = static_cast<uint8_t>(in.front());
    in.remove_prefix(1);
    value |= static_cast<uint64_t>(byte & 0x7f) << shift;
    if (byte < 0x80) return value;
  }
  return std::nullopt;
}

bool only_ranges(const TxnRequest& txn, bool serializable) {
  for (const auto* branch : {&txn.success(), &txn.failure()}) {
    for (const RequestOp& op : *branch) {
      if (!op.has_request_range() || (serializable && !op.request_range().serializable())) return false;
    }
  }
  return true;
}

}  // namespace

bool inside(std::string_view key, std::string_view low, std::string_view range_end) {
  if (range_end.empty()) return key == low;
  return key >= low && (range_end == std::string_view("\0", 1) || key < range_end);
}

std::optional<Answer> split_answer(std::string_view bytes) {
  Answer answer;
  constexpr char kHeaderTag = 0x0a;
  if (!bytes.empty() && bytes.front() == kHeaderTag) {
    bytes.remove_prefix(1);
    const auto length = take_varint(bytes);
    if (!length || *length > bytes.size()) return std::nullopt;
    if (!answer.header.ParseFromArray(bytes.data(), static_cast<int>(*length))) return std::nullopt;
    bytes.remove_prefix(*length);
  }
  answer.rest = bytes;
  return answer;
}

bool same_answer(Rpc rpc, std::string_view a, std::string_view b) {
  const auto left = split_answer(a);
  const auto right = split_answer(b);
  if (!left || !right) return false;
  if (left->rest == right->rest) return true;
  const auto one = response_of(rpc);
  const auto other = response_of(rpc);
  if (one == nullptr) return false;
  return one->ParseFromArray(left->rest.data(), static_cast<int>(left->rest.size())) &&
         other->ParseFromArray(right->rest.data(), static_cast<int>(right->rest.size())) &&
         one->SerializeAsString() == other->SerializeAsString();
}

std::string text_of_answer(Rpc rpc, std::string_view bytes) {
  const auto answer = split_answer(bytes);
  if (!answer) return "bytes that are no message";
  std::string out = fmt::format("revision {}", answer->header.revision());
  const auto message = response_of(rpc);
  if (message != nullptr && !answer->rest.empty() &&
      message->ParseFromArray(answer->rest.data(), static_cast<int>(answer->rest.size()))) {
    out += ", " + shortened(message->ShortDebugString());
  }
  return out;
}

Result<InternalRaftRequest> proposal_of(Rpc rpc, std::string_view request, uint64_t id) {
  InternalRaftRequest proposal;
  if (!request_of(rpc, proposal)->ParseFromArray(request.data(), static_cast<int>(request.size()))) {
    return fail(Code::kInvalidArgument, "history: the bytes of a {} are no such request", name_of(rpc));
  }
  proposal.mutable_header()->set_id(id);
  return proposal;
}

Content content_of(const InternalRaftRequest& proposal) {
  if (proposal.has_put()) return {Rpc::kPut, proposal.put().SerializeAsString()};
  if (proposal.has_delete_range()) return {Rpc::kDeleteRange, proposal.delete_range().SerializeAsString()};
  if (proposal.has_txn()) return {Rpc::kTxn, proposal.txn().SerializeAsString()};
  if (proposal.has_range()) return {Rpc::kRange, proposal.range().SerializeAsString()};
  if (proposal.has_compaction()) return {Rpc::kCompact, proposal.compaction().SerializeAsString()};
  if (proposal.has_lease_grant()) return {Rpc::kLeaseGrant, proposal.lease_grant().SerializeAsString()};
  if (proposal.has_lease_revoke()) return {Rpc::kLeaseRevoke, proposal.lease_revoke().SerializeAsString()};
  InternalRaftRequest bare = proposal;
  bare.clear_header();
  bare.clear_id();
  return {Rpc::kOther, bare.SerializeAsString()};
}

Path path_of(Rpc rpc, std::string_view request) {
  if (rpc == Rpc::kRange) {
    return parsed<RangeRequest>(request).serializable() ? Path::kSerializable : Path::kRead;
  }
  if (rpc != Rpc::kTxn) return Path::kLog;
  const auto txn = parsed<TxnRequest>(request);
  if (!only_ranges(txn, false)) return Path::kLog;
  return only_ranges(txn, true) ? Path::kSerializable : Path::kRead;
}

ReadAnswer read(const Model& model, Rpc rpc, const std::string& request, int64_t revision) {
  ReadAnswer out;
  const auto range = [&](const RangeRequest& one) {
    const int64_t asked = one.revision();
    if (asked > 0) out.oldest = std::min(out.oldest.value_or(asked), asked);
    if (asked > 0) out.newest = std::max(out.newest.value_or(asked), asked);
    return model.range(one, asked > 0 ? asked : revision, revision, 0);
  };
  if (rpc == Rpc::kRange) {
    out.response = range(parsed<RangeRequest>(request));
    return out;
  }
  const auto txn = parsed<TxnRequest>(request);
  etcdserverpb::TxnResponse response;
  response.set_succeeded(std::all_of(txn.compare().begin(), txn.compare().end(),
                                     [&](const Compare& compare) { return model.holds(compare, revision); }));
  for (const RequestOp& op : response.succeeded() ? txn.success() : txn.failure()) {
    auto* const one = response.add_responses()->mutable_response_range();
    one->ParseFromString(range(op.request_range()));
    one->clear_header();
    one->mutable_header()->set_revision(revision);
  }
  response.mutable_header()->set_revision(revision);
  out.response = response.SerializeAsString();
  return out;
}

std::string describe(const ClientOperation& operation) {
  std::string out = fmt::format("client {}: {} ", operation.client, name_of(operation.rpc));
  if (const auto proposal = proposal_of(operation.rpc, operation.request, 0)) {
    InternalRaftRequest copy = *proposal;
    copy.clear_header();
    out += shortened((operation.rpc == Rpc::kOther ? &copy : request_of(operation.rpc, copy))->ShortDebugString());
  }
  out += fmt::format(" called {}", operation.call_ns);
  if (operation.request_id != 0) out += fmt::format(" as {:x}", operation.request_id);
  if (operation.return_ns) out += fmt::format(", returned {}", *operation.return_ns);
  if (operation.outcome == Outcome::kUnknown) return out + ": unknown";
  if (operation.code != Code::kOk) return out + ": " + operation.response;
  return out + ": " + text_of_answer(operation.rpc, operation.response);
}

}  // namespace cairn::sim
