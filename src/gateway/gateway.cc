#include "gateway/gateway.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/log.h"
#include "cluster/urls.h"
#include "cluster/versions.h"
#include "net/peer_certificate.h"

namespace cairn::gateway {
namespace {

// A path under the name that it had before etcd 3.4.
std::string current_path(std::string_view path) {
  constexpr std::string_view kBefore = "/v3beta/";
  if (!path.starts_with(kBefore)) return std::string(path);
  return "/v3/" + std::string(path.substr(kBefore.size()));
}

}  // namespace

Gateway::Gateway(member::Node& node, metrics::Registry& registry, const Options& options)
    : node_(node),
      registry_(registry),
      hosts_(options.hosts),
      origins_(options.origins),
      metrics_page_(registry),
      health_(node, registry, options.request_timeout_ns),
      debug_(node, options.profiles),
      certificates_name_users_(options.certificates_name_users) {
  if (options.router == nullptr) return;
  json_ = std::make_unique<v3::JsonApi>(*options.router,
                                        v3::JsonApi::Options{.message_bytes_max = options.message_bytes_max});
}

void Gateway::attach(std::span<net::EventLoop* const> loops) {
  for (size_t i = 0; i < loops.size(); ++i) readers_.push_back(node_.published().register_thread());
  health_.attach(loops);
}

bool Gateway::may_ask(const net::HttpRequest& request) const {
  // Over TLS a browser has checked the name already.
  if (request.is_secure) return true;
  const std::string host = cluster::host_name(request.header("host"));
  return std::ranges::any_of(hosts_, [&](const std::string& one) { return one == "*" || one == host; });
}

bool Gateway::has_useless_name(const net::HttpRequest& request, std::string_view path,
                               const net::EventLoop& loop) const {
  return certificates_name_users_ && path.starts_with("/v3/") && request.peer_certificate != nullptr &&
         !request.peer_certificate->common_name.empty() && readers_[loop.index()]->enter()->auth->enabled();
}

net::HttpFields Gateway::browser_headers(const net::HttpRequest& request) const {
  std::string origin = "*";
  if (!origins_.empty() && std::ranges::find(origins_, "*") == origins_.end()) {
    origin = request.header("origin");
    if (std::ranges::find(origins_, origin) == origins_.end()) return {};
  }
  return {
      {"Access-Control-Allow-Methods", "POST, GET, OPTIONS, PUT, DELETE"},
      {"Access-Control-Allow-Origin", std::move(origin)},
      {"Access-Control-Allow-Headers", "accept, content-type, authorization"},
  };
}

std::unique_ptr<net::ExchangeHandler> Gateway::begin(net::Exchange& exchange) {
  const net::HttpRequest& request = exchange.request();
  if (json_ != nullptr && request.path.starts_with("/v3") && may_ask(request)) {
    const std::string path = current_path(request.path);
    if (has_useless_name(request, path, exchange.loop())) return name_refusal_.begin(exchange);
    if (request.method != "OPTIONS" && path.starts_with("/v3/") && path == clean_path(path)) {
      return json_->begin(exchange, path, browser_headers(request));
    }
  }
  return pages_.begin(exchange);
}

void Gateway::answer(net::HttpRequest request, net::EventLoop& loop, const net::HttpRespond& respond) {
  if (!may_ask(request)) {
    const std::string host = cluster::host_name(request.header("host"));
    log::warn("rejecting HTTP request to prevent DNS rebinding attacks", {{"host", host}});
    return respond(unknown_host(host));
  }
  request.path = current_path(request.path);
  const auto respond_to_browsers = [respond, headers = browser_headers(request)](net::HttpResponse response) {
    response.headers.insert(response.headers.end(), headers.begin(), headers.end());
    respond(std::move(response));
  };
  if (request.method == "OPTIONS") {
    net::HttpResponse response;
    response.content_type.clear();  // whatever the path: a browser asks before it sends
    return respond_to_browsers(std::move(response));
  }
  if (request.path == "/v3" && json_ != nullptr) return respond_to_browsers(net::redirect(request, "/v3/"));
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
    return respond(net::redirect(request, path));
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
