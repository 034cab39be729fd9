#include "mvcc/kv/key_value.h"

namespace cairn::mvcc {
namespace {

size_t size_if(uint32_t field, int64_t value) {
  return value == 0 ? 0 : wire::varint_field_size(field, static_cast<uint64_t>(value));
}
char* put_if(char* to, uint32_t field, int64_t value) {
  return value == 0 ? to : wire::put_varint_field(to, field, static_cast<uint64_t>(value));
}

}  // namespace

size_t encoded_size(const KeyValue& kv) {
  return (kv.key.empty() ? 0 : wire::bytes_field_size(1, kv.key.size())) + size_if(2, kv.create_revision) +
         size_if(3, kv.mod_revision) + size_if(4, kv.version) +
         (kv.value.empty() ? 0 : wire::bytes_field_size(5, kv.value.size())) + size_if(6, kv.lease);
}

char* encode(const KeyValue& kv, char* to) {
  if (!kv.key.empty()) to = wire::put_bytes_field(to, 1, kv.key);
  to = put_if(to, 2, kv.create_revision);
  to = put_if(to, 3, kv.mod_revision);
  to = put_if(to, 4, kv.version);
  if (!kv.value.empty()) to = wire::put_bytes_field(to, 5, kv.value);
  return put_if(to, 6, kv.lease);
}

std::optional<KeyValue> decode_key_value(std::string_view bytes) {
  KeyValue kv;
  wire::Reader in(bytes);
  while (in.next()) {
    switch (in.field()) {
      case 1: kv.key = in.bytes(); break;
      case 2: kv.create_revision = in.int64(); break;
      case 3: kv.mod_revision = in.int64(); break;
      case 4: kv.version = in.int64(); break;
      case 5: kv.value = in.bytes(); break;
      case 6: kv.lease = in.int64(); break;
      default: break;
    }
  }
  if (!in.ok()) return std::nullopt;
  return kv;
}

}  // namespace cairn::mvcc
