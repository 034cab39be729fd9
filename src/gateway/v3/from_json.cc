#include "gateway/v3/from_json.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <optional>
#include <vector>

#include <fmt/format.h>

#include "base/utf8.h"
#include "base/wire.h"
#include "gateway/v3/base64.h"
#include "gateway/v3/json_scan.h"
#include "net/http2/grpc_text.h"

namespace cairn::gateway::v3 {
namespace {

struct Token {
  enum class Kind : uint8_t { kEnd, kNull, kBool, kNumber, kText, kObjectOpen, kObjectClose, kArrayOpen, kArrayClose };
  Kind kind = Kind::kEnd;
  std::string_view raw;
  size_t at = 0;          // in the value
  std::string_view text;  // of a kText, unescaped; until the next one is read
};

using Kind = Token::Kind;

bool is_digit(char c) { return c >= '0' && c <= '9'; }

unsigned hex_of(std::string_view digits) {
  unsigned value = 0;
  std::from_chars(digits.data(), digits.data() + digits.size(), value, 16);
  return value;
}

bool is_hex(std::string_view text) {
  return std::ranges::all_of(text,
                             [](char c) { return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); });
}

void append_utf8(std::string& out, unsigned rune) {
  const auto byte = [&](unsigned value) { out += static_cast<char>(value); };
  if (rune < 0x80) return byte(rune);
  if (rune < 0x800) {
    byte(0xc0 | rune >> 6);
  } else if (rune < 0x10000) {
    byte(0xe0 | rune >> 12);
    byte(0x80 | (rune >> 6 & 0x3f));
  } else {
    byte(0xf0 | rune >> 18);
    byte(0x80 | (rune >> 12 & 0x3f));
    byte(0x80 | (rune >> 6 & 0x3f));
  }
  byte(0x80 | (rune & 0x3f));
}

// A token in an error: as it is, unless it is very long.
// compat: etcd repeats any.
std::string shown(std::string_view raw) {
  constexpr size_t kShownBytesMax = 4096;
  if (raw.size() <= kShownBytesMax) return std::string(raw);
  size_t end = kShownBytesMax;
  while ((static_cast<uint8_t>(raw[end]) & 0xc0u) == 0x80) --end;  // not within a character
  return std::string(raw.substr(0, end)) + "...";
}

std::unexpected<Error> bad(std::string_view text) {
  return std::unexpected(Error{Code::kInvalidArgument, fmt::format("proto: {}", text)});
}

// The tokens of a value whose form has been checked, so that commas and colons tell nothing.
class Tokens {
 public:
  explicit Tokens(std::string_view value) : value_(value) {}

  // A text is checked when it is read, not before: another error may come first.
  Result<Token> next();
  // What next() will give, by its first byte; kEnd: nothing, or no value.
  [[nodiscard]] Kind peek();
  // "3:14", as protojson counts: lines, and characters of the line.
  [[nodiscard]] std::string position(size_t at) const;
  [[nodiscard]] std::unexpected<Error> unexpected(const Token& token) const {
    return bad(fmt::format("syntax error (line {}): unexpected token {}", position(token.at), shown(token.raw)));
  }

 private:
  void pass_spaces() {
    while (at_ < value_.size() && (is_json_space(value_[at_]) || value_[at_] == ',' || value_[at_] == ':')) ++at_;
  }
  Result<Token> next_text();
  Status unescape(size_t& at, size_t began);

