#include "cmd/server/flag_values.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <map>
#include <set>
#include <vector>

#include <fmt/format.h>

#include "base/go_duration.h"
#include "cluster/urls.h"

namespace cairn::cmd {
namespace {

using enum FlagType;
using enum FlagClass;

// AllAlpha and AllBeta stand for the gates of a stage.
constexpr auto kGateTable = std::to_array<GateSpec>({
    {"AllAlpha", false, "ALPHA", kSupported},
    {"AllBeta", false, "BETA", kSupported},
    {"CompactHashCheck", false, "ALPHA", kSupported},
    {"FastLeaseKeepAlive", true, "BETA", kComfort},
    {"InitialCorruptCheck", false, "ALPHA", kSupported},
    {"LeaseCheckpoint", false, "ALPHA", kSupported},
    {"LeaseCheckpointPersist", false, "ALPHA", kSupported},
    {"PriorityRequest", false, "ALPHA", kComfort},
    {"SetMemberLocalAddr", false, "ALPHA", kSupported},
    {"StopGRPCServiceOnDefrag", false, "ALPHA", kSupported},
    {"TxnModeWriteWithSharedBuffer", true, "BETA", kComfort},
});
static_assert(std::ranges::is_sorted(kGateTable, {}, &GateSpec::name));

std::unexpected<Error> invalid(std::string_view text) { return fail(Code::kInvalidArgument, "{}", text); }

std::vector<std::string_view> split(std::string_view text) {
  std::vector<std::string_view> parts;
  while (true) {
    const size_t at = text.find(',');
    parts.push_back(text.substr(0, at));
    if (at == std::string_view::npos) return parts;
    text.remove_prefix(at + 1);
  }
}

template <class Texts>
std::string joined(const Texts& texts) {
  std::string out;
  for (const auto& text : texts) {
    if (!out.empty()) out += ',';
    out += text;
  }
  return out;
}

Result<bool> parse_bool(std::string_view text) {
  static constexpr std::array<std::string_view, 6> kTrue = {"1", "t", "T", "TRUE", "true", "True"};
  static constexpr std::array<std::string_view, 6> kFalse = {"0", "f", "F", "FALSE", "false", "False"};
  if (std::ranges::find(kTrue, text) != kTrue.end()) return true;
  if (std::ranges::find(kFalse, text) != kFalse.end()) return false;
  return invalid("parse error");
}

// Digits as Go reads them in base 0: a prefix 0x, 0b, 0o or 0, and underscores between digits or behind the prefix.
Result<uint64_t> parse_digits(std::string_view text) {
  int base = 10;
  bool after_digit = false;  // an underscore may come
  if (text.size() > 1 && text[0] == '0') {
    const char mark = static_cast<char>(text[1] | 0x20);
    base = mark == 'x' ? 16 : mark == 'b' ? 2 : 8;
    text.remove_prefix(mark == 'x' || mark == 'b' || mark == 'o' ? 2 : 1);
    after_digit = true;
  }
  std::string digits;
  for (const char c : text) {
    if (c == '_' && !after_digit) return invalid("parse error");
    after_digit = c != '_';
    if (after_digit) digits += c;
  }
  if (digits.empty() || !after_digit) return invalid("parse error");
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value, base);
  if (end != digits.data() + digits.size()) return invalid("parse error");
  if (error == std::errc::result_out_of_range) return invalid("value out of range");
  if (error != std::errc()) return invalid("parse error");
  return value;
}

Result<std::string> canonical_int(std::string_view text) {
  const bool is_negative = text.starts_with('-');
  std::string_view digits = text;
  if (is_negative || text.starts_with('+')) digits.remove_prefix(1);
  CAIRN_TRY(const uint64_t value, parse_digits(digits));
  constexpr uint64_t kLimit = uint64_t{1} << 63;
  if (value > kLimit || (value == kLimit && !is_negative)) return invalid("value out of range");
  return (is_negative && value != 0 ? "-" : "") + std::to_string(value);
}

// etcd's own type, which shows the error of Go's library as it is.
Result<std::string> canonical_u32(std::string_view text) {
  const auto value = parse_digits(text);
  const bool is_out_of_range = value ? *value > UINT32_MAX : value.error().message == "value out of range";
  if (is_out_of_range || !value) {
    return fail(Code::kInvalidArgument, "strconv.ParseUint: parsing {}: {}", quoted(text),
                is_out_of_range ? "value out of range" : "invalid syntax");
  }
  return std::to_string(*value);
}

Result<std::string> canonical_duration(std::string_view text) {
  const auto duration = parse_go_duration(text);
  if (!duration) return invalid("parse error");
  return go_duration(*duration);
}

Result<std::string> canonical_urls(std::string_view text) {
  if (text.empty()) return std::string();
  CAIRN_TRY(const auto urls, cluster::parse_urls(text));
  std::vector<std::string_view> texts;
  for (const auto& url : urls) texts.push_back(url.text);
  return joined(texts);
}

Result<std::string> canonical_choice(std::string_view text, std::initializer_list<std::string_view> choices) {
  if (std::ranges::find(choices, text) == choices.end()) return invalid("invalid value");
  return std::string(text);
}

std::string_view trim(std::string_view text) {
  const size_t first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

Result<std::string> canonical_gates(std::string_view text) {
  std::map<std::string_view, bool> gates;
  for (const std::string_view raw : split(text)) {
    const std::string_view entry = trim(raw);
    if (entry.empty()) continue;
    const size_t equals = entry.find('=');
    const std::string_view name = trim(entry.substr(0, equals));
    if (equals == std::string_view::npos) return fail(Code::kInvalidArgument, "missing bool value for {}", name);
    const std::string_view value = trim(entry.substr(equals + 1));
    const auto is_on = parse_bool(value);
    if (!is_on) {
      return fail(Code::kInvalidArgument, "invalid value of {}={}, err: strconv.ParseBool: parsing {}: invalid syntax",
                  name, value, quoted(value));
    }
    if (std::ranges::find(kGateTable, name, &GateSpec::name) == kGateTable.end()) {
      return fail(Code::kInvalidArgument, "unrecognized feature gate: {}", name);
    }
    gates[name] = *is_on;
  }
  // Those of the stage that are not named themselves.
  for (const std::string_view all : {"AllAlpha", "AllBeta"}) {
    const auto given = gates.find(all);
    if (given == gates.end()) continue;
    const std::string_view stage = std::ranges::find(kGateTable, all, &GateSpec::name)->stage;
    for (const GateSpec& gate : kGateTable) {
      if (gate.stage == stage) gates.try_emplace(gate.name, given->second);
    }
  }
  std::vector<std::string> entries;
  for (const auto& [name, is_on] : gates) entries.push_back(fmt::format("{}={}", name, is_on));
  return joined(entries);
}

}  // namespace

std::span<const GateSpec> all_gates() { return kGateTable; }

Result<std::string> canonical_value(FlagType type, std::string_view text) {
  switch (type) {
    case kBool: {
      CAIRN_TRY(const bool value, parse_bool(text));
      return std::string(value ? "true" : "false");
    }
    case kInt: return canonical_int(text);
    case kUint: {
      CAIRN_TRY(const uint64_t value, parse_digits(text));
      return std::to_string(value);
    }
    case kUint32: return canonical_u32(text);
    case kDuration: return canonical_duration(text);
    case kUrls: return canonical_urls(text);
    case kUrlsOrStar: {
      if (text == "*") return std::string(text);
      CAIRN_CHECK(cluster::parse_urls(text));
      return canonical_urls(text);
    }
    case kSet: {
      const auto parts = split(text);
      return joined(std::set<std::string_view>(parts.begin(), parts.end()));
    }
    case kState: return canonical_choice(text, {"new", "existing"});
    case kFallback: return canonical_choice(text, {"exit", "proxy"});
    case kDeprecation:
      if (!canonical_choice(text, {"write-only", "write-only-skip-check", "write-only-drop-data", "gone"})) {
        return fail(Code::kInvalidArgument, "invalid value {}", quoted(text));
      }
      return std::string(text);
    case kGates: return canonical_gates(text);
    case kText:
    case kAnything: return std::string(text);
  }
  return invalid("invalid value");
}

bool gate_is_on(std::string_view gates, std::string_view gate) {
  for (const std::string_view entry : split(gates)) {
    const size_t equals = entry.find('=');
    if (entry.substr(0, equals) == gate) return entry.ends_with("=true");
  }
  const auto spec = std::ranges::find(kGateTable, gate, &GateSpec::name);
  return spec != kGateTable.end() && spec->is_on;
}

std::string quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n' || c == '\t' || c == '\r') {
      out += c == '\n' ? "\\n" : c == '\t' ? "\\t" : "\\r";
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      fmt::format_to(std::back_inserter(out), "\\x{:02x}", static_cast<unsigned>(c));
    } else {
      out += c;
    }
  }
  return out + "\"";
}

}  // namespace cairn::cmd
