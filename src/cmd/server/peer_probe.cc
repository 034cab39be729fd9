#include "cmd/server/peer_probe.h"

#include <algorithm>

#include "cluster/urls.h"
#include "net/client/http1_channel.h"

namespace cairn::cmd {
namespace {

constexpr int64_t kMillisecondNs = 1'000'000;

int to_ms(int64_t time_ns) { return static_cast<int>(std::clamp<int64_t>(time_ns / kMillisecondNs, 1, INT32_MAX)); }

}  // namespace

Result<member::PeerAnswer> HttpPeerProbe::get(const std::string& url, int64_t timeout_ns) {
  // What follows the address is the question's path, which a peer URL does not have.
  const size_t authority = url.find("://");
  const size_t path_at = authority == std::string::npos ? authority : url.find('/', authority + 3);
  CAIRN_TRY(const cluster::Url place, cluster::parse_url(url.substr(0, path_at)));
  if (place.is_tls() || place.is_unix()) {
    return fail(Code::kUnimplemented, "Get \"{}\": only http is asked at a start", url);
  }
  const net::DialOptions dial{.timeout_ms = to_ms(std::min(timeout_ns, dial_timeout_ns_))};
  CAIRN_TRY(const auto channel, net::Http1Channel::connect(place.address, dial));
  net::HttpRequest request;
  request.method = "GET";
  request.path = path_at == std::string::npos ? "/" : url.substr(path_at);
  request.headers = {{"Connection", "close"}};
  CAIRN_TRY(const net::HttpResponse response, channel->ask(request, to_ms(timeout_ns)));
  member::PeerAnswer answer{.status = response.status, .cluster_id = {}, .body = response.body};
  for (const auto& [name, value] : response.headers) {
    if (net::equal_ignoring_case(name, "X-Etcd-Cluster-ID")) answer.cluster_id = value;
  }
  return answer;
}

}  // namespace cairn::cmd
