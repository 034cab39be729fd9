#include "gateway/v3/to_json.h"

#include <algorithm>
#include <charconv>

#include "gateway/v3/base64.h"

namespace cairn::gateway::v3 {
namespace {

constexpr size_t kBase64PieceBytes = 12 * 1024;  // a multiple of 3
static_assert(kBase64PieceBytes % 3 == 0);

template <class T>
void append_number(std::string& out, T value) {
  char digits[24];
  out.append(digits, std::to_chars(digits, digits + sizeof digits, value).ptr);
}

}  // namespace

ToJson::ToJson(const MessageType& type, std::string_view bytes, JsonEscape escape) : escape_(escape) {
  open_.push_back({.type = &type, .in = wire::Reader(bytes)});
}

Result<bool> ToJson::write(std::string& out, size_t enough) {
  while (!open_.empty() && !is_bad_) {
    if (out.size() >= enough) return false;
    if (is_in_base64_) {
      const std::string_view piece = base64_.substr(0, kBase64PieceBytes);
      append_base64(out, piece);
      base64_.remove_prefix(piece.size());
      if (!base64_.empty()) continue;
      out += '"';
      is_in_base64_ = false;
      continue;
    }
    Open& here = open_.back();
    if (here.in.next()) {
      field(out);
      continue;
    }
    if (!here.in.ok()) break;
    if (here.is_empty) out += '{';
    end_list(out);
    out += '}';
    open_.pop_back();
  }
  if (!open_.empty()) return fail(Code::kInternal, "gateway: an answer is no message of its type");
  return true;
}

void ToJson::field(std::string& out) {
  Open& here = open_.back();
  const Field* const field = here.type->find(here.in.field());
  if (field == nullptr) return;
  const bool is_bytes = here.in.type() == wire::Type::kBytes;
  if (field->is_varint()) {
    if (is_bytes && field->repeated) return packed(out, *field, here.in.bytes());
    if (here.in.type() == wire::Type::kVarint) varint(out, *field, here.in.varint());
  } else if (is_bytes) {
    bytes_value(out, *field, here.in.bytes());
  }
}

void ToJson::begin_value(std::string& out, const Field& field) {
  Open& here = open_.back();
  const bool goes_on = here.list == &field;
  if (!goes_on) end_list(out);
  out += here.is_empty ? '{' : ',';
  here.is_empty = false;
  if (goes_on) return;
  out.append("\"").append(field.name).append("\":");
  if (!field.repeated) return;
  out += '[';
  here.list = &field;
}

void ToJson::end_list(std::string& out) {
  if (std::exchange(open_.back().list, nullptr) != nullptr) out += ']';
}

void ToJson::varint(std::string& out, const Field& field, uint64_t value) {
  if (value == 0 && !field.repeated && field.oneof < 0) return;
  begin_value(out, field);
  switch (field.kind) {
    case Field::Kind::kBool: out += value != 0 ? "true" : "false"; return;
    case Field::Kind::kInt32: return append_number(out, static_cast<int32_t>(value));
    case Field::Kind::kUint32: return append_number(out, static_cast<uint32_t>(value));
    case Field::Kind::kEnum: {
      const auto number = static_cast<int32_t>(value);
      const std::string* const name = field.enumeration->name_of(number);
      if (name == nullptr) return append_number(out, number);
      out.append("\"").append(*name).append("\"");
      return;
    }
    default: break;
  }
  out += '"';
  if (field.kind == Field::Kind::kInt64) {
    append_number(out, static_cast<int64_t>(value));
  } else {
    append_number(out, value);
  }
  out += '"';
}

void ToJson::packed(std::string& out, const Field& field, std::string_view bytes) {
  while (!bytes.empty()) {
    uint64_t value = 0;
    unsigned shift = 0;
    bool is_last = false;
    while (!bytes.empty() && !is_last && shift < 64) {
      const auto byte = static_cast<uint8_t>(bytes.front());
      bytes.remove_prefix(1);
      value |= uint64_t{byte & 0x7fu} << shift;
      shift += 7;
      is_last = byte < 0x80;
    }
    if (!is_last) {
      is_bad_ = true;
      return;
    }
    varint(out, field, value);
  }
}

void ToJson::bytes_value(std::string& out, const Field& field, std::string_view bytes) {
  if (field.kind != Field::Kind::kMessage && bytes.empty() && !field.repeated && field.oneof < 0) return;
  begin_value(out, field);
  switch (field.kind) {
    case Field::Kind::kMessage: open_.push_back({.type = field.message, .in = wire::Reader(bytes)}); return;
    case Field::Kind::kString: return append_json_text(out, bytes, escape_);
    default: break;
  }
  out += '"';
  if (bytes.size() <= kBase64PieceBytes) {
    append_base64(out, bytes);
    out += '"';
    return;
  }
  base64_ = bytes;
  is_in_base64_ = true;
}

std::string error_json(const Error& error, JsonEscape escape) {
  std::string out = "{";
  if (error.code != Code::kOk) {
    out += "\"code\":";
    append_number(out, static_cast<unsigned>(error.code));
  }
  if (!error.message.empty()) {
    out += error.code != Code::kOk ? ",\"message\":" : "\"message\":";
    append_json_text(out, error.message, escape);
  }
  return out += '}';
}

}  // namespace cairn::gateway::v3
