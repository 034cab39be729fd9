// cairn: the server. Reads the configuration, opens the member, serves, and leaves as it was told to.
#include <algorithm>
#include <atomic>
#include <cctype>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <thread>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <google/protobuf/stubs/logging.h>

#include "auth/jwt.h"
#include "auth/password.h"
#include "auth/tokens.h"
#include "base/bytes.h"
#include "base/check.h"
#include "base/errors.h"
#include "base/go_duration.h"
#include "base/log.h"
#include "cmd/server/config.h"
#include "cmd/server/ending.h"
#include "cmd/server/flag_values.h"
#include "cmd/server/listeners.h"
#include "cmd/server/logging.h"
#include "cmd/server/notify.h"
#include "cmd/server/peer_probe.h"
#include "cmd/server/peering.h"
#include "cmd/server/start_log.h"
#include "env/clock.h"
#include "env/entropy.h"
#include "env/failpoints.h"
#include "env/fs.h"
#include "env/lost_page.h"
#include "env/memory_fs.h"
#include "gateway/answers.h"
#include "gateway/failpoint_server.h"
#include "gateway/gateway.h"
#include "gateway/server_metrics.h"
#include "gateway/unbuilt_metrics.h"
#include "member/driver.h"
#include "member/metrics.h"
#include "member/recovery/recovery.h"
#include "metrics/identity.h"
#include "net/listener.h"
#include "net/peer_certificate.h"
#include "net/server.h"
#include "rpc/corruption_checks.h"
#include "rpc/methods.h"
#include "rpc/services.h"
#include "tracing/exporter.h"
#include "tracing/tracer.h"

extern char** environ;

// jemalloc gives unused memory back while it is called. After a burst, when nobody calls, a thread of its own does.
extern "C" {
const char* malloc_conf = "background_thread:true,max_background_threads:1";
}

