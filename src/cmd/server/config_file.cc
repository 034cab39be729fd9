#include "cmd/server/config_file.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <span>

#include "base/check.h"
#include "base/go_duration.h"
#include "cluster/urls.h"
#include "cmd/server/config_flags.h"
#include "cmd/server/config_former.h"

namespace cairn::cmd {
namespace {

using Kind = Tree::Kind;

enum class GoType : uint8_t { kString, kBool, kInt, kInt64, kUint, kUint64, kUint32, kDuration, kTexts, kDeprecation };

std::string_view name_of(GoType type) {
  switch (type) {
    case GoType::kString: return "string";
    case GoType::kBool: return "bool";
    case GoType::kInt: return "int";
    case GoType::kInt64: return "int64";
    case GoType::kUint: return "uint";
    case GoType::kUint64: return "uint64";
    case GoType::kUint32: return "uint32";
    case GoType::kDuration: return "time.Duration";
    case GoType::kTexts: return "[]string";
    case GoType::kDeprecation: return "config.V2DeprecationEnum";
  }
  return "";
}

// Sections: a key, and the flag that it stands for. Without a flag: of no meaning here, or named when `protects`.
struct Section;
struct Member {
  std::string_view key;
  GoType type = GoType::kString;
  std::string_view flag;
  const Section* section = nullptr;
  bool protects = false;
};
struct Section {
  std::string_view go_type;    // as errors name it where something else is found
  std::string_view go_struct;  // and where one of its members is wrong
  std::span<const Member> members;
};

using enum GoType;

constexpr auto kClientSecurity = std::to_array<Member>({
    {"cert-file", kString, "cert-file"},
    {"key-file", kString, "key-file"},
    {"client-cert-file", kString, "client-cert-file"},
    {"client-key-file", kString, "client-key-file"},
    {"client-cert-auth", kBool, "client-cert-auth"},
    {"trusted-ca-file", kString, "trusted-ca-file"},
    {"auto-tls", kBool, "auto-tls"},
    {.key = "allowed-cn", .type = kTexts, .flag = "", .protects = true},
    {"allowed-hostname", kTexts, "client-cert-allowed-hostname"},
    {"skip-client-san-verification", kBool, ""},
});
constexpr auto kPeerSecurity = std::to_array<Member>({
    {"cert-file", kString, "peer-cert-file"},
    {"key-file", kString, "peer-key-file"},
    {"client-cert-file", kString, "peer-client-cert-file"},
    {"client-key-file", kString, "peer-client-key-file"},
    {"client-cert-auth", kBool, "peer-client-cert-auth"},
    {"trusted-ca-file", kString, "peer-trusted-ca-file"},
    {"auto-tls", kBool, "peer-auto-tls"},
    {"allowed-cn", kTexts, "peer-cert-allowed-cn"},
    {"allowed-hostname", kTexts, "peer-cert-allowed-hostname"},
    {"skip-client-san-verification", kBool, "peer-skip-client-san-verification"},
});
constexpr auto kSocket = std::to_array<Member>({
    {"reuse-port", kBool, "socket-reuse-port"},
    {"reuse-address", kBool, "socket-reuse-address"},
});
constexpr auto kSecure = std::to_array<Member>({
    {"cert", kString, "discovery-cert"},
    {"key", kString, "discovery-key"},
    {"cacert", kString, "discovery-cacert"},
    {"server-name", kString, ""},
    {"insecure-transport", kBool, "discovery-insecure-transport"},
    {"insecure-skip-tls-verify", kBool, "discovery-insecure-skip-tls-verify"},
});
constexpr auto kAuth = std::to_array<Member>({
    {"username", kString, "discovery-user"},
    {"password", kString, "discovery-password"},
    {"token", kString, ""},
});
constexpr Section kSecureSection{"clientv3.SecureConfig", "SecureConfig", kSecure};
constexpr Section kAuthSection{"clientv3.AuthConfig", "AuthConfig", kAuth};
constexpr auto kClient = std::to_array<Member>({
    {"endpoints", kTexts, "discovery-endpoints"},
    {"request-timeout", kDuration, "discovery-request-timeout"},
    {"dial-timeout", kDuration, "discovery-dial-timeout"},
    {"keepalive-time", kDuration, "discovery-keepalive-time"},
    {"keepalive-timeout", kDuration, "discovery-keepalive-timeout"},
    {"max-request-bytes", kInt, ""},
    {"max-recv-bytes", kInt, ""},
    {.key = "secure", .section = &kSecureSection},
    {.key = "auth", .section = &kAuthSection},
});
constexpr Section kClientSection{"clientv3.ConfigSpec", "ConfigSpec", kClient};
constexpr auto kDiscovery = std::to_array<Member>({
    {"token", kString, "discovery-token"},
    {.key = "client", .section = &kClientSection},
});
constexpr Section kClientSecuritySection{"embed.securityConfig", "securityConfig", kClientSecurity};
constexpr Section kPeerSecuritySection{"embed.securityConfig", "securityConfig", kPeerSecurity};
constexpr Section kSocketSection{"transport.SocketOpts", "SocketOpts", kSocket};
constexpr Section kDiscoverySection{"v3discovery.DiscoveryConfig", "DiscoveryConfig", kDiscovery};
constexpr auto kSections = std::to_array<Member>({
    {.key = "client-transport-security", .section = &kClientSecuritySection},
    {.key = "peer-transport-security", .section = &kPeerSecuritySection},
    {.key = "socket-options", .section = &kSocketSection},
    {.key = "discovery-config", .section = &kDiscoverySection},
});

// Keys that etcd reads into the part of its structure that files have of their own; errors name that part.
constexpr auto kOfFilesAlone =
    std::to_array<std::string_view>({"listen-peer-urls", "listen-client-urls", "listen-client-http-urls",
                                     "initial-advertise-peer-urls", "advertise-client-urls", "cors", "host-whitelist",
                                     "client-transport-security", "peer-transport-security", "feature-gates"});

// Flags that are no key: they are in sections, or on the command line alone.
constexpr auto kNotInFiles =
    std::to_array<std::string_view>({"config-file", "discovery-fallback", "raft-read-timeout", "raft-write-timeout",
                                     "version", "client-crl-file", "peer-crl-file"});

template <class Members>
bool has_flag(const Members& members, std::string_view flag) {
  return std::ranges::any_of(members, [flag](const Member& member) { return member.flag == flag; });
}

GoType go_type_of(const FlagSpec& spec) {
  if (spec.name == "log-outputs" || spec.name == "cipher-suites") return kTexts;
  if (spec.name == "quota-backend-bytes") return kInt64;
  if (spec.name == "snapshot-count" || spec.name == "snapshot-catchup-entries") return kUint64;
  switch (spec.type) {
    case FlagType::kBool: return kBool;
    case FlagType::kInt: return kInt;
    case FlagType::kUint: return kUint;
    case FlagType::kUint32: return kUint32;
    case FlagType::kDuration: return kDuration;
    case FlagType::kDeprecation: return kDeprecation;
    default: return kString;
  }
}

GoType go_type_of(const FormerFlag& former) {
  if (former.name.ends_with("-entries")) return kUint64;
  return go_type_of(FlagSpec{.name = former.name, .type = former.type, .kind = {}, .default_text = "", .help = ""});
}

bool equals_without_case(std::string_view left, std::string_view right) {
  return std::ranges::equal(left, right, [](char a, char b) {
    const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
    return lower(a) == lower(b);
  });
}

template <class Rows, class Name>
auto find_key(const Rows& rows, std::string_view key, Name name) {
  const auto exact = std::ranges::find(rows, key, name);
  if (exact != std::ranges::end(rows)) return exact;
  return std::ranges::find_if(rows, [&](const auto& row) { return equals_without_case(name(row), key); });
}

template <class Int>
std::optional<std::string> integer_in(std::string_view text) {
  if (text == "-0" && std::is_signed_v<Int>) return "0";
  Int value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return std::to_string(value);
}

std::optional<std::string> integer_of(GoType type, std::string_view text) {
  switch (type) {
    case kUint:
    case kUint64: return integer_in<uint64_t>(text);
    case kUint32: return integer_in<uint32_t>(text);
    default: return integer_in<int64_t>(text);
  }
}

// Goes through the keys in their order, as etcd does; what is wrong first is told.
class Decoder {
 public:
  explicit Decoder(FileFormat format) : format_(format) {}

