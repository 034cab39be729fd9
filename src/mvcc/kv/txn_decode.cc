// A Txn request, decoded into views of its bytes.
//
// Nearly every request is plain: it has no unknown field, no field with the wrong wire type, and no message in parts.
// A plain request is decoded in one pass. Any other goes through the generated classes, which know what protobuf makes
// of it, and is written anew.
#include <google/protobuf/io/coded_stream.h>

#include "base/check.h"
#include "base/wire.h"
#include "mvcc/kv/request_fields.h"
#include "mvcc/kv/requests.h"
#include "proto/rpc.pb.h"

namespace cairn::mvcc {
namespace {

// Levels of messages, two for each transaction: far above what ops_max allows, and no danger to the stack. protobuf's
// own limit of 100 would refuse transactions that nest deeply before anything could say what is wrong with them, and
// would end a member that finds one in its log.
constexpr int kParseDepthMax = 2000;

// Whether the field is one of [1, last], which all hold messages.
bool holds_message(const wire::Reader& in, uint32_t last) {
  return in.type() == wire::Type::kBytes && in.field() <= last;
}

// Each returns false when the request is not plain, or is no such message at all.
template <class Request>
bool decode(std::string_view bytes, Request& out) {
  wire::Reader in(bytes);
  while (in.next()) {
    if (!take_field(in, out)) return false;
  }
  return in.ok();
}

bool decode(std::string_view bytes, TxnRequest& out, int depth_left);

bool decode(std::string_view bytes, RequestOp& out, int depth_left) {
  wire::Reader in(bytes);
  if (!in.next()) return in.ok();  // nothing in it
  if (!holds_message(in, 4)) return false;
  const std::string_view held = in.bytes();
  bool plain = false;
  switch (in.field()) {
    case 1: plain = decode(held, out.emplace<RangeRequest>()); break;
    case 2: plain = decode(held, out.emplace<PutRequest>()); break;
    case 3: plain = decode(held, out.emplace<DeleteRangeRequest>()); break;
    default:
      plain = decode(held, *out.emplace<std::unique_ptr<TxnRequest>>(std::make_unique<TxnRequest>()), depth_left - 1);
  }
  return plain && !in.next() && in.ok();  // a second operation in the same place: protobuf knows what counts
}

bool decode(std::string_view bytes, TxnRequest& out, int depth_left) {
  out.clear();
  if (depth_left == 0) return false;
  wire::Reader in(bytes);
  while (in.next()) {
    if (!holds_message(in, 3)) return false;
    const bool plain =
        in.field() == 1 ? decode(in.bytes(), out.compare.emplace_back())
                        : decode(in.bytes(), (in.field() == 2 ? out.success : out.failure).emplace_back(), depth_left);
    if (!plain) return false;
  }
  return in.ok();
}

bool parse(std::string_view bytes, etcdserverpb::TxnRequest& out) {
  google::protobuf::io::CodedInputStream in(reinterpret_cast<const uint8_t*>(bytes.data()),
                                            static_cast<int>(bytes.size()));
  in.SetRecursionLimit(kParseDepthMax);
  return out.ParseFromCodedStream(&in) && in.ConsumedEntireMessage();
}

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

}  // namespace

std::optional<std::string_view> decode_txn(std::string_view bytes, TxnSource source, TxnRequest& out,
                                           std::string& anew) {
  if (decode(bytes, out, kParseDepthMax / 2)) return bytes;
  etcdserverpb::TxnRequest message;
  if (!parse(bytes, message)) return std::nullopt;
  if (source == TxnSource::kClient && !is_well_formed(bytes, Kind::kTxn)) return std::nullopt;
  message.DiscardUnknownFields();
  anew = message.SerializeAsString();
  const bool is_plain = decode(anew, out, kParseDepthMax);
  CAIRN_ASSERT(is_plain);
  return anew;
}

}  // namespace cairn::mvcc
