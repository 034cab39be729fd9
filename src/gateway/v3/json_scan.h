// gateway/v3/json_scan.h: where a JSON value ends in a stream of bytes, and whether it is one: encoding/json's scanner.
//
// The same values are taken as by Go's json.Decoder, with the same texts for what is none. An object and an array end
// with their last byte; a number, a text and a word where the byte behind them has come, or the stream's end.
//
// Always true: what is held does not depend on the value's length but on how deeply it is nested: 10,000 levels at
// most. Threads:     any one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace cairn::gateway::v3 {

class JsonScan {
 public:
  enum class Outcome : uint8_t { kMore, kValue, kBad };
  struct Step {
    size_t used = 0;  // from the front of the bytes; those behind the value are not
    Outcome outcome = Outcome::kMore;
  };
  // After kValue and kBad: begin() comes first.
  [[nodiscard]] Step feed(std::string_view bytes);
  // The stream has ended. kMore: before any value began.
  [[nodiscard]] Outcome end();
  void begin();

  // Something beside spaces has come.
  [[nodiscard]] bool has_begun() const { return state_ != State::kBeginValue || !open_.empty(); }
  // After kBad: what Go says.
  [[nodiscard]] const std::string& error() const { return error_; }

  static constexpr size_t kDepthMax = 10'000;

 private:
  enum class State : uint8_t {
    kBeginValue,
    kBeginValueOrEnd,  // of an array
    kBeginKey,
    kBeginKeyOrEnd,
    kEndValue,
    kText,
    kEscape,
    kHex,  // hex_left_ digits of an escape are to come
    kNegative,
    kZero,
    kDigits,
    kPoint,
    kFraction,
    kExponent,
    kExponentSign,
    kExponentDigits,
    kWord,  // true, false, null
  };
  enum class Open : char { kKey, kObject, kArray };  // kKey: an object whose key is being read
  enum class Took : uint8_t { kByte, kWhole, kWholeBefore, kBad };

  Took take(char c);
  Took begin_value(char c);
  Took end_value(char c);
  Took push(char c, Open open, State next);
  Took pop();
  Took bad(char c, std::string_view where);

  State state_ = State::kBeginValue;
  uint8_t hex_left_ = 0;
  uint8_t word_at_ = 0;
  std::string_view word_;
  std::string open_;  // an Open each
  std::string error_;
};

[[nodiscard]] constexpr bool is_json_space(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

}  // namespace cairn::gateway::v3
