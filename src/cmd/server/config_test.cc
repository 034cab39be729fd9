#include "cmd/server/config.h"

#include <algorithm>
#include <fstream>
#include <map>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cmd/server/config_flags.h"

namespace cairn::cmd {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;
using testing::StartsWith;

ParseOutcome parse(const std::vector<std::string>& arguments, const std::vector<std::string>& environment = {}) {
  return parse_config(arguments, environment);
}

std::vector<std::string> messages(const ParseOutcome& outcome) {
  std::vector<std::string> out;
  for (const Notice& notice : outcome.notices) out.push_back(notice.message);
  return out;
}

// The first line of a usage error.
std::string usage_error(const std::vector<std::string>& arguments) {
  const ParseOutcome outcome = parse(arguments);
  EXPECT_FALSE(outcome.run);
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_THAT(outcome.err, HasSubstr("\nUsage:\n"));
  return outcome.err.substr(0, outcome.err.find('\n'));
}

std::string refusal(const std::vector<std::string>& arguments) {
  const ParseOutcome outcome = parse(arguments);
  EXPECT_FALSE(outcome.run) << testing::PrintToString(arguments);
  EXPECT_EQ(outcome.exit_code, 1);
  if (outcome.notices.empty() || outcome.failure.empty()) return "(no reason given)";
  return outcome.failure;
}

TEST(Config, WithoutArgumentsIsEtcds) {
  const ParseOutcome outcome = parse({});
  ASSERT_TRUE(outcome.run) << outcome.failure;
  const Config& config = outcome.config;
  EXPECT_EQ(config.name, "default");
  EXPECT_EQ(config.data_dir, "default.etcd");
  EXPECT_EQ(config.listen_client_urls.at(0).text, "http://localhost:2379");
  EXPECT_EQ(config.advertise_client_urls.at(0).text, "http://localhost:2379");
  EXPECT_EQ(config.listen_peer_urls.at(0).port, 2380);
  EXPECT_EQ(config.initial_cluster, (cluster::InitialCluster{{"default", {"http://localhost:2380"}}}));
  EXPECT_TRUE(config.is_new_cluster());
  EXPECT_EQ(config.heartbeat_ms, 100u);
  EXPECT_EQ(config.election_ticks(), 10u);
  EXPECT_EQ(config.snapshot_count, 10'000u);
  EXPECT_EQ(config.quota_bytes, int64_t{2} * 1024 * 1024 * 1024);
  EXPECT_EQ(config.batch_interval, milliseconds(100));
  EXPECT_EQ(config.batch_limit, 10'000u);
  EXPECT_EQ(config.compaction_batch_limit, 1000u);
  EXPECT_EQ(config.compaction_sleep, milliseconds(10));
  EXPECT_EQ(config.max_request_bytes, 1'572'864u);
  EXPECT_EQ(config.max_concurrent_streams, UINT32_MAX);
  EXPECT_EQ(config.keepalive_interval, std::chrono::hours(2));
  EXPECT_EQ(config.log_outputs, (std::vector<std::string>{"default"}));
  EXPECT_EQ(config.request_timeout(), seconds(7));
  EXPECT_TRUE(verify_bootstrap(config));
}

// What etcd 3.7.1 grants to a lease of one second, started with these two flags.
TEST(Config, TimesThatFollowFromTheElectionTimeoutAreOfWholeTicks) {
  struct Case {
    uint32_t heartbeat_ms;
    uint32_t election_ms;
    int64_t lease_ttl_min;
  };
  for (const Case& one : {Case{100, 1000, 2}, Case{1000, 5000, 7}, Case{250, 1400, 2}, Case{400, 2000, 3},
                          Case{10, 60, 1}, Case{333, 2000, 3}, Case{300, 1999, 3}, Case{900, 49'999, 74}}) {
    Config config;
    config.heartbeat_ms = one.heartbeat_ms;
    config.election_ms = one.election_ms;
    EXPECT_EQ(config.lease_ttl_min(), one.lease_ttl_min) << one.heartbeat_ms << " " << one.election_ms;
  }
  Config config;
  config.heartbeat_ms = 900;
  config.election_ms = 49'999;
  EXPECT_EQ(config.election_timeout_ms(), 49'500u);
  EXPECT_EQ(config.request_timeout(), seconds(104));
}

TEST(Config, DefaultsOfTheStructAreThoseOfTheFlags) {
  const Config parsed = parse({}).config;
  Config standard;
  EXPECT_EQ(parsed.snapshot_catchup_entries, standard.snapshot_catchup_entries);
  EXPECT_EQ(parsed.max_snapshots, standard.max_snapshots);
  EXPECT_EQ(parsed.max_wals, standard.max_wals);
  EXPECT_EQ(parsed.max_txn_ops, standard.max_txn_ops);
  EXPECT_EQ(parsed.election_ms, standard.election_ms);
  EXPECT_EQ(parsed.keepalive_min_time, standard.keepalive_min_time);
  EXPECT_EQ(parsed.keepalive_timeout, standard.keepalive_timeout);
  EXPECT_EQ(parsed.warning_apply, standard.warning_apply);
  EXPECT_EQ(parsed.warning_unary_request, standard.warning_unary_request);
  EXPECT_EQ(parsed.learner_count_max, standard.learner_count_max);
  EXPECT_EQ(parsed.quota_bytes, standard.quota_bytes);
  EXPECT_EQ(parsed.log_level, standard.log_level);
  EXPECT_EQ(parsed.pre_vote, standard.pre_vote);
  EXPECT_EQ(parsed.strict_reconfig_check, standard.strict_reconfig_check);
}

TEST(Config, EverySupportedFlagArrives) {
  const ParseOutcome outcome = parse({"--name=n1",
                                      "-data-dir",
                                      "/d",
                                      "--wal-dir",
                                      "/w",
                                      "-listen-peer-urls=http://127.0.0.1:1",
                                      "--listen-client-urls=http://127.0.0.1:3,http://127.0.0.1:2",
                                      "--advertise-client-urls",
                                      "http://h:2",
                                      "--initial-advertise-peer-urls=http://h:1",
                                      "--initial-cluster-state",
                                      "existing",
                                      "--initial-cluster-token=t",
                                      "--quota-backend-bytes=-1",
                                      "--snapshot-count=7",
                                      "--snapshot-catchup-entries=0x10",
                                      "--heartbeat-interval=10",
                                      "--election-timeout=1_00",
                                      "--log-level=debug",
                                      "--log-outputs=stdout,a.log",
                                      "--log-format=console",
                                      "--logger=zap",
                                      "--max-request-bytes=99999999999",
                                      "--max-txn-ops=0",
                                      "--max-concurrent-streams=17",
                                      "--grpc-keepalive-min-time=1m",
                                      "--grpc-keepalive-interval=0s",
                                      "--grpc-keepalive-timeout=1.5s",
                                      "--backend-batch-interval=5ms",
                                      "--backend-batch-limit=-3",
                                      "--backend-bbolt-freelist-type=array",
                                      "--max-wals=0",
                                      "--max-snapshots=2",
                                      "--unsafe-no-fsync",
                                      "--compaction-batch-limit=5",
                                      "--compaction-sleep-interval=1us",
                                      "--warning-apply-duration=2s",
                                      "--warning-unary-request-duration=3s",
                                      "--strict-reconfig-check=false",
                                      "--pre-vote=F",
                                      "--metrics=extensive",
                                      "--max-learners=3",
                                      "--io-threads=4",
                                      "--nospace-auto-clear=false",
                                      "--in-memory",
                                      "--initial-election-tick-advance=0",
                                      "--enable-grpc-gateway=false"});
  ASSERT_TRUE(outcome.run) << outcome.failure << outcome.err;
  const Config& config = outcome.config;
  EXPECT_EQ(config.name, "n1");
  EXPECT_EQ(config.data_dir, "/d");
  EXPECT_EQ(config.wal_dir, "/w");
  EXPECT_EQ(config.listen_client_urls.at(0).port, 2) << "lists are sorted";
  EXPECT_EQ(config.advertise_client_urls.at(0).host, "h");
  EXPECT_EQ(config.initial_cluster, (cluster::InitialCluster{{"n1", {"http://h:1"}}})) << "made from the name";
  EXPECT_FALSE(config.is_new_cluster());
  EXPECT_EQ(config.initial_cluster_token, "t");
  EXPECT_EQ(config.quota_bytes, -1);
  EXPECT_EQ(config.snapshot_count, 7u);
  EXPECT_EQ(config.snapshot_catchup_entries, 16u);
  EXPECT_EQ(config.heartbeat_ms, 10u);
  EXPECT_EQ(config.election_ms, 100u);
  EXPECT_EQ(config.log_level, "debug");
  EXPECT_EQ(config.log_format, "console");
  EXPECT_EQ(config.log_outputs, (std::vector<std::string>{"a.log", "stdout"}));
  EXPECT_EQ(config.max_request_bytes, UINT32_MAX);
  EXPECT_EQ(config.max_txn_ops, 0u);
  EXPECT_EQ(config.max_concurrent_streams, 17u);
  EXPECT_EQ(config.keepalive_min_time, seconds(60));
  EXPECT_EQ(config.keepalive_interval, seconds(0));
  EXPECT_EQ(config.keepalive_timeout, milliseconds(1500));
  EXPECT_EQ(config.batch_interval, milliseconds(5));
  EXPECT_EQ(config.batch_limit, 1u);
  EXPECT_EQ(config.max_wals, 0u);
  EXPECT_EQ(config.max_snapshots, 2u);
  EXPECT_TRUE(config.unsafe_no_fsync);
  EXPECT_EQ(config.compaction_batch_limit, 5u);
  EXPECT_EQ(config.compaction_sleep, std::chrono::microseconds(1));
  EXPECT_EQ(config.warning_apply, seconds(2));
  EXPECT_EQ(config.warning_unary_request, seconds(3));
  EXPECT_FALSE(config.strict_reconfig_check);
  EXPECT_FALSE(config.pre_vote);
  EXPECT_EQ(config.metrics, "extensive");
  EXPECT_EQ(config.learner_count_max, 3u);
  EXPECT_EQ(config.io_threads, 4u);
  EXPECT_FALSE(config.nospace_auto_clear);
  EXPECT_TRUE(config.in_memory);
  EXPECT_FALSE(config.initial_election_tick_advance);
  EXPECT_FALSE(config.enable_grpc_gateway);
}

// Texts and codes of the real etcd for the same arguments.
TEST(Config, UsageErrorsAreGos) {
  EXPECT_EQ(usage_error({"--nosuch"}), "flag provided but not defined: -nosuch");
  EXPECT_EQ(usage_error({"--name"}), "flag needs an argument: -name");
  EXPECT_EQ(usage_error({"--heartbeat-interval=x"}), R"(invalid value "x" for flag -heartbeat-interval: parse error)");
  EXPECT_EQ(usage_error({"--pre-vote=maybe"}), R"(invalid boolean value "maybe" for -pre-vote: parse error)");
  EXPECT_EQ(usage_error({"-=x"}), "bad flag syntax: -=x");
  EXPECT_EQ(usage_error({"---name"}), "bad flag syntax: ---name");
  EXPECT_EQ(
      usage_error({"--listen-peer-urls=http://a/b"}),
      R"(invalid value "http://a/b" for flag -listen-peer-urls: URL address does not have the form "host:port": http://a/b)");
  EXPECT_EQ(usage_error({"--listen-peer-urls=:1"}),
            R"(invalid value ":1" for flag -listen-peer-urls: parse ":1": missing protocol scheme)");
  EXPECT_EQ(usage_error({"--initial-cluster-state=foo"}),
            R"(invalid value "foo" for flag -initial-cluster-state: invalid value)");
  EXPECT_EQ(usage_error({"--max-concurrent-streams=x"}),
            R"(invalid value "x" for flag -max-concurrent-streams: strconv.ParseUint: parsing "x": invalid syntax)");
  EXPECT_EQ(
      usage_error({"--max-concurrent-streams=4294967296"}),
      R"(invalid value "4294967296" for flag -max-concurrent-streams: strconv.ParseUint: parsing "4294967296": value out of range)");
  EXPECT_EQ(usage_error({"--backend-batch-interval=5"}),
            R"(invalid value "5" for flag -backend-batch-interval: parse error)");
  EXPECT_EQ(usage_error({"--max-txn-ops=-1"}), R"(invalid value "-1" for flag -max-txn-ops: parse error)");
  EXPECT_EQ(usage_error({"--max-txn-ops=99999999999999999999999"}),
            R"(invalid value "99999999999999999999999" for flag -max-txn-ops: value out of range)");
  EXPECT_EQ(usage_error({"--quota-backend-bytes=1e3"}),
            R"(invalid value "1e3" for flag -quota-backend-bytes: parse error)");
  EXPECT_EQ(usage_error({"--feature-gates=Nope=true"}),
            R"(invalid value "Nope=true" for flag -feature-gates: unrecognized feature gate: Nope)");
  EXPECT_EQ(usage_error({"--feature-gates=LeaseCheckpoint"}),
            R"(invalid value "LeaseCheckpoint" for flag -feature-gates: missing bool value for LeaseCheckpoint)");
}

TEST(Config, RefusalsAreEtcds) {
  EXPECT_EQ(refusal({"--pre-vote", "false"}), R"("false" is not a valid flag)");
  EXPECT_EQ(refusal({"--", "x"}), R"("x" is not a valid flag)");
  EXPECT_EQ(refusal({"-"}), R"("-" is not a valid flag)");
  EXPECT_EQ(refusal({"--listen-peer-urls=http://foo:1"}), "expected IP in URL for binding (http://foo:1)");
  EXPECT_EQ(refusal({"--listen-client-urls=http://127.0.0.1:3"}),
            "--advertise-client-urls is required when --listen-client-urls is set explicitly");
  EXPECT_EQ(refusal({"--election-timeout=200"}),
            "--election-timeout[200ms] should be at least as 5 times as --heartbeat-interval[100ms]");
  EXPECT_EQ(refusal({"--election-timeout=60000"}),
            "--election-timeout[60000ms] is too long, and should be set less than 50000ms");
  EXPECT_EQ(refusal({"--heartbeat-interval=0"}), "--heartbeat-interval must be >0 (set to 0ms)");
  EXPECT_EQ(refusal({"--election-timeout=0"}), "--election-timeout must be >0 (set to 0ms)");
  EXPECT_EQ(
      refusal({"--initial-advertise-peer-urls=http://:2380"}),
      R"(--initial-advertise-peer-urls "http://:2380" must be "host:port" (unexpected empty host (http://:2380)))");
  EXPECT_EQ(refusal({"--advertise-client-urls=http://:2379"}),
            R"(--advertise-client-urls "http://:2379" must be in the format "host:port", "unix:/path/to/socket" or )"
            R"("unixs:/path/to/socket" (unexpected empty host (http://:2379)))");
  EXPECT_EQ(refusal({"--auto-compaction-mode=x"}), R"(unknown auto-compaction-mode "x")");
  EXPECT_EQ(refusal({"--log-outputs=default,stderr"}), R"(multi logoutput for "default" is not supported yet)");
  EXPECT_EQ(refusal({"--logger=foo"}), R"(unknown logger option "foo")");
  EXPECT_EQ(refusal({"--log-format=xml"}), "unknown log format: xml, supported values json, console");
  EXPECT_EQ(refusal({"--discovery-token=x"}), "both --discovery-token and --discovery-endpoints must be set");
  EXPECT_EQ(refusal({"--discovery-fallback=proxy"}),
            R"(v2 proxy is deprecated, and --discovery-fallback can't be configured as "proxy")");
  EXPECT_EQ(refusal({"--compact-hash-check-time=0s"}), "--compact-hash-check-time must be >0 (set to 0s)");
  EXPECT_EQ(refusal({"--feature-gates=LeaseCheckpointPersist=true"}),
            "enabling feature gate LeaseCheckpointPersist requires enabling feature gate LeaseCheckpoint");
  EXPECT_EQ(refusal({"--initial-cluster=x"}),
            "error setting up initial cluster: URL scheme must be http, https, unix, or unixs: ");
  EXPECT_EQ(parse({"--log-level=zz"}).exit_code, 2) << "etcd panics";
  EXPECT_TRUE(parse({"--log-level=WARN"}).run) << "zap reads it in any case";
  EXPECT_EQ(messages(parse({"--logger=foo"})).back(), "failed to verify flags");
}

TEST(Config, AnInitialClusterOfSeveralIsTheStartsBusiness) {
  const ParseOutcome outcome = parse({"--initial-cluster=default=http://localhost:2380,b=http://localhost:2390"});
  ASSERT_TRUE(outcome.run) << "where there is data it is ignored";
  EXPECT_EQ(outcome.config.initial_cluster.size(), 2u);
}

TEST(Config, TlsIsRead) {
  const ParseOutcome outcome =
      parse({"--listen-client-urls=https://127.0.0.1:1,unixs://a:1", "--advertise-client-urls=https://127.0.0.1:1",
             "--cert-file=c", "--key-file=k", "--client-cert-auth", "--trusted-ca-file=t", "--client-crl-file=l",
             "--client-cert-allowed-hostname=a,b", "--tls-min-version=", "--tls-max-version=TLS1.3",
             "--cipher-suites=TLS_RSA_WITH_AES_128_CBC_SHA,TLS_AES_128_GCM_SHA256", "--cors=http://a:1,http://b:2"});
  ASSERT_TRUE(outcome.run) << outcome.failure;
  const net::TlsSettings& tls = outcome.config.client_tls;
  EXPECT_EQ(tls.cert_file, "c");
  EXPECT_EQ(tls.key_file, "k");
  EXPECT_TRUE(tls.client_cert_auth);
  EXPECT_EQ(tls.trusted_ca_file, "t");
  EXPECT_EQ(tls.crl_file, "l");
  EXPECT_EQ(tls.allowed_hostnames, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(tls.cipher_suites.size(), 2u);
  EXPECT_EQ(outcome.config.peer_tls.version_max, "TLS1.3");
  EXPECT_EQ(outcome.config.cors, (std::vector<std::string>{"http://a:1", "http://b:2"}));
  EXPECT_TRUE(outcome.config.listen_client_urls.front().is_tls());
}

TEST(Config, TlsIsCheckedInEtcdsWords) {
  EXPECT_EQ(refusal({"--tls-min-version=TLS1.3", "--tls-max-version=TLS1.2"}),
            "min version (TLS1.3) is greater than max version (TLS1.2)");
  EXPECT_EQ(refusal({"--tls-min-version=TLS1.3", "--cipher-suites=TLS_AES_128_GCM_SHA256"}),
            "cipher suites cannot be configured when only TLS1.3 is enabled");
  EXPECT_EQ(refusal({"--cipher-suites=x"}), "unexpected TLS cipher suite \"x\"");
}

// What kubeadm writes into etcd's manifest.
TEST(Config, KubeadmsCommandLineIsTaken) {
  const ParseOutcome outcome =
      parse({"--advertise-client-urls=https://10.0.0.1:2379", "--cert-file=/etc/kubernetes/pki/etcd/server.crt",
             "--client-cert-auth=true", "--data-dir=/var/lib/etcd", "--feature-gates=InitialCorruptCheck=true",
             "--initial-advertise-peer-urls=https://10.0.0.1:2380", "--initial-cluster=node=https://10.0.0.1:2380",
             "--key-file=/etc/kubernetes/pki/etcd/server.key",
             "--listen-client-urls=https://127.0.0.1:2379,https://10.0.0.1:2379",
             "--listen-metrics-urls=http://127.0.0.1:2381", "--listen-peer-urls=https://10.0.0.1:2380", "--name=node",
             "--peer-cert-file=/etc/kubernetes/pki/etcd/peer.crt", "--peer-client-cert-auth=true",
             "--peer-key-file=/etc/kubernetes/pki/etcd/peer.key",
             "--peer-trusted-ca-file=/etc/kubernetes/pki/etcd/ca.crt", "--snapshot-count=10000",
             "--trusted-ca-file=/etc/kubernetes/pki/etcd/ca.crt", "--watch-progress-notify-interval=5s"});
  EXPECT_TRUE(outcome.run) << outcome.failure;
  EXPECT_EQ(outcome.notices.size(), 0u) << messages(outcome).front();
}

TEST(Config, BootstrapChecksTheInitialCluster) {
  const ParseOutcome outcome = parse({"--initial-cluster=b=http://127.0.0.1:1"});
  ASSERT_TRUE(outcome.run) << "a restart ignores it";
  EXPECT_EQ(verify_bootstrap(outcome.config).error().message,
            R"(couldn't find local name "default" in the initial cluster configuration)");
  EXPECT_EQ(verify_bootstrap(parse({"--initial-cluster=default=http://127.0.0.1:2380"}).config).error().message,
            "--initial-cluster has default=http://127.0.0.1:2380 but missing from "
            "--initial-advertise-peer-urls=http://localhost:2380 "
            R"((resolved urls: "http://localhost:2380" != "http://127.0.0.1:2380"))");
  EXPECT_FALSE(verify_bootstrap(parse({"--initial-advertise-peer-urls=http://127.0.0.1:1"}).config))
      << "the default name does not follow the advertised URLs, in etcd neither";
  EXPECT_TRUE(verify_bootstrap(parse({"--name=x", "--initial-advertise-peer-urls=http://127.0.0.1:1"}).config));
}

// A value of each type that is not the default of any flag.
std::string other_value(const FlagSpec& spec) {
  switch (spec.type) {
    case FlagType::kBool: return spec.default_text == "true" ? "false" : "true";
    case FlagType::kInt:
    case FlagType::kUint:
    case FlagType::kUint32: return "37";
    case FlagType::kDuration: return "37s";
    case FlagType::kUrls:
    case FlagType::kUrlsOrStar: return "http://127.0.0.1:3737";
    case FlagType::kState: return "existing";
    case FlagType::kFallback: return "exit";
    case FlagType::kDeprecation: return "gone";
    case FlagType::kGates: return "FastLeaseKeepAlive=false";
    case FlagType::kText:
    case FlagType::kSet:
    case FlagType::kAnything: return "other";
  }
  return "";
}

TEST(Flags, AreThoseOfEtcdAndThreeOfOurs) {
  std::set<std::string> wanted = {"in-memory", "io-threads", "nospace-auto-clear"};
  std::ifstream in("src/cmd/server/testdata/flags.txt");
  for (std::string name; std::getline(in, name);) wanted.insert(name);
  ASSERT_EQ(wanted.size(), 131u);
  std::set<std::string> have;
  for (const FlagSpec& spec : all_flags()) have.emplace(spec.name);
  EXPECT_EQ(have, wanted);
  EXPECT_EQ(find_flag("experimental-corrupt-check-time"), nullptr) << "gone in 3.7";
}

TEST(Flags, EachIsAcceptedAtItsDefault) {
  // etcd reads these two as lists of one empty name when they are given empty, and refuses that.
  const std::set<std::string_view> not_empty = {"cipher-suites", "discovery-endpoints"};
  for (const FlagSpec& spec : all_flags()) {
    if (spec.name == "version") continue;
    std::vector<std::string> arguments = {"--" + std::string(spec.name) + "=" + std::string(spec.default_text)};
    if (not_empty.contains(spec.name)) {
      EXPECT_FALSE(parse(arguments).run) << spec.name;
      continue;
    }
    if (spec.name == "listen-client-urls") arguments.emplace_back("--advertise-client-urls=http://localhost:2379");
    const ParseOutcome outcome = parse(arguments);
    EXPECT_TRUE(outcome.run) << spec.name << ": " << outcome.failure << outcome.err;
    for (const std::string& message : messages(outcome))
      EXPECT_NE(message, "flags without effect: not built yet") << spec.name;
  }
}

TEST(Flags, EachDoesWhatItsClassSays) {
  // These need a value of their own, or a companion.
  const std::map<std::string_view, std::vector<std::string>> own = {
      {"auto-compaction-mode", {"--auto-compaction-mode=revision"}},
      {"election-timeout", {"--election-timeout=2000"}},
      {"initial-cluster", {"--initial-cluster=default=http://h:1"}},
      {"listen-client-urls", {"--listen-client-urls=http://127.0.0.1:1", "--advertise-client-urls=http://127.0.0.1:1"}},
      {"log-level", {"--log-level=warn"}},
      {"log-format", {"--log-format=console"}},
      {"logger", {"--logger=zap"}},
      {"config-file", {"--config-file="}},
      {"discovery-token", {"--discovery-token=x", "--discovery-endpoints=http://127.0.0.1:1"}},
      {"discovery-endpoints", {"--discovery-token=x", "--discovery-endpoints=http://127.0.0.1:1"}},
      {"discovery-fallback", {"--discovery-fallback=exit"}},
      {"enable-log-rotation", {"--enable-log-rotation", "--log-outputs=/dev/null"}},
      {"cipher-suites", {"--cipher-suites=TLS_AES_128_GCM_SHA256"}},
      {"tls-min-version", {"--tls-min-version=TLS1.3"}},
      {"tls-max-version", {"--tls-max-version=TLS1.3"}},
  };
  const std::set<std::string_view> no_other_value = {"version", "discovery-fallback"};
  for (const FlagSpec& spec : all_flags()) {
    if (no_other_value.contains(spec.name)) continue;
    const auto it = own.find(spec.name);
    const std::vector<std::string> arguments =
        it != own.end() ? it->second : std::vector{"--" + std::string(spec.name) + "=" + other_value(spec)};
    const ParseOutcome outcome = parse(arguments);
    if (spec.kind == FlagClass::kProtects) {
      EXPECT_FALSE(outcome.run) << spec.name;
      EXPECT_EQ(outcome.exit_code, 1) << spec.name;
      EXPECT_THAT(outcome.failure, HasSubstr("is not built yet")) << spec.name;
      if (!spec.name.starts_with("discovery-")) {
        EXPECT_THAT(outcome.failure, StartsWith("--" + std::string(spec.name) + " ")) << "by its name";
      }
      continue;
    }
    EXPECT_TRUE(outcome.run) << spec.name << ": " << outcome.failure << outcome.err;
    const auto named = std::ranges::count(messages(outcome), "flags without effect: not built yet");
    EXPECT_EQ(named, spec.kind == FlagClass::kComfort || spec.type == FlagType::kGates ? 1 : 0) << spec.name;
  }
}

TEST(Flags, EachReachesItsFieldAndTheLogLine) {
  const std::set<std::string_view> without_a_field = {"version", "logger",
                                                      "config-file"};  // looked at while they are parsed
  for (const FlagSpec& spec : all_flags()) {
    if (spec.kind == FlagClass::kSupported) {
      EXPECT_EQ(spec.binding.show == nullptr, without_a_field.contains(spec.name)) << spec.name;
    }
    if (spec.binding.read == nullptr) continue;
    Config config;
    const Config standard;
    spec.binding.read(config, *canonical_value(spec.type, other_value(spec)));
    EXPECT_NE(spec.binding.show(config, spec.name).value, spec.binding.show(standard, spec.name).value) << spec.name;
    const std::vector<log::Field> line = describe(config);
    EXPECT_EQ(std::ranges::count(line, spec.name, &log::Field::key), 1) << spec.name;
  }
}

TEST(Flags, NumbersAreCutToTheirFields) {
  EXPECT_EQ(parse({"--max-txn-ops=4294967296"}).config.max_txn_ops, UINT32_MAX);
  EXPECT_EQ(parse({"--max-learners=-1"}).config.learner_count_max, 0u);
  EXPECT_EQ(parse({"--backend-batch-limit=0"}).config.batch_limit, 10'000u) << "0 is the default";
  EXPECT_EQ(parse({"--quota-backend-bytes=0"}).config.quota_bytes, int64_t{2} << 30);
}

// The flags named in the paragraph of docs/compatibility.md that begins with `text`.
std::set<std::string> documented(const std::string& page, const std::string& text) {
  std::set<std::string> names;
  size_t at = page.find("\n" + text);
  EXPECT_NE(at, std::string::npos) << text;
  if (at == std::string::npos) return names;
  const std::string paragraph = page.substr(at, page.find("\n\n", at) - at);
  for (at = paragraph.find('`'); at != std::string::npos; at = paragraph.find('`', at + 1)) {
    const size_t end = paragraph.find('`', at + 1);
    names.insert(paragraph.substr(at + 1, end - at - 1));
    at = end;
  }
  return names;
}

TEST(Flags, TheDocsListThemAsTheyAre) {
  std::ifstream file("docs/compatibility.md");
  std::string page((std::istreambuf_iterator<char>(file)), {});
  page += "\n\n";
  const std::map<FlagClass, std::string> paragraphs = {{FlagClass::kSupported, "Have their effect:"},
                                                       {FlagClass::kChecked, "Checked, and without effect"},
                                                       {FlagClass::kComfort, "Accepted; their absence"},
                                                       {FlagClass::kProtects, "Refuse the start by name"},
                                                       {FlagClass::kIgnored, "Accepted and ignored"}};
  for (const auto& [kind, text] : paragraphs) {
    std::set<std::string> names;
    for (const FlagSpec& spec : all_flags()) {
      if (spec.kind == kind) names.emplace(spec.name);
    }
    if (names.empty()) {
      EXPECT_EQ(page.find("\n" + text), std::string::npos) << text;
      continue;
    }
    EXPECT_EQ(documented(page, text), names) << text;
  }
}

TEST(Flags, EachIsReadFromItsVariableToo) {
  for (const FlagSpec& spec : all_flags()) {
    if (spec.name == "version") continue;
    std::string key = "ETCD_";
    for (const char c : spec.name) key += c == '-' ? '_' : static_cast<char>(std::toupper(c));
    const std::string value(spec.default_text.empty() ? "" : spec.default_text);
    std::vector<std::string> environment = {key + "=" + value, "OTHER=1"};
    if (spec.name == "listen-client-urls") environment.emplace_back("ETCD_ADVERTISE_CLIENT_URLS=http://localhost:2379");
    const ParseOutcome outcome = parse({}, environment);
    EXPECT_TRUE(outcome.run) << key << ": " << outcome.failure;
    EXPECT_EQ(std::ranges::count(messages(outcome), "unrecognized environment variable"), 0) << key;
    const auto used = std::ranges::count(messages(outcome), "recognized and used environment variable");
    EXPECT_GE(used, value.empty() ? 0 : 1) << key;
  }
}

TEST(Environment, SetsFlags) {
  const ParseOutcome outcome = parse({}, {"ETCD_NAME=q", "ETCD_HEARTBEAT_INTERVAL=50", "ETCD_PRE_VOTE=", "PATH=/bin"});
  ASSERT_TRUE(outcome.run);
  EXPECT_EQ(outcome.config.name, "q");
  EXPECT_EQ(outcome.config.heartbeat_ms, 50u);
  EXPECT_TRUE(outcome.config.pre_vote) << "empty is unset";
}

TEST(Environment, ConflictWithAFlagIsFatal) {
  for (const char* value : {"q", ""}) {
    const ParseOutcome outcome = parse({"--name", "y"}, {std::string("ETCD_NAME=") + value});
    EXPECT_FALSE(outcome.run);
    EXPECT_EQ(outcome.exit_code, 1);
    EXPECT_THAT(outcome.failure,
                StartsWith("conflicting environment variable is shadowed by corresponding command-line flag"));
    EXPECT_EQ(outcome.notices.back().level, log::Level::kFatal);
    EXPECT_EQ(outcome.notices.back().fields.at(0).value, log::Value(std::string("ETCD_NAME")));
  }
}

TEST(Environment, UnknownIsNamedAndBadIsRefused) {
  const ParseOutcome unknown = parse({}, {"ETCD_FOO=1", "ETCD_VERSION=3"});
  EXPECT_TRUE(unknown.run);
  EXPECT_THAT(messages(unknown), testing::Contains("unrecognized environment variable"));
  EXPECT_THAT(messages(unknown), testing::Contains("cannot set special environment variable"));
  const ParseOutcome bad = parse({}, {"ETCD_HEARTBEAT_INTERVAL=zz"});
  EXPECT_EQ(bad.exit_code, 1);
  EXPECT_EQ(bad.failure, R"(invalid value "zz" for ETCD_HEARTBEAT_INTERVAL: parse error)");
}

TEST(Environment, CountsAsSetForAdvertiseClientUrls) {
  EXPECT_EQ(parse({}, {"ETCD_LISTEN_CLIENT_URLS=http://127.0.0.1:1"}).failure,
            "--advertise-client-urls is required when --listen-client-urls is set explicitly");
}

TEST(Version, FirstLinesAreEtcds) {
  const ParseOutcome outcome = parse({"--version"}, {"ETCD_HEARTBEAT_INTERVAL=zz"});
  EXPECT_FALSE(outcome.run);
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_EQ(outcome.err, "");
  EXPECT_THAT(outcome.out, StartsWith("etcd Version: 3.7.1\nGit SHA: "));
  EXPECT_THAT(outcome.out, HasSubstr("\nGo Version: "));
  EXPECT_THAT(outcome.out, HasSubstr("\nGo OS/Arch: linux/"));
  EXPECT_THAT(outcome.out, HasSubstr("\ncairn Version: 0.1.0\n"));
}

TEST(Help, IsOnBothStreams) {
  for (const char* flag : {"-h", "--help", "-help"}) {
    const ParseOutcome outcome = parse({flag});
    EXPECT_EQ(outcome.exit_code, 0);
    EXPECT_FALSE(outcome.run);
    EXPECT_THAT(outcome.err, StartsWith("Usage:"));
    EXPECT_THAT(outcome.out, HasSubstr("  --heartbeat-interval '100'\n"));
  }
}

TEST(Logger, OnlyZap) {
  EXPECT_EQ(refusal({"--logger=capnslog"}), "--logger=capnslog is removed in v3.5");
  EXPECT_EQ(refusal({"--logger=x"}), "unknown logger option \"x\"");
}

TEST(Legacy, FlagsAreTakenWithAWarning) {
  const ParseOutcome outcome = parse({"--force", "-vv", "--snapshot=true", "--name=x"});
  ASSERT_TRUE(outcome.run) << outcome.failure;
  EXPECT_EQ(std::ranges::count(messages(outcome), "flag is no longer supported - ignoring"), 3);
  EXPECT_EQ(outcome.config.name, "x");
}

TEST(FeatureGates, AreRead) {
  EXPECT_TRUE(parse({"--feature-gates=AllAlpha=true"}).run);
  EXPECT_TRUE(parse({"--feature-gates=InitialCorruptCheck=false, CompactHashCheck=f"}).run);
  EXPECT_TRUE(parse({"--feature-gates=LeaseCheckpoint=true,LeaseCheckpointPersist=true"}).run);
}

TEST(FeatureGates, OfAStageFollowItsOwnUnlessTheyAreNamed) {
  const ParseOutcome outcome =
      parse({"--feature-gates=CompactHashCheck=false,AllAlpha=true,InitialCorruptCheck=false,AllBeta=false"});
  ASSERT_TRUE(outcome.run) << outcome.failure;
  const std::string& gates = outcome.config.feature_gates;
  for (const GateSpec& gate : all_gates()) {
    const bool is_named = gate.name == "CompactHashCheck" || gate.name == "InitialCorruptCheck";
    EXPECT_EQ(gate_is_on(gates, gate.name), gate.stage == "ALPHA" && !is_named) << gate.name;
  }
  EXPECT_EQ(refusal({"--feature-gates=AllAlpha=true,LeaseCheckpoint=false"}),
            "enabling feature gate LeaseCheckpointPersist requires enabling feature gate LeaseCheckpoint");
}

TEST(ArgcArgv, LeavesOutTheProgram) {
  const char* const argv[] = {"cairn", "--name=n", nullptr};
  const char* const variables[] = {"ETCD_PRE_VOTE=false", nullptr};
  const ParseOutcome outcome = parse_config(2, argv, variables);
  ASSERT_TRUE(outcome.run);
  EXPECT_EQ(outcome.config.name, "n");
  EXPECT_FALSE(outcome.config.pre_vote);
}

TEST(DefaultHost, TakesThePlaceOfLocalhostForWhoListensEverywhere) {
  int asked = 0;
  const HostFinder find_host = [&asked] {
    ++asked;
    return std::string("192.0.2.7");
  };
  const auto with = [&](const std::vector<std::string>& arguments) { return parse_config(arguments, {}, find_host); };
  const ParseOutcome both =
      with({"--name=n", "--listen-peer-urls=http://0.0.0.0:99", "--listen-client-urls=http://0.0.0.0:98",
            "--advertise-client-urls=http://localhost:2379"});
  ASSERT_TRUE(both.run) << both.failure;
  EXPECT_EQ(asked, 1);
  EXPECT_EQ(both.config.initial_advertise_peer_urls.front().text, "http://192.0.2.7:99");
  EXPECT_EQ(both.config.advertise_client_urls.front().text, "http://192.0.2.7:98");
  EXPECT_EQ(both.config.initial_cluster.at("n"), std::vector<std::string>{"http://192.0.2.7:99"});
  EXPECT_THAT(messages(both), testing::Contains("detected default host for advertise"));

  const ParseOutcome told = with({"--listen-client-urls=http://0.0.0.0:98", "--advertise-client-urls=http://h:98"});
  EXPECT_EQ(told.config.advertise_client_urls.front().text, "http://h:98");
  EXPECT_EQ(with({"--name=n"}).config.initial_advertise_peer_urls.front().text, "http://localhost:2380");
  EXPECT_EQ(asked, 1);

  const ParseOutcome lost = parse_config({"--name=n", "--listen-peer-urls=http://0.0.0.0:99"}, {},
                                         []() -> Result<std::string> { return fail(Code::kUnavailable, "no route"); });
  EXPECT_TRUE(lost.run);
  EXPECT_EQ(lost.config.initial_advertise_peer_urls.front().text, "http://localhost:2380");
  EXPECT_THAT(messages(lost), testing::Contains("failed to detect default host"));
}

TEST(UnixSockets, AreListenedOn) {
  EXPECT_TRUE(parse({"--listen-peer-urls=unix://a:1"}).run);
  EXPECT_TRUE(parse({"--listen-client-urls=unix://a:1", "--advertise-client-urls=http://h:1"}).run);
}

TEST(Describe, HasTheFieldsThatToolsScrape) {
  std::map<std::string_view, log::Value> fields;
  for (const log::Field& field : describe(parse({"--snapshot-catchup-entries=1000"}).config)) {
    fields.emplace(field.key, field.value);
  }
  EXPECT_EQ(fields.at("snapshot-catchup-entries"), log::Value(uint64_t{1000}));
  EXPECT_EQ(fields.at("heartbeat-interval"), log::Value(std::string("100ms")));
  EXPECT_EQ(fields.at("etcd-version"), log::Value(std::string("3.7.1")));
  EXPECT_EQ(fields.at("go-version"), log::Value(std::string("none (cairn, C++23)")));
  EXPECT_EQ(fields.at("member-dir"), log::Value(std::string("default.etcd/member")));
}

}  // namespace
}  // namespace cairn::cmd
