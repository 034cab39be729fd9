#include "rpc/leader_watch.h"

#include <algorithm>
#include <utility>

#include "base/errors.h"
#include "rpc/context.h"

namespace cairn::rpc {
namespace {

constexpr unsigned kLooksWithoutMax = 3;

}  // namespace

bool LeaderWatch::has_leader() { return context_.enter()->leader.leader != raft::kNoNode; }

bool LeaderWatch::admit(net::Call& call, bool streams) {
  if (call.metadata("hasleader") != "true") return true;
  if (!has_leader()) {
    finish_with(call, errors::no_leader());
    return false;
  }
  if (streams) {
    if (streams_.empty()) looks_without_ = 0;
    streams_.push_back(call.id());
    look_later();
  }
  return true;
}

void LeaderWatch::look_later() {
  if (timer_ != nullptr) return;
  const int64_t election_ns = int64_t{context_.node().options().election_ms} * 1'000'000;
  timer_ = context_.loop().after(election_ns, [this] { look(); });
}

void LeaderWatch::look() {
  timer_.reset();
  std::erase_if(streams_, [this](net::CallId id) { return context_.loop().find(id) == nullptr; });
  looks_without_ = has_leader() ? 0 : looks_without_ + 1;
  if (looks_without_ >= kLooksWithoutMax) {
    for (const net::CallId id : std::exchange(streams_, {})) {
      if (net::Call* const call = context_.loop().find(id)) finish_with(*call, errors::no_leader());
    }
  }
  if (!streams_.empty()) look_later();
}

}  // namespace cairn::rpc
