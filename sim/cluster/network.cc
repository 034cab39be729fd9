#include "sim/cluster/network.h"

#include <algorithm>
#include <memory>

namespace cairn::sim {

// Tags name who waits in a process, and mean nothing in another one.
raft::Message encode_and_decode(const raft::Message& message) {
  raft::Message out = message;
  for (raft::Entry& entry : out.entries) {
    if (entry.data) entry.data = std::make_shared<const raft::Payload>(raft::Payload{.bytes = entry.data->bytes});
  }
  return out;
}

void Network::mend(size_t from, size_t to) {
  const auto at = cuts_.find({from, to});
  if (at != cuts_.end() && --at->second == 0) cuts_.erase(at);
}

void Network::send(size_t from, size_t to, const raft::Message& message) {
  if (is_cut(from, to)) return coverage_.hit("message into a cut path");
  if (options_.loss_one_in > 0 && chance_.one_in(options_.loss_one_in)) return coverage_.hit("message lost");
  post(from, to, encode_and_decode(message));
  // A proposal without a tag is appended as often as it comes; a stream brings it once or not at all.
  const bool may_repeat = message.type != raft::MessageType::kProp;
  if (may_repeat && options_.duplicate_one_in > 0 && chance_.one_in(options_.duplicate_one_in)) {
    coverage_.hit("message doubled");
    post(from, to, encode_and_decode(message));
  }
}

void Network::post(size_t from, size_t to, raft::Message message) {
  const auto mean = static_cast<uint64_t>(options_.delay_mean_ns);
  uint64_t delay_ns = mean / 2 + chance_.below(mean + 1);
  if (chance_.one_in(100)) delay_ns += chance_.below(mean * 20 + 1);
  const bool is_late = options_.late_one_in > 0 && chance_.one_in(options_.late_one_in);
  if (is_late) delay_ns += chance_.below(mean * 100 + 1);
  int64_t when_ns = schedule_.now_ns() + static_cast<int64_t>(delay_ns);
  if (is_late) {
    coverage_.hit("message out of order");
  } else if (options_.is_fifo) {
    int64_t& last_ns = last_ns_[{from, to}];
    when_ns = last_ns = std::max(last_ns, when_ns);
  }
  schedule_.at(when_ns,
               [this, from, to, message = std::move(message), sent = epochs_[from], expected = epochs_[to]]() mutable {
                 if (sent != epochs_[from] || expected != epochs_[to])
                   return coverage_.hit("message lost with its connection");
                 if (is_cut(from, to)) return coverage_.hit("message into a cut path");
                 ++delivered_;
                 deliver_(to, std::move(message));
               });
}

}  // namespace cairn::sim
