#include "sim/cluster/recording.h"

#include <map>
#include <utility>

#include "base/check.h"
#include "sim/history/answers.h"

namespace cairn::sim {
namespace {

using State = ClusterCall::State;

// One client asks for one thing at a time. Who waits no more for an answer, or never did, goes on as another one.
class Names {
 public:
  uint64_t of(const ClusterCall& call) {
    const auto [at, is_new] = names_.try_emplace(call.client);
    One& one = at->second;
    if (is_new || call.call_ns < one.busy_until_ns) one.name = ++last_;
    one.busy_until_ns = call.state == State::kAnswered || call.state == State::kRefused ? call.return_ns : INT64_MAX;
    return one.name;
  }

 private:
  struct One {
    uint64_t name = 0;
    int64_t busy_until_ns = 0;
  };
  std::map<size_t, One> names_;
  uint64_t last_ = 0;
};

Outcome outcome_of(State state) {
  switch (state) {
    case State::kAnswered: return Outcome::kAnswered;
    case State::kRefused: return Outcome::kRefused;
    case State::kWaiting:
    case State::kUnknown: break;
  }
  return Outcome::kUnknown;
}

}  // namespace

History history_of(const Judge& judge, const std::vector<NodeId>& members, std::vector<Watch> watches) {
  History out;
  Names names;
  for (const ClusterCall& call : judge.calls()) {
    if (call.renewed != 0 || call.changes_members) continue;
    ClientOperation one{.client = names.of(call),
                        .member = members.at(call.node),
                        .call_ns = call.call_ns,
                        .outcome = outcome_of(call.state),
                        .code = call.code,
                        .response = call.response};
    if (one.outcome != Outcome::kUnknown) one.return_ns = call.return_ns;
    if (call.payload.empty()) {
      one.rpc = Rpc::kRange;
      one.request = call.range.SerializeAsString();
    } else {
      etcdserverpb::InternalRaftRequest request;
      CAIRN_ASSERT(request.ParseFromString(call.payload));
      Content content = content_of(request);
      one.rpc = content.rpc;
      one.request = std::move(content.request);
      one.request_id = request.header().id();
    }
    out.operations.push_back(std::move(one));
  }
  for (const raft::Entry& entry : judge.log()) {
    out.log.push_back(
        {.index = entry.index, .term = entry.term, .type = entry.type, .bytes = std::string(entry.bytes())});
  }
  out.watches = std::move(watches);
  return out;
}

}  // namespace cairn::sim
