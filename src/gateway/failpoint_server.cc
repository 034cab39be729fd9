#include "gateway/failpoint_server.h"

#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/fault.h"
#include "net/listener.h"

namespace cairn::gateway {
namespace {

constexpr std::string_view kCount = "/count";
constexpr uint64_t kBodyBytesMax = 1 << 20;

net::HttpResponse page(std::string body) { return {.headers = {}, .body = std::move(body)}; }
net::HttpResponse no_content() { return {.status = 204, .content_type = "", .headers = {}, .body = ""}; }
// Go's http.Error().
net::HttpResponse error_page(int status, std::string_view text) {
  return {.status = status, .headers = {{"X-Content-Type-Options", "nosniff"}}, .body = fmt::format("{}\n", text)};
}

net::HttpResponse put(env::Failpoints& failpoints, const std::string& key, const std::string& body) {
  std::vector<env::Failpoints::Setting> settings = {{key, body}};
  if (net::equal_ignoring_case(key, "failpoints")) {
    auto several = env::Failpoints::parse_settings(body);
    if (!several) return error_page(400, "fail to parse failpoint: " + several.error().message);
    settings = *std::move(several);
  }
  for (const auto& [name, terms] : settings) {
    const Status enabled = failpoints.enable(name, terms);
    if (!enabled) return error_page(400, "fail to set failpoint: " + enabled.error().message);
  }
  return no_content();
}

net::HttpResponse list(const env::Failpoints& failpoints) {
  std::string lines;
  for (const fault::PointInfo& point : fault::kPoints) {
    const auto state = failpoints.state(point.name);
    fmt::format_to(std::back_inserter(lines), "{}={}\n", point.name, state ? state->terms : "");
  }
  return page(std::move(lines));
}

net::HttpResponse get(const env::Failpoints& failpoints, std::string_view key) {
  if (key.empty()) return list(failpoints);
  const bool wants_count = key.ends_with(kCount);
  if (wants_count) key.remove_suffix(kCount.size());
  const auto state = failpoints.state(key);
  if (state) return page(wants_count ? std::to_string(state->count) : state->terms + "\n");
  const std::string text = "failed to GET: " + state.error().message;
  if (wants_count) return error_page(state.error().code == Code::kNotFound ? 404 : 500, text);
  return error_page(404, text + "\n");  // as gofail, which writes the end of a line behind its error
}

}  // namespace

net::HttpResponse answer_failpoints(env::Failpoints& failpoints, const net::HttpRequest& request) {
  if (!request.path.starts_with('/')) return error_page(400, "malformed request URI");
  std::string key = request.path.substr(1);
  if (!request.query.empty()) key += "?" + request.query;
  if (request.method == "PUT") return put(failpoints, key, request.body);
  if (request.method == "GET") return get(failpoints, key);
  if (request.method == "DELETE") {
    const Status disabled = failpoints.disable(key);
    return disabled ? no_content() : error_page(400, "failed to delete failpoint " + disabled.error().message);
  }
  net::HttpResponse refused = error_page(405, "Method not allowed");
  refused.headers.emplace_back("Allow", "PUT");
  return refused;
}

Result<std::unique_ptr<FailpointServer>> FailpointServer::listen(std::string_view address,
                                                                 env::Failpoints& failpoints) {
  CAIRN_TRY(const net::BoundSocket socket, net::listen_on(address));
  net::Listen listen{.address = socket.address, .grpc = false};
  listen.fd = socket.fd;
  listen.http_limits.body_bytes_max = kBodyBytesMax;
  net::ServerOptions options;
  options.listen.push_back(std::move(listen));
  return std::unique_ptr<FailpointServer>(new FailpointServer(options, failpoints));
}

Status FailpointServer::start() {
  CAIRN_TRY([[maybe_unused]] const auto addresses, server_.start());
  return {};
}

void FailpointServer::handle(net::HttpRequest request, net::EventLoop& loop, net::HttpRespond respond) {
  const auto hold = failpoints_.hold_panics();
  respond(answer_failpoints(failpoints_, request));
  // The answer is written at the end of this turn or the next one; the second task runs in the turn after that.
  loop.post([hold, &loop] { loop.post([hold] { static_cast<void>(hold); }); });
}

}  // namespace cairn::gateway
