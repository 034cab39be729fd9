#include "cmd/server/config.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <optional>
#include <set>
#include <thread>

#include "base/check.h"
#include "base/go_duration.h"
#include "cluster/versions.h"
#include "cmd/server/config_file.h"
#include "cmd/server/config_flags.h"
#include "cmd/server/config_former.h"
#include "cmd/server/logging.h"

namespace cairn::cmd {
namespace {

constexpr std::string_view kUsage = R"(Usage:

  cairn [flags]
    Start a server.

  cairn --version
    Show the version.

  cairn -h | --help
    Show the flags.
)";

constexpr uint32_t kElectionMsMax = 50'000;
constexpr uint64_t kRequestBytesRecommendedMax = 10 * 1024 * 1024;

// Ends the parse: nothing of the configuration counts any more.
struct Stop {
  int exit_code = 0;
  std::string out;
  std::string err;
  std::optional<Notice> notice = std::nullopt;
  std::string failure = "";
  bool of_log = false;  // so the default log tells it
};

// exit 1, as the log tells it
Stop refuse(std::string error) {
  return Stop{.exit_code = 1,
              .out = "",
              .err = "",
              .notice = Notice{log::Level::kWarn, "failed to verify flags", {{"error", error}}},
              .failure = error};
}
Stop refuse(const Error& error) { return refuse(error.message); }

// exit 2, as Go's flag package tells it
Stop bad_usage(std::string_view error) {
  return Stop{.exit_code = 2, .out = "", .err = fmt::format("{}\n{}", error, kUsage)};
}

std::string environment_name(std::string_view flag) {
  std::string name = "ETCD_";
  for (const char c : flag) {
    name += c == '-' ? '_' : c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  }
  return name;
}

// The values given, canonical, by flag.
struct Given {
  std::map<std::string_view, std::string> values;
  std::map<std::string_view, std::string> former;  // of flags that are no more
  bool is_from_file = false;

  [[nodiscard]] bool has(std::string_view flag) const { return values.contains(flag); }
  [[nodiscard]] std::string_view text(std::string_view flag) const {
    const auto it = values.find(flag);
    if (it != values.end()) return it->second;
    const FlagSpec* spec = find_flag(flag);
    CAIRN_ASSERT(spec != nullptr);
    return spec->default_text;
  }
  [[nodiscard]] bool boolean(std::string_view flag) const { return text(flag) == "true"; }
  [[nodiscard]] Nanoseconds duration(std::string_view flag) const { return *parse_go_duration(text(flag)); }
  [[nodiscard]] bool is_default(const FlagSpec& spec) const {
    return text(spec.name) == *canonical_value(spec.type, spec.default_text);
  }
};

std::string help_text() {
  std::string out;
  for (const FlagSpec& spec : all_flags()) {
    if (spec.type == FlagType::kAnything) continue;
    out += fmt::format("  --{} '{}'\n    {}\n", spec.name, spec.default_text, spec.help);
  }
  return out;
}

// Go's flag syntax. On success what is left over: the first positional argument, if any.
std::optional<Stop> parse_arguments(const std::vector<std::string>& arguments, Given& given,
                                    std::optional<std::string>& positional, std::vector<Notice>& notices) {
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    if (argument.size() < 2 || argument[0] != '-') {
      positional = argument;
      return std::nullopt;
    }
    if (argument == "--") {
      if (i + 1 < arguments.size()) positional = arguments[i + 1];
      return std::nullopt;
    }
    const std::string_view body = std::string_view(argument).substr(argument[1] == '-' ? 2 : 1);
    if (body.starts_with('-') || body.starts_with('=')) return bad_usage("bad flag syntax: " + argument);
    const size_t equals = body.find('=');
    const std::string_view name = body.substr(0, equals);
    const FlagSpec* spec = find_flag(name);
    const FormerFlag* former = spec == nullptr ? find_former(name) : nullptr;
    if (spec == nullptr && former == nullptr) {
      if (name == "help" || name == "h") return Stop{.exit_code = 0, .out = help_text(), .err = std::string(kUsage)};
      return bad_usage(fmt::format("flag provided but not defined: -{}", name));
    }
    const FlagType type = spec != nullptr ? spec->type : former->type;
    const bool is_switch = type == FlagType::kBool || type == FlagType::kAnything;
    std::string_view value = "true";
    if (equals != std::string_view::npos) {
      value = body.substr(equals + 1);
    } else if (!is_switch) {
      if (++i == arguments.size()) return bad_usage(fmt::format("flag needs an argument: -{}", name));
      value = arguments[i];
    }
    auto canonical = canonical_value(type, value);
    if (!canonical) {
      const bool is_bool = type == FlagType::kBool;
      return bad_usage(fmt::format("invalid {}value {} for {}-{}: {}", is_bool ? "boolean " : "", quoted(value),
                                   is_bool ? "" : "flag ", name, canonical.error().message));
    }
    if (former != nullptr) {
      given.former[former->name] = *std::move(canonical);
      continue;
    }
    if (type == FlagType::kAnything) {
      notices.push_back({log::Level::kWarn, "flag is no longer supported - ignoring", {{"flag-name", name}}});
    }
    given.values[spec->name] = *std::move(canonical);
  }
  return std::nullopt;
}