namespace cairn {
namespace {

// What a message may have beside the request in it, as in etcd.
constexpr uint32_t kRequestOverheadBytes = 512 << 10;
static_assert(cmd::kIoThreadsMax <= gateway::Health::kAnswersTo);
// Of the WAL with --in-memory: what a segment holds is memory until the whole segment is released.
constexpr uint64_t kMemorySegmentBytes = 4'000'000;
constexpr uint64_t kMemorySnapshotEntries = 64;
constexpr int64_t kMemorySnapshotNs = 100'000'000;
constexpr int64_t kReadyTimeoutNs = 60'000'000'000;
constexpr int64_t kReadyLookNs = 100'000'000;
constexpr std::chrono::seconds kRemovalDelay{1};  // etcd's: others are to hear of the last entry
constexpr int64_t kGraceNs = 7'000'000'000;
constexpr int64_t kTracingGraceNs = 3'000'000'000;
constexpr int64_t kWatchProgressMinNs = 100'000'000;
constexpr int64_t kPeerDialNs = 1'000'000'000;  // beside the election timeout
constexpr cmd::Nanoseconds kPeerTimeoutMin = std::chrono::seconds(5);
constexpr int64_t kLockLookNs = 100'000'000;
constexpr int64_t kStartLookNs = 20'000'000;
constexpr int64_t kLockReportNs = 10'000'000'000;

[[noreturn]] void fail_stop(const Error& error) {
  log::fatal("the member cannot go on", {{"error", error.message}});
  cmd::flush_log();
  // Not exit(): other threads are still at work on what destructors would take away.
  std::_Exit(2);
}

// Without destructors: the registry's readers outlive what they look at. All files are closed by now.
[[noreturn]] void leave(int code) {
  cmd::flush_log();
  std::fflush(nullptr);
  std::_Exit(code);
}

// The words are etcd's, for whatever keeps a start from succeeding.
int refuse(const Error& error) {
  log::fatal("discovery failed", {{"error", error.message}});
  cmd::flush_log();
  return 1;
}

std::vector<std::string> texts(const std::vector<cluster::Url>& urls) {
  std::vector<std::string> out;
  for (const cluster::Url& url : urls) out.push_back(url.text);
  return out;
}

// How often to commit and to make snapshots. What was not given keeps the stages' own defaults.
void set_intervals(const cmd::Config& config, member::ApplyOptions& apply) {
  const cmd::Config defaults;
  if (config.batch_interval != defaults.batch_interval) apply.commit_interval_ns = config.batch_interval.count();
  if (config.batch_limit != defaults.batch_limit) apply.buffer_entries_max = std::max<uint64_t>(1, config.batch_limit);
  if (config.compaction_batch_limit != defaults.compaction_batch_limit) {
    apply.compaction_batch_limit = config.compaction_batch_limit;
  }
  if (config.compaction_sleep != defaults.compaction_sleep) apply.compaction_sleep_ns = config.compaction_sleep.count();
  if (config.snapshot_count != defaults.snapshot_count) {
    apply.snapshot_entries = std::max<uint64_t>(1, config.snapshot_count);
    apply.snapshot_interval_ns = 0;
  }
  if (config.in_memory) {  // the log's entries are memory, too: no more of them than commits leave
    apply.snapshot_entries = std::min(apply.snapshot_entries, kMemorySnapshotEntries);
    apply.snapshot_interval_ns = std::min(apply.snapshot_interval_ns, kMemorySnapshotNs);
  }
}

// What a member without data needs, before anything is written for it.
Status check_founding(const cmd::Config& config, env::FileSystem& fs, const member::BootstrapOptions& options) {
  if (member::holds_member(fs, options)) return {};
  return cmd::verify_bootstrap(config);
}

// The words are bbolt's.
Status lock_in_memory(const char* from, uint64_t bytes) {
  if (::mlock(from, bytes) == 0) return {};
  std::string reason = std::strerror(errno);
  reason[0] = static_cast<char>(std::tolower(static_cast<unsigned char>(reason[0])));  // as Go has it
  return fail(Code::kFailedPrecondition, "mlock error: {}", reason);
}

member::NodeOptions node_options(const cmd::Config& config) {
  member::NodeOptions options;
  options.bootstrap.name = config.name;
  options.bootstrap.data_dir = config.data_dir;
  options.bootstrap.wal_dir = config.wal_dir;
  options.bootstrap.initial_cluster = config.initial_cluster;
  options.bootstrap.initial_cluster_token = config.initial_cluster_token;
  options.bootstrap.joins = !config.is_new_cluster();
  options.bootstrap.resolve = cmd::patient_resolver();
  options.bootstrap.request_timeout_ns = options.request_timeout_ns = config.request_timeout().count();
  options.bootstrap.opening = env::random_number() | 1;  // 0: none
  options.bootstrap.wal.sync = !config.unsafe_no_fsync;
  options.bootstrap.sync = !config.unsafe_no_fsync;
  if (config.in_memory) options.bootstrap.wal.segment_bytes = kMemorySegmentBytes;
  options.bootstrap.force_new_cluster = config.force_new_cluster;
  options.bootstrap.lease_ttl_min = config.lease_ttl_min();
  if (config.max_wals_is_given)
    options.bootstrap.wal.segments_kept = config.max_wals == 0 ? UINT64_MAX : config.max_wals;
  options.snapshots_kept = config.max_snapshots == 0 ? SIZE_MAX : config.max_snapshots;
  if (config.memory_mlock) options.bootstrap.keep_in_memory = lock_in_memory;
  options.apply.quota_bytes = config.quota_bytes > 0 ? static_cast<uint64_t>(config.quota_bytes) : 0;
  options.bootstrap.quota_bytes = options.apply.quota_bytes;
  options.apply.bootstrap_defrag_bytes = uint64_t{config.bootstrap_defrag_megabytes} << 20;
  options.apply.learner_count_max = config.learner_count_max;
  options.bootstrap.learner_count_max = config.learner_count_max;
  options.client_urls = texts(config.advertise_client_urls);
  options.peer_urls = texts(config.initial_advertise_peer_urls);
  options.heartbeat_ms = config.heartbeat_ms;
  options.election_ms = config.election_timeout_ms();
  options.pre_vote = config.pre_vote;
  options.shortens_first_timeout = config.initial_election_tick_advance;
  options.lease_checkpoints = cmd::gate_is_on(config.feature_gates, "LeaseCheckpoint");
  options.apply.lease_checkpoint_persist = cmd::gate_is_on(config.feature_gates, "LeaseCheckpointPersist");
  if (config.snapshot_catchup_is_given) options.snapshot_catchup_entries = config.snapshot_catchup_entries;
  set_intervals(config, options.apply);
  options.versions.downgrade_check_ns = std::max<int64_t>(0, config.downgrade_check.count());
  options.slow_apply_ns = config.warning_apply.count();
  options.fail_stop = fail_stop;
  return options;
}

Result<std::shared_ptr<auth::Tokens>> make_tokens(const cmd::Config& config, const env::Clock& clock) {
  constexpr int64_t kSecondNs = 1'000'000'000;
  constexpr uint64_t kTtlMaxS = INT64_MAX / kSecondNs / 2;
  constexpr uint64_t kTtlDefaultS = 300;
  CAIRN_TRY(const auth::TokenOptions options, auth::parse_token_options(config.auth_token));
  if (options.kind == auth::TokenOptions::Kind::kNone) return std::make_shared<auth::NoTokens>();
  if (options.kind == auth::TokenOptions::Kind::kSimple) {
    log::warn("simple token is not cryptographically signed");
    const uint64_t ttl_s = config.auth_token_ttl_s == 0 ? kTtlDefaultS : std::min(config.auth_token_ttl_s, kTtlMaxS);
    return std::make_shared<auth::SimpleTokens>(clock, static_cast<int64_t>(ttl_s) * kSecondNs);
  }
  for (const std::string& name : options.unknown) log::warn("unknown JWT options", {{"keys", name}});
  auth::JwtOptions jwt{.sign_method = options.sign_method, .ttl_ns = options.ttl_ns};
  const auto read = [](const std::string& file, std::string& out) -> Status {
    if (file.empty()) return {};
    CAIRN_TRY(out, env::read_file(env::posix_fs(), file));
    return {};
  };
  CAIRN_CHECK(read(options.public_key_file, jwt.public_key));
  CAIRN_CHECK(read(options.private_key_file, jwt.private_key));
  return auth::make_jwt_tokens(jwt, clock);
}

int bcrypt_cost(const cmd::Config& config) {
  const int64_t wanted = config.bcrypt_cost;
  if (wanted >= auth::kBcryptCostMin && wanted <= auth::kBcryptCostMax) return static_cast<int>(wanted);
  log::warn("use default bcrypt cost instead of the invalid given cost", {{"min-cost", auth::kBcryptCostMin},
                                                                          {"max-cost", auth::kBcryptCostMax},
                                                                          {"default-cost", auth::kBcryptCostDefault},
                                                                          {"given-cost", wanted}});
  return auth::kBcryptCostDefault;
}

net::ServerOptions server_options(const cmd::Config& config, std::vector<net::Listen> listeners) {
  net::ServerOptions options;
  options.listen = std::move(listeners);
  const unsigned wanted = config.io_threads != 0 ? config.io_threads : std::thread::hardware_concurrency();
  options.io_threads = std::clamp(wanted, 1u, cmd::kIoThreadsMax);
  options.max_concurrent_streams = config.max_concurrent_streams;
  options.max_request_message_bytes =
      config.max_request_bytes + std::min(kRequestOverheadBytes, UINT32_MAX - config.max_request_bytes);
  options.keepalive = {config.keepalive_min_time.count(), config.keepalive_interval.count(),
                       config.keepalive_timeout.count()};
  return options;
}

rpc::CorruptionChecks::Options corruption_checks(const cmd::Config& config) {
  const bool compares = cmd::gate_is_on(config.feature_gates, "CompactHashCheck");
  return {.periodic_ns = config.corrupt_check.count(),
          .compact_hash_ns = compares ? config.compact_hash_check.count() : 0};
}

metrics::Identity identity(const cmd::Config& config, const member::Node& node) {
  metrics::Identity out{std::string(cluster::kEtcdVersion), hex_id(node.member_id()),
                        std::string(cluster::kCairnVersion)};
  for (const cmd::GateSpec& gate : cmd::all_gates()) {
    out.features.push_back(
        {std::string(gate.name), std::string(gate.stage), cmd::gate_is_on(config.feature_gates, gate.name)});
  }
  return out;
}

// Binds the addresses before anything of the directory is touched, as etcd does. So a taken address ends the start at
// once, and a client that comes early waits.
Status listen(std::vector<net::Listen>& listeners) {
  for (net::Listen& each : listeners) {
    CAIRN_TRY(const net::BoundSocket socket, net::listen_at(each));
    each.fd = socket.fd;
    each.address = socket.address;
  }
  return {};
}

// etcd's warning: others on the machine could read the data.
void check_permissions(const std::string& directory) {
  struct stat found{};
  if (::stat(directory.c_str(), &found) != 0 || (found.st_mode & 07777) == 0700) return;
  std::string mode = "drwxrwxrwx";
  for (unsigned bit = 0; bit < 9; ++bit) {
    if ((found.st_mode >> bit & 1) == 0) mode[9 - bit] = '-';
  }
  log::warn(
      "check file permission",
      {{"error", fmt::format("directory \"{}\" exist, but the permission is \"{}\". The recommended permission is "
                             "\"-rwx------\" to prevent possible unprivileged access to the data",
                             directory, mode)}});
}

void log_notices(const cmd::ParseOutcome& parsed) {
  for (const cmd::Notice& notice : parsed.notices) {
    if (log::enabled(notice.level)) {
      log::write(notice.level, notice.message, std::span<const log::Field>(notice.fields));
    }
  }
}

// As many open files as the system allows: each client is one. How many that is.
uint64_t raise_file_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return UINT64_MAX;
  const rlim_t before = std::exchange(limit.rlim_cur, limit.rlim_max);
  return setrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_max : before;
}

// How many of these others may have at the peer addresses. The least fits into what clients leave (connections_within).
size_t peer_connections_within(uint64_t file_limit) {
  return static_cast<size_t>(std::clamp<uint64_t>(file_limit / 16, 80, 4096));
}

// Dies of the signal that ended the member, as etcd does. Not as the first process of a container, which cannot.
void die_of(int number) {
  if (getpid() == 1) leave(0);
  std::signal(number, SIG_DFL);
  sigset_t one;
  sigemptyset(&one);
  sigaddset(&one, number);
  std::raise(number);
  pthread_sigmask(SIG_UNBLOCK, &one, nullptr);
}

std::string signal_name(int number) { return number == SIGINT ? "interrupt" : "terminated"; }

// Opens the member; waits, as etcd does, while another process holds its db.
Result<std::unique_ptr<member::Node>> open_node(const member::NodeOptions& options, env::FileSystem& fs,
                                                const env::Clock& clock, member::Metrics& metrics,
                                                const sigset_t& signals) {
  const int64_t began_ns = clock.monotonic_ns();
  bool is_told = false;
  bool is_reported = false;
  while (true) {
    auto opened = member::Node::open(options, fs, clock, metrics);
    if (opened || opened.error().code != Code::kUnavailable) return opened;
    if (!std::exchange(is_told, true)) {
      log::info("waiting for another process to leave the directory", {{"error", opened.error().message}});
    }
    const int64_t waited_ns = clock.monotonic_ns() - began_ns;
    if (waited_ns >= kLockReportNs && !std::exchange(is_reported, true)) {
      log::info("db file is flocked by another process, or taking too long",
                {{"path", options.bootstrap.data_dir + "/member/snap/db"},
                 {"took", go_duration(std::chrono::nanoseconds(waited_ns))}});
    }
    const timespec pause{.tv_sec = 0, .tv_nsec = kLockLookNs};
    if (const int number = sigtimedwait(&signals, nullptr, &pause); number > 0) {
      log::info("received signal; shutting down", {{"signal", signal_name(number)}});
      cmd::flush_log();
      die_of(number);
    }
  }
}

// As etcd, which starts, hears of it, and ends as if it had been told to.
int end_removed(const cmd::Config& config) {
  log::warn("server error", {{"error", member::kRemovedText}});
  log::warn("data-dir used by this member must be removed", {{"data-dir", config.data_dir}});
  cmd::flush_log();
  return 0;
}

void log_member(const cmd::Config& config, member::Node& node, bool is_initialized) {
  const auto reader = node.published().register_thread();
  const auto state = reader->enter();
  cmd::log_member(config, {.member_id = node.member_id(),
                           .cluster_id = node.cluster_id(),
                           .commit_index = node.committed().value,
                           .revision = state->kv.revision,
                           .members = *state->members,
                           .is_initialized = is_initialized});
}

void log_closing(const cmd::Config& config, member::Node& node) {
  const auto reader = node.published().register_thread();
  const auto state = reader->enter();
  const uint64_t leader = state->leader.leader.value;
  const bool hands_over = leader == node.member_id() && state->members->voter_count() > 1;
  cmd::log_closing(config, node.member_id(), leader, hands_over);
}

// What etcd says each time when a member of several has waited in vain for a majority.
void tell_waiting(const cmd::Config& config, const member::Node& node) {
  log::warn("failed to publish local member to cluster through raft",
            {{"local-member-id", hex_id(node.member_id())},
             {"local-member-attributes", fmt::format("{{Name:{} ClientURLs:[{}]}}", config.name,
                                                     fmt::join(texts(config.advertise_client_urls), " "))},
             {"publish-timeout", go_duration(config.request_timeout())},
             {"error", errors::timeout().message}});
}

// Waits until the member serves. It first applies what its log holds beyond the db, which takes as long as the log is.
// One of several waits for a majority, for ever, as in etcd. False: it was removed from the cluster meanwhile.
bool wait_ready(const cmd::Config& config, member::Node& node, const cmd::Ending& ending) {
  const auto reader = node.published().register_thread();
  const env::PosixClock clock;
  Index applied = reader->enter()->applied;
  int64_t moved_ns = clock.monotonic_ns();
  int64_t told_ns = moved_ns;
  while (!node.wait_ready(kReadyLookNs)) {
    if (ending.is_removed()) return false;
    const int64_t now_ns = clock.monotonic_ns();
    const auto state = reader->enter();
    if (std::exchange(applied, state->applied) != state->applied) moved_ns = now_ns;
    // Who joined a lone member and was started again may know of that one alone so far.
    const bool is_alone = state->members->members.size() == 1 && node.remotes().empty() &&
                          state->members->find(NodeId(node.member_id())) != nullptr;
    if (!is_alone && now_ns - told_ns >= config.request_timeout().count()) {
      told_ns = now_ns;
      tell_waiting(config, node);
    }
    if (is_alone && now_ns - moved_ns >= kReadyTimeoutNs) {
      fail_stop({Code::kUnavailable, "within a minute nothing of the log could be applied"});
    }
  }
  return true;
}

// A signal during the start, which may last, ends the process as it is. The next start repairs what this one leaves
// half done, as after a crash.
class SignalsAtStart {
 public:
  explicit SignalsAtStart(const sigset_t& signals) : thread_([this, signals] { watch(signals); }) {}
  ~SignalsAtStart() {
    is_over_ = true;
    thread_.join();
  }
  SignalsAtStart(const SignalsAtStart&) = delete;
  SignalsAtStart& operator=(const SignalsAtStart&) = delete;

