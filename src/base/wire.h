// base/wire.h: the protobuf wire format by hand, for the few messages that are read or written per request.
//
// Everything else goes through the generated classes of src/proto. A writer emits fields in the order called and
// never omits one by itself; the *_if forms omit zero and empty, as proto3 does.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"

namespace cairn::wire {

enum class Type : uint8_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kGroup = 3, kGroupEnd = 4, kFixed32 = 5 };

[[nodiscard]] constexpr size_t varint_size(uint64_t value) {
  return static_cast<size_t>((std::bit_width(value | 1) + 6) / 7);
}
[[nodiscard]] constexpr uint64_t tag(uint32_t field, Type type) {
  return (uint64_t{field} << 3) | static_cast<uint64_t>(type);
}
[[nodiscard]] constexpr size_t varint_field_size(uint32_t field, uint64_t value) {
  return varint_size(tag(field, Type::kVarint)) + varint_size(value);
}
[[nodiscard]] constexpr size_t bytes_field_size(uint32_t field, size_t size) {
  return varint_size(tag(field, Type::kBytes)) + varint_size(size) + size;
}

// Writes at `to`, returns the place behind. `to` has room for varint_size(value) bytes.
inline char* put_varint(char* to, uint64_t value) {
  while (value >= 0x80) {
    *to++ = static_cast<char>(value | 0x80);
    value >>= 7;
  }
  *to++ = static_cast<char>(value);
  return to;
}
inline char* put_bytes(char* to, std::string_view bytes) {
  if (!bytes.empty()) std::memcpy(to, bytes.data(), bytes.size());
  return to + bytes.size();
}
inline char* put_varint_field(char* to, uint32_t field, uint64_t value) {
  return put_varint(put_varint(to, tag(field, Type::kVarint)), value);
}
inline char* put_bytes_field(char* to, uint32_t field, std::string_view bytes) {
  return put_bytes(put_varint(put_varint(to, tag(field, Type::kBytes)), bytes.size()), bytes);
}

inline void append_varint(std::string& out, uint64_t value) {
  char buffer[10];
  out.append(buffer, put_varint(buffer, value));
}
inline void append_varint_field(std::string& out, uint32_t field, uint64_t value) {
  append_varint(out, tag(field, Type::kVarint));
  append_varint(out, value);
}
inline void append_varint_if(std::string& out, uint32_t field, uint64_t value) {
  if (value != 0) append_varint_field(out, field, value);
}
inline void append_bytes_field(std::string& out, uint32_t field, std::string_view bytes) {
  append_varint(out, tag(field, Type::kBytes));
  append_varint(out, bytes.size());
  out.append(bytes);
}
inline void append_bytes_if(std::string& out, uint32_t field, std::string_view bytes) {
  if (!bytes.empty()) append_bytes_field(out, field, bytes);
}

// One field after the other. Usage:
//   Reader in(bytes);
//   while (in.next()) switch (in.field()) { case 1: key = in.bytes(); break; default: break; }
//   if (!in.ok()) ...
// A field with another wire type than the caller reads leaves ok() false. The take() forms skip such a field instead,
// as protobuf libraries do, and return false. Unknown fields are skipped, groups as a whole.
class Reader {
 public:
  explicit Reader(std::string_view bytes) : at_(bytes.data()), end_(bytes.data() + bytes.size()) {}

  [[nodiscard]] bool next() {
    if (!ok_ || at_ == end_) return false;
    const uint64_t tag = read_varint();
    if (!ok_) return false;
    field_ = static_cast<uint32_t>(tag >> 3);
    type_ = static_cast<Type>(tag & 7);
    if (field_ == 0 || (tag >> 3) > kFieldMax) return fail();
    switch (type_) {
      case Type::kVarint: varint_ = read_varint(); return ok_;
      case Type::kBytes: {
        const uint64_t size = read_varint();
        if (!ok_ || size > static_cast<uint64_t>(end_ - at_)) return fail();
        bytes_ = {at_, static_cast<size_t>(size)};
        at_ += size;
        return true;
      }
      case Type::kFixed64: return skip(8);
      case Type::kFixed32: return skip(4);
      case Type::kGroup: return skip_group(field_);
      case Type::kGroupEnd: break;
    }
    return fail();
  }

  [[nodiscard]] uint32_t field() const { return field_; }
  [[nodiscard]] Type type() const { return type_; }
  [[nodiscard]] uint64_t varint() { return type_ == Type::kVarint ? varint_ : (ok_ = false, 0); }
  [[nodiscard]] int64_t int64() { return static_cast<int64_t>(varint()); }
  [[nodiscard]] bool boolean() { return varint() != 0; }
  [[nodiscard]] std::string_view bytes() { return type_ == Type::kBytes ? bytes_ : (ok_ = false, std::string_view{}); }
  bool take(std::string_view& out) {
    if (type_ != Type::kBytes) return false;
    out = bytes_;
    return true;
  }
  bool take(int64_t& out) {
    if (type_ != Type::kVarint) return false;
    out = static_cast<int64_t>(varint_);
    return true;
  }
  bool take(bool& out) {
    if (type_ != Type::kVarint) return false;
    out = varint_ != 0;
    return true;
  }
  [[nodiscard]] bool ok() const { return ok_; }

 private:
  static constexpr size_t kGroupDepthMax = 10'000;
  static constexpr uint64_t kFieldMax = 0x1fff'ffff;

  // Up to the end of the group whose beginning has been read.
  bool skip_group(uint32_t number) {
    std::vector<uint32_t> open{number};
    while (!open.empty()) {
      if (at_ == end_ || open.size() > kGroupDepthMax) return fail();
      const uint64_t tag = read_varint();
      const uint64_t field = tag >> 3;
      if (!ok_ || field == 0 || field > kFieldMax) return fail();
      switch (static_cast<Type>(tag & 7)) {
        case Type::kVarint:
          read_varint();
          if (!ok_) return false;
          break;
        case Type::kBytes: {
          const uint64_t size = read_varint();
          if (!ok_ || size > static_cast<uint64_t>(end_ - at_)) return fail();
          at_ += size;
          break;
        }
        case Type::kFixed64:
          if (!skip(8)) return false;
          break;
        case Type::kFixed32:
          if (!skip(4)) return false;
          break;
        case Type::kGroup: open.push_back(static_cast<uint32_t>(field)); break;
        case Type::kGroupEnd:
          if (open.back() != field) return fail();
          open.pop_back();
          break;
        default: return fail();
      }
    }
    return true;
  }
  bool fail() { return ok_ = false; }
  bool skip(ptrdiff_t size) {
    if (end_ - at_ < size) return fail();
    at_ += size;
    return true;
  }
  uint64_t read_varint() {
    if (at_ != end_ && static_cast<signed char>(*at_) >= 0) return static_cast<uint8_t>(*at_++);  // nearly always
    return read_long_varint();
  }
  uint64_t read_long_varint() {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 70; shift += 7) {
      if (at_ == end_) break;
      const auto byte = static_cast<uint8_t>(*at_++);
      if (shift == 63 && byte > 1) break;  // beyond 64 bits
      value |= uint64_t{byte & 0x7fu} << shift;
      if ((byte & 0x80) == 0) return value;
    }
    ok_ = false;
    return 0;
  }

  const char* at_;
  const char* end_;
  uint32_t field_ = 0;
  Type type_ = Type::kVarint;
  uint64_t varint_ = 0;
  std::string_view bytes_;
  bool ok_ = true;
};

}  // namespace cairn::wire
