#include "cmd/server/config_flags.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <map>
#include <set>
#include <vector>

#include "base/go_duration.h"
#include "cluster/urls.h"

namespace cairn::cmd {
namespace {

using enum FlagType;
using enum FlagClass;

constexpr std::string_view kRotation =
    R"({"maxsize": 100, "maxage": 0, "maxbackups": 0, "localtime": false, "compress": false})";

constexpr auto kFlags = std::to_array<FlagSpec>({
    {"advertise-client-urls", kUrls, kSupported, "http://localhost:2379", "URLs at which clients reach this member."},
    {"auth-token", kText, kProtects, "simple", "Kind of token for authenticated clients."},
    {"auth-token-ttl", kUint, kComfort, "300", "Lifetime of a token, in seconds."},
    {"auto-compaction-mode", kText, kComfort, "periodic",
     "How to read auto-compaction-retention: periodic or revision."},
    {"auto-compaction-retention", kText, kProtects, "0", "How much history to keep; 0: all."},
    {"auto-tls", kBool, kProtects, "false", "Make certificates for clients."},
    {"backend-batch-interval", kDuration, kSupported, "0s", "Longest time between commits of the storage; 0: 100ms."},
    {"backend-batch-limit", kInt, kSupported, "0", "Most changes between commits of the storage; 0: 10000."},
    {"backend-bbolt-freelist-type", kText, kChecked, "map", "Has no meaning here; array and map are taken."},
    {"bcrypt-cost", kUint, kComfort, "10", "Cost factor of password hashes."},
    {"bootstrap-defrag-threshold-megabytes", kUint, kComfort, "0", "Defragment at start when it frees that much."},
    {"cert-file", kText, kProtects, "", "Certificate for clients."},
    {"cipher-suites", kText, kProtects, "", "TLS cipher suites."},
    {"client-cert-allowed-hostname", kText, kProtects, "", "Host names that client certificates may have."},
    {"client-cert-auth", kBool, kProtects, "false", "Ask clients for certificates."},
    {"client-cert-file", kText, kProtects, "", "Certificate that this member shows as a client."},
    {"client-crl-file", kText, kProtects, "", "Revoked client certificates."},
    {"client-key-file", kText, kProtects, "", "Key of client-cert-file."},
    {"cluster-active-size", kAnything, kIgnored, "", ""},
    {"cluster-remove-delay", kAnything, kIgnored, "", ""},
    {"cluster-sync-interval", kAnything, kIgnored, "", ""},
    {"compact-hash-check-time", kDuration, kComfort, "1m0s", "How often the leader compares compaction hashes."},
    {"compaction-batch-limit", kInt, kComfort, "0", "Most revisions deleted in one step of a compaction; 0: 1000."},
    {"compaction-sleep-interval", kDuration, kSupported, "0s", "Pause between such steps; 0: 10ms."},
    {"config", kAnything, kIgnored, "", ""},
    {"config-file", kText, kProtects, "", "A file that replaces all flags."},
    {"corrupt-check-time", kDuration, kProtects, "0s", "How often members compare their data; 0: never."},
    {"cors", kUrlsOrStar, kProtects, "*", "Origins that browsers may come from."},
    {"data-dir", kText, kSupported, "", "Where this member keeps its data; default: its name with .etcd."},
    {"discovery-cacert", kText, kProtects, "", "Discovery: certificate authority."},
    {"discovery-cert", kText, kProtects, "", "Discovery: certificate."},
    {"discovery-dial-timeout", kDuration, kProtects, "2s", "Discovery: limit of connecting."},
    {"discovery-endpoints", kSet, kProtects, "", "Discovery: endpoints of the service."},
    {"discovery-fallback", kFallback, kProtects, "exit", "Discovery: what to do when it fails."},
    {"discovery-insecure-skip-tls-verify", kBool, kProtects, "false", "Discovery: do not check certificates."},
    {"discovery-insecure-transport", kBool, kProtects, "true", "Discovery: no TLS."},
    {"discovery-keepalive-time", kDuration, kProtects, "2s", "Discovery: interval of pings."},
    {"discovery-keepalive-timeout", kDuration, kProtects, "6s", "Discovery: limit of a ping."},
    {"discovery-key", kText, kProtects, "", "Discovery: key."},
    {"discovery-password", kText, kProtects, "", "Discovery: password."},
    {"discovery-request-timeout", kDuration, kProtects, "5s", "Discovery: limit of a request."},
    {"discovery-srv", kText, kProtects, "", "Discovery: DNS domain."},
    {"discovery-srv-name", kText, kProtects, "", "Discovery: name of the DNS service."},
    {"discovery-token", kText, kProtects, "", "Discovery: token of the cluster."},
    {"discovery-user", kText, kProtects, "", "Discovery: user."},
    {"distributed-tracing-address", kText, kComfort, "localhost:4317", "Tracing: where spans go."},
    {"distributed-tracing-instance-id", kText, kComfort, "", "Tracing: this instance's name."},
    {"distributed-tracing-sampling-rate", kInt, kComfort, "0", "Tracing: samples per million."},
    {"distributed-tracing-service-name", kText, kComfort, "etcd", "Tracing: the service's name."},
    {"downgrade-check-time", kDuration, kComfort, "5s", "How often the leader looks after a downgrade."},
    {"election-timeout", kUint, kSupported, "1000", "Time without a leader before an election, in milliseconds."},
    {"enable-distributed-tracing", kBool, kComfort, "false", "Tracing over OTLP."},
    {"enable-grpc-gateway", kBool, kChecked, "true", "Serve the API as JSON too; not built yet."},
    {"enable-log-rotation", kBool, kComfort, "false", "Rotate the log's file."},
    {"enable-pprof", kBool, kComfort, "false", "Serve profiles."},
    {"feature-gates", kGates, kSupported, "", "Features to switch: Name=true|false,..."},
    {"force", kAnything, kIgnored, "", ""},
    {"force-new-cluster", kBool, kProtects, "false", "Make a cluster of this member alone."},
    {"grpc-keepalive-interval", kDuration, kSupported, "2h0m0s", "How often to ping a quiet client; 0: never."},
    {"grpc-keepalive-min-time", kDuration, kSupported, "5s", "How often a client may ping."},
    {"grpc-keepalive-timeout", kDuration, kSupported, "20s", "How long a ping may take; 0: no limit."},
    {"heartbeat-interval", kUint, kSupported, "100", "Time between heartbeats, in milliseconds."},
    {"host-whitelist", kSet, kProtects, "*", "Host names that plain HTTP requests may ask for."},
    {"initial-advertise-peer-urls", kUrls, kSupported, "http://localhost:2380",
     "URLs at which peers reach this member."},
    {"initial-cluster", kText, kSupported, "default=http://localhost:2380", "Founding members: name=URL,..."},
    {"initial-cluster-state", kState, kSupported, "new", "new: found a cluster; existing: join one."},
    {"initial-cluster-token", kText, kSupported, "etcd-cluster", "Tells clusters with equal URLs apart."},
    {"initial-election-tick-advance", kBool, kComfort, "true", "Shorten the first election timeout."},
    {"io-threads", kUint32, kSupported, "0",
     "Threads that serve connections; 0: one a core; at most 48. Only in cairn."},
    {"key-file", kText, kProtects, "", "Key of cert-file."},
    {"listen-client-http-urls", kUrls, kSupported, "",
     "URLs for JSON and other plain HTTP, taken from listen-client-urls."},
    {"listen-client-urls", kUrls, kSupported, "http://localhost:2379", "URLs to listen on for clients."},
    {"listen-metrics-urls", kUrls, kSupported, "", "More URLs for /metrics and /health."},
    {"listen-peer-urls", kUrls, kChecked, "http://localhost:2380", "URLs to listen on for peers; not built yet."},
    {"log-format", kText, kSupported, "json", "json or console."},
    {"log-level", kText, kSupported, "info", "debug, info, warn, error, panic or fatal."},
    {"log-outputs", kSet, kSupported, "default", "stderr, stdout, files; default is stderr."},
    {"log-rotation-config-json", kText, kComfort, kRotation, "How to rotate."},
    {"logger", kText, kSupported, "zap", "Only zap: JSON lines of its shape."},
    {"max-concurrent-streams", kUint32, kSupported, "4294967295", "Most open streams of one client connection."},
    {"max-learners", kInt, kSupported, "1", "Most learners in the cluster."},
    {"max-request-bytes", kUint, kSupported, "1572864", "Largest request of a client."},
    {"max-result-buffer", kAnything, kIgnored, "", ""},
    {"max-retry-attempts", kAnything, kIgnored, "", ""},
    {"max-snapshots", kUint, kComfort, "5", "Snapshot files to keep; 0: all."},
    {"max-txn-ops", kUint, kSupported, "128", "Most operations of a transaction."},
    {"max-wals", kUint, kComfort, "5", "WAL files to keep; 0: all."},
    {"memory-mlock", kBool, kComfort, "false", "Keep the storage's pages in memory."},
    {"metrics", kText, kComfort, "basic", "basic, or extensive: also durations of every RPC."},
    {"name", kText, kSupported, "default", "This member's name."},
    {"peer-auto-tls", kBool, kProtects, "false", "Make certificates for peers."},
    {"peer-cert-allowed-cn", kText, kProtects, "", "Common names that peer certificates may have."},
    {"peer-cert-allowed-hostname", kText, kProtects, "", "Host names that peer certificates may have."},
    {"peer-cert-file", kText, kProtects, "", "Certificate for peers."},
    {"peer-client-cert-auth", kBool, kProtects, "false", "Ask peers for certificates."},
    {"peer-client-cert-file", kText, kProtects, "", "Certificate that this member shows to peers."},
    {"peer-client-key-file", kText, kProtects, "", "Key of peer-client-cert-file."},
    {"peer-crl-file", kText, kProtects, "", "Revoked peer certificates."},
    {"peer-election-timeout", kAnything, kIgnored, "", ""},
    {"peer-heartbeat-interval", kAnything, kIgnored, "", ""},
    {"peer-key-file", kText, kProtects, "", "Key of peer-cert-file."},
    {"peer-skip-client-san-verification", kBool, kProtects, "false", "Do not check names in peers' certificates."},
    {"peer-trusted-ca-file", kText, kProtects, "", "Certificate authority of peers."},
    {"pre-vote", kBool, kSupported, "true", "Ask before an election whether it could be won."},
    {"quota-backend-bytes", kInt, kSupported, "0", "Size at which writes stop; 0: 2 GiB, below 0: none."},
    {"raft-read-timeout", kDuration, kComfort, "5s", "Limit of reading from a peer."},
    {"raft-write-timeout", kDuration, kComfort, "5s", "Limit of writing to a peer."},
    {"retry-interval", kAnything, kIgnored, "", ""},
    {"self-signed-cert-validity", kUint, kComfort, "1", "Life of made certificates, in years."},
    {"snapshot", kAnything, kIgnored, "", ""},
    {"snapshot-catchup-entries", kUint, kComfort, "5000", "Log entries kept behind a snapshot for slow followers."},
    {"snapshot-count", kUint, kSupported, "10000", "Applied entries between snapshots."},
    {"socket-reuse-address", kBool, kComfort, "false", "SO_REUSEADDR on listeners."},
    {"socket-reuse-port", kBool, kComfort, "false", "SO_REUSEPORT on listeners."},
    {"strict-reconfig-check", kBool, kComfort, "true", "Refuse changes that would lose the quorum."},
    {"test.coverprofile", kAnything, kIgnored, "", ""},
    {"test.outputdir", kAnything, kIgnored, "", ""},
    {"tls-max-version", kText, kProtects, "", "TLS1.2, TLS1.3 or nothing: the newest."},
    {"tls-min-version", kText, kProtects, "TLS1.2", "TLS1.2 or TLS1.3."},
    {"trusted-ca-file", kText, kProtects, "", "Certificate authority of clients."},
    {"unsafe-no-fsync", kBool, kSupported, "false", "Never sync. Loses data when the machine stops."},
    {"v", kAnything, kIgnored, "", ""},
    {"v2-deprecation", kDeprecation, kIgnored, "write-only", "Stage of the v2 store's end; the default is enforced."},
    {"version", kBool, kSupported, "false", "Print the version and exit."},
    {"vv", kAnything, kIgnored, "", ""},
    {"wal-dir", kText, kSupported, "", "Where the WAL is, if not in the data directory."},
    {"warning-apply-duration", kDuration, kComfort, "100ms", "Log applies that take longer."},
    {"warning-unary-request-duration", kDuration, kComfort, "300ms", "Log requests that take longer."},
    {"watch-progress-notify-interval", kDuration, kComfort, "0s", "How often to tell quiet watchers the revision."},
});
static_assert(std::ranges::is_sorted(kFlags, {}, &FlagSpec::name));

// AllAlpha and AllBeta stand for the gates of a stage; switched away from off, they would switch protections too.
constexpr auto kGateTable = std::to_array<GateSpec>({
    {"AllAlpha", false, "ALPHA", kProtects},
    {"AllBeta", false, "BETA", kComfort},
    {"CompactHashCheck", false, "ALPHA", kProtects},
    {"FastLeaseKeepAlive", true, "BETA", kComfort},
    {"InitialCorruptCheck", false, "ALPHA", kProtects},
    {"LeaseCheckpoint", false, "ALPHA", kComfort},
    {"LeaseCheckpointPersist", false, "ALPHA", kComfort},
    {"PriorityRequest", false, "ALPHA", kComfort},
    {"SetMemberLocalAddr", false, "ALPHA", kComfort},
    {"StopGRPCServiceOnDefrag", false, "ALPHA", kComfort},
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
  std::vector<std::string> entries;
  for (const auto& [name, is_on] : gates) entries.push_back(fmt::format("{}={}", name, is_on));
  return joined(entries);
}

}  // namespace

std::span<const FlagSpec> all_flags() { return kFlags; }

const FlagSpec* find_flag(std::string_view name) {
  const auto it = std::ranges::lower_bound(kFlags, name, {}, &FlagSpec::name);
  return it != kFlags.end() && it->name == name ? &*it : nullptr;
}

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
    case kUrlsOrStar: return text == "*" ? Result<std::string>("*") : canonical_urls(text);
    case kSet: {
      const auto parts = split(text);
      return joined(std::set<std::string_view>(parts.begin(), parts.end()));
    }
    case kState: return canonical_choice(text, {"new", "existing"});
    case kFallback: return canonical_choice(text, {"exit", "proxy"});
    case kDeprecation:
      return canonical_choice(text, {"not-yet", "write-only", "write-only-skip-check", "write-only-drop-data", "gone"});
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