  std::string_view value_;
  size_t at_ = 0;
  std::string unescaped_;
};

Kind Tokens::peek() {
  pass_spaces();
  if (at_ == value_.size()) return Kind::kEnd;
  switch (value_[at_]) {
    case '{': return Kind::kObjectOpen;
    case '}': return Kind::kObjectClose;
    case '[': return Kind::kArrayOpen;
    case ']': return Kind::kArrayClose;
    case '"': return Kind::kText;
    case 't':
    case 'f': return Kind::kBool;
    case 'n': return Kind::kNull;
    default: return Kind::kNumber;
  }
}

Result<Token> Tokens::next() {
  Token token{.kind = peek(), .at = at_};
  size_t length = 1;
  switch (token.kind) {
    case Kind::kText: return next_text();
    case Kind::kEnd: length = 0; break;
    case Kind::kNull: length = 4; break;
    case Kind::kBool: length = value_[at_] == 't' ? 4 : 5; break;
    case Kind::kNumber:
      length = value_.find_first_not_of("+-.eE0123456789", at_);
      length = std::min(length, value_.size()) - at_;
      if (length == 0) length = value_.size() - at_;  // cannot be: the scanner would not have taken it
      break;
    default: break;
  }
  token.raw = value_.substr(at_, length);
  at_ += token.raw.size();
  return token;
}

Result<Token> Tokens::next_text() {
  const size_t began = at_;
  const auto whole = [&](size_t end, std::string_view text) {
    at_ = end;
    return Token{.kind = Kind::kText, .raw = value_.substr(began, end - began), .at = began, .text = text};
  };
  size_t at = began + 1;
  while (at < value_.size() && static_cast<signed char>(value_[at]) >= 0 && value_[at] != '"' && value_[at] != '\\')
    ++at;
  if (at < value_.size() && value_[at] == '"') return whole(at + 1, value_.substr(began + 1, at - began - 1));
  unescaped_.assign(value_, began + 1, at - began - 1);
  while (at < value_.size()) {
    const char c = value_[at];
    if (c == '"') return whole(at + 1, unescaped_);
    if (c == '\\') {
      CAIRN_CHECK(unescape(at, began));
      continue;
    }
    const size_t size = utf8_size(value_.substr(at));
    if (size == 0) return bad(fmt::format("syntax error (line {}): invalid UTF-8 in string", position(began)));
    unescaped_.append(value_, at, size);
    at += size;
  }
  return bad("unexpected EOF");
}

Status Tokens::unescape(size_t& at, size_t began) {
  const auto rest = [&] { return value_.substr(at); };
  if (rest().size() < 2) return bad("unexpected EOF");
  constexpr std::string_view kLetters = "\"\\/bfnrt";
  constexpr std::string_view kMeanings = "\"\\/\b\f\n\r\t";
  if (const size_t letter = kLetters.find(value_[at + 1]); letter != std::string_view::npos) {
    unescaped_ += kMeanings[letter];
    at += 2;
    return {};
  }
  if (rest().size() < 6) return bad("unexpected EOF");
  unsigned rune = hex_of(rest().substr(2, 4));
  at += 6;
  if (rune >= 0xd800 && rune < 0xe000) {
    if (rest().size() < 6) return bad("unexpected EOF");
    const std::string_view second = rest().substr(0, 6);
    const unsigned low = hex_of(second.substr(2));
    if (!second.starts_with("\\u") || !is_hex(second.substr(2)) || rune >= 0xdc00 || low < 0xdc00 || low >= 0xe000) {
      return bad(fmt::format("syntax error (line {}): invalid escape code {} in string", position(began),
                             net::quoted(second)));
    }
    rune = 0x10000 + ((rune - 0xd800) << 10) + (low - 0xdc00);
    at += 6;
  }
  append_utf8(unescaped_, rune);
  return {};
}

std::string Tokens::position(size_t at) const {
  std::string_view before = value_.substr(0, at);
  const auto line = std::ranges::count(before, '\n') + 1;
  before.remove_prefix(before.rfind('\n') + 1);  // npos + 1 is 0
  size_t column = 1;
  for (; !before.empty(); ++column) before.remove_prefix(std::max<size_t>(utf8_size(before), 1));
  return fmt::format("{}:{}", line, column);
}

// A number as protojson takes it for one without a fraction: 1e3 and 10.0 are, 1.5 is not. Its digits, with a minus.
std::optional<std::string> whole_number(std::string_view text) {
  constexpr size_t kDigitsMax = 20;
  const bool is_negative = text.starts_with('-');
  if (is_negative) text.remove_prefix(1);
  const auto digits = [&] {
    const size_t end = std::min(text.find_first_not_of("0123456789"), text.size());
    const std::string_view found = text.substr(0, end);
    text.remove_prefix(end);
    return found;
  };
  std::string_view whole = digits();
  if (whole.empty() || (whole.size() > 1 && whole.front() == '0')) return std::nullopt;
  if (whole == "0") whole = {};
  std::string_view fraction;
  if (text.starts_with('.')) {
    text.remove_prefix(1);
    fraction = digits();
    if (fraction.empty()) return std::nullopt;
    fraction = fraction.substr(0, fraction.find_last_not_of('0') + 1);
  }
  int64_t exponent = 0;
  if (text.starts_with('e') || text.starts_with('E')) {
    text.remove_prefix(1);
    const bool shrinks = text.starts_with('-');
    if (shrinks || text.starts_with('+')) text.remove_prefix(1);
    const std::string_view power = digits();
    if (power.empty()) return std::nullopt;
    // Nothing stands before an exponent that counts for nothing: 0e999999999999 is 0.
    const auto [end, error] = std::from_chars(power.data(), power.data() + power.size(), exponent);
    if ((error != std::errc() || exponent > INT32_MAX) && !(whole.empty() && fraction.empty())) return std::nullopt;
    if (shrinks) exponent = -exponent;
  }
  if (!text.empty()) return std::nullopt;
  if (whole.empty() && fraction.empty()) return "0";
  std::string out = is_negative ? "-" : "";
  if (exponent >= 0) {
    const auto power = static_cast<size_t>(exponent);
    if (fraction.size() > power || whole.size() + power > kDigitsMax) return std::nullopt;
    return out.append(whole).append(fraction).append(power - fraction.size(), '0');
  }
  if (!fraction.empty() || static_cast<size_t>(-exponent) > whole.size()) return std::nullopt;
  const size_t kept = whole.size() - static_cast<size_t>(-exponent);
  if (whole.find_first_not_of('0', kept) != std::string_view::npos) return std::nullopt;
  return out.append(whole.substr(0, kept));
}

template <class T>
std::optional<T> number_of(const Token& token) {
  if (token.kind != Kind::kNumber && token.kind != Kind::kText) return std::nullopt;
  std::string_view text = token.raw;
  if (token.kind == Kind::kText) {
    // Of a text the library of etcd 3.7.1 (protobuf for Go 1.36.11) looks at the number that it begins with.
    const auto is_number_char = [](char c) {
      return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '+' || c == '.' ||
             c == '_';
    };
    text = token.text;
    if (text.ends_with(' ') || text.ends_with('\t') || text.ends_with('\n') || text.ends_with('\r'))
      return std::nullopt;
    text = text.substr(0, static_cast<size_t>(std::ranges::find_if_not(text, is_number_char) - text.begin()));
  }
  T value{};
  // The usual form, without detours.
  const char* const last = text.data() + text.size();
  if (!text.empty() && text.size() < 19 && (text.front() != '0' || text.size() == 1) && is_digit(text.front())) {
    if (const auto [end, error] = std::from_chars(text.data(), last, value); error == std::errc() && end == last) {
      return value;
    }
  }
  const auto digits = whole_number(text);
  if (!digits) return std::nullopt;
  // Go's ParseUint knows no sign.
  const auto [end, error] = std::from_chars(digits->data(), digits->data() + digits->size(), value);
  if (error != std::errc() || end != digits->data() + digits->size()) return std::nullopt;
  return value;
}

// Writes messages before it knows how long they are: where a length belongs is noted, and at the end all are put in.
class WireBuffer {
 public:
  void varint(uint32_t number, uint64_t value) { wire::append_varint_field(out_, number, value); }
  void bytes(uint32_t number, std::string_view value) { wire::append_bytes_field(out_, number, value); }

