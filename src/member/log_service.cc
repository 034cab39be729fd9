#include "member/log_service.h"

#include <algorithm>
#include <string>

#include "base/check.h"

namespace cairn::member {

LogReadDone read_log(const wal::SegmentIndex& segments, const LogRead& order) {
  LogReadDone done;
  done.number = order.number;
  done.status = segments.read(order.first, order.end, order.bytes_max, [&](const wal::Entry& entry) {
    raft::PayloadPtr data;
    if (!entry.data.empty()) {
      data = std::make_shared<const raft::Payload>(raft::Payload{.bytes = std::string(entry.data)});
    }
    done.entries.push_back({entry.term, entry.index, static_cast<raft::EntryType>(entry.type), std::move(data)});
  });
  if (!done.status) done.first_in_segments = segments.first_index();
  if (!done.entries.empty()) done.status = {};
  return done;
}

Index release_limit(const LogKeeping& keeping, const RaftLog& log, NodeId self, std::span<const raft::PeerStatus> peers,
                    Index snapshot, Index wanted) {
  if (keeping.entries) {
    const Index kept_from(snapshot.value - std::min(snapshot.value, *keeping.entries));
    return std::min(wanted, kept_from);
  }
  if (CAIRN_MUTANT("server.log_released_under_follower")) return wanted;
  // What cannot be sent any more is kept for nobody.
  const Index gone = std::min(wanted, log.first_index() - 1);
  const Index kept_by_all = log.sizes().begin_of_last(keeping.bytes);
  Index limit = std::min(wanted, Index(kept_by_all.value - std::min<uint64_t>(kept_by_all.value, 1)));
  const uint64_t bytes_max = std::max(keeping.bytes, log.image_bytes());
  for (const raft::PeerStatus& peer : peers) {
    if (peer.id == self) continue;
    // What is being sent to it as a snapshot, it will have.
    const Index has = peer.state == raft::ProgressState::kSnapshot ? peer.next - 1 : peer.match;
    if (log.sizes().bytes_from(has + 1) <= bytes_max) limit = std::min(limit, has);
  }
  return std::max(limit, gone);
}

}  // namespace cairn::member
