#include "gateway/gateway.h"

#include <algorithm>
#include <map>

#include <fmt/format.h>

#include "base/json_text.h"
#include "server/config.h"

namespace cairn::gateway {
namespace {

// The values of a query parameter, in order. Nothing here needs percent-decoding.
std::vector<std::string> query_values(std::string_view query, std::string_view name) {
  std::vector<std::string> out;
  while (!query.empty()) {
    const size_t end = std::min(query.find('&'), query.size());
    const std::string_view part = query.substr(0, end);
    query.remove_prefix(std::min(end + 1, query.size()));
    const size_t equals = std::min(part.find('='), part.size());
    if (part.substr(0, equals) == name) out.emplace_back(part.substr(std::min(equals + 1, part.size())));
  }
  return out;
}

bool has_value(std::string_view query, std::string_view name, std::string_view value) {
  const auto values = query_values(query, name);
  return std::find(values.begin(), values.end(), value) != values.end();
}

net::HttpResponse text(int status, std::string body) {
  net::HttpResponse response;
  response.status = status;
  response.body = std::move(body);
  response.headers.emplace_back("X-Content-Type-Options", "nosniff");
  return response;
}

net::HttpResponse json(std::string body) {
  net::HttpResponse response;
  response.content_type = "application/json";
  response.body = std::move(body);
  return response;
}

}  // namespace

Gateway::Gateway(server::Node& node, const metrics::Registry& registry, metrics::ServerMetrics& metrics)
    : node_(node), registry_(registry), metrics_(metrics) {}

void Gateway::attach(std::span<net::EventLoop* const> loops) {
  for (size_t i = 0; i < loops.size(); ++i) readers_.push_back(node_.published().register_thread());
}

void Gateway::handle(net::HttpRequest request, net::EventLoop& loop, net::HttpRespond respond) {
  const std::string& path = request.path;
  const bool known = path == "/health" || path == "/version" || path == "/metrics" || path.starts_with("/livez") ||
                     path.starts_with("/readyz");
  if (!known) return respond(text(404, "404 page not found\n"));
  if (request.method != "GET") {
    net::HttpResponse response = text(405, "Method Not Allowed\n");
    response.headers.emplace_back("Allow", "GET");
    return respond(std::move(response));
  }
  if (path == "/metrics") {
    net::HttpResponse response;
    response.content_type = "text/plain; version=0.0.4; charset=utf-8";
    response.body = registry_.render();
    return respond(std::move(response));
  }
  const auto state = readers_[loop.index()]->enter();
  if (path == "/version") return respond(version(*state));
  if (path == "/health") return respond(health(request, *state));
  respond(live_or_ready(request, *state));
}

net::HttpResponse Gateway::health(const net::HttpRequest& request, const server::Published& state) {
  std::string reason;
  for (const server::Alarm& alarm : *state.alarms) {
    const std::string name = alarm.type == server::kAlarmNoSpace   ? "NOSPACE"
                             : alarm.type == server::kAlarmCorrupt ? "CORRUPT"
                                                                   : "UNKNOWN";
    if (!has_value(request.query, "exclude", name)) reason = "ALARM " + name;
  }
  const bool serializable = has_value(request.query, "serializable", "true");
  if (reason.empty() && !serializable && state.leader.leader == raft::kNoNode) reason = "RAFT NO LEADER";
  if (reason.empty()) {
    metrics_.health_success.add();
    return json(R"({"health":"true","reason":""})");
  }
  metrics_.health_failures.add();
  std::string body = R"({"health":"false","reason":)";
  append_json_text(body, reason);
  return text(503, body + "}\n");
}

net::HttpResponse Gateway::version(const server::Published& state) const {
  const std::string& cluster = state.members->version;
  const std::string& storage = state.storage_version;
  return json(fmt::format(R"({{"etcdserver":"{}","etcdcluster":"{}","storage":"{}"}})", server::kEtcdVersion,
                          cluster.empty() ? "not_decided" : cluster, storage.empty() ? "unknown" : storage));
}

net::HttpResponse Gateway::live_or_ready(const net::HttpRequest& request, const server::Published& state) const {
  const bool ready = request.path.starts_with("/readyz");
  const std::string root = ready ? "/readyz" : "/livez";
  std::vector<Check> all = {{"serializable_read", ""}};
  if (ready) {
    all.push_back({"linearizable_read", state.leader.leader == raft::kNoNode ? "etcdserver: no leader" : ""});
    all.push_back({"data_corruption", state.has_alarm(server::kAlarmCorrupt) ? "alarm activated: CORRUPT" : ""});
    const auto* self = state.members->find(NodeId(node_.member_id()));
    all.push_back({"non_learner", self != nullptr && self->is_learner ? "not supported for learner" : ""});
  }
  if (request.path == root || request.path == root + "/") return checks(request, std::move(all));
  for (const Check& check : all) {
    if (request.path == root + "/" + check.name) return checks(request, {check});
  }
  return text(404, "404 page not found\n");
}

net::HttpResponse Gateway::checks(const net::HttpRequest& request, std::vector<Check> checks) {
  std::string lines;
  bool failed = false;
  for (const Check& check : checks) {
    if (has_value(request.query, "exclude", check.name)) {
      lines += "[+]" + check.name + " excluded: ok\n";
    } else if (check.failure.empty()) {
      lines += "[+]" + check.name + " ok\n";
    } else {
      failed = true;
      lines += "[-]" + check.name + " failed: " + check.failure + "\n";
    }
  }
  if (failed) return text(503, lines);
  const bool verbose = request.query == "verbose" || request.query.find("verbose") != std::string::npos;
  return text(200, verbose ? lines + "ok\n" : "ok\n");
}

}  // namespace cairn::gateway
