#include "cmd/server/config_tree.h"

#include <charconv>
#include <cmath>
#include <cstdlib>
#include <optional>

#include <yaml-cpp/yaml.h>

#include "base/utf8.h"

namespace cairn::cmd {
namespace {

using Kind = Tree::Kind;

constexpr std::string_view kStandardTag = "tag:yaml.org,2002:";
// Aliases make a small file a big tree. No configuration comes near these.
constexpr size_t kNodesMax = 100'000;
constexpr size_t kDepthMax = 200;

std::unexpected<Error> bad_yaml(std::string_view reason) {
  return fail(Code::kInvalidArgument, "error converting YAML to JSON: yaml: {}", reason);
}

std::string without_underscores(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c != '_') out += c;
  }
  return out;
}

// Go's strconv.ParseInt and ParseUint in base 0, of what has no underscores: the decimal digits of a 64-bit number.
std::optional<std::string> integer_text(std::string_view text) {
  const bool is_negative = text.starts_with('-');
  if (is_negative || text.starts_with('+')) text.remove_prefix(1);
  int base = 10;
  if (text.size() > 1 && text[0] == '0') {
    const char mark = static_cast<char>(text[1] | 0x20);
    base = mark == 'x' ? 16 : mark == 'b' ? 2 : 8;
    text.remove_prefix(mark == 'x' || mark == 'b' || mark == 'o' ? 2 : 1);
  }
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  if (!is_negative) return std::to_string(value);
  if (value > uint64_t{1} << 63) return std::nullopt;
  return value == 0 ? "0" : "-" + std::to_string(value);
}

// [-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?
bool looks_like_float(std::string_view text) {
  const auto digits = [&text] {
    size_t count = 0;
    while (count < text.size() && text[count] >= '0' && text[count] <= '9') ++count;
    text.remove_prefix(count);
    return count;
  };
  if (text.starts_with('-') || text.starts_with('+')) text.remove_prefix(1);
  const bool has_whole = digits() > 0;
  if (text.starts_with('.')) {
    text.remove_prefix(1);
    if (digits() == 0 && !has_whole) return false;
  } else if (!has_whole) {
    return false;
  }
  if (text.empty()) return true;
  if (text[0] != 'e' && text[0] != 'E') return false;
  text.remove_prefix(1);
  if (text.starts_with('-') || text.starts_with('+')) text.remove_prefix(1);
  return digits() > 0 && text.empty();
}

std::optional<double> float_of(const std::string& text) {
  if (!looks_like_float(text)) return std::nullopt;
  const double value = std::strtod(text.c_str(), nullptr);
  return std::isfinite(value) ? std::optional(value) : std::nullopt;
}

bool is_one_of(std::string_view text, std::initializer_list<std::string_view> words) {
  for (const std::string_view word : words) {
    if (text == word) return true;
  }
  return false;
}

// What a scalar is called by its standard tag: "int" for kNumber without a fraction in the source.
struct Scalar {
  Tree tree;
  std::string_view tag;
};

Result<Scalar> resolve_plain(const std::string& text) {
  const auto scalar = [](Kind kind, std::string value, std::string_view tag) {
    return Scalar{Tree{.kind = kind, .text = std::move(value), .items = {}, .members = {}}, tag};
  };
  if (is_one_of(text, {"", "~", "null", "Null", "NULL"})) return scalar(Kind::kNull, "", "null");
  if (is_one_of(text, {"y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"})) {
    return scalar(Kind::kBool, "true", "bool");
  }
  if (is_one_of(text, {"n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"})) {
    return scalar(Kind::kBool, "false", "bool");
  }
  if (is_one_of(text, {".nan", ".NaN", ".NAN"})) {
    return fail(Code::kInvalidArgument, "error converting YAML to JSON: json: unsupported value: NaN");
  }
  for (const auto& [prefix, name] : {std::pair("", "+Inf"), std::pair("+", "+Inf"), std::pair("-", "-Inf")}) {
    const std::string sign = prefix;
    if (is_one_of(text, {sign + ".inf", sign + ".Inf", sign + ".INF"})) {
      return fail(Code::kInvalidArgument, "error converting YAML to JSON: json: unsupported value: {}", name);
    }
  }
  if (text[0] == '.') {
    if (const auto value = float_of(text)) return scalar(Kind::kNumber, number_text(*value), "float");
  } else if (text[0] == '-' || text[0] == '+' || (text[0] >= '0' && text[0] <= '9')) {
    // A date has no number's form, so it stays a text, as in etcd.
    const std::string plain = without_underscores(text);
    if (auto value = integer_text(plain)) return scalar(Kind::kNumber, *std::move(value), "int");
    if (const auto value = float_of(plain)) return scalar(Kind::kNumber, number_text(*value), "float");
  }
  return scalar(Kind::kText, text, "str");
}

Result<Scalar> resolve(const YAML::Node& node) {
  const std::string& tag = node.Tag();
  const std::string& text = node.Scalar();
  if (tag == "?" || tag.empty()) return resolve_plain(text);
  const Scalar as_text{Tree{.kind = Kind::kText, .text = text, .items = {}, .members = {}}, "str"};
  if (!tag.starts_with(kStandardTag)) return as_text;  // quoted, or a tag of somebody's own
  const std::string_view wanted = std::string_view(tag).substr(kStandardTag.size());
  if (!is_one_of(wanted, {"int", "float", "bool", "null"})) return as_text;
  CAIRN_TRY(Scalar found, resolve_plain(text));
  if (found.tag != wanted && !(found.tag == "int" && wanted == "float")) {
    return bad_yaml(fmt::format("cannot decode !!{} `{}` as a !!{}", found.tag, text, wanted));
  }
  return found;
}