  void decode(const Tree& root) {
    if (root.kind == Kind::kNull) return;
    if (root.kind != Kind::kMap) {
      return wrong(fmt::format("cannot unmarshal {} into Go value of type embed.configYAML", kind_name(root.kind)));
    }
    for (const auto& [key, value] : root.members) decode_key(key, value);
  }

  FileSettings settings;
  std::optional<std::string> error;

 private:
  void wrong(std::string text) {
    if (!error) error = "error unmarshaling JSON: while decoding JSON: json: " + std::move(text);
  }

  static std::string path_of(std::string_view key) {
    const bool is_of_files = std::ranges::find(kOfFilesAlone, key) != kOfFilesAlone.end();
    return fmt::format("{}.{}", is_of_files ? "configJSON" : "Config", key);
  }

  void decode_key(const std::string& key, const Tree& value) {
    if (const auto section = find_key(kSections, key, [](const Member& row) { return row.key; });
        section != kSections.end()) {
      return decode_section(*section, value, "configYAML", path_of(section->key));
    }
    const auto flag = find_key(all_flags(), key, [](const FlagSpec& row) { return row.name; });
    if (flag != all_flags().end() && is_in_files(flag->name)) {
      if (auto found = canonical(value, go_type_of(*flag), "configYAML", path_of(flag->name))) {
        settings.values.insert_or_assign(flag->name, *std::move(found));
      }
      return;
    }
    const auto former = find_key(former_flags(), key, [](const FormerFlag& row) { return row.name; });
    if (former != former_flags().end()) {
      if (auto found = canonical(value, go_type_of(*former), "configYAML", path_of(former->name))) {
        settings.former.insert_or_assign(former->name, *std::move(found));
      }
      return;
    }
    settings.unknown.push_back(key);
  }

