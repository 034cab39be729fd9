#include "cmd/server/config_file.h"

#include <algorithm>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cmd/server/config.h"
#include "cmd/server/config_flags.h"
#include "cmd/server/config_former.h"

namespace cairn::cmd {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

ParseOutcome parse_text(const std::string& text, const std::string& path = "c.yaml",
                        const std::vector<std::string>& environment = {}) {
  return parse_config({"--config-file", path, "--name=unused"}, environment, {},
                      [&text](const std::string&) -> Result<std::string> { return text; });
}

Config config_of(const std::string& text, const std::string& path = "c.yaml") {
  const ParseOutcome outcome = parse_text(text, path);
  EXPECT_TRUE(outcome.run) << text << ": " << outcome.failure;
  return outcome.config;
}

std::string failure_of(const std::string& text, const std::string& path = "c.yaml") {
  const ParseOutcome outcome = parse_text(text, path);
  EXPECT_FALSE(outcome.run) << text;
  return outcome.failure;
}

std::vector<std::string> messages(const ParseOutcome& outcome) {
  std::vector<std::string> out;
  for (const Notice& notice : outcome.notices) out.push_back(notice.message);
  return out;
}

TEST(ConfigFile, GivesWhatFlagsGive) {
  const Config config = config_of(R"(
# the way operators write it
name: 'n1'
data-dir: /d
listen-client-urls: http://127.0.0.1:3,http://127.0.0.1:2
heartbeat-interval: 0x10
election-timeout: 1_000
snapshot-count: 1e3
quota-backend-bytes: -1
pre-vote: off
log-outputs: [stdout, a.log]
auto-compaction-mode: "revision"
auto-compaction-retention: "5"
backend-batch-interval: 5000000
initial-cluster-state: ''
host-whitelist: a,b
feature-gates: LeaseCheckpoint=true
listen-metrics-urls:
)");
  EXPECT_EQ(config.name, "n1");
  EXPECT_EQ(config.data_dir, "/d");
  EXPECT_EQ(config.listen_client_urls.at(0).port, 2);
  EXPECT_EQ(config.advertise_client_urls.at(0).text, "http://localhost:2379") << "a file keeps the default";
  EXPECT_EQ(config.initial_cluster, (cluster::InitialCluster{{"n1", {"http://localhost:2380"}}}));
  EXPECT_EQ(config.heartbeat_ms, 16u);
  EXPECT_EQ(config.election_ms, 1000u);
  EXPECT_EQ(config.snapshot_count, 1000u);
  EXPECT_EQ(config.quota_bytes, -1);
  EXPECT_FALSE(config.pre_vote);
  EXPECT_EQ(config.log_outputs, (std::vector<std::string>{"a.log", "stdout"}));
  EXPECT_EQ(config.auto_compaction_retention, "5");
  EXPECT_EQ(config.batch_interval, std::chrono::milliseconds(5));
  EXPECT_EQ(config.host_whitelist, (std::vector<std::string>{"a", "b"}));
  EXPECT_TRUE(gate_is_on(config.feature_gates, "LeaseCheckpoint"));
}

TEST(ConfigFile, MayBeJson) {
  EXPECT_EQ(config_of(R"({"name": "j\u0041", "max-txn-ops": 7, "pre-vote": false, "x": {"y": [1, null]}})").name, "jA");
}

TEST(ConfigFile, MayBeToml) {
  const Config config = config_of(
      "name = 't'\nheartbeat-interval = 0x20\nbackend-batch-interval = '7ms'\n"
      "warning-apply-duration = 5_000\nlog-outputs = ['stderr']\n[socket-options]\n",
      "/etc/cairn.toml");
  EXPECT_EQ(config.name, "t");
  EXPECT_EQ(config.heartbeat_ms, 32u);
  EXPECT_EQ(config.batch_interval, std::chrono::milliseconds(7));
  EXPECT_EQ(config.warning_apply, std::chrono::microseconds(5));
  EXPECT_THAT(failure_of("name = ", "c.toml"), StartsWith("error reading TOML: line 1: "));
  EXPECT_THAT(failure_of("name = 2001-01-01", "c.toml"), HasSubstr("a date or a time"));
  EXPECT_THAT(failure_of("name = inf", "c.toml"), HasSubstr("error reading TOML"));
  // Of the fuzzer: toml++ reaches what it says cannot be reached. In strings and comments any letter may stand.
  for (const char* const text : {"name = \u01e8", "name = 'a' \u01e8", "name = \"\"\"a\"\"\"\" \u01e8"}) {
    EXPECT_THAT(failure_of(text, "c.toml"), HasSubstr("letters beyond ASCII")) << text;
  }
  for (const char* const text :
       {"name = '\u01e8' # \u01e8", "name = \"\\\"\u01e8\" # \u01e8\n", "name = '''\n'\u01e8'''",
        "name = \"\"\"\u01e8\"\"\"\"", "\xef\xbb\xbfname = '\u01e8'"}) {
    EXPECT_NE(config_of(text, "c.toml").name.find("\u01e8"), std::string::npos) << text;
  }
  // Of the fuzzer: toml++ fails an assertion at them.
  using std::string_literals::operator""s;
  for (const std::string& text : {"name = 'm'\n[\0lient]\n"s, "[\x01"s, "name = '\xff'"s, "[\x7f]"s}) {
    EXPECT_THAT(failure_of(text, "c.toml"), StartsWith("error reading TOML: ")) << text;
  }
}

TEST(ConfigFile, ThatIsEmptyIsTheDefaults) {
  for (const char* text : {"", "# nothing\n", "~", "---\n", "{}"}) {
    EXPECT_EQ(config_of(text).name, "default") << text;
  }
  EXPECT_EQ(config_of("name: first\n---\nname: second\n").name, "first") << "only the first document";
}

// Texts of etcd 3.7.1; tests/integration/config_file_test.py compares more of them with the program itself.
TEST(ConfigFile, WrongTypesAreToldAsGoTellsThem) {
  const std::string decoding = "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal ";
  const std::string field = " into Go struct field ";
  const std::pair<std::string, std::string> cases[] = {
      {"name: 5", "number" + field + "configYAML.Config.name of type string"},
      {"NAME: [a]", "array" + field + "configYAML.Config.name of type string"},
      {"snapshot-count: -1", "number -1" + field + "configYAML.Config.snapshot-count of type uint64"},
      {"snapshot-count: 1.5", "number 1.5" + field + "configYAML.Config.snapshot-count of type uint64"},
      {"max-learners: 1e30", "number 1e+30" + field + "configYAML.Config.max-learners of type int"},
      {"max-wals: \"3\"", "string" + field + "configYAML.Config.max-wals of type uint"},
      {"max-concurrent-streams: 4294967296",
       "number 4294967296" + field + "configYAML.Config.max-concurrent-streams of type uint32"},
      {"corrupt-check-time: 10m", "string" + field + "configYAML.Config.corrupt-check-time of type time.Duration"},
      {"log-outputs: stderr", "string" + field + "configYAML.Config.log-outputs of type []string"},
      {"log-outputs: [1]", "number" + field + "configYAML.Config.log-outputs of type string"},
      {"host-whitelist: 4", "number" + field + "configYAML.configJSON.host-whitelist of type string"},
      {"v2-deprecation: 3", "number" + field + "configYAML.Config.v2-deprecation of type config.V2DeprecationEnum"},
      {"client-transport-security: x",
       "string" + field + "configYAML.configJSON.client-transport-security of type embed.securityConfig"},
      {"peer-transport-security: {client-cert-auth: 3}",
       "number" + field + "securityConfig.configJSON.peer-transport-security.client-cert-auth of type bool"},
      {"socket-options: {Reuse-Port: x}",
       "string" + field + "SocketOpts.Config.socket-options.reuse-port of type bool"},
      {"discovery-config: {client: {secure: {cert: 3}}}",
       "number" + field + "SecureConfig.Config.discovery-config.client.secure.cert of type string"},
      {"max-wals: x\nname: 5", "string" + field + "configYAML.Config.max-wals of type uint"},
      {"[a]", "array into Go value of type embed.configYAML"},
  };
  for (const auto& [text, error] : cases) EXPECT_EQ(failure_of(text), decoding + error) << text;
}

TEST(ConfigFile, ScalarsAreThoseOfYaml11) {
  for (const char* yes : {"y", "Yes", "on", "TRUE", "true"}) {
    EXPECT_TRUE(config_of(std::string("initial-election-tick-advance: ") + yes).initial_election_tick_advance) << yes;
  }
  for (const char* no : {"n", "No", "OFF", "false"}) {
    EXPECT_FALSE(config_of(std::string("pre-vote: ") + no).pre_vote) << no;
  }
  for (const char* eight : {"8", "010", "0o10", "0b1000", "0x8", "8.0", "0.8e1", "+8", "!!int \"8\"", "!!float 8"}) {
    EXPECT_EQ(config_of(std::string("max-txn-ops: ") + eight).max_txn_ops, 8u) << eight;
  }
  for (const char* text : {"2001-01-01", "1:30", "'5'", "\"yes\"", "!!str 5", "!mine 5", "0x", "1e", ".", "08x"}) {
    const std::string line = std::string("name: ") + text + "\nmax-wals: x";
    EXPECT_THAT(failure_of(line), HasSubstr("configYAML.Config.max-wals"))
        << text << " is a text: the next key is told";
  }
  EXPECT_EQ(config_of("name: &a x\nwal-dir: *a\n").wal_dir, "x");
  EXPECT_EQ(config_of("base: &b {name: x, max-txn-ops: 3}\n<<: *b\nmax-txn-ops: 4\n").max_txn_ops, 4u);
  EXPECT_EQ(config_of("name: a\nname: b\n").name, "b") << "the last counts";
}

TEST(ConfigFile, NumbersAreWrittenAsGoWritesThem) {
  EXPECT_EQ(number_text(0), "0");
  EXPECT_EQ(number_text(-0.0), "-0");
  EXPECT_EQ(number_text(1.5), "1.5");
  EXPECT_EQ(number_text(-1000), "-1000");
  EXPECT_EQ(number_text(0.000125), "0.000125");
  EXPECT_EQ(number_text(1e-7), "1e-7");
  EXPECT_EQ(number_text(1.5e-12), "1.5e-12");
  EXPECT_EQ(number_text(1e21), "1e+21");
  EXPECT_EQ(number_text(18446744073709551616.0), "18446744073709552000");
}

TEST(ConfigFile, BrokenYamlIsRefused) {
  const std::string converting = "error converting YAML to JSON: ";
  for (const char* text : {"a: b: c", "\tx: 1", "a: [1", "a: *x", "name: \x01", "name: \xff", "{\"a\": "}) {
    EXPECT_THAT(failure_of(text), StartsWith(converting + "yaml: ")) << text;
  }
  EXPECT_EQ(failure_of("a: b\nmetrics: .inf"), converting + "json: unsupported value: +Inf");
  EXPECT_EQ(failure_of("? [a]\n: b"), converting + "yaml: invalid map key");
  EXPECT_EQ(failure_of("<<: [1]"), converting + "yaml: map merge requires map or sequence of maps as the value");
  EXPECT_EQ(failure_of("max-wals: !!int x"), converting + "yaml: cannot decode !!str `x` as a !!int");
  std::string bomb = "a: &a [x,x,x,x,x,x,x,x,x,x]\n";
  for (char name = 'b'; name < 'k'; ++name) {
    bomb += fmt::format("{0}: &{0} [*{1},*{1},*{1},*{1},*{1},*{1},*{1},*{1},*{1},*{1}]\n", name,
                        static_cast<char>(name - 1));
  }
  EXPECT_EQ(failure_of(bomb), converting + "yaml: document contains excessive aliasing");
  EXPECT_THAT(failure_of(std::string(100'000, '[')), StartsWith(converting));
}

TEST(ConfigFile, UrlsEndAsEtcdEnds) {
  const ParseOutcome bad = parse_text("listen-peer-urls: foo");
  EXPECT_EQ(bad.exit_code, 1);
  EXPECT_EQ(bad.err,
            "unexpected error setting up listen-peer-urls: URL scheme must be http, https, unix, or unixs: foo\n");
  EXPECT_THAT(parse_text("advertise-client-urls: foo").err,
              StartsWith("unexpected error setting up advertise-peer-urls"));
  EXPECT_EQ(parse_text("cors: x y").exit_code, 2);
  EXPECT_EQ(config_of("listen-client-urls: ''").listen_client_urls.at(0).port, 2379) << "empty is the default";
}

TEST(ConfigFile, ValuesAreChecked) {
  EXPECT_EQ(failure_of("initial-cluster-state: foo"), "unexpected clusterState \"foo\"");
  EXPECT_EQ(failure_of("peer-transport-security: ~"), "invalid peer-transport-security");
  EXPECT_EQ(failure_of("feature-gates: x=1"), "unrecognized feature gate: x");
  EXPECT_EQ(failure_of("logger: x"), "unknown logger option \"x\"");
  EXPECT_THAT(failure_of("client-transport-security: {allowed-cn: [x]}"),
              StartsWith("client-transport-security.allowed-cn is not built yet"));
}

TEST(ConfigFile, ThatCannotBeReadIsRefused) {
  const ParseOutcome outcome = parse_config({"--config-file=/nothing/here"}, {});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_EQ(outcome.failure, "open /nothing/here: no such file or directory");
  EXPECT_EQ(parse_config({"--config-file=/tmp"}, {}).failure, "read /tmp: is a directory");
}

TEST(ConfigFile, CountsAloneAndMayComeFromTheEnvironment) {
  const std::string text = "name: f";
  const auto read = [&text](const std::string&) -> Result<std::string> { return text; };
  const ParseOutcome outcome =
      parse_config({"--name=flag"}, {"ETCD_CONFIG_FILE=c.yaml", "ETCD_NAME=x", "ETCD_FOO=1"}, {}, read);
  ASSERT_TRUE(outcome.run) << outcome.failure;
  EXPECT_EQ(outcome.config.name, "f");
  EXPECT_THAT(messages(outcome), Contains(StartsWith("loaded server configuration")));
  EXPECT_THAT(messages(outcome), testing::Not(Contains("unrecognized environment variable")));
}

TEST(ConfigFile, NamesItsUnknownKeys) {
  const ParseOutcome outcome = parse_text("nmae: x\nsocket-options: {reuse: true}\n");
  ASSERT_TRUE(outcome.run);
  for (const Notice& notice : outcome.notices) {
    if (!notice.message.starts_with("the configuration file has keys")) continue;
    EXPECT_EQ(std::get<std::vector<std::string>>(notice.fields.at(1).value),
              (std::vector<std::string>{"nmae", "socket-options.reuse"}));
    return;
  }
  FAIL() << "not told";
}

// The keys of etcd's embed.Config: its json tags.
TEST(ConfigFile, EveryOtherFlagIsAKey) {
  std::set<std::string_view> left_out;
  for (const FlagSpec& spec : all_flags()) {
    if (spec.type != FlagType::kAnything && !is_in_files(spec.name)) left_out.insert(spec.name);
  }
  const std::set<std::string_view> expected = {
      "config-file", "discovery-fallback", "raft-read-timeout", "raft-write-timeout", "version",
      // in sections
      "auto-tls", "cert-file", "client-cert-allowed-hostname", "client-cert-auth", "client-cert-file",
      "client-crl-file", "client-key-file", "key-file", "trusted-ca-file", "peer-auto-tls", "peer-cert-allowed-cn",
      "peer-cert-allowed-hostname", "peer-cert-file", "peer-client-cert-auth", "peer-client-cert-file",
      "peer-client-key-file", "peer-crl-file", "peer-key-file", "peer-skip-client-san-verification",
      "peer-trusted-ca-file", "socket-reuse-address", "socket-reuse-port", "discovery-cacert", "discovery-cert",
      "discovery-dial-timeout", "discovery-endpoints", "discovery-insecure-skip-tls-verify",
      "discovery-insecure-transport", "discovery-keepalive-time", "discovery-keepalive-timeout", "discovery-key",
      "discovery-password", "discovery-request-timeout", "discovery-token", "discovery-user"};
  EXPECT_EQ(left_out, expected);
}

TEST(Former, EachNamesAFlagOrGateOfToday) {
  for (const FormerFlag& former : former_flags()) {
    EXPECT_EQ(find_flag(former.name), nullptr) << former.name;
    if (former.kind == FormerKind::kRenamed) {
      const FlagSpec* today = find_flag(former.today);
      ASSERT_NE(today, nullptr) << former.name;
      EXPECT_TRUE(today->type == former.type || former.name == "debug") << former.name;
    }
    if (former.kind == FormerKind::kGate) {
      EXPECT_NE(std::ranges::find(all_gates(), former.today, &GateSpec::name), all_gates().end()) << former.name;
    }
  }
}

TEST(Former, FlagsHaveTodaysEffect) {
  const auto parse = [](const std::vector<std::string>& arguments, const std::vector<std::string>& environment = {}) {
    return parse_config(arguments, environment);
  };
  const ParseOutcome outcome = parse(
      {"--experimental-compaction-batch-limit=7", "--experimental-enable-lease-checkpoint",
       "--experimental-enable-lease-checkpoint-persist=true", "--debug", "--log-output=stdout", "--proxy=off",
       "--enable-v2=true", "--experimental-warning-apply-duration=3s", "--warning-apply-duration=2s",
       "--feature-gates=TxnModeWriteWithSharedBuffer=true", "--experimental-txn-mode-write-with-shared-buffer=false"},
      {"ETCD_EXPERIMENTAL_WATCH_PROGRESS_NOTIFY_INTERVAL=7s", "ETCD_DISCOVERY=x"});
  ASSERT_TRUE(outcome.run) << outcome.failure << outcome.err;
  EXPECT_EQ(outcome.config.compaction_batch_limit, 7u);
  EXPECT_TRUE(gate_is_on(outcome.config.feature_gates, "LeaseCheckpoint"));
  EXPECT_TRUE(gate_is_on(outcome.config.feature_gates, "LeaseCheckpointPersist"));
  EXPECT_TRUE(gate_is_on(outcome.config.feature_gates, "TxnModeWriteWithSharedBuffer")) << "today's flag counts";
  EXPECT_EQ(outcome.config.log_level, "debug");
  EXPECT_EQ(outcome.config.log_outputs, std::vector<std::string>{"stdout"});
  EXPECT_EQ(outcome.config.warning_apply, std::chrono::seconds(2)) << "today's flag counts";
  EXPECT_EQ(outcome.config.watch_progress_interval, std::chrono::seconds(7));
  const auto told = messages(outcome);
  EXPECT_THAT(told, Contains("--experimental-compaction-batch-limit is a flag of an older etcd. Use "
                             "--compaction-batch-limit instead."));
  EXPECT_THAT(told, Contains("--experimental-enable-lease-checkpoint is a flag of an older etcd. Use "
                             "'--feature-gates=LeaseCheckpoint=true' instead."));
  EXPECT_THAT(told, Contains("--enable-v2 is a flag of an older etcd. It has no effect any more."));
  EXPECT_THAT(told, Contains("unrecognized environment variable")) << "ETCD_DISCOVERY";
  EXPECT_EQ(parse({"--proxy=on"}).failure, "--proxy was removed, and \"on\" cannot be had any more");
  EXPECT_EQ(parse({"--discovery=http://x"}).exit_code, 1);
  EXPECT_EQ(parse({"--experimental-compaction-batch-limit=x"}).exit_code, 2);
  EXPECT_THAT(messages(parse({"--ca-file=x"})),
              Contains("--ca-file is a flag of an older etcd. Use --trusted-ca-file instead."));
  const ParseOutcome authority = parse({"--ca-file=x"});
  ASSERT_TRUE(authority.run) << authority.failure;
  EXPECT_EQ(authority.config.client_tls.trusted_ca_file, "x");
  EXPECT_TRUE(authority.config.client_tls.client_cert_auth);
  EXPECT_EQ(parse({"--debug"}, {"ETCD_DEBUG=true"}).exit_code, 1) << "both";
}

TEST(Former, KeysOfFilesHaveTodaysEffect) {
  const Config config = config_of(
      "experimental-compaction-batch-limit: 9\nexperimental-snapshot-catch-up-entries: 5\n"
      "experimental-warning-apply-duration: 1000\n"
      "experimental-enable-lease-checkpoint: true\n");
  EXPECT_EQ(config.compaction_batch_limit, 9u);
  EXPECT_EQ(config.snapshot_catchup_entries, 5u);
  EXPECT_EQ(config.warning_apply, std::chrono::microseconds(1));
  EXPECT_TRUE(gate_is_on(config.feature_gates, "LeaseCheckpoint"));
  EXPECT_EQ(failure_of("experimental-compaction-batch-limit: x"),
            "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal string into Go struct field "
            "configYAML.Config.experimental-compaction-batch-limit of type int");
}

}  // namespace
}  // namespace cairn::cmd
