// cmd/server/config.h: the command line and ETCD_* environment of etcd 3.7.1, as a value.
//
// Every flag of etcd is known. One that Cairn does not have yet is accepted when its absence only costs comfort
// (named once in the log), and refuses the start when it protects something: config_flags.cc is the table.
// A flag given with its default value is always accepted.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/log.h"
#include "cluster/urls.h"
#include "net/tls/settings.h"

namespace cairn::cmd {

using Nanoseconds = std::chrono::nanoseconds;

// Each io thread is two of the 128 readers of what is published, and one of the 64 loops of an ApplyOutput.
inline constexpr unsigned kIoThreadsMax = 48;

struct Config {
  // Member
  std::string name = "default";
  std::string data_dir;  // never empty: "<name>.etcd" when not given
  std::string wal_dir;   // empty: <data_dir>/member/wal
  std::vector<cluster::Url> listen_peer_urls;
  std::vector<cluster::Url> listen_client_urls;
  std::vector<cluster::Url> listen_client_http_urls;  // not empty: plain HTTP is here, and not on the ones above
  std::vector<cluster::Url> listen_metrics_urls;
  std::vector<cluster::Url> advertise_client_urls;
  std::vector<cluster::Url> initial_advertise_peer_urls;

  // Cluster
  cluster::InitialCluster initial_cluster;
  std::string initial_cluster_state = "new";  // or "existing"
  std::string initial_cluster_token = "etcd-cluster";
  bool strict_reconfig_check = true;
  bool pre_vote = true;
  uint32_t learner_count_max = 1;

  // Raft and log
  uint32_t heartbeat_ms = 100;  // one tick
  uint32_t election_ms = 1000;
  bool initial_election_tick_advance = true;
  uint64_t snapshot_count = 10'000;
  uint64_t snapshot_catchup_entries = 5'000;
  bool snapshot_catchup_is_given = false;                   // else the log is kept by its bytes
  Nanoseconds raft_read_timeout = std::chrono::seconds(5);  // of connections between members, 5 s or more
  Nanoseconds raft_write_timeout = std::chrono::seconds(5);
  uint32_t max_snapshots = 5;
  uint32_t max_wals = 5;
  bool max_wals_is_given = false;  // else Cairn keeps no file that it does not need
  bool unsafe_no_fsync = false;
  bool force_new_cluster = false;
  bool in_memory = false;  // nothing is on a disk
  bool memory_mlock = false;

  // Storage
  int64_t quota_bytes = 2'147'483'648;  // < 0: no quota
  Nanoseconds batch_interval = std::chrono::milliseconds(100);
  uint64_t batch_limit = 10'000;
  uint64_t compaction_batch_limit = 1000;
  Nanoseconds compaction_sleep = std::chrono::milliseconds(10);
  uint32_t bootstrap_defrag_megabytes = 0;        // 0: never
  std::string auto_compaction_mode = "periodic";  // or "revision"
  std::string auto_compaction_retention = "0";    // read by parse_compaction_retention()

  // Who may do what
  std::string auth_token = "simple";
  uint64_t auth_token_ttl_s = 300;  // of a simple token; 0: the default
  uint32_t bcrypt_cost = 10;        // outside 4 to 31: 10

  // Requests
  uint32_t max_request_bytes = 1'572'864;
  uint32_t max_txn_ops = 128;
  uint32_t max_concurrent_streams = UINT32_MAX;
  Nanoseconds keepalive_min_time = std::chrono::seconds(5);
  Nanoseconds keepalive_interval = std::chrono::hours(2);  // 0: off
  Nanoseconds keepalive_timeout = std::chrono::seconds(20);
  Nanoseconds corrupt_check{0};                              // 0: never
  Nanoseconds compact_hash_check = std::chrono::minutes(1);  // with the gate CompactHashCheck
  Nanoseconds downgrade_check = std::chrono::seconds(5);
  Nanoseconds warning_apply = std::chrono::milliseconds(100);
  Nanoseconds watch_progress_interval{0};  // 0: the default; below the minimum: that
  Nanoseconds warning_unary_request = std::chrono::milliseconds(300);
  std::string metrics = "basic";  // or "extensive"
  bool enable_grpc_gateway = true;
  bool enable_pprof = false;
  std::vector<std::string> host_whitelist = {"*"};
  std::vector<std::string> cors = {"*"};  // origins of browsers; "*": all
  bool socket_reuse_port = false;
  bool socket_reuse_address = false;  // they always do

