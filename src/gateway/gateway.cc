#include "gateway/gateway.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/log.h"
#include "cluster/urls.h"
#include "cluster/versions.h"
#include "gateway/answers.h"

namespace cairn::gateway {

Gateway::Gateway(member::Node& node, metrics::Registry& registry, const Options& options)
    : node_(node),
      registry_(registry),
      hosts_(options.hosts),
      metrics_page_(registry),
      health_(node, registry, options.request_timeout_ns),
      debug_(node, options.profiles) {}

void Gateway::attach(std::span<net::EventLoop* const> loops) {
  for (size_t i = 0; i < loops.size(); ++i) readers_.push_back(node_.published().register_thread());
  health_.attach(loops);
}

bool Gateway::is_allowed(std::string_view host) const {
  return std::ranges::any_of(hosts_, [&](const std::string& one) { return one == "*" || one == host; });
}

void Gateway::handle(net::HttpRequest request, net::EventLoop& loop, net::HttpRespond respond) {
  if (const std::string host = cluster::host_name(request.header("host")); !is_allowed(host)) {
    log::warn("rejecting HTTP request to prevent DNS rebinding attacks", {{"host", host}});
    return respond(unknown_host(host));
  }
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
  if (request.path.starts_with("/debug") &&
      debug_.handle(request, *readers_[loop.index()]->enter(), respond_to_browsers)) {
    return;
  }
  probe(request, loop, respond_to_browsers);
}

void Gateway::probe(const net::HttpRequest& request, net::EventLoop& loop, const net::HttpRespond& respond) {
  // Of a base that ends with a slash and a path that begins with one.
  if (std::string path = clean_path(request.path);
      request.path.starts_with('/') && path != request.path && request.method != "CONNECT") {
    return respond(redirect(request, path));
  }
  if (request.path != "/metrics") {
    if (!health_.handle(request, loop, respond)) respond(not_found());
    return;
  }
  scrapes_in_flight_.add(1);
  metrics_page_.ask([this, respond](net::HttpResponse page) {
    scrapes_in_flight_.add(-1);
    (page.status == 200 ? scrapes_ : scrapes_refused_).add();
    respond(std::move(page));
  });
}

net::HttpResponse Gateway::version(const net::HttpRequest& request, const net::EventLoop& loop) const {
  if (request.method != "GET") return only_get();
  const auto state = readers_[loop.index()]->enter();
  const std::string& cluster = state->members->version;
  const std::string& storage = state->storage_version;
  return json_answer(fmt::format(R"({{"etcdserver":"{}","etcdcluster":"{}","storage":"{}"}})", cluster::kEtcdVersion,
                                 cluster.empty() ? "not_decided" : cluster, storage.empty() ? "unknown" : storage));
}

}  // namespace cairn::gateway
