// A Txn request, decoded into views of its bytes.
//
// Nearly every request is plain: it has no unknown field, no field with the wrong wire type, and no message in parts.
// A plain request is decoded in one pass. Any other goes through the generated classes, which know what protobuf makes
// of it, and is written anew.
#include <google/protobuf/io/coded_stream.h>

#include "base/check.h"
#include "base/wire.h"
#include "mvcc/kv/requests.h"
#include "proto/rpc.pb.h"

namespace cairn::mvcc {
namespace {

// Levels of messages, two for each transaction: far above what ops_max allows, and no danger to the stack. protobuf's
// own limit of 100 would refuse transactions that nest deeply before anything could say what is wrong with them, and
// would end a member that finds one in its log.
constexpr int kParseDepthMax = 2000;

constexpr uint64_t bit(uint32_t field) { return field < 64 ? uint64_t{1} << field : 0; }
constexpr uint64_t bits(uint32_t first, uint32_t last) {
  uint64_t out = 0;
  for (uint32_t field = first; field <= last; ++field) out |= bit(field);
  return out;
}

// Whether the field that was read is one of `varints` or `bytes`, with that wire type.
bool is_known(const wire::Reader& in, uint64_t varints, uint64_t bytes) {
  const uint64_t field = bit(in.field());
  return ((in.type() == wire::Type::kVarint ? varints : in.type() == wire::Type::kBytes ? bytes : 0) & field) != 0;
}

template <class Enum>
void take_enum(wire::Reader& in, Enum& out) {
  out = static_cast<Enum>(static_cast<int32_t>(in.int64()));
}

// Each returns false when the request is not plain, or is no such message at all.
bool decode(std::string_view bytes, RangeRequest& out) {
  wire::Reader in(bytes);
  while (in.next()) {
    if (!is_known(in, bits(3, 13), bits(1, 2))) return false;
    switch (in.field()) {
      case 1: in.take(out.key); break;
      case 2: in.take(out.range_end); break;
      case 3: in.take(out.limit); break;
      case 4: in.take(out.revision); break;
      case 5: take_enum(in, out.sort_order); break;
      case 6: take_enum(in, out.sort_target); break;
      case 7: in.take(out.serializable); break;
      case 8: in.take(out.keys_only); break;
      case 9: in.take(out.count_only); break;
      case 10: in.take(out.min_mod_revision); break;
      case 11: in.take(out.max_mod_revision); break;
      case 12: in.take(out.min_create_revision); break;
      case 13: in.take(out.max_create_revision); break;
      default: break;
    }
  }
  return in.ok();
}

bool decode(std::string_view bytes, PutRequest& out) {
  wire::Reader in(bytes);
  while (in.next()) {
    if (!is_known(in, bits(3, 6), bits(1, 2))) return false;
    switch (in.field()) {
      case 1: in.take(out.key); break;
      case 2: in.take(out.value); break;
      case 3: in.take(out.lease); break;
      case 4: in.take(out.prev_kv); break;
      case 5: in.take(out.ignore_value); break;
      case 6: in.take(out.ignore_lease); break;
      default: break;
    }
  }
  return in.ok();
}

bool decode(std::string_view bytes, DeleteRangeRequest& out) {
  wire::Reader in(bytes);
  while (in.next()) {
    if (!is_known(in, bit(3), bits(1, 2))) return false;
    switch (in.field()) {
      case 1: in.take(out.key); break;
      case 2: in.take(out.range_end); break;
      case 3: in.take(out.prev_kv); break;
      default: break;
    }
  }
  return in.ok();
}

bool decode(std::string_view bytes, Compare& out) {
  wire::Reader in(bytes);
  while (in.next()) {
    const uint32_t field = in.field();
    if (field == 64 && in.type() == wire::Type::kBytes) {
      in.take(out.range_end);
      continue;
    }
    if (!is_known(in, bits(1, 2) | bits(4, 6) | bit(8), bit(3) | bit(7))) return false;
    switch (field) {
      case 1: take_enum(in, out.result); break;
      case 2: take_enum(in, out.target); break;
      case 3: in.take(out.key); break;
      default:  // the operands: the last one counts
        out.held = static_cast<Compare::Operand>(field);
        in.take(out.number);
        in.take(out.value);
        break;
    }
  }
  return in.ok();
}

bool decode(std::string_view bytes, TxnRequest& out, int depth_left);

bool decode(std::string_view bytes, RequestOp& out, int depth_left) {
  wire::Reader in(bytes);
  if (!in.next()) return in.ok();  // nothing in it
  if (!is_known(in, 0, bits(1, 4))) return false;
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
    if (!is_known(in, 0, bits(1, 3))) return false;
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