  void open(uint32_t number) {
    wire::append_varint(out_, wire::tag(number, wire::Type::kBytes));
    open_.push_back({.length = lengths_.size()});
    lengths_.push_back({.at = out_.size()});
  }
  void close() {
    const Open closed = open_.back();
    open_.pop_back();
    Length& length = lengths_[closed.length];
    length.bytes = out_.size() - length.at + closed.prefix_bytes;
    if (!open_.empty()) open_.back().prefix_bytes += closed.prefix_bytes + wire::varint_size(length.bytes);
  }
  std::string take() {
    if (lengths_.empty()) return std::move(out_);
    std::string whole;
    whole.reserve(out_.size() + lengths_.size() * 2);
    size_t copied = 0;
    for (const Length& length : lengths_) {
      whole.append(out_, copied, length.at - copied);
      wire::append_varint(whole, length.bytes);
      copied = length.at;
    }
    return whole.append(out_, copied);
  }

 private:
  struct Length {
    size_t at = 0;  // in out_: before what it is the length of
    size_t bytes = 0;
  };
  struct Open {
    size_t length = 0;
    size_t prefix_bytes = 0;  // of the lengths within
  };
  std::string out_;
  std::vector<Length> lengths_;  // in the order of their places
  std::vector<Open> open_;
};

class Reading {
 public:
  Reading(const MessageType& type, std::string_view value) : tokens_(value) { open_.push_back({.type = &type}); }
  Result<std::string> run();