class Converter {
 public:
  Result<Tree> convert(const YAML::Node& node, size_t depth) {
    if (++nodes_ > kNodesMax || depth > kDepthMax) return bad_yaml("document contains excessive aliasing");
    switch (node.Type()) {
      case YAML::NodeType::Undefined:
      case YAML::NodeType::Null: return Tree{};
      case YAML::NodeType::Scalar: {
        CAIRN_TRY(Scalar scalar, resolve(node));
        return std::move(scalar.tree);
      }
      case YAML::NodeType::Sequence: {
        Tree out{.kind = Kind::kList, .text = "", .items = {}, .members = {}};
        for (const YAML::Node& each : node) {
          CAIRN_TRY(Tree item, convert(each, depth + 1));
          out.items.push_back(std::move(item));
        }
        return out;
      }
      case YAML::NodeType::Map: {
        Tree out{.kind = Kind::kMap, .text = "", .items = {}, .members = {}};
        for (const auto& each : node) CAIRN_CHECK(add_member(out, each.first, each.second, depth));
        return out;
      }
    }
    return Tree{};
  }

 private:
  Status add_member(Tree& out, const YAML::Node& key, const YAML::Node& value, size_t depth) {
    if (!key.IsScalar() && !key.IsNull()) return bad_yaml("invalid map key");
    if (key.IsScalar() && key.Scalar() == "<<" && key.Tag() == "?") return merge(out, value, depth);
    CAIRN_TRY(Tree name, convert(key, depth + 1));
    if (name.kind == Kind::kNull) {
      return fail(Code::kInvalidArgument, "error converting YAML to JSON: unsupported map key of type: %!s(<nil>)");
    }
    CAIRN_TRY(Tree member, convert(value, depth + 1));
    out.members.insert_or_assign(std::move(name.text), std::move(member));
    return {};
  }

  // The members of a map, or of several, the first of which count most.
  Status merge(Tree& out, const YAML::Node& value, size_t depth) {
    constexpr std::string_view kNoMap = "map merge requires map or sequence of maps as the value";
    CAIRN_TRY(Tree merged, convert(value, depth + 1));
    if (merged.kind == Kind::kMap) {
      for (auto& [name, member] : merged.members) out.members.insert_or_assign(name, std::move(member));
      return {};
    }
    if (merged.kind != Kind::kList) return bad_yaml(kNoMap);
    for (size_t i = merged.items.size(); i-- > 0;) {
      if (merged.items[i].kind != Kind::kMap) return bad_yaml(kNoMap);
      for (auto& [name, member] : merged.items[i].members) out.members.insert_or_assign(name, std::move(member));
    }
    return {};
  }

  size_t nodes_ = 0;
};

// What yaml.v2's reader refuses before it scans.
Status check_characters(std::string_view text) {
  if (!is_utf8(text)) return bad_yaml("invalid UTF-8");
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if ((byte < 0x20 && c != '\t' && c != '\n' && c != '\r') || byte == 0x7f) {
      return bad_yaml("control characters are not allowed");
    }
  }
  return {};
}

}  // namespace

std::string_view kind_name(Tree::Kind kind) {
  switch (kind) {
    case Kind::kNull: return "null";
    case Kind::kBool: return "bool";
    case Kind::kNumber: return "number";
    case Kind::kText: return "string";
    case Kind::kList: return "array";
    case Kind::kMap: return "object";
  }
  return "null";
}

std::string number_text(double value) {
  const double size = std::fabs(value);
  char written[64];
  const auto [end, error] = std::to_chars(std::begin(written), std::end(written), value, std::chars_format::scientific);
  std::string out(std::begin(written), error == std::errc() ? end : std::begin(written));
  const size_t mark = out.find('e');
  if (size == 0 || mark == std::string::npos) return value == 0 && std::signbit(value) ? "-0" : "0";
  const int exponent = std::stoi(out.substr(mark + 1));
  if (size < 1e-6 || size >= 1e21) {
    // e-09 becomes e-9, as Go's encoder has it.
    if (out.compare(mark, 3, "e-0") == 0) out.erase(mark + 2, 1);
    return out;
  }
  // The shortest digits that name the number, and zeros: never digits that only the binary form has.
  std::string sign = value < 0 ? "-" : "";
  std::string digits;
  for (const char c : out.substr(0, mark)) {
    if (c >= '0' && c <= '9') digits += c;
  }
  if (exponent < 0) return sign + "0." + std::string(static_cast<size_t>(-exponent - 1), '0') + digits;
  const size_t whole = static_cast<size_t>(exponent) + 1;
  if (digits.size() <= whole) return sign + digits + std::string(whole - digits.size(), '0');
  return sign + digits.substr(0, whole) + "." + digits.substr(whole);
}

Result<Tree> tree_of_yaml(std::string_view text) {
  CAIRN_CHECK(check_characters(text));
  try {
    return Converter().convert(YAML::Load(std::string(text)), 0);
  } catch (const YAML::Exception& error) {
    if (error.mark.is_null()) return bad_yaml(error.msg);
    return bad_yaml(fmt::format("line {}: {}", error.mark.line + 1, error.msg));
  }
}

}  // namespace cairn::cmd
