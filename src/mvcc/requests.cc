#include "mvcc/requests.h"

#include "base/wire.h"
#include "proto/rpc.pb.h"

namespace cairn::mvcc {

std::optional<RangeRequest> decode_range(std::string_view bytes) {
  RangeRequest out;
  wire::Reader in(bytes);
  while (in.next()) {
    switch (in.field()) {
      case 1: out.key = in.bytes(); break;
      case 2: out.range_end = in.bytes(); break;
      case 3: out.limit = in.int64(); break;
      case 4: out.revision = in.int64(); break;
      case 5: out.sort_order = static_cast<SortOrder>(in.int64()); break;
      case 6: out.sort_target = static_cast<SortTarget>(in.int64()); break;
      case 7: out.serializable = in.boolean(); break;
      case 8: out.keys_only = in.boolean(); break;
      case 9: out.count_only = in.boolean(); break;
      case 10: out.min_mod_revision = in.int64(); break;
      case 11: out.max_mod_revision = in.int64(); break;
      case 12: out.min_create_revision = in.int64(); break;
      case 13: out.max_create_revision = in.int64(); break;
      default: break;
    }
  }
  if (!in.ok()) return std::nullopt;
  return out;
}

std::optional<PutRequest> decode_put(std::string_view bytes) {
  PutRequest out;
  wire::Reader in(bytes);
  while (in.next()) {
    switch (in.field()) {
      case 1: out.key = in.bytes(); break;
      case 2: out.value = in.bytes(); break;
      case 3: out.lease = in.int64(); break;
      case 4: out.prev_kv = in.boolean(); break;
      case 5: out.ignore_value = in.boolean(); break;
      case 6: out.ignore_lease = in.boolean(); break;
      default: break;
    }
  }
  if (!in.ok()) return std::nullopt;
  return out;
}

std::optional<DeleteRangeRequest> decode_delete_range(std::string_view bytes) {
  DeleteRangeRequest out;
  wire::Reader in(bytes);
  while (in.next()) {
    switch (in.field()) {
      case 1: out.key = in.bytes(); break;
      case 2: out.range_end = in.bytes(); break;
      case 3: out.prev_kv = in.boolean(); break;
      default: break;
    }
  }
  if (!in.ok()) return std::nullopt;
  return out;
}

std::optional<CompactionRequest> decode_compaction(std::string_view bytes) {
  CompactionRequest out;
  wire::Reader in(bytes);
  while (in.next()) {
    switch (in.field()) {
      case 1: out.revision = in.int64(); break;
      case 2: out.physical = in.boolean(); break;
      default: break;
    }
  }
  if (!in.ok()) return std::nullopt;
  return out;
}

RangeRequest from_proto(const etcdserverpb::RangeRequest& request) {
  return {.key = request.key(),
          .range_end = request.range_end(),
          .limit = request.limit(),
          .revision = request.revision(),
          .sort_order = static_cast<SortOrder>(request.sort_order()),
          .sort_target = static_cast<SortTarget>(request.sort_target()),
          .serializable = request.serializable(),
          .keys_only = request.keys_only(),
          .count_only = request.count_only(),
          .min_mod_revision = request.min_mod_revision(),
          .max_mod_revision = request.max_mod_revision(),
          .min_create_revision = request.min_create_revision(),
          .max_create_revision = request.max_create_revision()};
}

PutRequest from_proto(const etcdserverpb::PutRequest& request) {
  return {.key = request.key(),
          .value = request.value(),
          .lease = request.lease(),
          .prev_kv = request.prev_kv(),
          .ignore_value = request.ignore_value(),
          .ignore_lease = request.ignore_lease()};
}

DeleteRangeRequest from_proto(const etcdserverpb::DeleteRangeRequest& request) {
  return {.key = request.key(), .range_end = request.range_end(), .prev_kv = request.prev_kv()};
}

}  // namespace cairn::mvcc
