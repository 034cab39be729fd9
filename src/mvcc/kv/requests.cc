#include "mvcc/kv/requests.h"

#include "base/wire.h"
#include "mvcc/kv/request_fields.h"

namespace cairn::mvcc {
namespace {

// Passes over unknown fields and fields with the wrong wire type.
template <class Request>
std::optional<Request> decode(std::string_view bytes) {
  std::optional<Request> result(std::in_place);  // where it is returned: not copied
  wire::Reader in(bytes);
  while (in.next()) (void)take_field(in, *result);
  if (!in.ok()) result.reset();
  return result;
}

}  // namespace

std::optional<RangeRequest> decode_range(std::string_view bytes) { return decode<RangeRequest>(bytes); }
std::optional<PutRequest> decode_put(std::string_view bytes) { return decode<PutRequest>(bytes); }
std::optional<DeleteRangeRequest> decode_delete_range(std::string_view bytes) {
  return decode<DeleteRangeRequest>(bytes);
}
std::optional<CompactionRequest> decode_compaction(std::string_view bytes) { return decode<CompactionRequest>(bytes); }

}  // namespace cairn::mvcc
