// mvcc/kv/request_fields.h: the fields of the key-value requests of etcdserverpb, by number.
//
// take_field() takes the field that the reader stands on. False: the request has no such field, or the field has
// another wire type; then nothing is taken.
#pragma once

#include "base/wire.h"
#include "mvcc/kv/requests.h"

namespace cairn::mvcc {

// The number may be no enumerator; of 64 bits the lower half counts.
template <class Enum>
bool take_enum(wire::Reader& in, Enum& out) {
  int64_t number = 0;
  if (!in.take(number)) return false;
  out = static_cast<Enum>(static_cast<int32_t>(number));
  return true;
}

inline bool take_field(wire::Reader& in, RangeRequest& out) {
  switch (in.field()) {
    case 1: return in.take(out.key);
    case 2: return in.take(out.range_end);
    case 3: return in.take(out.limit);
    case 4: return in.take(out.revision);
    case 5: return take_enum(in, out.sort_order);
    case 6: return take_enum(in, out.sort_target);
    case 7: return in.take(out.serializable);
    case 8: return in.take(out.keys_only);
    case 9: return in.take(out.count_only);
    case 10: return in.take(out.min_mod_revision);
    case 11: return in.take(out.max_mod_revision);
    case 12: return in.take(out.min_create_revision);
    case 13: return in.take(out.max_create_revision);
    default: return false;
  }
}

inline bool take_field(wire::Reader& in, PutRequest& out) {
  switch (in.field()) {
    case 1: return in.take(out.key);
    case 2: return in.take(out.value);
    case 3: return in.take(out.lease);
    case 4: return in.take(out.prev_kv);
    case 5: return in.take(out.ignore_value);
    case 6: return in.take(out.ignore_lease);
    default: return false;
  }
}

inline bool take_field(wire::Reader& in, DeleteRangeRequest& out) {
  switch (in.field()) {
    case 1: return in.take(out.key);
    case 2: return in.take(out.range_end);
    case 3: return in.take(out.prev_kv);
    default: return false;
  }
}

inline bool take_field(wire::Reader& in, CompactionRequest& out) {
  switch (in.field()) {
    case 1: return in.take(out.revision);
    case 2: return in.take(out.physical);
    default: return false;
  }
}

inline bool take_field(wire::Reader& in, Compare& out) {
  using Operand = Compare::Operand;
  // Of several operands the last one counts.
  const auto take_number = [&](Operand operand) {
    if (!in.take(out.number)) return false;
    out.held = operand;
    return true;
  };
  switch (in.field()) {
    case 1: return take_enum(in, out.result);
    case 2: return take_enum(in, out.target);
    case 3: return in.take(out.key);
    case 4: return take_number(Operand::kVersion);
    case 5: return take_number(Operand::kCreate);
    case 6: return take_number(Operand::kMod);
    case 7:
      if (!in.take(out.value)) return false;
      out.held = Operand::kValue;
      return true;
    case 8: return take_number(Operand::kLease);
    case 64: return in.take(out.range_end);
    default: return false;
  }
}

}  // namespace cairn::mvcc
