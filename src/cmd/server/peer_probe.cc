#include "cmd/server/peer_probe.h"

#include <optional>
#include <string_view>
#include <utility>

#include "net/client/http_client.h"
#include "net/loop.h"

namespace cairn::cmd {
namespace {

constexpr uint64_t kAnswerBytesMax = 16 << 20;

// Ends the loop with its answer.
class Waiting final : public net::HttpClient::Hearer {
 public:
  explicit Waiting(net::Loop& loop) : loop_(loop) {}

  void on_head(const net::HttpResponse& head) override {
    answer_.status = head.status;
    for (const auto& [name, value] : head.headers) {
      if (net::equal_ignoring_case(name, "X-Etcd-Cluster-ID")) answer_.cluster_id = value;
    }
  }
  void on_body(std::string_view bytes) override {
    answer_.body.append(bytes);
    if (answer_.body.size() > kAnswerBytesMax) on_end(fail(Code::kInternal, "the answer is too long"));
  }
  void on_end(Status outcome) override {
    if (!outcome_) outcome_ = std::move(outcome);
    loop_.stop();
  }

  [[nodiscard]] Result<member::PeerAnswer> take() {
    if (!outcome_) return fail(Code::kCancelled, "no answer");
    CAIRN_CHECK(*outcome_);
    return std::move(answer_);
  }

 private:
  net::Loop& loop_;
  member::PeerAnswer answer_;
  std::optional<Status> outcome_;
};

}  // namespace

Result<member::PeerAnswer> HttpPeerProbe::get(const std::string& url, int64_t timeout_ns) {
  // What follows the address is the question's path, which a peer URL does not have.
  const size_t authority = url.find("://");
  const size_t path_at = authority == std::string::npos ? authority : url.find('/', authority + 3);
  CAIRN_TRY(net::Endpoint endpoint, net::endpoint_of(std::string_view(url).substr(0, path_at)));
  const auto loop = std::make_shared<net::Loop>(0);
  net::HttpClient client(*loop, {.tls = tls_, .dial_timeout_ns = dial_timeout_ns_, .local_ip = local_ip_});
  Waiting waiting(*loop);
  net::HttpClient::Request request{.endpoint = std::move(endpoint), .head = {}, .deadline_ns = timeout_ns};
  request.head.method = "GET";
  request.head.path = path_at == std::string::npos ? "/" : url.substr(path_at);
  {
    const auto call = client.start(std::move(request), waiting);
    loop->run();
  }
  auto answer = waiting.take();
  if (!answer) answer.error().message = fmt::format("Get \"{}\": {}", url, answer.error().message);
  return answer;
}

}  // namespace cairn::cmd
