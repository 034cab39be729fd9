// JSON as Go's encoding/json reads it, with its words for what is wrong: for values that etcd reads as JSON alone.
#include <algorithm>

#include "base/utf8.h"
#include "cmd/server/config_tree.h"

namespace cairn::cmd {
namespace {

using Kind = Tree::Kind;

constexpr size_t kDepthMax = 1000;

class Reader {
 public:
  explicit Reader(std::string_view text) : rest_(text) {}

  Result<Tree> document() {
    CAIRN_TRY(Tree out, value(0));
    skip_space();
    if (!rest_.empty()) return unexpected("after top-level value");
    return out;
  }

 private:
  void skip_space() {
    const size_t at = rest_.find_first_not_of(" \t\r\n");
    rest_.remove_prefix(at == std::string_view::npos ? rest_.size() : at);
  }

  [[nodiscard]] std::unexpected<Error> unexpected(std::string_view where) const {
    if (rest_.empty()) return fail(Code::kInvalidArgument, "unexpected end of JSON input");
    const char c = rest_.front();
    const auto byte = static_cast<unsigned char>(c);
    std::string shown = "'" + std::string(1, c) + "'";
    if (c == '\'') shown = "'\\''";
    if (c == '\\') shown = "'\\\\'";
    if (byte < 0x20 || byte == 0x7f) shown = fmt::format("'\\x{:02x}'", static_cast<unsigned>(byte));
    if (c == '\n' || c == '\t' || c == '\r') shown = c == '\n' ? "'\\n'" : c == '\t' ? "'\\t'" : "'\\r'";
    if (byte >= 0x80) shown = fmt::format("'\\u{:04x}'", static_cast<unsigned>(byte));
    return fail(Code::kInvalidArgument, "invalid character {} {}", shown, where);
  }

  bool take(char c) {
    if (!rest_.starts_with(c)) return false;
    rest_.remove_prefix(1);
    return true;
  }

  Result<Tree> value(size_t depth) {
    if (depth > kDepthMax) return fail(Code::kInvalidArgument, "exceeded max depth");
    skip_space();
    if (rest_.starts_with('{')) return object(depth);
    if (rest_.starts_with('[')) return array(depth);
    if (rest_.starts_with('"')) {
      CAIRN_TRY(std::string out, text());
      return Tree{.kind = Kind::kText, .text = std::move(out), .items = {}, .members = {}};
    }
    if (rest_.starts_with('t')) return literal("true", Kind::kBool);
    if (rest_.starts_with('f')) return literal("false", Kind::kBool);
    if (rest_.starts_with('n')) return literal("null", Kind::kNull);
    if (rest_.starts_with('-') || (!rest_.empty() && is_digit(rest_.front()))) return number();
    return unexpected("looking for beginning of value");
  }

  Result<Tree> literal(std::string_view word, Kind kind) {
    for (size_t i = 0; i < word.size(); ++i) {
      if (take(word[i])) continue;
      return unexpected(fmt::format("in literal {} (expecting '{}')", word, word[i]));
    }
    return Tree{.kind = kind, .text = kind == Kind::kNull ? "" : std::string(word), .items = {}, .members = {}};
  }

  static bool is_digit(char c) { return c >= '0' && c <= '9'; }
  bool take_digits() {
    const std::string_view before = rest_;
    while (!rest_.empty() && is_digit(rest_.front())) rest_.remove_prefix(1);
    return rest_.size() != before.size();
  }

  Result<Tree> number() {
    const std::string_view before = rest_;
    take('-');
    if (!take('0') && !take_digits()) return unexpected("in numeric literal");
    if (take('.') && !take_digits()) return unexpected("after decimal point in numeric literal");
    if (take('e') || take('E')) {
      if (!take('+')) take('-');
      if (!take_digits()) return unexpected("in exponent of numeric literal");
    }
    const std::string_view written = before.substr(0, before.size() - rest_.size());
    return Tree{.kind = Kind::kNumber, .text = std::string(written), .items = {}, .members = {}};
  }

  Result<std::string> text() {
    take('"');
    std::string out;
    while (!take('"')) {
      if (rest_.empty() || static_cast<unsigned char>(rest_.front()) < 0x20) return unexpected("in string literal");
      if (!take('\\')) {
        const size_t size = utf8_size(rest_);
        out += size == 0 ? std::string_view("\xEF\xBF\xBD") : rest_.substr(0, size);
        rest_.remove_prefix(std::max<size_t>(size, 1));
        continue;
      }
      constexpr std::string_view kMarks = "\"\\/bfnrt";
      constexpr std::string_view kMeant = "\"\\/\b\f\n\r\t";
      const size_t known = rest_.empty() ? std::string_view::npos : kMarks.find(rest_.front());
      if (known != std::string_view::npos) {
        out += kMeant[known];
        rest_.remove_prefix(1);
        continue;
      }
      if (!take('u')) return unexpected("in string escape code");
      uint32_t code = 0;
      for (int i = 0; i < 4; ++i) {
        const size_t digit = rest_.empty() ? std::string_view::npos : kHex.find(rest_.front());
        if (digit == std::string_view::npos) return unexpected("in \\u hexadecimal character escape");
        code = code * 16 + static_cast<uint32_t>(digit >= 16 ? digit - 6 : digit);
        rest_.remove_prefix(1);
      }
      append_code(out, code);
    }
    return out;
  }

  // Pairs of surrogates are no characters of any setting: they become the replacement character.
  static void append_code(std::string& out, uint32_t code) {
    if (code >= 0xd800 && code < 0xe000) code = 0xfffd;
    if (code < 0x80) {
      out += static_cast<char>(code);
    } else if (code < 0x800) {
      out += static_cast<char>(0xc0 | code >> 6);
      out += static_cast<char>(0x80 | (code & 0x3f));
    } else {
      out += static_cast<char>(0xe0 | code >> 12);
      out += static_cast<char>(0x80 | (code >> 6 & 0x3f));
      out += static_cast<char>(0x80 | (code & 0x3f));
    }
  }

  Result<Tree> array(size_t depth) {
    take('[');
    Tree out{.kind = Kind::kList, .text = "", .items = {}, .members = {}};
    skip_space();
    if (take(']')) return out;
    while (true) {
      CAIRN_TRY(Tree item, value(depth + 1));
      out.items.push_back(std::move(item));
      skip_space();
      if (take(']')) return out;
      if (!take(',')) return unexpected("after array element");
    }
  }

  Result<Tree> object(size_t depth) {
    take('{');
    Tree out{.kind = Kind::kMap, .text = "", .items = {}, .members = {}};
    skip_space();
    if (take('}')) return out;
    while (true) {
      skip_space();
      if (!rest_.starts_with('"')) return unexpected("looking for beginning of object key string");
      CAIRN_TRY(std::string key, text());
      skip_space();
      if (!take(':')) return unexpected("after object key");
      CAIRN_TRY(Tree member, value(depth + 1));
      out.members.insert_or_assign(std::move(key), std::move(member));
      skip_space();
      if (take('}')) return out;
      if (!take(',')) return unexpected("after object key:value pair");
    }
  }

  static constexpr std::string_view kHex = "0123456789abcdefABCDEF";
  std::string_view rest_;
};

}  // namespace

Result<Tree> tree_of_json(std::string_view text) { return Reader(text).document(); }

}  // namespace cairn::cmd