  // Tracing
  bool tracing = false;
  std::string tracing_address = "localhost:4317";
  std::string tracing_service_name = "etcd";
  std::string tracing_instance_id;
  int64_t tracing_samples_per_million = 0;  // of requests whose caller does not say; checked if `tracing`

  // TLS. Suites and versions are for both.
  net::TlsSettings client_tls;
  net::TlsSettings peer_tls;
  bool auto_tls = false;
  bool peer_auto_tls = false;
  std::vector<std::string> peer_cert_allowed_cn;
  bool peer_skip_client_san_verification = false;
  uint32_t self_signed_cert_validity = 1;  // years

  // Log
  std::string log_level = "info";
  std::string log_format = "json";
  std::vector<std::string> log_outputs = {"default"};
  bool log_rotation = false;
  std::string log_rotation_json;  // read by parse_rotation()

  std::string feature_gates;  // Name=bool,...

  // Cairn's own
  uint32_t io_threads = 0;  // 0: one a core
  bool nospace_auto_clear = true;

  [[nodiscard]] bool is_new_cluster() const { return initial_cluster_state == "new"; }
  [[nodiscard]] uint32_t election_ticks() const { return election_ms / heartbeat_ms; }
  [[nodiscard]] uint32_t election_timeout_ms() const { return election_ticks() * heartbeat_ms; }  // whole ticks
  [[nodiscard]] Nanoseconds request_timeout() const {  // 5 s for queue and disk, and two elections
    return std::chrono::seconds(5) + 2 * std::chrono::milliseconds(election_timeout_ms());
  }
  // In seconds. All members of a cluster must have the same, since it decides what is stored: ticks are halved as in
  // etcd, and the time is rounded up.
  [[nodiscard]] int64_t lease_ttl_min() const {
    return (3 * election_ticks() / 2 * int64_t{heartbeat_ms} + 999) / 1000;
  }
};

// A line for the log, which exists only after parsing.
struct Notice {
  log::Level level = log::Level::kInfo;
  std::string message;
  std::vector<log::Field> fields;
};

// What main() does next: log the notices, print both texts, then run with `config` or exit.
struct ParseOutcome {
  bool run = false;
  int exit_code = 0;
  std::string out;           // for stdout
  std::string err;           // for stderr
  std::string failure;       // why the start is refused; the last notice says it too
  bool default_log = false;  // the notices go to the default log: the one that is asked for is what is wrong
  Config config;
  std::vector<Notice> notices;
};

// Asks the system, which may wait for a name server. Whom nobody knows yet is asked for again each second, for half a
// minute over all: where many machines start at once, their names come later than they.
[[nodiscard]] cluster::Resolver patient_resolver();

// The address under which other machines reach this one.
using HostFinder = std::function<Result<std::string>()>;
[[nodiscard]] Result<std::string> find_default_host();

// A configuration file's text.
//   errors: Go's text: "open x: no such file or directory"
using FileReader = std::function<Result<std::string>(const std::string& path)>;
[[nodiscard]] Result<std::string> read_config_file(const std::string& path);

// `arguments` without the program's name; `environment` as "NAME=value" texts. Touches nothing outside; `find_host` is
// asked when a member listens on every interface and advertises the default, localhost; `read_file` for --config-file,
// in whose presence all other flags and variables count for nothing, as in etcd.
[[nodiscard]] ParseOutcome parse_config(const std::vector<std::string>& arguments,
                                        const std::vector<std::string>& environment, const HostFinder& find_host = {},
                                        const FileReader& read_file = read_config_file);
[[nodiscard]] ParseOutcome parse_config(int argc, const char* const* argv, const char* const* variables);

// What must hold before a member without data starts: --initial-cluster names us, with the URLs that we advertise.
// Not asked when there is data: --initial-cluster is then ignored. Resolves host names when the texts differ.
//   errors: kInvalidArgument, etcd's text
[[nodiscard]] Status verify_bootstrap(const Config& config);

// How much history to keep: revisions, or nanoseconds; 0: all. A number alone means hours, or revisions.
//   errors: kInvalidArgument, etcd's text
[[nodiscard]] Result<int64_t> parse_compaction_retention(std::string_view mode, std::string_view retention);

// The configuration as fields of the log line "starting an etcd server".
[[nodiscard]] std::vector<log::Field> describe(const Config& config);

}  // namespace cairn::cmd