constexpr std::string_view kArchitecture =
#if defined(__x86_64__)
    "amd64";
#elif defined(__aarch64__)
    "arm64";
#else
    "unknown";
#endif
constexpr std::string_view kNoGitSha = "Not provided (use ./build instead of go build)";
constexpr std::string_view kNoGo = "none (cairn, C++23)";

std::string version_text() {
  return fmt::format("etcd Version: {}\nGit SHA: {}\nGo Version: {}\nGo OS/Arch: linux/{}\ncairn Version: {}\n",
                     cluster::kEtcdVersion, kNoGitSha, kNoGo, kArchitecture, cluster::kCairnVersion);
}

// Flags not on the command line may come from ETCD_*; the same setting from both is refused.
std::optional<Stop> parse_environment(const std::vector<std::string>& environment, Given& given,
                                      std::vector<Notice>& notices) {
  std::map<std::string, std::string> variables;
  for (const std::string& entry : environment) {
    const size_t equals = entry.find('=');
    if (entry.starts_with("ETCD_") && equals != std::string::npos) {
      variables[entry.substr(0, equals)] = entry.substr(equals + 1);
    }
  }
  // Kubernetes sets it for a service named "etcd-version"; it would be read as --version.
  if (const auto it = variables.find("ETCD_VERSION"); it != variables.end() && !it->second.empty()) {
    notices.push_back({log::Level::kWarn,
                       "cannot set special environment variable",
                       {{"key", "ETCD_VERSION"}, {"value", it->second}}});
    variables.erase(it);
  }
  std::string error;
  std::set<std::string> set_by_flag;
  const auto read = [&](std::string_view flag, FlagType type, std::map<std::string_view, std::string>& values) {
    const std::string key = environment_name(flag);
    if (values.contains(flag)) {
      set_by_flag.insert(key);
      return;
    }
    const auto it = variables.find(key);
    if (it == variables.end()) return;
    const std::string value = it->second;
    variables.erase(it);
    if (value.empty()) return;
    auto canonical = canonical_value(type, value);
    if (canonical) {
      values[flag] = *std::move(canonical);
      notices.push_back({log::Level::kInfo,
                         "recognized and used environment variable",
                         {{"variable-name", key}, {"variable-value", value}}});
    } else {
      error = fmt::format("invalid value {} for {}: {}", quoted(value), key, canonical.error().message);
    }
  };
  for (const FlagSpec& spec : all_flags()) read(spec.name, spec.type, given.values);
  for (const FormerFlag& former : former_flags()) {
    // Variables that mean nothing today are told as unrecognized, as etcd does.
    if (former.kind == FormerKind::kRenamed || former.kind == FormerKind::kGate) {
      read(former.name, former.type, given.former);
    }
  }
  for (const auto& [key, value] : variables) {
    if (set_by_flag.contains(key)) {
      const std::string text =
          "conflicting environment variable is shadowed by corresponding command-line flag (either unset environment "
          "variable or disable flag))";
      return Stop{.exit_code = 1,
                  .out = "",
                  .err = "",
                  .notice = Notice{log::Level::kFatal, text, {{"environment-variable", key}}},
                  .failure = text};
    }
    notices.push_back({log::Level::kWarn, "unrecognized environment variable", {{"environment-variable", key}}});
  }
  if (!error.empty()) return refuse(error);
  return std::nullopt;
}

