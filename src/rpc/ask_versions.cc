#include "rpc/ask_versions.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "base/bytes.h"
#include "base/log.h"
#include "base/mutex.h"
#include "cluster/join.h"
#include "cluster/versions.h"

namespace cairn::rpc {
namespace {

// Answers come on any thread.
class Gathering {
 public:
  Gathering(const member::VersionQuestion& question, std::function<void(member::VersionReport)> then)
      : left_(question.members.size()), then_(std::move(then)) {
    report_.term = question.term;
    for (const NodeId member : question.members) report_.others.push_back({.member = member, .server = std::nullopt});
  }

  void take(size_t which, std::optional<cluster::MinorVersion> server, bool is_cairn) {
    {
      const MutexLock lock(mutex_);
      report_.others[which].server = server;
      report_.others[which].is_cairn = is_cairn;
      if (--left_ > 0) return;
    }
    then_(std::move(report_));  // nobody else has it any more
  }

 private:
  Mutex mutex_;
  size_t left_ CAIRN_GUARDED_BY(mutex_);
  member::VersionReport report_;
  const std::function<void(member::VersionReport)> then_;
};

Result<cluster::MinorVersion> read_version(NodeId member, const Result<net::HttpResponse>& response) {
  if (!response) return std::unexpected(response.error());
  CAIRN_TRY(const cluster::MemberVersions said, cluster::parse_member_versions(member, response->bytes()));
  const auto version = cluster::parse_version(said.server);
  if (!version) return fail(Code::kDataLoss, "{} is not in dotted-tri format", said.server);
  return *version;
}

bool is_cairns(const net::HttpResponse& response) {
  return std::ranges::any_of(
      response.headers, [](const auto& field) { return net::equal_ignoring_case(field.first, kCairnAnswerHeader); });
}

}  // namespace

void ask_for_versions(const Peers& peers, const member::VersionQuestion& question, int64_t deadline_ns,
                      std::function<void(member::VersionReport report)> then) {
  const auto gathering = std::make_shared<Gathering>(question, std::move(then));
  net::HttpRequest request;
  request.method = "GET";
  request.path = "/version";
  for (size_t i = 0; i < question.members.size(); ++i) {
    const NodeId id = question.members[i];
    peers.call(id, request, deadline_ns, [gathering, i, id](const Result<net::HttpResponse>& response) {
      const auto version = read_version(id, response);
      if (!version) {
        log::warn("failed to get version",
                  {{"remote-member-id", hex_id(id.value)}, {"error", version.error().message}});
      }
      gathering->take(i, version ? std::optional(*version) : std::nullopt, version && is_cairns(*response));
    });
  }
}

}  // namespace cairn::rpc
