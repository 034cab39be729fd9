#include "gateway/gateway.h"

#include <algorithm>
#include <map>

#include <fmt/format.h>

#include "base/json_text.h"
#include "cluster/versions.h"

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

bool is_serializable(std::string_view query) {
  const auto values = query_values(query, "serializable");
  return !values.empty() && values.front() == "true";
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

net::HttpResponse not_found() { return text(404, "404 page not found\n"); }

net::HttpResponse only_get() {
  net::HttpResponse response = text(405, "Method Not Allowed\n");
  response.headers.emplace_back("Allow", "GET");
  return response;
}

}  // namespace

Gateway::Gateway(member::Node& node, const metrics::Registry& registry, metrics::ServerMetrics& metrics)
    : node_(node), metrics_page_(registry), metrics_(metrics) {}

void Gateway::attach(std::span<net::EventLoop* const> loops) {
  for (size_t i = 0; i < loops.size(); ++i) readers_.push_back(node_.published().register_thread());
}

void Gateway::handle(net::HttpRequest request, net::EventLoop& loop, net::HttpRespond respond) {
  const auto respond_to_browsers = [respond = std::move(respond)](net::HttpResponse response) {
    response.headers.emplace_back("Access-Control-Allow-Methods", "POST, GET, OPTIONS, PUT, DELETE");
    response.headers.emplace_back("Access-Control-Allow-Origin", "*");
    response.headers.emplace_back("Access-Control-Allow-Headers", "accept, content-type, authorization");
    respond(std::move(response));
  };
  if (request.method == "OPTIONS") {
    net::HttpResponse response;
    response.content_type.clear();  // whatever the path: a browser asks before it sends
    return respond_to_browsers(std::move(response));
  }
  if (request.path == "/version") return respond_to_browsers(version(request, loop));
  probe(request, loop, respond_to_browsers);
}

void Gateway::probe(const net::HttpRequest& request, const net::EventLoop& loop, const net::HttpRespond& respond) {
  request.path == "/metrics" ? metrics_page_.ask(respond) : respond(answer(request, loop));
}

net::HttpResponse Gateway::answer(const net::HttpRequest& request, const net::EventLoop& loop) {
  const bool is_health = request.path == "/health";
  if (!is_health && !request.path.starts_with("/livez") && !request.path.starts_with("/readyz")) return not_found();
  const auto state = readers_[loop.index()]->enter();
  return is_health ? health(request, *state) : live_or_ready(request, *state);
}

net::HttpResponse Gateway::health(const net::HttpRequest& request, const member::Published& state) {
  if (request.method != "GET") return only_get();
  std::string reason;
  for (const member::Alarm& alarm : *state.alarms) {
    const std::string name = alarm.type == member::kAlarmNoSpace   ? "NOSPACE"
                             : alarm.type == member::kAlarmCorrupt ? "CORRUPT"
                                                                   : "UNKNOWN";
    if (reason.empty() && !has_value(request.query, "exclude", name)) reason = "ALARM " + name;
  }
  if (reason.empty() && !is_serializable(request.query) && state.leader.leader == raft::kNoNode) {
    reason = "RAFT NO LEADER";
  }
  if (reason.empty()) {
    metrics_.health_success.add();
    net::HttpResponse response;  // as etcd: JSON that does not say it is
    response.body = R"({"health":"true","reason":""})";
    return response;
  }
  metrics_.health_failures.add();
  std::string body = R"({"health":"false","reason":)";
  append_json_text(body, reason);
  return text(503, body + "}\n");
}

net::HttpResponse Gateway::version(const net::HttpRequest& request, const net::EventLoop& loop) const {
  if (request.method != "GET") return only_get();
  const auto state = readers_[loop.index()]->enter();
  const std::string& cluster = state->members->version;
  const std::string& storage = state->storage_version;
  return json(fmt::format(R"({{"etcdserver":"{}","etcdcluster":"{}","storage":"{}"}})", cluster::kEtcdVersion,
                          cluster.empty() ? "not_decided" : cluster, storage.empty() ? "unknown" : storage));
}

net::HttpResponse Gateway::live_or_ready(const net::HttpRequest& request, const member::Published& state) const {
  const bool ready = request.path.starts_with("/readyz");
  const std::string root = ready ? "/readyz" : "/livez";
  std::vector<Check> all = {{"serializable_read", ""}};
  if (ready) {
    all.push_back({"linearizable_read", state.leader.leader == raft::kNoNode ? "etcdserver: no leader" : ""});
    all.push_back({"data_corruption", state.has_alarm(member::kAlarmCorrupt) ? "alarm activated: CORRUPT" : ""});
    const auto* self = state.members->find(NodeId(node_.member_id()));
    all.push_back({"non_learner", self != nullptr && self->is_learner ? "not supported for learner" : ""});
  }
  if (request.path == root) {
    std::erase_if(all, [&](const Check& check) { return has_value(request.query, "exclude", check.name); });
    return checks(request, all);
  }
  for (const Check& check : all) {
    if (request.path == root + "/" + check.name) return checks(request, {check});
  }
  return not_found();
}

net::HttpResponse Gateway::checks(const net::HttpRequest& request, const std::vector<Check>& checks) {
  if (request.method != "GET") return only_get();
  std::string lines;
  bool failed = false;
  for (const Check& check : checks) {
    failed = failed || !check.failure.empty();
    lines +=
        check.failure.empty() ? "[+]" + check.name + " ok\n" : "[-]" + check.name + " failed: " + check.failure + "\n";
  }
  if (failed) return text(503, lines + "\n");
  return text(200, query_values(request.query, "verbose").empty() ? "ok\n" : lines + "ok\n");
}

}  // namespace cairn::gateway
