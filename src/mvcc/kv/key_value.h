// mvcc/kv/key_value.h: mvccpb.KeyValue as stored and sent: written and read by hand, since every request does.
//
// The bytes are canonical (fields ascending, zero and empty omitted, minimal varints): HashKV is over them.
// Source: docs/architecture.md, "Records".
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/wire.h"

namespace cairn::mvcc {

struct KeyValue {
  std::string_view key = {};
  int64_t create_revision = 0;
  int64_t mod_revision = 0;
  int64_t version = 0;
  std::string_view value;
  int64_t lease = 0;
};

[[nodiscard]] size_t encoded_size(const KeyValue& kv);
// Writes encoded_size(kv) bytes at `to`, returns the place behind.
char* encode(const KeyValue& kv, char* to);
// nullopt when `bytes` is not a KeyValue. Views point into `bytes`. No bytes at all are an empty KeyValue.
[[nodiscard]] std::optional<KeyValue> decode_key_value(std::string_view bytes);

// The end of an interval of keys as requests give it: "" names the single key, "\0" everything from the key on.
struct KeyInterval {
  std::string_view low;
  std::string_view high;  // exclusive; unused when `single` or `to_end`
  bool single = false;
  bool to_end = false;

  [[nodiscard]] static KeyInterval of(std::string_view key, std::string_view range_end) {
    KeyInterval interval{.low = key, .high = range_end};
    interval.single = range_end.empty();
    interval.to_end = range_end.size() == 1 && range_end[0] == '\0';
    return interval;
  }
  [[nodiscard]] bool contains(std::string_view key) const {
    if (single) return key == low;
    return key >= low && (to_end || key < high);
  }
};

}  // namespace cairn::mvcc