 private:
  void watch(const sigset_t& signals) const {
    const timespec pause{.tv_sec = 0, .tv_nsec = kStartLookNs};
    while (!is_over_) {
      if (const int number = sigtimedwait(&signals, nullptr, &pause); number > 0) {
        log::info("received signal before the start was finished; ending", {{"signal", signal_name(number)}});
        cmd::flush_log();
        die_of(number);
      }
    }
  }

  std::atomic<bool> is_over_{false};
  std::thread thread_;  // the last: it uses the rest
};

void tell_init(std::string_view state) {
  const bool is_ready = state == "READY=1";
  if (is_ready) log::info("notifying init daemon");
  if (const Status told = cmd::notify_init(std::getenv("NOTIFY_SOCKET"), state); !told) {
    log::error("failed to notify systemd for readiness", {{"error", told.error().message}});
  } else if (is_ready) {
    log::info("successfully notified init daemon");
  }
}

std::shared_ptr<const cluster::Membership> members_of(member::Node& node) {
  const auto reader = node.published().register_thread();
  return reader->enter()->members;
}

// What other members ask of the services.
void answer_peer(rpc::Services& services, net::HttpRequest request, const net::HttpRespond& respond) {
  if (!services.answer_peer(std::move(request), respond)) respond(gateway::not_found());
}

rpc::Peers peers_of(peer::Transport& transport, const env::Clock& clock) {
  return {.active_since_ns = [&transport](NodeId member) { return transport.active_since_ns(member); },
          .call =
              [&transport, &clock](NodeId to, net::HttpRequest request, int64_t deadline_ns,
                                   std::function<void(Result<net::HttpResponse>)> then) {
                transport.call(to, std::move(request), deadline_ns - clock.monotonic_ns(), std::move(then));
              }};
}

// Those that etcd registers before its metrics are initialised: all but the embedded client's.
std::vector<gateway::CountedMethod> counted_methods() {
  std::vector<gateway::CountedMethod> counted;
  for (const rpc::Method& method : rpc::methods()) {
    if (method.service.starts_with("v3")) continue;
    counted.push_back({method.service, method.name, rpc::name_of(method.kind)});
  }
  return counted;
}

// What sends spans to a collector.
struct Tracing {
  Tracing(const cmd::Config& config, const env::Clock& clock, metrics::Registry& registry)
      : metrics(registry),
        exporter(exporter_options(config), metrics),
        tracer({.samples_per_million = static_cast<uint32_t>(config.tracing_samples_per_million),
                .seed = env::random_number()},
               clock, exporter) {
    exporter.start();
    log::debug("distributed tracing enabled", {{"address", config.tracing_address},
                                               {"service-name", config.tracing_service_name},
                                               {"service-instance-id", config.tracing_instance_id},
                                               {"sampling-rate", config.tracing_samples_per_million}});
    log::info("distributed tracing setup enabled");
  }