  void decode_section(const Member& member, const Tree& value, std::string_view go_struct, const std::string& path) {
    if (value.kind == Kind::kNull) return;
    const Section& section = *member.section;
    if (value.kind != Kind::kMap) return mismatch(value, section.go_type, go_struct, path);
    for (const auto& [key, inner] : value.members) {
      const auto row = find_key(section.members, key, [](const Member& each) { return each.key; });
      if (row == section.members.end()) {
        settings.unknown.push_back(fmt::format("{}.{}", member.key, key));
        continue;
      }
      const std::string inner_path = fmt::format("{}.{}", path, row->key);
      if (row->section != nullptr) {
        decode_section(*row, inner, section.go_struct, inner_path);
      } else if (auto found = canonical(inner, row->type, section.go_struct, inner_path)) {
        if (!row->flag.empty()) settings.values.insert_or_assign(row->flag, *std::move(found));
        if (row->protects) settings.unbuilt.push_back(fmt::format("{}.{}", member.key, key));
      }
    }
  }

  void mismatch(const Tree& value, std::string_view type, std::string_view go_struct, const std::string& path) {
    wrong(fmt::format("cannot unmarshal {} into Go struct field {}.{} of type {}", kind_name(value.kind), go_struct,
                      path, type));
  }

  // nullopt: null, an empty list, or of the wrong type, which is noted.
  std::optional<std::string> canonical(const Tree& value, GoType type, std::string_view go_struct,
                                       const std::string& path) {
    if (value.kind == Kind::kNull) return std::nullopt;
    switch (type) {
      case kString:
      case kDeprecation:
        if (value.kind == Kind::kText) return value.text;
        break;
      case kBool:
        if (value.kind == Kind::kBool) return value.text;
        break;
      case kTexts:
        if (value.kind == Kind::kList) return joined(value, go_struct, path);
        break;
      case kDuration:
        if (format_ == FileFormat::kToml && value.kind == Kind::kText) {
          if (const auto duration = parse_go_duration(value.text)) return go_duration(*duration);
        }
        [[fallthrough]];
      case kInt:
      case kInt64:
      case kUint:
      case kUint64:
      case kUint32: {
        if (value.kind != Kind::kNumber) break;
        const auto number = integer_of(type, value.text);
        if (!number) {
          wrong(fmt::format("cannot unmarshal number {} into Go struct field {}.{} of type {}", value.text, go_struct,
                            path, name_of(type)));
          return std::nullopt;
        }
        if (type != kDuration) return number;
        return go_duration(std::chrono::nanoseconds(number_of<int64_t>(*number)));
      }
    }
    mismatch(value, name_of(type), go_struct, path);
    return std::nullopt;
  }

  // A list as its flag has it: with commas.
  std::optional<std::string> joined(const Tree& list, std::string_view go_struct, const std::string& path) {
    std::string out;
    for (const Tree& item : list.items) {
      if (item.kind != Kind::kText && item.kind != Kind::kNull) {
        mismatch(item, "string", go_struct, path);
        return std::nullopt;
      }
      if (item.text.find(',') != std::string::npos && !error) {
        error = fmt::format("{}: a comma in an entry of a list is not supported", path);
      }
      if (&item != &list.items.front()) out += ',';
      out += item.text;
    }
    if (list.items.empty()) return std::nullopt;
    return out;
  }