// Replaces what is given by what the file says.
std::optional<Stop> parse_file(const std::string& path, const FileReader& read_file, Given& given,
                               std::vector<Notice>& notices) {
  const auto text = read_file(path);
  if (!text) return refuse(text.error());
  auto settings = read_settings(*text, format_of(path));
  if (!settings) {
    const FileError& error = settings.error();
    if (!error.logged.empty()) return refuse(error.logged);
    return Stop{.exit_code = error.exit_code, .out = "", .err = error.printed, .failure = error.printed};
  }
  given = Given{.values = std::move(settings->values), .former = std::move(settings->former), .is_from_file = true};
  notices.push_back({log::Level::kInfo,
                     "loaded server configuration, other configuration command line flags and environment variables "
                     "will be ignored if provided",
                     {{"path", path}}});
  if (!settings->unknown.empty()) {
    notices.push_back({log::Level::kWarn,
                       "the configuration file has keys that are not known; they are ignored",
                       {{"path", path}, {"keys", settings->unknown}}});
  }
  if (!settings->unbuilt.empty()) {
    return refuse(
        fmt::format("{} is not built yet: cairn does not start without what it asks for", settings->unbuilt.front()));
  }
  return std::nullopt;
}

// Gives what is told with flags of older versions the effect that it has today. Today's flags count more.
std::optional<Stop> apply_former(Given& given, std::vector<Notice>& notices) {
  std::string gates(given.text("feature-gates"));
  for (const auto& [name, value] : given.former) {
    const FormerFlag& former = *find_former(name);
    const auto tell = [&](const std::string& instead) {
      notices.push_back({log::Level::kWarn,
                         fmt::format("--{} is a flag of an older etcd. {}", name, instead),
                         {{"flag-name", name}}});
    };
    switch (former.kind) {
      case FormerKind::kGone: tell("It has no effect any more."); break;
      case FormerKind::kRefused:
        if (!value.empty() && value != former.today) {
          return refuse(fmt::format("--{} was removed, and {} cannot be had any more", name, quoted(value)));
        }
        tell("It has no effect any more.");
        break;
      case FormerKind::kGate: {
        tell(fmt::format("Use '--feature-gates={}={}' instead.", former.today, value));
        const auto is_same = [&former](std::string_view entry) {
          return entry.starts_with(fmt::format("{}=", former.today));
        };
        bool is_named = false;
        for (size_t at = 0; at <= gates.size() && !is_named; at = std::min(gates.find(',', at), gates.size()) + 1) {
          is_named = is_same(std::string_view(gates).substr(at));
        }
        if (!is_named) gates += fmt::format("{}{}={}", gates.empty() ? "" : ",", former.today, value);
        break;
      }
      case FormerKind::kRenamed: {
        const bool is_debug = name == "debug";
        tell(fmt::format("Use --{}{} instead.", former.today, is_debug ? "=debug" : ""));
        if (given.has(former.today) || (is_debug && value == "false")) break;
        given.values.emplace(former.today, is_debug ? "debug" : value);
        // It asked for certificates as well.
        if (name == "ca-file" && !value.empty()) given.values.emplace("client-cert-auth", "true");
        if (name == "peer-ca-file" && !value.empty()) given.values.emplace("peer-client-cert-auth", "true");
        break;
      }
    }
  }
  if (gates != given.text("feature-gates")) given.values["feature-gates"] = *canonical_value(FlagType::kGates, gates);
  return std::nullopt;
}

std::string url_list(const std::vector<cluster::Url>& urls) {
  std::string out;
  for (const auto& url : urls) out += (out.empty() ? "" : ",") + url.text;
  return out;
}

