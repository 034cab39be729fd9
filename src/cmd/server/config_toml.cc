// TOML, which etcd does not read: the same tree, so the same keys and types. A file of its own, for toml++ is slow to
// compile.
#include <algorithm>
#include <cmath>
#include <stdexcept>

// toml++ 3.3 takes some broken files for errors of its own. They are refused like others.
static constexpr void refuse_unless(bool is_understood) {
  if (!is_understood) throw std::logic_error("cannot be understood");
}
#define TOML_ASSERT(expression) ::refuse_unless(static_cast<bool>(expression))
#define TOML_EXCEPTIONS 0
#define TOML_ENABLE_FORMATTERS 0
#include <toml++/toml.h>

#include "base/utf8.h"
#include "cmd/server/config_tree.h"

namespace cairn::cmd {
namespace {

using Kind = Tree::Kind;

// Behind the string that begins at `from`; of one that does not end, the line's end or the text's.
size_t end_of_string(std::string_view text, size_t from) {
  const char quote = text[from];
  const bool is_long = text.substr(from).starts_with(std::string(3, quote));
  const std::string_view closing = text.substr(from, is_long ? 3 : 1);
  for (size_t at = from + closing.size(); at < text.size(); ++at) {
    if (!is_long && text[at] == '\n') return at;
    if (quote == '"' && text[at] == '\\') {
      ++at;
    } else if (text.substr(at).starts_with(closing)) {
      at += closing.size();
      for (int more = 0; is_long && more < 2 && at < text.size() && text[at] == quote; ++more) ++at;
      return at;
    }
  }
  return text.size();
}

// TOML has ASCII alone there, and toml++ 3.3 has no answer to some letters.
Status check_outside_strings(std::string_view text) {
  if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);
  for (size_t at = 0; at < text.size();) {
    const bool may_begin = at == 0 || std::string_view("\n\t =[,{.").find(text[at - 1]) != std::string_view::npos;
    if (may_begin && (text[at] == '"' || text[at] == '\'')) {
      at = end_of_string(text, at);
    } else if (text[at] == '#') {
      at = std::min(text.find('\n', at), text.size());
    } else if (static_cast<unsigned char>(text[at++]) >= 0x80) {
      return fail(Code::kInvalidArgument,
                  "error reading TOML: letters beyond ASCII stand in strings and comments alone");
    }
  }
  return {};
}

// What TOML forbids wherever it stands.
Status check_characters(std::string_view text) {
  if (!is_utf8(text)) return fail(Code::kInvalidArgument, "error reading TOML: invalid UTF-8");
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if ((byte < 0x20 && c != '\t' && c != '\n' && c != '\r') || byte == 0x7f) {
      return fail(Code::kInvalidArgument, "error reading TOML: control characters are not allowed");
    }
  }
  return check_outside_strings(text);
}

Tree scalar(Kind kind, std::string text) {
  return Tree{.kind = kind, .text = std::move(text), .items = {}, .members = {}};
}

// toml++ bounds the depth of what it parses.
Result<Tree> convert(const toml::node& node) {
  if (const auto* text = node.as_string()) return scalar(Kind::kText, text->get());
  if (const auto* number = node.as_integer()) return scalar(Kind::kNumber, std::to_string(number->get()));
  if (const auto* flag = node.as_boolean()) return scalar(Kind::kBool, flag->get() ? "true" : "false");
  if (const auto* number = node.as_floating_point()) {
    if (!std::isfinite(number->get())) return fail(Code::kInvalidArgument, "error reading TOML: a number that is none");
    return scalar(Kind::kNumber, number_text(number->get()));
  }
  if (const auto* list = node.as_array()) {
    Tree out{.kind = Kind::kList, .text = "", .items = {}, .members = {}};
    for (const toml::node& each : *list) {
      CAIRN_TRY(Tree item, convert(each));
      out.items.push_back(std::move(item));
    }
    return out;
  }
  if (const auto* table = node.as_table()) {
    Tree out{.kind = Kind::kMap, .text = "", .items = {}, .members = {}};
    for (const auto& [key, value] : *table) {
      CAIRN_TRY(Tree member, convert(value));
      out.members.insert_or_assign(std::string(key.str()), std::move(member));
    }
    return out;
  }
  return fail(Code::kInvalidArgument, "error reading TOML: no setting is a date or a time");
}

}  // namespace

Result<Tree> tree_of_toml(std::string_view text) {
  CAIRN_CHECK(check_characters(text));
  try {
    const toml::parse_result parsed = toml::parse(text);
    if (!parsed) {
      return fail(Code::kInvalidArgument, "error reading TOML: line {}: {}", parsed.error().source().begin.line,
                  parsed.error().description());
    }
    return convert(parsed.table());
  } catch (const std::logic_error& error) {
    return fail(Code::kInvalidArgument, "error reading TOML: {}", error.what());
  }
}

}  // namespace cairn::cmd
