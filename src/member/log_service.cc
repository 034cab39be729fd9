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
  const auto up_to = [](Index index, uint64_t kept) { return Index(index.value - std::min(index.value, kept)); };
  if (CAIRN_MUTANT("server.log_released_under_follower")) return wanted;
  // What cannot be sent any more is kept for nobody.
  const Index gone = std::min(wanted, log.first_index() - 1);
  Index limit =
      keeping.entries ? up_to(snapshot, *keeping.entries) : up_to(log.sizes().begin_of_last(keeping.bytes), 1);
  limit = std::min(limit, wanted);
  const uint64_t bytes_max = std::max(keeping.bytes, log.image_bytes());
  for (const raft::PeerStatus& peer : peers) {
    if (peer.id == self) continue;
    // What is being sent to it as a snapshot, it will have.
    const bool gets_snapshot = peer.state == raft::ProgressState::kSnapshot;
    const bool gets_log = peer.state == raft::ProgressState::kReplicate && peer.recent_active;
    if (keeping.entries && !gets_snapshot && !gets_log) continue;
    const Index has = gets_snapshot ? peer.next - 1 : peer.match;
    if (log.sizes().bytes_from(has + 1) <= bytes_max) limit = std::min(limit, has);
  }
  return std::max(limit, gone);
}

}  // namespace cairn::member
