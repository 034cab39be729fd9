#include "mvcc/kv/requests.h"

#include "base/wire.h"

namespace cairn::mvcc {
namespace {

// The number may be no enumerator; of 64 bits the lower half counts.
template <class Enum>
void take_enum(wire::Reader& in, Enum& out) {
  int64_t number = static_cast<int64_t>(out);
  in.take(number);
  out = static_cast<Enum>(static_cast<int32_t>(number));
}

}  // namespace

std::optional<RangeRequest> decode_range(std::string_view bytes) {
  std::optional<RangeRequest> result(std::in_place);  // where it is returned: not copied
  RangeRequest& out = *result;
  wire::Reader in(bytes);
  while (in.next()) {
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
  if (!in.ok()) result.reset();
  return result;
}

std::optional<PutRequest> decode_put(std::string_view bytes) {
  std::optional<PutRequest> result(std::in_place);  // where it is returned: not copied
  PutRequest& out = *result;
  wire::Reader in(bytes);
  while (in.next()) {
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
  if (!in.ok()) result.reset();
  return result;
}

std::optional<DeleteRangeRequest> decode_delete_range(std::string_view bytes) {
  std::optional<DeleteRangeRequest> result(std::in_place);  // where it is returned: not copied
  DeleteRangeRequest& out = *result;
  wire::Reader in(bytes);
  while (in.next()) {
    switch (in.field()) {
      case 1: in.take(out.key); break;
      case 2: in.take(out.range_end); break;
      case 3: in.take(out.prev_kv); break;
      default: break;
    }
  }
  if (!in.ok()) result.reset();
  return result;
}

std::optional<CompactionRequest> decode_compaction(std::string_view bytes) {
  std::optional<CompactionRequest> result(std::in_place);  // where it is returned: not copied
  CompactionRequest& out = *result;
  wire::Reader in(bytes);
  while (in.next()) {
    switch (in.field()) {
      case 1: in.take(out.revision); break;
      case 2: in.take(out.physical); break;
      default: break;
    }
  }
  if (!in.ok()) result.reset();
  return result;
}

}  // namespace cairn::mvcc