std::optional<Stop> check_logging(const Config& config, const Given& given) {
  if (given.text("logger") == "capnslog") return refuse("--logger=capnslog is removed in v3.5");
  if (given.text("logger") != "zap") return refuse("unknown logger option " + quoted(given.text("logger")));
  if (!level_of(config.log_level)) {
    // etcd panics here, hence the code.
    return Stop{.exit_code = 2,
                .out = "",
                .err = fmt::format("unrecognized level: {}\n", quoted(config.log_level)),
                .failure = "unrecognized level"};
  }
  if (!config.log_format.empty() && config.log_format != "json" && config.log_format != "console") {
    return refuse(fmt::format("unknown log format: {}, supported values json, console", config.log_format));
  }
  if (config.log_outputs.size() > 1 && std::ranges::find(config.log_outputs, "default") != config.log_outputs.end()) {
    return refuse("multi logoutput for \"default\" is not supported yet");
  }
  if (given.boolean("enable-log-rotation")) {
    const auto files = std::ranges::count_if(config.log_outputs, [](const std::string& output) {
      return output != "default" && output != "stderr" && output != "stdout";
    });
    if (files > 1 || (files == 0 && config.log_outputs.size() == 1)) {
      return refuse("--log-outputs requires a single file path when --log-rotate-config-json is defined");
    }
    if (const auto rotation = parse_rotation(config.log_rotation_json); !rotation) return refuse(rotation.error());
  }
  const bool to_journal = std::ranges::find(config.log_outputs, "systemd/journal") != config.log_outputs.end();
  if (to_journal && config.log_outputs.size() > 1) {
    std::string outputs;
    for (const std::string& output : config.log_outputs) outputs += (outputs.empty() ? "" : " ") + quoted(output);
    return refuse(
        fmt::format("running with systemd/journal but other '--log-outputs' values ([{}]) are configured with "
                    "'default'; override 'default' value with something else",
                    outputs));
  }
  return std::nullopt;
}

// The checks of etcd's configuration, in its order and with its texts.
std::optional<Stop> check_values(const Config& config, const Given& given) {
  if (auto stop = check_logging(config, given)) {
    stop->of_log = true;
    return stop;
  }
  for (const auto* urls : {&config.listen_peer_urls, &config.listen_client_urls, &config.listen_client_http_urls,
                           &config.listen_metrics_urls}) {
    if (const Status status = cluster::check_bind_urls(*urls); !status) return refuse(status.error());
  }
  if (const Status status = cluster::check_host_urls(config.initial_advertise_peer_urls); !status) {
    return refuse(fmt::format("--initial-advertise-peer-urls {} must be \"host:port\" ({})",
                              quoted(url_list(config.initial_advertise_peer_urls)), status.error().message));
  }
  if (const Status status = cluster::check_host_urls(config.advertise_client_urls); !status) {
    return refuse(
        fmt::format("--advertise-client-urls {} must be in the format \"host:port\", "
                    "\"unix:/path/to/socket\" or \"unixs:/path/to/socket\" ({})",
                    quoted(url_list(config.advertise_client_urls)), status.error().message));
  }
  if (config.initial_cluster_state != "new" && config.initial_cluster_state != "existing") {
    return refuse("unexpected clusterState " + quoted(config.initial_cluster_state));
  }
  // A list that is given is not empty: "" is one endpoint.
  if (given.text("discovery-token").empty() == given.has("discovery-endpoints")) {
    return refuse("both --discovery-token and --discovery-endpoints must be set");
  }
  if (config.heartbeat_ms == 0) return refuse("--heartbeat-interval must be >0 (set to 0ms)");
  if (config.election_ms == 0) return refuse("--election-timeout must be >0 (set to 0ms)");
  if (5 * uint64_t{config.heartbeat_ms} > config.election_ms) {
    return refuse(fmt::format("--election-timeout[{}ms] should be at least as 5 times as --heartbeat-interval[{}ms]",
                              config.election_ms, config.heartbeat_ms));
  }
  if (config.election_ms > kElectionMsMax) {
    return refuse(fmt::format("--election-timeout[{}ms] is too long, and should be set less than {}ms",
                              config.election_ms, kElectionMsMax));
  }
  if (!given.is_from_file && given.has("listen-client-urls") && !given.has("advertise-client-urls")) {
    return refuse("--advertise-client-urls is required when --listen-client-urls is set explicitly");
  }
  const std::string_view mode = given.text("auto-compaction-mode");
  if (mode.empty()) return refuse("undefined auto-compaction-mode");
  if (mode != "periodic" && mode != "revision") return refuse("unknown auto-compaction-mode " + quoted(mode));
  if (given.boolean("enable-distributed-tracing")) {
    const auto rate = number_of<int64_t>(given.text("distributed-tracing-sampling-rate"));
    if (rate < 0 || rate > 1'000'000) {
      return refuse(fmt::format("distributed tracing configurition is not valid: (tracing sampling rate must be {})",
                                rate < 0 ? "positive" : "less than 1000000"));
    }
  }
  const std::string_view gates = config.feature_gates;
  if (gate_is_on(gates, "LeaseCheckpointPersist") && !gate_is_on(gates, "LeaseCheckpoint")) {
    return refuse("enabling feature gate LeaseCheckpointPersist requires enabling feature gate LeaseCheckpoint");
  }
  if (const Status status = net::check_versions(config.client_tls); !status) return refuse(status.error());
  if (given.has("cipher-suites") && given.text("cipher-suites").empty()) {
    return refuse("unexpected TLS cipher suite \"\"");
  }
  if (const Status status = net::check_cipher_suites(config.client_tls.cipher_suites); !status) {
    return refuse(status.error());
  }
  if (given.text("max-learners").starts_with('-')) {
    return refuse("membership: too many learner members in cluster");
  }
  if (given.duration("compact-hash-check-time") <= Nanoseconds(0)) {
    return refuse(
        fmt::format("--compact-hash-check-time must be >0 (set to {})", given.text("compact-hash-check-time")));
  }
  return std::nullopt;
}

