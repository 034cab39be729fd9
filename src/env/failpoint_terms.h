// env/failpoint_terms.h: the terms of a fault point, as gofail reads and evaluates them (go.etcd.io/gofail v0.2.0).
//
//     3*return("x")->50.0%sleep("1s")->panic
//
// A point that is reached goes through the terms in order and carries out the first one that all of its modifiers
// allow. `N*` allows N times, `P%` (P has a point: 50.0) allows by chance. What gofail makes of odd texts is kept,
// since tests compare the two: its reader takes as many bytes as the value would have if Go had written it.
//
// Threads: a value.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace cairn::env {

struct NoValue {  // Go's nil
  friend bool operator==(NoValue, NoValue) = default;
};
struct EmptyValue {  // Go's struct{}{}: `return` at the end, and `return()`
  friend bool operator==(EmptyValue, EmptyValue) = default;
};
using TermValue = std::variant<NoValue, EmptyValue, std::string, int64_t, bool>;

// As Go's %v and %T print it.
[[nodiscard]] std::string value_text(const TermValue& value);
[[nodiscard]] std::string_view value_type(const TermValue& value);

// kMissing: `3*` alone is a term for gofail.
enum class TermAction : uint8_t { kMissing, kOff, kReturn, kSleep, kPanic, kBreak, kPrint };

struct Term {
  struct Times {
    int64_t left;
  };
  struct Chance {
    double part;  // in [0, 1], or above
  };
  std::vector<std::variant<Times, Chance>> modifiers;
  TermAction action = TermAction::kMissing;
  TermValue value;
};

class FailpointTerms {
 public:
  // nullopt: gofail cannot read the text either.
  [[nodiscard]] static std::optional<FailpointTerms> parse(std::string_view text);

  // The term to carry out now; null: none of them allows it. `chance` gives numbers in [0, 1).
  const Term* next(const std::function<double()>& chance);

  [[nodiscard]] const std::string& text() const { return text_; }

 private:
  std::string text_;
  std::vector<Term> terms_;
};

}  // namespace cairn::env
