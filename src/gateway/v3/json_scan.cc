#include "gateway/v3/json_scan.h"

#include <fmt/format.h>

namespace cairn::gateway::v3 {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_hex(char c) { return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }
bool is_plain(char c) { return c != '"' && c != '\\' && static_cast<unsigned char>(c) >= 0x20; }

// A byte as Go shows it in its errors: as the character with that number.
std::string shown(char c) {
  const auto byte = static_cast<unsigned char>(c);
  switch (c) {
    case '\'': return R"('\'')";
    case '"': return R"('"')";
    case '\\': return R"('\\')";
    case '\a': return R"('\a')";
    case '\b': return R"('\b')";
    case '\f': return R"('\f')";
    case '\n': return R"('\n')";
    case '\r': return R"('\r')";
    case '\t': return R"('\t')";
    case '\v': return R"('\v')";
    default: break;
  }
  if (byte < 0x20 || byte == 0x7f) return fmt::format(R"('\x{:02x}')", byte);
  if (byte < 0x7f) return fmt::format("'{}'", c);
  if (byte <= 0xa0 || byte == 0xad) return fmt::format(R"('\u{:04x}')", byte);
  const char encoded[] = {static_cast<char>(0xc0 | byte >> 6), static_cast<char>(0x80 | (byte & 0x3f))};
  return fmt::format("'{}'", std::string_view(encoded, 2));
}

}  // namespace

void JsonScan::begin() {
  state_ = State::kBeginValue;
  open_.clear();
}

JsonScan::Step JsonScan::feed(std::string_view bytes) {
  for (size_t at = 0; at < bytes.size(); ++at) {
    if (state_ == State::kText) {
      while (at < bytes.size() && is_plain(bytes[at])) ++at;
      if (at == bytes.size()) break;
    }
    switch (take(bytes[at])) {
      case Took::kByte: break;
      case Took::kWhole: return {.used = at + 1, .outcome = Outcome::kValue};
      case Took::kWholeBefore: return {.used = at, .outcome = Outcome::kValue};
      case Took::kBad: return {.used = at, .outcome = Outcome::kBad};
    }
  }
  return {.used = bytes.size()};
}

JsonScan::Outcome JsonScan::end() {
  if (!has_begun()) return Outcome::kMore;
  if (open_.empty() && take(' ') == Took::kWholeBefore) return Outcome::kValue;
  error_ = "unexpected EOF";
  return Outcome::kBad;
}

JsonScan::Took JsonScan::take(char c) {
  const auto next = [this](State state) {
    state_ = state;
    return Took::kByte;
  };
  switch (state_) {
    case State::kBeginValueOrEnd:
      if (is_json_space(c)) return Took::kByte;
      return c == ']' ? end_value(c) : begin_value(c);
    case State::kBeginValue: return begin_value(c);
    case State::kBeginKeyOrEnd:
      if (c == '}') {
        open_.back() = static_cast<char>(Open::kObject);
        return end_value(c);
      }
      [[fallthrough]];
    case State::kBeginKey:
      if (is_json_space(c)) return Took::kByte;
      return c == '"' ? next(State::kText) : bad(c, "looking for beginning of object key string");
    case State::kEndValue: return end_value(c);
    case State::kText:
      if (c == '"') return next(State::kEndValue);
      if (c == '\\') return next(State::kEscape);
      return is_plain(c) ? Took::kByte : bad(c, "in string literal");
    case State::kEscape:
      if (c == 'u') {
        hex_left_ = 4;
        return next(State::kHex);
      }
      return std::string_view("bfnrt\\/\"").find(c) == std::string_view::npos ? bad(c, "in string escape code")
                                                                              : next(State::kText);
    case State::kHex:
      if (!is_hex(c)) return bad(c, "in \\u hexadecimal character escape");
      return --hex_left_ == 0 ? next(State::kText) : Took::kByte;
    case State::kNegative:
      if (c == '0') return next(State::kZero);
      return is_digit(c) ? next(State::kDigits) : bad(c, "in numeric literal");
    case State::kDigits:
      if (is_digit(c)) return Took::kByte;
      [[fallthrough]];
    case State::kZero:
      if (c == '.') return next(State::kPoint);
      return c == 'e' || c == 'E' ? next(State::kExponent) : end_value(c);
    case State::kPoint: return is_digit(c) ? next(State::kFraction) : bad(c, "after decimal point in numeric literal");
    case State::kFraction:
      if (is_digit(c)) return Took::kByte;
      return c == 'e' || c == 'E' ? next(State::kExponent) : end_value(c);
    case State::kExponent:
      if (c == '+' || c == '-') return next(State::kExponentSign);
      [[fallthrough]];
    case State::kExponentSign:
      return is_digit(c) ? next(State::kExponentDigits) : bad(c, "in exponent of numeric literal");
    case State::kExponentDigits: return is_digit(c) ? Took::kByte : end_value(c);
    case State::kWord:
      if (c != word_[word_at_]) return bad(c, fmt::format("in literal {} (expecting '{}')", word_, word_[word_at_]));
      return ++word_at_ == word_.size() ? next(State::kEndValue) : Took::kByte;
  }
  return Took::kBad;
}

JsonScan::Took JsonScan::begin_value(char c) {
  const auto word = [this](std::string_view expected) {
    state_ = State::kWord;
    word_ = expected;
    word_at_ = 1;
    return Took::kByte;
  };
  if (is_json_space(c)) return Took::kByte;
  switch (c) {
    case '{': return push(c, Open::kKey, State::kBeginKeyOrEnd);
    case '[': return push(c, Open::kArray, State::kBeginValueOrEnd);
    case '"': state_ = State::kText; return Took::kByte;
    case '-': state_ = State::kNegative; return Took::kByte;
    case '0': state_ = State::kZero; return Took::kByte;
    case 't': return word("true");
    case 'f': return word("false");
    case 'n': return word("null");
    default: break;
  }
  if (!is_digit(c)) return bad(c, "looking for beginning of value");
  state_ = State::kDigits;
  return Took::kByte;
}

JsonScan::Took JsonScan::end_value(char c) {
  if (open_.empty()) return Took::kWholeBefore;
  state_ = State::kEndValue;
  if (is_json_space(c)) return Took::kByte;
  switch (static_cast<Open>(open_.back())) {
    case Open::kKey:
      if (c != ':') return bad(c, "after object key");
      open_.back() = static_cast<char>(Open::kObject);
      state_ = State::kBeginValue;
      return Took::kByte;
    case Open::kObject:
      if (c == '}') return pop();
      if (c != ',') return bad(c, "after object key:value pair");
      open_.back() = static_cast<char>(Open::kKey);
      state_ = State::kBeginKey;
      return Took::kByte;
    case Open::kArray:
      if (c == ']') return pop();
      if (c != ',') return bad(c, "after array element");
      state_ = State::kBeginValue;
      return Took::kByte;
  }
  return Took::kBad;
}

JsonScan::Took JsonScan::push(char c, Open open, State next) {
  open_.push_back(static_cast<char>(open));
  if (open_.size() > kDepthMax) return bad(c, "exceeded max depth");
  state_ = next;
  return Took::kByte;
}

JsonScan::Took JsonScan::pop() {
  open_.pop_back();
  return open_.empty() ? Took::kWhole : Took::kByte;
}

JsonScan::Took JsonScan::bad(char c, std::string_view where) {
  error_ = fmt::format("invalid character {} {}", shown(c), where);
  return Took::kBad;
}

}  // namespace cairn::gateway::v3