  static tracing::ExporterOptions exporter_options(const cmd::Config& config) {
    const auto find = [](const char* name) -> const char* { return std::getenv(name); };
    tracing::ExporterOptions options{.address = config.tracing_address};
    tracing::Resource named = {{"service.name", config.tracing_service_name}};
    if (!config.tracing_instance_id.empty()) named.emplace_back("service.instance.id", config.tracing_instance_id);
    options.resource = tracing::merge_resource(find("OTEL_RESOURCE_ATTRIBUTES"), find("OTEL_SERVICE_NAME"), named);
    tracing::read_environment(options, find);
    return options;
  }

  tracing::ExporterMetrics metrics;
  tracing::Exporter exporter;
  tracing::Tracer tracer;
};

// What GOFAIL_FAILPOINTS and GOFAIL_HTTP ask for, read before the flags, as gofail does.
struct FaultPoints {
  std::unique_ptr<env::Failpoints> points;           // null: neither is set
  std::unique_ptr<gateway::FailpointServer> server;  // listens; null: GOFAIL_HTTP is not set
};

Result<FaultPoints> fault_points(const char* terms, const char* address) {
  const std::string_view settings = terms != nullptr ? terms : "";
  const std::string_view http = address != nullptr ? address : "";
  FaultPoints out;
  if (settings.empty() && http.empty()) return out;
  out.points = std::make_unique<env::Failpoints>(env::process_actions());
  if (const Status set = out.points->set_from_environment(settings); !set) {
    return fail(set.error().code, "fail to parse failpoint: {}", set.error().message);
  }
  if (http.empty()) return out;
  CAIRN_TRY(out.server, gateway::FailpointServer::listen(http, *out.points));
  return out;
}

int run(const cmd::Config& config, const cmd::ParseOutcome& parsed, const FaultPoints& faults,
        std::vector<std::string> arguments) {
  cmd::LogOptions log_options{config.log_level, config.log_format, config.log_outputs};
  if (config.log_rotation) {
    if (const auto rotation = cmd::parse_rotation(config.log_rotation_json)) log_options.rotation = *rotation;
  }
  if (parsed.default_log) log_options = {};
  if (const auto logging = cmd::start_logging(log_options); !logging) {
    if (!parsed.err.empty()) return parsed.exit_code;  // that has said why
    CAIRN_ASSERT(cmd::start_logging({}));              // the log is what is wrong: the default one says so
    if (parsed.run) {
      log::warn("failed to verify flags", {{"error", logging.error().message}});
      return 1;
    }
  }
  cmd::log_command_line(std::move(arguments));
  log_notices(parsed);
  if (!parsed.run) return parsed.exit_code;  // the last notice has said why
  env::MemoryFs memory;
  env::FileSystem& fs = config.in_memory ? static_cast<env::FileSystem&>(memory) : env::posix_fs();
  const bool is_initialized = fs.exists(config.data_dir + "/member");
  cmd::log_directory(config, fs, is_initialized);
  cmd::log_settings(config, is_initialized);

  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);  // before any thread starts: they inherit it
  std::signal(SIGPIPE, SIG_IGN);
  // As Go's runtime: sent by mistake, these end nothing. SIGHUP and SIGQUIT do.
  for (const int number : {SIGUSR1, SIGUSR2, SIGALRM, SIGVTALRM, SIGIO, SIGPWR, SIGXCPU}) std::signal(number, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);  // a write above the limit on a file's size fails instead, and ends with its reason
  cmd::log_in_background();
  if (faults.server != nullptr) {
    if (const Status started = faults.server->start(); !started) return refuse(started.error());
  }
  env::name_lost_pages();
  google::protobuf::SetLogHandler(nullptr);  // a string that is no UTF-8 is told to the client who sent it
  const uint64_t file_limit = raise_file_limit();
  if (net::connections_within(file_limit) == 0) {
    log::fatal("file descriptor limit of etcd process is too low; please set higher",
               {{"limit", file_limit}, {"recommended-limit", net::kReservedDescriptors}});
    cmd::flush_log();
    return 1;
  }

