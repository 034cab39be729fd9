#include "member/requests.h"

#include <algorithm>

#include "base/wire.h"
#include "proto/rpc.pb.h"

namespace cairn::member {
namespace {

constexpr size_t kUnknownName = kRequestNames.size() - 1;
constexpr uint32_t kHeaderField = 100;
constexpr uint32_t kHeaderIdField = 1;
constexpr uint32_t kHeaderUserField = 2;
constexpr uint32_t kHeaderRevisionField = 3;
constexpr uint32_t kGrantTtlField = 1;
constexpr uint32_t kGrantIdField = 2;
constexpr uint32_t kRevokeIdField = 1;

// Which fields a message has, with which wire type.
struct Shape {
  uint64_t varints = 0;
  uint64_t bytes = 0;
};

constexpr uint64_t bit(uint32_t field) { return field < 64 ? uint64_t{1} << field : 0; }
constexpr uint64_t bits(uint32_t first, uint32_t last) {
  uint64_t out = 0;
  for (uint32_t field = first; field <= last; ++field) out |= bit(field);
  return out;
}

constexpr Shape kPutShape{.varints = bits(3, 6), .bytes = bits(1, 2)};
constexpr Shape kDeleteRangeShape{.varints = bit(3), .bytes = bits(1, 2)};
constexpr Shape kCompactionShape{.varints = bits(1, 2)};

bool is_plain(std::string_view bytes, const Shape& shape) {
  wire::Reader in(bytes);
  while (in.next()) {
    const uint64_t field = bit(in.field());
    if (in.type() == wire::Type::kVarint ? (shape.varints & field) == 0
                                         : in.type() != wire::Type::kBytes || (shape.bytes & field) == 0) {
      return false;
    }
  }
  return in.ok();
}

template <class Message>
std::string written_anew(std::string_view body) {
  Message message;
  if (!message.ParseFromArray(body.data(), static_cast<int>(body.size()))) return std::string(body);
  message.DiscardUnknownFields();
  return message.SerializeAsString();
}

// The request without unknown fields and fields with the wrong wire type. We pass over them, as etcd 3.7 does; but etcd
// up to 3.6 crashes on one in its log. A transaction comes from mvcc::decode_txn(), which has done the same.
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
    case RequestKind::kLeaseGrant:   // from encode_lease_grant()
    case RequestKind::kLeaseRevoke:  // from encode_lease_revoke()
    case RequestKind::kRange:
    case RequestKind::kOther: break;
  }
  return {body, {}};
}

}  // namespace

Error damaged_request() { return Error{Code::kDataLoss, "server: a request in the log cannot be read"}; }

size_t request_name_index(uint32_t field) {
  const auto at = std::ranges::lower_bound(kRequestNames, field, {}, &RequestName::field);
  return at->field == field ? static_cast<size_t>(at - kRequestNames.begin()) : kUnknownName;
}

size_t request_name_index(std::string_view bytes) {
  wire::Reader in(bytes);
  size_t name = kUnknownName;
  while (name == kUnknownName && in.next()) name = request_name_index(in.field());
  return name;
}

Result<RaftRequest> split_request(std::string_view bytes) {
  RaftRequest request;
  wire::Reader in(bytes);
  while (in.next()) {
    if (request.name == kUnknownName) request.name = request_name_index(in.field());
    if (in.field() == kHeaderField) in.take(request.header);
    if (in.field() >= static_cast<uint32_t>(RequestKind::kRange) &&
        in.field() <= static_cast<uint32_t>(RequestKind::kLeaseRevoke)) {
      request.kind = static_cast<RequestKind>(in.field());
      request.body = in.bytes();
    }
  }
  if (!in.ok()) return std::unexpected(damaged_request());
  return request;
}

Result<RequestHeader> decode_header(std::string_view bytes) {
  RequestHeader header;
  wire::Reader in(bytes);
  while (in.next()) {
    int64_t number = 0;
    if (in.field() == kHeaderIdField && in.take(number)) header.id = static_cast<uint64_t>(number);
    if (in.field() == kHeaderUserField) in.take(header.user);
    if (in.field() == kHeaderRevisionField && in.take(number)) header.auth_revision = static_cast<uint64_t>(number);
  }
  if (!in.ok()) return std::unexpected(damaged_request());
  return header;
}

Result<LeaseGrantBody> decode_lease_grant(std::string_view bytes) {
  LeaseGrantBody body;
  wire::Reader in(bytes);
  while (in.next()) {
    if (in.field() == kGrantTtlField) in.take(body.ttl);
    if (in.field() == kGrantIdField) in.take(body.id);
  }
  if (!in.ok()) return std::unexpected(damaged_request());
  return body;
}

Result<lease::LeaseId> decode_lease_revoke(std::string_view bytes) {
  lease::LeaseId id = 0;
  wire::Reader in(bytes);
  while (in.next()) {
    if (in.field() == kRevokeIdField) in.take(id);
  }
  if (!in.ok()) return std::unexpected(damaged_request());
  return id;
}

std::string encode_lease_grant(const LeaseGrantBody& body) {
  std::string out;
  wire::append_varint_if(out, kGrantTtlField, static_cast<uint64_t>(body.ttl));
  wire::append_varint_if(out, kGrantIdField, static_cast<uint64_t>(body.id));
  return out;
}

std::string encode_lease_revoke(lease::LeaseId id) {
  std::string out;
  wire::append_varint_if(out, kRevokeIdField, static_cast<uint64_t>(id));
  return out;
}

std::string join_request(RequestKind kind, std::string_view request, const RequestHeader& header) {
  const auto [as_given, anew] = plain(kind, request);
  const std::string_view body = anew.empty() ? as_given : anew;
  const auto field = static_cast<uint32_t>(kind);
  size_t header_bytes = wire::varint_field_size(kHeaderIdField, header.id);
  if (!header.user.empty()) header_bytes += wire::bytes_field_size(kHeaderUserField, header.user.size());
  if (header.auth_revision != 0) header_bytes += wire::varint_field_size(kHeaderRevisionField, header.auth_revision);
  const size_t size = wire::bytes_field_size(field, body.size()) + wire::bytes_field_size(kHeaderField, header_bytes);
  std::string out;
  out.resize_and_overwrite(size, [&](char* begin, size_t) {
    char* to = wire::put_bytes_field(begin, field, body);
    to = wire::put_varint(to, wire::tag(kHeaderField, wire::Type::kBytes));
    to = wire::put_varint(to, header_bytes);
    to = wire::put_varint_field(to, kHeaderIdField, header.id);
    if (!header.user.empty()) to = wire::put_bytes_field(to, kHeaderUserField, header.user);
    if (header.auth_revision != 0) wire::put_varint_field(to, kHeaderRevisionField, header.auth_revision);
    return size;
  });
  return out;
}

}  // namespace cairn::member
