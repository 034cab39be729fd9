#include "env/failpoint_terms.h"

#include <array>
#include <charconv>
#include <utility>

#include "base/utf8.h"

namespace cairn::env {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// A part of the text, and what it means.
template <class T>
struct Read {
  std::string_view text;
  T value{};
};

size_t digits_from(std::string_view text, size_t at) {
  while (at < text.size() && is_digit(text[at])) ++at;
  return at;
}

// All of `text`, or nullopt.
template <class T>
std::optional<T> number_of(std::string_view text) {
  T value{};
  const auto read = std::from_chars(text.begin(), text.end(), value);
  if (read.ec != std::errc() || read.ptr != text.end()) return std::nullopt;
  return value;
}

using Number = std::variant<int64_t, double>;

// Digits, or digits with a point and maybe more digits. An empty text: neither is there, or the integer is too large.
Read<Number> read_number(std::string_view text) {
  const size_t whole = digits_from(text, 0);
  if (whole == 0) return {};
  const auto integer = number_of<int64_t>(text.substr(0, whole));
  if (!integer) return {};
  if (whole == text.size() || text[whole] != '.') return {text.substr(0, whole), *integer};
  const size_t end = digits_from(text, whole + 1);
  if (end == whole + 1) return {text.substr(0, end), static_cast<double>(*integer)};
  const auto number = number_of<double>(text.substr(0, end));
  if (!number) return {};
  return {text.substr(0, end), *number};
}

// All modifiers or, if one of them is incomplete, none.
Read<std::vector<std::variant<Term::Times, Term::Chance>>> read_modifiers(std::string_view text) {
  std::vector<std::variant<Term::Times, Term::Chance>> modifiers;
  size_t at = 0;
  while (true) {
    const auto [number_text, number] = read_number(text.substr(at));
    if (number_text.empty()) break;
    const size_t end = at + number_text.size();
    const bool is_times = std::holds_alternative<int64_t>(number);
    if (end == text.size() || text[end] != (is_times ? '*' : '%')) return {};
    if (is_times) {
      modifiers.emplace_back(Term::Times{std::get<int64_t>(number)});
    } else {
      modifiers.emplace_back(Term::Chance{std::get<double>(number) / 100});
    }
    at = end + 1;
  }
  return {text.substr(0, at), std::move(modifiers)};
}

constexpr std::array<std::pair<std::string_view, TermAction>, 6> kActions = {{
    {"off", TermAction::kOff},
    {"return", TermAction::kReturn},
    {"sleep", TermAction::kSleep},
    {"panic", TermAction::kPanic},
    {"break", TermAction::kBreak},
    {"print", TermAction::kPrint},
}};

Read<TermAction> read_action(std::string_view text) {
  for (const auto& [name, action] : kActions) {
    if (text.starts_with(name)) return {text.substr(0, name.size()), action};
  }
  return {};
}

// --- what Go's fmt.Sscanf makes of the text behind the parenthesis

// Behind spaces; nullopt: at the end, or at the end of the line, where Sscanf stops.
std::optional<std::string_view> skip_spaces(std::string_view text) {
  while (!text.empty() && (text[0] == ' ' || text[0] == '\t' || text[0] == '\v' || text[0] == '\f' ||
                           (text[0] == '\r' && !text.starts_with("\r\n")))) {
    text.remove_prefix(1);
  }
  if (text.empty() || text[0] == '\n' || text.starts_with("\r\n")) return std::nullopt;
  return text;
}

// %q: what stands between the quotes.
std::optional<std::string_view> scan_quoted(std::string_view text) {
  if (text[0] != '"' && text[0] != '`') return std::nullopt;
  const size_t end = text.find(text[0], 1);
  if (end == std::string_view::npos) return std::nullopt;
  const std::string_view body = text.substr(1, end - 1);
  if (text[0] == '"' && body.find('\n') != std::string_view::npos) return std::nullopt;
  return body;
}

// %d
std::optional<int64_t> scan_integer(std::string_view text) {
  const bool has_sign = text[0] == '+' || text[0] == '-';
  const size_t end = digits_from(text, has_sign ? 1 : 0);
  const size_t begin = text[0] == '+' ? 1 : 0;
  return number_of<int64_t>(text.substr(begin, end - begin));
}

// %t: anything that is not a word begun and broken off is false.
std::optional<bool> scan_bool(std::string_view text) {
  const auto is_at = [&](size_t at, char lower) {
    return at < text.size() && (text[at] == lower || text[at] == lower - 'a' + 'A');
  };
  const bool begins_true = is_at(0, 't');
  if (!begins_true && !is_at(0, 'f')) return text[0] == '1';
  const std::string_view rest = begins_true ? "rue" : "alse";
  if (!is_at(1, rest[0])) return begins_true;
  for (size_t i = 1; i < rest.size(); ++i) {
    if (!is_at(i + 1, rest[i])) return std::nullopt;
  }
  return begins_true;
}

// As many bytes as Go's spelling of the value has, with parentheses.
// compat: gofail panics where the text is shorter; here it is one that cannot be read.
Read<TermValue> value_of(std::string_view text, TermValue value, size_t spelled_bytes) {
  if (spelled_bytes > text.size()) return {};
  return {text.substr(0, spelled_bytes), std::move(value)};
}

// An empty text with NoValue: there is none, or none that can be read.
Read<TermValue> read_value(std::string_view text) {
  if (text.empty()) return {"", EmptyValue{}};
  if (text.size() == 1 || text[0] != '(') return {};
  if (text[1] == ')') return {text.substr(0, 2), EmptyValue{}};
  const auto inner = skip_spaces(text.substr(1));
  if (!inner) return {};
  if (const auto body = scan_quoted(*inner)) {
    // An escape is longer than what it stands for, so gofail does not find the end of the term.
    const bool has_escape = (*inner)[0] == '"' && body->find('\\') != std::string_view::npos;
    if (has_escape || !is_utf8(*body)) return {};
    return value_of(text, std::string(*body), body->size() + 4);
  }
  if (const auto integer = scan_integer(*inner)) return value_of(text, *integer, std::to_string(*integer).size() + 2);
  if (const auto boolean = scan_bool(*inner)) return value_of(text, *boolean, *boolean ? 6 : 7);
  return {};
}

Read<Term> read_term(std::string_view text) {
  auto modifiers = read_modifiers(text);
  const auto action = read_action(text.substr(modifiers.text.size()));
  auto value = read_value(text.substr(modifiers.text.size() + action.text.size()));
  const size_t bytes = modifiers.text.size() + action.text.size() + value.text.size();
  return {text.substr(0, bytes), {std::move(modifiers.value), action.value, std::move(value.value)}};
}

bool allows(std::variant<Term::Times, Term::Chance>& modifier, const std::function<double()>& chance) {
  if (auto* const times = std::get_if<Term::Times>(&modifier)) {
    if (times->left == 0) return false;
    --times->left;
    return true;
  }
  return chance() <= std::get<Term::Chance>(modifier).part;
}

}  // namespace

