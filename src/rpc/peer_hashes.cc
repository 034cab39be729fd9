#include "rpc/peer_hashes.h"

#include <memory>
#include <utility>

#include "base/bytes.h"
#include "base/errors.h"
#include "base/log.h"
#include "base/mutex.h"

namespace cairn::rpc {
namespace {

// Answers come on any thread.
class Gathering {
 public:
  Gathering(std::vector<PeerHashAnswer> open, std::function<void(std::vector<PeerHashAnswer>)> then)
      : left_(open.size()), answers_(std::move(open)), then_(std::move(then)) {}

  void take(size_t which, Result<PeerHash> hash) {
    {
      const MutexLock lock(mutex_);
      answers_[which].hash = std::move(hash);
      if (--left_ > 0) return;
    }
    then_(std::move(answers_));  // nobody else has it any more
  }

 private:
  Mutex mutex_;
  size_t left_ CAIRN_GUARDED_BY(mutex_);
  std::vector<PeerHashAnswer> answers_;
  const std::function<void(std::vector<PeerHashAnswer>)> then_;
};

Result<PeerHash> read_hash(const Result<net::HttpResponse>& response) {
  constexpr int kOk = 200;
  constexpr int kBadRequest = 400;
  constexpr int kPreconditionFailed = 412;
  if (!response) return std::unexpected(response.error());
  const std::string_view body = response->bytes();
  const auto says = [body](std::string_view text) { return body.find(text) != std::string_view::npos; };
  if (response->status == kBadRequest) {
    if (says("mvcc: required revision has been compacted")) return std::unexpected(errors::compacted());
    if (says("mvcc: required revision is a future revision")) return std::unexpected(errors::future_rev());
  }
  if (response->status == kPreconditionFailed && says("cluster ID mismatch")) {
    return std::unexpected(errors::cluster_id_mismatch());
  }
  if (response->status != kOk) return fail(Code::kUnknown, "unknown error: {}", body);
  const auto hash = parse_hash_kv_response(body);
  if (!hash) return fail(Code::kDataLoss, "the answer cannot be read");
  return *hash;
}

}  // namespace

void ask_for_hashes(const Peers& peers, const cluster::Membership& members, const PeerHashQuestion& question,
                    std::function<void(std::vector<PeerHashAnswer> answers)> then) {
  std::vector<PeerHashAnswer> open;
  for (const auto& [id, member] : members.members) {
    if (id != question.self && !member.peer_urls.empty()) open.push_back({.member = id, .urls = member.peer_urls});
  }
  if (open.empty()) return then({});
  net::HttpRequest request;
  request.method = "GET";
  request.path = kHashKvPath;
  request.headers = {{"Content-Type", "application/json"}, {"X-Etcd-Cluster-Id", hex_id(question.cluster_id)}};
  request.body = hash_kv_request(question.revision);
  const auto gathering = std::make_shared<Gathering>(open, std::move(then));
  for (size_t i = 0; i < open.size(); ++i) {
    peers.call(open[i].member, request, question.deadline_ns,
               [gathering, i, question, urls = open[i].urls](const Result<net::HttpResponse>& response) {
                 auto hash = read_hash(response);
                 if (!hash) {
                   log::warn("failed hash kv request", {{"local-member-id", hex_id(question.self.value)},
                                                        {"requested-revision", question.revision},
                                                        {"remote-peer-endpoint", urls.front()},
                                                        {"error", hash.error().message}});
                 }
                 gathering->take(i, std::move(hash));
               });
  }
}

}  // namespace cairn::rpc