  const env::PosixClock clock;
  metrics::Registry registry;
  member::Metrics metrics(registry);
  wal::Metrics wal_metrics{registry};
  storage::Metrics storage_metrics{registry};
  rpc::Metrics rpc_metrics(registry);
  log::info("configuring peer listeners", {{"listen-peer-urls", texts(config.listen_peer_urls)}});
  const auto peer_tls = cmd::settings_of_peers(config);
  if (!peer_tls) return refuse(peer_tls.error());
  auto peer_listeners = cmd::peer_listeners(config, *peer_tls);
  if (!peer_listeners) return refuse(peer_listeners.error());
  if (const Status status = listen(*peer_listeners); !status) {
    log::error("creating peer listener failed", {{"error", status.error().message}});
    return refuse(status.error());
  }
  log::info("configuring client listeners", {{"listen-client-urls", texts(config.listen_client_urls)}});
  auto listeners = cmd::client_listeners(config);
  if (!listeners) return refuse(listeners.error());
  net::ServerOptions serving = server_options(config, *std::move(listeners));
  serving.connections_max = net::connections_within(file_limit);
  if (const Status status = listen(serving.listen); !status) return refuse(status.error());
  auto dialling_tls = cmd::peer_client_context(*peer_tls);
  if (!dialling_tls) return refuse(dialling_tls.error());
  auto probing_tls = cmd::peer_client_context(*peer_tls);
  if (!probing_tls) return refuse(probing_tls.error());
  const int64_t peer_dial_ns = kPeerDialNs + int64_t{config.election_timeout_ms()} * 1'000'000;
  const std::string local_ip = cmd::peer_local_ip(config);
  cmd::HttpPeerProbe probe(peer_dial_ns, probing_tls->get(), local_ip);
  const cmd::Ending ending(signals);
  cmd::Peering peering({.fs = fs,
                        .registry = registry,
                        .listen = *std::move(peer_listeners),
                        .tls = *std::move(dialling_tls),
                        .urls = texts(config.initial_advertise_peer_urls),
                        .dial_timeout_ns = peer_dial_ns,
                        .local_ip = local_ip,
                        .read_timeout_ns = std::max(config.raft_read_timeout, kPeerTimeoutMin).count(),
                        .write_timeout_ns = std::max(config.raft_write_timeout, kPeerTimeoutMin).count(),
                        .connections_max = peer_connections_within(file_limit)});
  member::NodeOptions options = node_options(config);
  options.bootstrap.probe = &probe;
  options.peers = &peering;
  options.on_removed = [&ending] { ending.removed(); };
  options.bootstrap.wal.metrics = &wal_metrics;
  options.bootstrap.storage_metrics = &storage_metrics;
  const auto retention = cmd::parse_compaction_retention(config.auto_compaction_mode, config.auto_compaction_retention);
  if (!retention) return refuse(retention.error());
  options.no_space.clears = config.nospace_auto_clear;
  options.auto_compaction = {config.auto_compaction_mode == "revision" ? member::AutoCompaction::Mode::kRevision
                                                                       : member::AutoCompaction::Mode::kPeriodic,
                             *retention};
  auto tokens = make_tokens(config, clock);
  if (!tokens) {
    log::error("failed to create token provider", {{"error", tokens.error().message}});
    return refuse(tokens.error());
  }
  options.apply.tokens = *std::move(tokens);
  const auto tracing = config.tracing ? std::make_unique<Tracing>(config, clock, registry) : nullptr;
  auto signals_at_start = std::make_unique<SignalsAtStart>(signals);
  if (const Status status = check_founding(config, fs, options.bootstrap); !status) {
    log::error("bootstrap failed", {{"error", status.error().message}});
    return refuse(status.error());
  }
  if (config.enable_pprof) log::info("pprof is enabled", {{"path", "/debug/pprof"}});
  if (!config.in_memory) check_permissions(config.data_dir);
  auto opened = open_node(options, fs, clock, metrics, signals);
  if (!opened && opened.error().message == member::kRemovedText) return end_removed(config);
  if (!opened) {
    log::error("bootstrap failed", {{"error", opened.error().message}});
    return refuse(opened.error());
  }
  const std::unique_ptr<member::Node> node = *std::move(opened);
  log_member(config, *node, is_initialized);
  metrics.quota_backend_bytes.set(config.quota_bytes);