std::string value_text(const TermValue& value) {
  if (std::holds_alternative<NoValue>(value)) return "<nil>";
  if (const auto* const string = std::get_if<std::string>(&value)) return *string;
  if (const auto* const integer = std::get_if<int64_t>(&value)) return std::to_string(*integer);
  if (const auto* const boolean = std::get_if<bool>(&value)) return *boolean ? "true" : "false";
  return "{}";
}

std::string_view value_type(const TermValue& value) {
  constexpr std::array<std::string_view, std::variant_size_v<TermValue>> kNames = {"<nil>", "struct {}", "string",
                                                                                   "int", "bool"};
  return kNames[value.index()];
}

std::optional<FailpointTerms> FailpointTerms::parse(std::string_view text) {
  FailpointTerms out;
  out.text_ = text;
  while (!text.empty()) {
    auto term = read_term(text);
    if (term.text.empty()) return std::nullopt;
    text.remove_prefix(term.text.size());
    out.terms_.push_back(std::move(term.value));
    if (text.size() < 2) continue;
    if (!text.starts_with("->")) return std::nullopt;
    text.remove_prefix(2);
  }
  if (out.terms_.empty()) return std::nullopt;
  return out;
}

const Term* FailpointTerms::next(const std::function<double()>& chance) {
  for (Term& term : terms_) {
    bool allowed = true;
    for (auto& modifier : term.modifiers) {
      allowed = allows(modifier, chance);
      if (!allowed) break;
    }
    if (allowed) return &term;
  }
  return nullptr;
}

}  // namespace cairn::env