  FileFormat format_;
};

// What etcd does with some values once all types are right, in its order.
std::optional<FileError> finish(const Tree& root, FileSettings& settings) {
  auto& values = settings.values;
  const auto logged = [](std::string text) {
    return FileError{.exit_code = 1, .logged = std::move(text), .printed = ""};
  };
  if (const auto gates = values.find("feature-gates"); gates != values.end()) {
    auto canonical = canonical_value(FlagType::kGates, gates->second);
    if (!canonical) return logged(canonical.error().message);
    gates->second = *std::move(canonical);
  }
  const auto peer = root.members.find("peer-transport-security");
  if (peer != root.members.end() && peer->second.kind == Kind::kNull) return logged("invalid peer-transport-security");
  for (const std::string_view flag : {"listen-peer-urls", "listen-client-urls", "listen-client-http-urls",
                                      "initial-advertise-peer-urls", "advertise-client-urls", "listen-metrics-urls"}) {
    const auto given = values.find(flag);
    if (given == values.end()) continue;
    if (given->second.empty()) {
      values.erase(given);  // the default
      continue;
    }
    auto canonical = canonical_value(FlagType::kUrls, given->second);
    if (!canonical) {
      const std::string_view named = flag == "advertise-client-urls" ? "advertise-peer-urls" : flag;  // as etcd says
      return FileError{
          .exit_code = 1,
          .logged = "",
          .printed = fmt::format("unexpected error setting up {}: {}\n", named, canonical.error().message)};
    }
    given->second = *std::move(canonical);
  }
  for (const std::string_view flag : {"cors", "host-whitelist"}) {
    const auto given = values.find(flag);
    if (given == values.end()) continue;
    if (given->second.empty()) {
      values.erase(given);
      continue;
    }
    auto canonical = canonical_value(find_flag(flag)->type, given->second);
    if (!canonical) {
      return FileError{
          .exit_code = 2,
          .logged = "",
          .printed = fmt::format("panic: new UniqueURLs should never fail: {}\n", canonical.error().message)};
    }
    given->second = *std::move(canonical);
  }
  for (const std::string_view flag : {"log-outputs", "discovery-endpoints"}) {
    if (const auto given = values.find(flag); given != values.end()) {
      given->second = *canonical_value(FlagType::kSet, given->second);
    }
  }
  if (const auto given = values.find("initial-cluster-state"); given != values.end() && given->second.empty()) {
    values.erase(given);
  }
  if (const auto given = values.find("self-signed-cert-validity"); given != values.end() && given->second == "0") {
    values.erase(given);
  }
  if (const auto given = values.find("v2-deprecation"); given != values.end()) given->second = "write-only";
  return std::nullopt;
}

}  // namespace

FileFormat format_of(std::string_view path) { return path.ends_with(".toml") ? FileFormat::kToml : FileFormat::kYaml; }

bool is_in_files(std::string_view flag) {
  if (std::ranges::find(kNotInFiles, flag) != kNotInFiles.end()) return false;
  if (has_flag(kClientSecurity, flag) || has_flag(kPeerSecurity, flag) || has_flag(kSocket, flag) ||
      has_flag(kDiscovery, flag) || has_flag(kClient, flag) || has_flag(kSecure, flag) || has_flag(kAuth, flag)) {
    return false;
  }
  const FlagSpec* spec = find_flag(flag);
  return spec != nullptr && spec->type != FlagType::kAnything;
}

std::expected<FileSettings, FileError> read_settings(std::string_view text, FileFormat format) {
  const auto tree = format == FileFormat::kToml ? tree_of_toml(text) : tree_of_yaml(text);
  if (!tree) return std::unexpected(FileError{.exit_code = 1, .logged = tree.error().message, .printed = ""});
  Decoder decoder(format);
  decoder.decode(*tree);
  if (decoder.error) {
    return std::unexpected(FileError{.exit_code = 1, .logged = *std::move(decoder.error), .printed = ""});
  }
  if (auto error = finish(*tree, decoder.settings)) return std::unexpected(*std::move(error));
  return std::move(decoder.settings);
}

}  // namespace cairn::cmd
