#include "gateway/server_metrics.h"

#include <array>
#include <map>
#include <memory>
#include <string>

#include "base/mutex.h"
#include "member/quota.h"

namespace cairn::gateway {
namespace {

using metrics::Kind;
using metrics::Sample;

constexpr std::string_view kCodes[net::kCodeCount] = {
    "OK",       "Canceled",       "Unknown",          "InvalidArgument",   "DeadlineExceeded",
    "NotFound", "AlreadyExists",  "PermissionDenied", "ResourceExhausted", "FailedPrecondition",
    "Aborted",  "OutOfRange",     "Unimplemented",    "Internal",          "Unavailable",
    "DataLoss", "Unauthenticated"};

using Methods = std::shared_ptr<const std::vector<CountedMethod>>;

metrics::Labels labels_of(const CountedMethod& method) {
  return {{"grpc_method", std::string(method.name)},
          {"grpc_service", std::string(method.service)},
          {"grpc_type", std::string(method.type)}};
}

// One sample a method of a number that `value` reads from what the server has counted.
std::vector<Sample> per_method(const net::Server& server, const Methods& methods, uint64_t net::MethodStats::* value) {
  std::map<std::string, uint64_t, std::less<>> counted;
  for (const net::MethodStats& stats : server.stats().methods) counted[stats.path] = stats.*value;
  std::vector<Sample> samples;
  for (const CountedMethod& method : *methods) {
    const auto found = counted.find(fmt::format("/{}/{}", method.service, method.name));
    samples.push_back({labels_of(method), found == counted.end() ? 0.0 : static_cast<double>(found->second)});
  }
  return samples;
}

std::vector<Sample> handled(const net::Server& server, const Methods& methods) {
  std::map<std::string, std::array<uint64_t, net::kCodeCount>, std::less<>> counted;
  for (const net::MethodStats& stats : server.stats().methods) counted[stats.path] = stats.handled;
  std::vector<Sample> samples;
  for (const CountedMethod& method : *methods) {
    const auto found = counted.find(fmt::format("/{}/{}", method.service, method.name));
    for (size_t code = 0; code < net::kCodeCount; ++code) {
      metrics::Labels labels = labels_of(method);
      labels.emplace_back("grpc_code", std::string(kCodes[code]));
      samples.push_back({std::move(labels), found == counted.end() ? 0.0 : static_cast<double>(found->second[code])});
    }
  }
  return samples;
}

// A look at the published state from whatever thread renders.
class StateReader {
 public:
  explicit StateReader(member::Node& node) : reader_(node.published().register_thread()) {}

  template <class Read>
  auto read(const Read& read) {
    MutexLock lock(mutex_);
    const auto state = reader_->enter();
    return read(*state);
  }

 private:
  Mutex mutex_;
  std::unique_ptr<member::PublishedDomain::Reader> reader_ CAIRN_GUARDED_BY(mutex_);
};

}  // namespace

void add_server_metrics(metrics::Registry& registry, const net::Server& server, member::Node& node,
                        std::vector<CountedMethod> counted) {
  const auto methods = std::make_shared<const std::vector<CountedMethod>>(std::move(counted));
  registry.collect("grpc_server_started_total", "Total number of RPCs started on the server.", Kind::kCounter,
                   [&server, methods] { return per_method(server, methods, &net::MethodStats::started); });
  registry.collect("grpc_server_handled_total", "Total number of RPCs completed on the server, by code.",
                   Kind::kCounter, [&server, methods] { return handled(server, methods); });
  registry.collect("grpc_server_msg_received_total", "Total number of RPC messages received.", Kind::kCounter,
                   [&server, methods] { return per_method(server, methods, &net::MethodStats::messages_received); });
  registry.collect("grpc_server_msg_sent_total", "Total number of RPC messages sent.", Kind::kCounter,
                   [&server, methods] { return per_method(server, methods, &net::MethodStats::messages_sent); });
  registry.collect(
      "etcd_network_client_grpc_received_bytes_total", "Bytes received from clients.", Kind::kCounter,
      [&server] { return std::vector<Sample>{{{}, static_cast<double>(server.stats().socket_bytes_in)}}; });
  registry.collect("etcd_network_client_grpc_sent_bytes_total", "Bytes sent to clients.", Kind::kCounter, [&server] {
    return std::vector<Sample>{{{}, static_cast<double>(server.stats().socket_bytes_out)}};
  });

  const auto reader = std::make_shared<StateReader>(node);
  metrics::add_cluster_version(registry, [reader] {
    return reader->read([](const member::Published& state) { return state.members->version; });
  });
  const char* const known = "Members of the cluster, 1, and those that were removed, 0.";
  registry.collect("etcd_network_known_peers", known, Kind::kGauge, [reader, &node] {
    return reader->read([local = fmt::format("{:x}", node.member_id())](const member::Published& state) {
      std::vector<Sample> samples;
      const auto add = [&](NodeId id, double is_known) {
        samples.push_back({{{"Local", local}, {"Remote", fmt::format("{:x}", id.value)}}, is_known});
      };
      for (const auto& [id, member] : state.members->members) add(id, 1);
      for (const NodeId id : state.members->removed) add(id, 0);
      return samples;
    });
  });
  registry.collect("etcd_debugging_server_alarms", "Alarms, 1 while active.", Kind::kGauge, [reader] {
    return reader->read([](const member::Published& state) {
      std::vector<Sample> samples;
      for (const member::Alarm& alarm : *state.alarms) {
        samples.push_back(
            {{{"alarm_type", member::alarm_name(alarm.type)}, {"server_id", fmt::format("{:x}", alarm.member_id)}}, 1});
      }
      return samples;
    });
  });
}

}  // namespace cairn::gateway