 private:
  // A message whose fields are being read, or a list of messages.
  struct Open {
    const MessageType* type = nullptr;
    const Field* list = nullptr;  // not null: of this field's messages
    uint64_t seen = 0;            // fields, and below oneofs, by their places
    uint64_t seen_oneofs = 0;
  };

  Status field(const Token& name);
  Status pass_value();
  Status list_of(const Field& field);
  Status open_message(const Field& field);
  // A value that is the default is not written, but where it stands for itself.
  Status scalar(const Field& field, bool in_list);
  std::unexpected<Error> bad_value(const Field& field, const Token& token) const;

  Tokens tokens_;
  WireBuffer out_;
  std::string packed_;  // the numbers of a list
  std::vector<Open> open_;
};

Result<std::string> Reading::run() {
  CAIRN_TRY(const Token first, tokens_.next());
  if (first.kind != Kind::kObjectOpen) return tokens_.unexpected(first);
  while (true) {
    const Open& here = open_.back();
    if (here.list != nullptr) {
      if (tokens_.peek() != Kind::kArrayClose) {
        CAIRN_CHECK(open_message(*here.list));
        continue;
      }
      CAIRN_TRY([[maybe_unused]] const Token close, tokens_.next());
      open_.pop_back();
      continue;
    }
    CAIRN_TRY(const Token token, tokens_.next());
    if (token.kind == Kind::kText) {
      CAIRN_CHECK(field(token));
      continue;
    }
    if (token.kind != Kind::kObjectClose) return tokens_.unexpected(token);
    open_.pop_back();
    if (open_.empty()) break;
    out_.close();
  }
  CAIRN_TRY(const Token behind, tokens_.next());
  if (behind.kind != Kind::kEnd) return tokens_.unexpected(behind);
  return out_.take();
}

Status Reading::field(const Token& name) {
  Open& here = open_.back();
  const Field* const found = here.type->find(name.text);
  if (found == nullptr) return pass_value();
  const auto told = [&](std::string_view what) {
    return bad(fmt::format("(line {}): {}", tokens_.position(name.at), what));
  };
  const uint64_t bit = uint64_t{1} << here.type->index_of(*found);
  if ((here.seen & bit) != 0) return told(fmt::format("duplicate field {}", shown(name.raw)));
  here.seen |= bit;
  if (tokens_.peek() == Kind::kNull) {
    CAIRN_TRY([[maybe_unused]] const Token null, tokens_.next());
    return {};
  }
  if (found->repeated) return list_of(*found);
  if (found->oneof >= 0) {
    const uint64_t of = uint64_t{1} << found->oneof;
    if ((here.seen_oneofs & of) != 0) {
      return told(fmt::format("error parsing {}, oneof {} is already set", shown(name.raw), found->oneof_name));
    }
    here.seen_oneofs |= of;
  }
  return found->kind == Field::Kind::kMessage ? open_message(*found) : scalar(*found, false);
}

Status Reading::pass_value() {
  size_t depth = 0;
  do {
    CAIRN_TRY(const Token token, tokens_.next());
    switch (token.kind) {
      case Kind::kObjectOpen:
      case Kind::kArrayOpen: ++depth; break;
      case Kind::kObjectClose:
      case Kind::kArrayClose:
      case Kind::kEnd:
        if (depth == 0) return tokens_.unexpected(token);
        --depth;
        break;
      default: break;
    }
  } while (depth > 0);
  return {};
}

Status Reading::list_of(const Field& field) {
  CAIRN_TRY(const Token token, tokens_.next());
  if (token.kind != Kind::kArrayOpen) return tokens_.unexpected(token);
  if (field.kind == Field::Kind::kMessage) {
    open_.push_back({.list = &field});
    return {};
  }
  if (tokens_.peek() == Kind::kArrayClose) {
    CAIRN_TRY([[maybe_unused]] const Token close, tokens_.next());
    return {};
  }
  packed_.clear();
  while (tokens_.peek() != Kind::kArrayClose) CAIRN_CHECK(scalar(field, true));
  if (!packed_.empty()) out_.bytes(field.number, packed_);
  CAIRN_TRY([[maybe_unused]] const Token close, tokens_.next());
  return {};
}

Status Reading::open_message(const Field& field) {
  CAIRN_TRY(const Token token, tokens_.next());
  if (token.kind != Kind::kObjectOpen) return tokens_.unexpected(token);
  out_.open(field.number);
  open_.push_back({.type = field.message});
  return {};
}

std::unexpected<Error> Reading::bad_value(const Field& field, const Token& token) const {
  constexpr std::string_view kKinds[] = {"bool", "int32", "int64", "uint32", "uint64", "enum", "string", "bytes"};
  return bad(fmt::format("(line {}): invalid value for {} field {}: {}", tokens_.position(token.at),
                         kKinds[static_cast<size_t>(field.kind)], field.json_name, shown(token.raw)));
}

Status Reading::scalar(const Field& field, bool in_list) {
  CAIRN_TRY(const Token token, tokens_.next());
  const bool is_kept = in_list || field.oneof >= 0;
  std::optional<uint64_t> value;
  switch (field.kind) {
    case Field::Kind::kString:
      if (token.kind != Kind::kText) return bad_value(field, token);
      if (is_kept || !token.text.empty()) out_.bytes(field.number, token.text);
      return {};
    case Field::Kind::kBytes: {
      if (token.kind != Kind::kText) return bad_value(field, token);
      const auto bytes = from_base64(token.text);
      if (!bytes) return bad_value(field, token);
      if (is_kept || !bytes->empty()) out_.bytes(field.number, *bytes);
      return {};
    }
    case Field::Kind::kBool:
      if (token.kind == Kind::kBool) value = token.raw == "true" ? 1 : 0;
      break;
    case Field::Kind::kInt32:
      if (const auto number = number_of<int32_t>(token)) value = static_cast<uint64_t>(int64_t{*number});
      break;
    case Field::Kind::kInt64:
      if (const auto number = number_of<int64_t>(token)) value = static_cast<uint64_t>(*number);
      break;
    case Field::Kind::kUint32:
      if (const auto number = number_of<uint32_t>(token)) value = *number;
      break;
    case Field::Kind::kUint64: value = number_of<uint64_t>(token); break;
    case Field::Kind::kEnum:
      if (token.kind == Kind::kText) {
        const int32_t* const number = field.enumeration->number_of(token.text);
        if (number == nullptr) return {};  // not known, and passed over
        value = static_cast<uint64_t>(int64_t{*number});
      } else if (const auto number = number_of<int32_t>(token)) {
        value = static_cast<uint64_t>(int64_t{*number});
      }
      break;
    case Field::Kind::kMessage: break;
  }
  if (!value) return bad_value(field, token);
  if (in_list) {
    wire::append_varint(packed_, *value);
  } else if (is_kept || *value != 0) {
    out_.varint(field.number, *value);
  }
  return {};
}

}  // namespace

Result<std::string> from_json(const MessageType& type, std::string_view value) { return Reading(type, value).run(); }

}  // namespace cairn::gateway::v3
