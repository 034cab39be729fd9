#include "server/requests.h"

#include "base/wire.h"

namespace cairn::server {
namespace {

constexpr uint32_t kHeaderField = 100;
constexpr uint32_t kHeaderIdField = 1;

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

std::string join_request(RequestKind kind, std::string_view body, uint64_t id) {
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

}  // namespace cairn::server
