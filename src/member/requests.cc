#include "member/requests.h"

#include <array>
#include <span>

#include "base/wire.h"
#include "mvcc/kv/txn.h"
#include "proto/rpc.pb.h"

namespace cairn::member {
namespace {

constexpr uint32_t kHeaderField = 100;
constexpr uint32_t kHeaderIdField = 1;

// Which fields a message has, with which wire type.
struct Shape {
  struct Held {
    uint32_t field;
    const Shape* shape;
  };
  uint64_t varints = 0;
  uint64_t bytes = 0;
  std::span<const Held> messages = {};
  bool is_choice = false;  // at most one of the fields
};

// No message has a field above 64, nor one of number 0.
constexpr uint64_t bit(uint32_t field) { return field <= 64 ? uint64_t{1} << (field & 63) : 0; }
constexpr uint64_t bits(uint32_t first, uint32_t last) {
  uint64_t out = 0;
  for (uint32_t field = first; field <= last; ++field) out |= bit(field);
  return out;
}

extern const Shape kTxnShape;
constexpr Shape kRangeShape{.varints = bits(3, 13), .bytes = bits(1, 2)};
constexpr Shape kPutShape{.varints = bits(3, 6), .bytes = bits(1, 2)};
constexpr Shape kDeleteRangeShape{.varints = bit(3), .bytes = bits(1, 2)};
constexpr Shape kCompactionShape{.varints = bits(1, 2)};
constexpr Shape kCompareShape{.varints = bits(1, 2) | bits(4, 6) | bit(8), .bytes = bit(3) | bit(7) | bit(64)};
constexpr std::array<Shape::Held, 4> kOperations{
    {{1, &kRangeShape}, {2, &kPutShape}, {3, &kDeleteRangeShape}, {4, &kTxnShape}}};
constexpr Shape kOperationShape{.bytes = bits(1, 4), .messages = kOperations, .is_choice = true};
constexpr std::array<Shape::Held, 3> kTxnParts{{{1, &kCompareShape}, {2, &kOperationShape}, {3, &kOperationShape}}};
constexpr Shape kTxnShape{.bytes = bits(1, 3), .messages = kTxnParts};

bool is_plain(std::string_view bytes, const Shape& shape) {
  wire::Reader in(bytes);
  for (unsigned count = 0; in.next(); ++count) {
    const uint64_t field = bit(in.field());
    if (in.type() == wire::Type::kVarint ? (shape.varints & field) == 0
                                         : in.type() != wire::Type::kBytes || (shape.bytes & field) == 0) {
      return false;
    }
    if (shape.is_choice && count > 0) return false;
    for (const Shape::Held& held : shape.messages) {
      if (held.field == in.field() && !is_plain(in.bytes(), *held.shape)) return false;
    }
  }
  return in.ok();
}

template <class Message>
std::string without_unknown(Message& message) {
  message.DiscardUnknownFields();
  return message.SerializeAsString();
}
template <class Message>
std::string written_anew(std::string_view body) {
  Message message;
  if (!message.ParseFromArray(body.data(), static_cast<int>(body.size()))) return std::string(body);
  return without_unknown(message);
}

// The same request without fields that it does not have, and without such of another wire type than theirs. Requests
// may hold them, and we pass over them as etcd 3.7 does; but etcd up to 3.6 ends when it finds one in its log, and of
// messages of which it has two in place of one it takes the last where we merge them.
struct Plain {
  std::string_view body;
  std::string anew;  // holds the body when it is not the one given
};
Plain plain(RequestKind kind, std::string_view body) {
  switch (kind) {
    case RequestKind::kPut:
      if (!is_plain(body, kPutShape)) return {{}, written_anew<etcdserverpb::PutRequest>(body)};
      break;
    case RequestKind::kDeleteRange:
      if (!is_plain(body, kDeleteRangeShape)) return {{}, written_anew<etcdserverpb::DeleteRangeRequest>(body)};
      break;
    case RequestKind::kCompaction:
      if (!is_plain(body, kCompactionShape)) return {{}, written_anew<etcdserverpb::CompactionRequest>(body)};
      break;
    case RequestKind::kTxn:
      if (!is_plain(body, kTxnShape)) {
        etcdserverpb::TxnRequest txn;
        if (mvcc::parse_txn(body, txn)) return {{}, without_unknown(txn)};
      }
      break;
    case RequestKind::kRange:
    case RequestKind::kOther: break;
  }
  return {body, {}};
}

}  // namespace

Result<RaftRequest> split_request(std::string_view bytes) {
  RaftRequest request;
  wire::Reader in(bytes);
  while (in.next()) {
    if (in.field() >= static_cast<uint32_t>(RequestKind::kRange) &&
        in.field() <= static_cast<uint32_t>(RequestKind::kCompaction)) {
      request.kind = static_cast<RequestKind>(in.field());
      request.body = in.bytes();
    }
  }
  if (!in.ok()) return fail(Code::kDataLoss, "server: a request in the log cannot be read");
  return request;
}

std::string join_request(RequestKind kind, std::string_view request, uint64_t id) {
  const auto [as_given, anew] = plain(kind, request);
  const std::string_view body = anew.empty() ? as_given : anew;
  const auto field = static_cast<uint32_t>(kind);
  const size_t header_bytes = wire::varint_field_size(kHeaderIdField, id);
  const size_t size = wire::bytes_field_size(field, body.size()) + wire::bytes_field_size(kHeaderField, header_bytes);
  std::string out(size, '\0');
  char* to = wire::put_bytes_field(out.data(), field, body);
  to = wire::put_varint(to, wire::tag(kHeaderField, wire::Type::kBytes));
  to = wire::put_varint(to, header_bytes);
  wire::put_varint_field(to, kHeaderIdField, id);
  return out;
}

}  // namespace cairn::member
