#include "sim/cluster/network.h"

#include <algorithm>
#include <memory>

#include "base/check.h"
#include "peer/codec.h"

namespace cairn::sim {

// Tags name who waits in a process, and mean nothing in another one.
raft::Message Network::pass(const raft::Message& message) const {
  if (options_.has_codec) {
    peer::Pieces bytes;
    peer::append_message(bytes, message);
    auto decoded = peer::decode_message(bytes.flat());
    CAIRN_ASSERT(decoded);
    return *std::move(decoded);
  }
  raft::Message out = message;
  if (out.snapshot != nullptr) {
    auto snapshot = std::make_shared<raft::Snapshot>(*out.snapshot);
    snapshot->source = nullptr;
    out.snapshot = std::move(snapshot);
  }
  for (raft::Entry& entry : out.entries) {
    if (entry.data) entry.data = std::make_shared<const raft::Payload>(raft::Payload{.bytes = entry.data->bytes});
  }
  return out;
}

void Network::mend(size_t from, size_t to) {
  const auto at = cuts_.find({from, to});
  if (at == cuts_.end() || --at->second > 0) return;
  mended_ns_[at->first] = schedule_.now_ns();
  cuts_.erase(at);
}

void Network::mend_all() {
  for (const auto& [path, count] : cuts_) mended_ns_[path] = schedule_.now_ns();
  cuts_.clear();
}

int64_t Network::connected_since_ns(size_t one, size_t other) const {
  int64_t out = 0;
  for (const auto& path : {std::pair(one, other), std::pair(other, one)}) {
    const auto at = mended_ns_.find(path);
    if (at != mended_ns_.end()) out = std::max(out, at->second);
  }
  return out;
}

// What is lost shows when the stream breaks: at once, or when nothing has come for a while.
void Network::lose(size_t from, size_t to, const char* why) {
  coverage_.hit(why);
  if (!tells_.emplace(from, to).second) return;
  const auto delay_ns =
      static_cast<int64_t>(chance_.one_in(4) ? chance_.below(5'000'000'000) : chance_.below(50'000'000));
  schedule_.after(delay_ns, [this, from, to] {
    tells_.erase({from, to});
    host_.on_stream_cut(from, to);
  });
}

void Network::send(size_t from, size_t to, const raft::Message& message) {
  CAIRN_ASSERT(message.type != raft::MessageType::kSnap);
  if (is_cut(from, to)) return lose(from, to, "message into a cut path");
  if (options_.loss_one_in > 0 && chance_.one_in(options_.loss_one_in)) return lose(from, to, "message lost");
  post(from, to, pass(message));
  // A proposal without a tag is appended as often as it comes; a stream brings it once or not at all.
  const bool may_repeat = message.type != raft::MessageType::kProp || message.forward;
  if (may_repeat && options_.duplicate_one_in > 0 && chance_.one_in(options_.duplicate_one_in)) {
    coverage_.hit("message doubled");
    post(from, to, pass(message));
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
                   return lose(from, to, "message lost with its connection");
                 if (is_cut(from, to)) return lose(from, to, "message into a cut path");
                 ++delivered_;
                 if (!host_.on_arrival(to, std::move(message))) lose(from, to, "message to nobody");
               });
}

}  // namespace cairn::sim