// What Cairn does not have yet: refused when it protects, named once when it does not.
std::optional<Stop> check_built(const Config& config, const Given& given, std::vector<Notice>& notices) {
  std::vector<std::string> without_effect;
  for (const FlagSpec& spec : all_flags()) {
    if (!given.has(spec.name) || given.is_default(spec)) continue;
    if (spec.kind == FlagClass::kProtects) {
      return refuse(fmt::format("--{} is not built yet: cairn does not start without what it asks for", spec.name));
    }
    if (spec.kind == FlagClass::kComfort) without_effect.emplace_back(spec.name);
  }
  const std::string_view gates = config.feature_gates;
  for (const GateSpec& gate : all_gates()) {
    if (gate_is_on(gates, gate.name) == gate.is_on) continue;
    if (gate.kind == FlagClass::kProtects) {
      return refuse(
          fmt::format("--feature-gates={} is not built yet: cairn does not start without what it asks for", gate.name));
    }
    if (gate.kind == FlagClass::kComfort) without_effect.push_back("feature-gates=" + std::string(gate.name));
  }
  if (!without_effect.empty()) {
    notices.push_back({log::Level::kWarn, "flags without effect: not built yet", {{"flags", without_effect}}});
  }
  return std::nullopt;
}

void add_hints(const Config& config, const Given& given, std::vector<Notice>& notices) {
  if (config.name == "default") {
    notices.push_back(
        {log::Level::kWarn,
         "it isn't recommended to use default name, please set a value for --name. Note that etcd might run "
         "into issue when multiple members have the same default name",
         {{"name", config.name}}});
  }
  if (!given.has("data-dir") || given.text("data-dir").empty()) {
    notices.push_back({log::Level::kWarn, "'data-dir' was empty; using default", {{"data-dir", config.data_dir}}});
  }
  if (given.has("max-snapshots")) {
    notices.push_back(
        {log::Level::kWarn, "--max-snapshots is deprecated in 3.6 and will be decommissioned in 3.8.", {}});
  }
  if (given.has("v2-deprecation")) {
    notices.push_back(
        {log::Level::kWarn,
         "--v2-deprecation is deprecated and scheduled for removal in v3.8. The default value is enforced, "
         "ignoring user input.",
         {}});
  }
  if (config.max_request_bytes > kRequestBytesRecommendedMax) {
    notices.push_back({log::Level::kWarn,
                       "exceeded recommended request limit",
                       {{"max-request-bytes", config.max_request_bytes},
                        {"recommended-request-bytes", kRequestBytesRecommendedMax}}});
  }
  if (config.in_memory) {
    notices.push_back({log::Level::kWarn,
                       "--in-memory: ALL DATA IS LOST when this process ends; nothing is written to a disk",
                       {{"data-dir", config.data_dir}}});
  }
  if (config.unsafe_no_fsync) {
    notices.push_back({log::Level::kWarn, "--unsafe-no-fsync: data is lost when the machine stops", {}});
  }
}