  rpc::Limits limits;
  limits.request_bytes_max = config.max_request_bytes;
  limits.txn_ops_max = config.max_txn_ops;
  limits.bcrypt_cost = bcrypt_cost(config);
  limits.quota_bytes = config.quota_bytes > 0 ? static_cast<uint64_t>(config.quota_bytes) : 0;
  limits.quota_configured = config.quota_bytes;
  limits.stops_serving_on_defragment = cmd::gate_is_on(config.feature_gates, "StopGRPCServiceOnDefrag");
  limits.request_timeout_ns = config.request_timeout().count();
  limits.warning_unary_ns = config.warning_unary_request.count();
  limits.warning_apply_ns = config.warning_apply.count();
  limits.strict_reconfig_check = config.strict_reconfig_check;
  limits.times_calls = config.metrics == "extensive";
  if (const int64_t interval_ns = config.watch_progress_interval.count(); interval_ns > 0) {
    if (interval_ns < kWatchProgressMinNs) {
      log::warn("adjusting watch progress notify interval to minimum period",
                {{"min-watch-progress-notify-interval", go_duration(std::chrono::nanoseconds(kWatchProgressMinNs))}});
    }
    limits.watch_progress_interval_ns = std::max(interval_ns, kWatchProgressMinNs);
  }
  {
    auto services = std::make_unique<rpc::Services>(*node, clock, limits, rpc_metrics);
    gateway::Gateway gateway(*node, registry,
                             {.request_timeout_ns = limits.request_timeout_ns,
                              .hosts = config.host_whitelist,
                              .origins = config.cors,
                              .profiles = config.enable_pprof,
                              .router = config.enable_grpc_gateway ? services.get() : nullptr,
                              .message_bytes_max = serving.max_request_message_bytes,
                              .certificates_name_users = config.client_tls.client_cert_auth});
    const std::span listens = serving.listen;
    for (net::Listen& probed : listens.last(config.listen_metrics_urls.size())) {
      probed.http_handler = &gateway.probes();
      probed.is_early = true;  // who asks whether this process lives is answered also while nobody leads
    }
    net::Server server(serving, services.get(), &gateway);
    if (config.client_tls.client_cert_auth) {
      services->set_common_name([](const net::Call& call) {
        const auto* const shown = call.peer_certificate();
        return shown != nullptr ? std::optional(shown->common_name) : std::nullopt;
      });
    }
    if (tracing != nullptr) services->set_tracer(tracing->tracer);
    services->attach(server.loops());
    const Status joined =
        peering.start({.self = NodeId(node->member_id()),
                       .cluster_id = node->cluster_id(),
                       .members = members_of(*node),
                       .remotes = node->remotes(),
                       .snap_directory = node->snap_directory(),
                       .receive = [&node = *node](auto messages) { node.receive(std::move(messages)); },
                       .report = [&node = *node](const auto& report) { node.report(report); },
                       .answer =
                           [&services = *services](net::HttpRequest request, const net::HttpRespond& respond) {
                             answer_peer(services, std::move(request), respond);
                           }});
    if (!joined) return refuse(joined.error());
    const rpc::Peers peers = peers_of(peering.transport(), clock);
    services->set_peers(peers);
    gateway.attach(server.loops());
    metrics::add_identity(registry, identity(config, *node));
    gateway::add_unbuilt_metrics(registry);
    metrics::add_process(registry);
    gateway::add_server_metrics(registry, server, *node, counted_methods());

    const auto deliver = [&services = *services, &gateway](unsigned loop, member::AnswerBatch batch) {
      if (loop == gateway::Health::kAnswersTo) return gateway.deliver(batch);
      services.deliver(loop, std::move(batch));
    };
    server.run();  // other members ask for leases, hashes and promotions while this one starts
    node->start(deliver, [&services = *services] { services.tell(); });
    const auto give_up = [&](int code) {
      server.stop(0);
      node->stop();
      peering.stop();
      leave(code);
    };
    if (const Status opened_early = server.open_early(); !opened_early) give_up(refuse(opened_early.error()));
    if (!wait_ready(config, *node, ending)) {
      std::this_thread::sleep_for(kRemovalDelay);
      give_up(end_removed(config));
    }
    if (cmd::gate_is_on(config.feature_gates, "InitialCorruptCheck")) {
      if (const Status checked = rpc::check_at_start(*node, limits.request_timeout_ns, &peers); !checked) {
        log::error("checkInitialHashKV failed", {{"error", checked.error().message}});
        give_up(refuse(checked.error()));
      }
    }
    services->check_corruption(corruption_checks(config));
    signals_at_start.reset();
    const auto bound = server.start();
    if (!bound) give_up(refuse(bound.error()));
    cmd::log_serving(config, serving.listen);
    log::info("ready to serve client requests");
    log::info("grpc service status changed", {{"service", ""}, {"status", "SERVING"}});
    tell_init("READY=1");
    cmd::flush_log();

    const cmd::Ending::Reason reason = ending.wait();
    if (reason.kind == cmd::Ending::Kind::kRemoved) {
      std::this_thread::sleep_for(kRemovalDelay);
      const int code = end_removed(config);
      services->end_streams();
      server.stop(0);
      node->stop();
      peering.stop();
      services.reset();
      leave(code);
    }
    log::info("received signal; shutting down", {{"signal", signal_name(reason.signal)}});
    tell_init("STOPPING=1");
    log_closing(config, *node);
    services->end_streams();
    server.stop(kGraceNs);
    node->stop();
    peering.stop();
    if (tracing != nullptr) tracing->exporter.stop(kTracingGraceNs);
    cmd::log_closed(config);
    cmd::flush_log();
    services.reset();  // its workers may still look at the loops
    die_of(reason.signal);
  }
  return 0;
}

}  // namespace
}  // namespace cairn

int main(int argc, char** argv) {
  const auto faults = cairn::fault_points(std::getenv("GOFAIL_FAILPOINTS"), std::getenv("GOFAIL_HTTP"));
  if (!faults) {
    std::puts(faults.error().message.c_str());
    return 1;
  }
  const auto parsed = cairn::cmd::parse_config(argc, argv, environ);
  if (!parsed.out.empty()) std::fputs(parsed.out.c_str(), stdout);
  if (!parsed.err.empty()) std::fputs(parsed.err.c_str(), stderr);
  if (!parsed.run && parsed.notices.empty()) return parsed.exit_code;
  return cairn::run(parsed.config, parsed, *faults, {argv, argv + argc});
}
