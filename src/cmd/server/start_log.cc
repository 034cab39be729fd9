#include "cmd/server/start_log.h"

#include <span>
#include <string_view>
#include <utility>

#include "base/bytes.h"
#include "base/go_duration.h"
#include "base/humane_bytes.h"
#include "base/log.h"
#include "cluster/versions.h"
#include "cmd/server/flag_values.h"

namespace cairn::cmd {
namespace {

std::vector<std::string> texts(const std::vector<cluster::Url>& urls) {
  std::vector<std::string> out;
  for (const cluster::Url& url : urls) out.push_back(url.text);
  return out;
}

void log_quota(const Config& config) {
  const std::string_view name = "v3-applier";
  if (config.quota_bytes < 0) {
    log::info("disabled backend quota", {{"quota-name", name}, {"quota-size-bytes", config.quota_bytes}});
    return;
  }
  const bool is_default = config.quota_bytes == Config{}.quota_bytes;
  log::info(is_default ? "enabled backend quota with default value" : "enabled backend quota",
            {{"quota-name", name},
             {"quota-size-bytes", config.quota_bytes},
             {"quota-size", humane_bytes(static_cast<uint64_t>(config.quota_bytes))}});
}

void log_found_members(const StartedMember& started) {
  const std::string cluster_id = hex_id(started.cluster_id);
  const std::string member_id = hex_id(started.member_id);
  for (const auto& [id, member] : started.members.members) {
    log::info("recovered/added member from store", {{"cluster-id", cluster_id},
                                                    {"local-member-id", member_id},
                                                    {"recovered-remote-peer-id", hex_id(id.value)},
                                                    {"recovered-remote-peer-urls", member.peer_urls},
                                                    {"recovered-remote-peer-is-learner", member.is_learner}});
  }
  if (started.members.version.empty()) return;
  const std::string version = cluster::short_version(started.members.version);
  log::info("set cluster version from store", {{"cluster-version", version}});
  log::info("enabled capabilities for version", {{"cluster-version", version}});
}

}  // namespace

void log_command_line(std::vector<std::string> arguments) { log::info("Running: ", {{"args", std::move(arguments)}}); }

void log_directory(const Config& config, env::FileSystem& fs, bool is_initialized) {
  if (const auto names = fs.list(config.data_dir)) {
    for (const std::string& name : *names) {
      if (name == "member") continue;
      log::warn("found invalid file under data directory", {{"filename", name}, {"data-dir", config.data_dir}});
    }
  }
  is_initialized
      ? log::info("server has already been initialized", {{"data-dir", config.data_dir}, {"dir-type", "member"}})
      : log::info("Initialize and start etcd server", {{"data-dir", config.data_dir}, {"dir-type", "empty"}});
}

void log_settings(const Config& config, bool is_initialized) {
  std::vector<log::Field> fields = describe(config);
  // Those that etcd calls by another name than their flag's.
  fields.emplace_back("member-initialized", is_initialized);
  fields.emplace_back("initial-corrupt-check", gate_is_on(config.feature_gates, "InitialCorruptCheck"));
  fields.emplace_back("corrupt-check-time-interval", go_duration(config.corrupt_check));
  fields.emplace_back("compact-check-time-interval", go_duration(config.compact_hash_check));
  // A number of revisions is shown as nanoseconds, as etcd does.
  const auto parsed = parse_compaction_retention(config.auto_compaction_mode, config.auto_compaction_retention);
  const std::string retention = go_duration(Nanoseconds(parsed.value_or(0)));
  for (log::Field& field : fields) {
    if (field.key == "auto-compaction-retention") field.value = retention;
    const bool founds = field.key == "initial-cluster" || field.key == "initial-cluster-token";
    if (founds && is_initialized) field.value = std::string();  // it counts for nothing
  }
  fields.emplace_back("auto-compaction-interval", retention);
  fields.emplace_back("downgrade-check-interval", go_duration(config.downgrade_check));
  fields.emplace_back("v2-deprecation", "write-only");
  log::write(log::Level::kInfo, "starting an etcd server", std::span<const log::Field>(fields));
}

void log_member(const Config& config, const StartedMember& started) {
  const std::string cluster_id = hex_id(started.cluster_id);
  const std::string member_id = hex_id(started.member_id);
  if (started.is_initialized) {
    log::info("restarting local member",
              {{"cluster-id", cluster_id}, {"local-member-id", member_id}, {"commit-index", started.commit_index}});
    log_found_members(started);
  } else {
    log::info("starting local member", {{"local-member-id", member_id}, {"cluster-id", cluster_id}});
  }
  log::info("bootstrap successfully");
  log::info("kvstore restored", {{"current-rev", started.revision}});
  log_quota(config);
  if (started.members.version.empty()) {
    log::info("starting etcd server", {{"local-member-id", member_id},
                                       {"local-server-version", cluster::kEtcdVersion},
                                       {"cluster-version", "to_be_decided"}});
  } else {
    log::info("starting etcd server", {{"local-member-id", member_id},
                                       {"local-server-version", cluster::kEtcdVersion},
                                       {"cluster-id", cluster_id},
                                       {"cluster-version", cluster::short_version(started.members.version)}});
  }
  if (started.members.members.size() != 1) {
    log::info(config.initial_election_tick_advance ? "starting initial election tick advance"
                                                   : "skipping initial election tick advance",
              {{"election-ticks", config.election_ticks()}});
  }
  log::info("now serving peer/client/metrics",
            {{"local-member-id", member_id},
             {"initial-advertise-peer-urls", texts(config.initial_advertise_peer_urls)},
             {"listen-peer-urls", texts(config.listen_peer_urls)},
             {"advertise-client-urls", texts(config.advertise_client_urls)},
             {"listen-client-urls", texts(config.listen_client_urls)},
             {"listen-metrics-urls", texts(config.listen_metrics_urls)}});
}

void log_closing(const Config& config, uint64_t member_id, uint64_t leader, bool hands_over) {
  log::info("closing etcd server", {{"name", config.name},
                                    {"data-dir", config.data_dir},
                                    {"advertise-peer-urls", texts(config.initial_advertise_peer_urls)},
                                    {"advertise-client-urls", texts(config.advertise_client_urls)}});
  if (hands_over) return;
  log::info(leader == member_id ? "skipped leadership transfer for single voting member cluster"
                                : "skipped leadership transfer; local server is not leader",
            {{"local-member-id", hex_id(member_id)}, {"current-leader-member-id", hex_id(leader)}});
}

void log_closed(const Config& config) {
  log::info("closed etcd server", {{"name", config.name},
                                   {"data-dir", config.data_dir},
                                   {"advertise-peer-urls", texts(config.initial_advertise_peer_urls)},
                                   {"advertise-client-urls", texts(config.advertise_client_urls)}});
}

}  // namespace cairn::cmd