Config to_config(const Given& given) {
  Config config;
  for (const FlagSpec& spec : all_flags()) {
    if (spec.binding.read != nullptr) spec.binding.read(config, given.text(spec.name));
  }
  config.max_wals_is_given = given.has("max-wals");
  config.snapshot_catchup_is_given = given.has("snapshot-catchup-entries");
  if (config.log_outputs.empty()) config.log_outputs = {""};  // a file without a name, which cannot be opened
  if (config.data_dir.empty()) config.data_dir = config.name + ".etcd";
  config.peer_tls.cipher_suites = config.client_tls.cipher_suites;
  config.peer_tls.version_min = config.client_tls.version_min;
  config.peer_tls.version_max = config.client_tls.version_max;
  // A default address would be wrong for whoever chose another to listen on.
  if (!given.is_from_file && given.has("listen-client-urls") && !given.has("advertise-client-urls")) {
    config.advertise_client_urls.clear();
  }
  return config;
}

// Who listens everywhere wants to be reached from elsewhere: then the default addresses would be wrong.
void replace_default_hosts(Config& config, const HostFinder& find_host, std::vector<Notice>& notices) {
  struct Pair {
    const std::vector<cluster::Url>& listen;
    std::vector<cluster::Url>& advertise;
    std::string_view flag;
  };
  std::optional<Result<std::string>> host;
  for (const Pair& each :
       {Pair{config.listen_peer_urls, config.initial_advertise_peer_urls, "initial-advertise-peer-urls"},
        Pair{config.listen_client_urls, config.advertise_client_urls, "advertise-client-urls"}}) {
    if (each.listen.empty() || each.listen.front().host != "0.0.0.0" || each.advertise.size() != 1 ||
        each.advertise.front().text != find_flag(each.flag)->default_text) {
      continue;
    }
    if (!host) {
      host = find_host();
      if (*host) {
        notices.push_back({log::Level::kInfo, "detected default host for advertise", {{"host", **host}}});
      } else {
        notices.push_back({log::Level::kInfo, "failed to detect default host", {{"error", host->error().message}}});
      }
    }
    if (!*host) return;
    const cluster::Url& listen = each.listen.front();
    auto url = cluster::parse_url(fmt::format("{}://{}:{}", listen.scheme, **host, listen.port));
    if (url) each.advertise.front() = *std::move(url);
  }
}

// A name without a cluster founds a cluster of its own. It goes through the flag's text, as in etcd: a name with '=' or
// ',' in it is not found there.
Result<cluster::InitialCluster> initial_cluster(const Config& config, const Given& given) {
  const std::string_view text = given.text("initial-cluster");
  if (config.name != "default" && text == find_flag("initial-cluster")->default_text) {
    const std::string name = config.name.empty() ? "default" : config.name;
    std::string own;
    for (const cluster::Url& url : config.initial_advertise_peer_urls) own += fmt::format(",{}={}", name, url.text);
    return cluster::parse_initial_cluster(own);
  }
  return cluster::parse_initial_cluster(text);
}

std::optional<Stop> parse(const std::vector<std::string>& arguments, const std::vector<std::string>& environment,
                          const HostFinder& find_host, const FileReader& read_file, ParseOutcome& outcome) {
  Given given;
  std::optional<std::string> positional;
  if (auto stop = parse_arguments(arguments, given, positional, outcome.notices)) return stop;
  if (positional) return refuse(quoted(*positional) + " is not a valid flag");
  if (given.boolean("version")) return Stop{.exit_code = 0, .out = version_text(), .err = ""};
  std::string path(given.text("config-file"));
  for (const std::string_view entry : environment) {
    constexpr std::string_view kVariable = "ETCD_CONFIG_FILE=";
    if (path.empty() && entry.starts_with(kVariable)) path = entry.substr(kVariable.size());
  }
  if (!path.empty()) {
    if (auto stop = parse_file(path, read_file, given, outcome.notices)) return stop;
  } else {
    if (auto stop = parse_environment(environment, given, outcome.notices)) return stop;
    if (given.text("discovery-fallback") == "proxy") {
      return refuse("v2 proxy is deprecated, and --discovery-fallback can't be configured as \"proxy\"");
    }
  }
  if (auto stop = apply_former(given, outcome.notices)) return stop;
  outcome.config = to_config(given);
  if (find_host) replace_default_hosts(outcome.config, find_host, outcome.notices);
  if (auto stop = check_values(outcome.config, given)) return stop;
  auto founders = initial_cluster(outcome.config, given);
  if (!founders) return refuse("error setting up initial cluster: " + founders.error().message);
  outcome.config.initial_cluster = *std::move(founders);
  if (auto stop = check_built(outcome.config, given, outcome.notices)) return stop;
  add_hints(outcome.config, given, outcome.notices);
  return std::nullopt;
}

}  // namespace

ParseOutcome parse_config(const std::vector<std::string>& arguments, const std::vector<std::string>& environment,
                          const HostFinder& find_host, const FileReader& read_file) {
  ParseOutcome outcome;
  auto stop = parse(arguments, environment, find_host, read_file, outcome);
  outcome.run = !stop;
  if (stop) {
    outcome.exit_code = stop->exit_code;
    outcome.out = std::move(stop->out);
    outcome.err = std::move(stop->err);
    outcome.failure = std::move(stop->failure);
    outcome.default_log = stop->of_log;
    if (stop->notice) outcome.notices.push_back(*std::move(stop->notice));
  }
  return outcome;
}

ParseOutcome parse_config(int argc, const char* const* argv, const char* const* variables) {
  std::vector<std::string> arguments(argv + std::min(argc, 1), argv + argc);
  std::vector<std::string> environment;
  for (; variables != nullptr && *variables != nullptr; ++variables) environment.emplace_back(*variables);
  return parse_config(arguments, environment, find_default_host);
}

std::vector<log::Field> describe(const Config& config) {
  std::vector<log::Field> fields;
  fields.emplace_back("etcd-version", cluster::kEtcdVersion);
  fields.emplace_back("cairn-version", cluster::kCairnVersion);
  fields.emplace_back("git-sha", kNoGitSha);
  fields.emplace_back("go-version", kNoGo);
  fields.emplace_back("go-os", "linux");
  fields.emplace_back("go-arch", kArchitecture);
  const uint64_t cpus = std::thread::hardware_concurrency();
  fields.emplace_back("max-cpu-set", cpus);
  fields.emplace_back("max-cpu-available", cpus);
  fields.emplace_back("wal-dir-dedicated", config.wal_dir);
  fields.emplace_back("member-dir", config.data_dir + "/member");
  for (const FlagSpec& spec : all_flags()) {
    if (spec.binding.show != nullptr) fields.push_back(spec.binding.show(config, spec.name));
  }
  return fields;
}

Result<int64_t> parse_compaction_retention(std::string_view mode, std::string_view retention) {
  if (retention.empty()) return 0;
  int64_t number = 0;
  std::string_view digits = retention;
  if (digits.starts_with('+')) digits.remove_prefix(1);
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  if (error == std::errc() && end == digits.data() + digits.size() && number >= 0) {
    constexpr int64_t kHourNs = int64_t{3600} * 1'000'000'000;
    if (mode == "revision") return number;
    // Go's product wraps around; so much is kept for ever.
    return number <= INT64_MAX / kHourNs ? number * kHourNs : INT64_MAX;
  }
  const auto duration = parse_go_duration(retention);
  if (!duration) {
    return fail(Code::kInvalidArgument, "error parsing CompactionRetention: {}", duration.error().message);
  }
  return duration->count();
}

}  // namespace cairn::cmd
