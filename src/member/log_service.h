// member/log_service.h: what followers need of the log: reading it again, and keeping it for them.
//
// Threads: read_log() any; keep_log_from() the core thread's.
#pragma once

#include <optional>
#include <span>

#include "member/raft_log.h"
#include "member/stages.h"
#include "raft/core.h"
#include "wal/segment_reader.h"

namespace cairn::member {

// Carries out a LogRead. Every record's checksum is compared again, so damage is not sent on; entries before it are.
[[nodiscard]] LogReadDone read_log(const wal::SegmentIndex& segments, const LogRead& order);

struct LogKeeping {
  // Kept behind the newest entry for members that are behind, whoever leads: after a change of leaders the next one has
  // it. A leader keeps what a member lacks as long as the db is longer.
  uint64_t bytes = 64 << 20;
  // --snapshot-catchup-entries, when given: so many entries before the last snapshot point, as etcd. Who takes a
  // snapshot in, or what followed it, is not left behind again by a log that is as short.
  std::optional<uint64_t> entries;
};

// Entries at or below `wanted` could be released; those at or below the result may be.
//   peers:    SnapshotHolds::show_in(raft::Core::peers()); empty unless leader
//   snapshot: the newest snapshot point
[[nodiscard]] Index release_limit(const LogKeeping& keeping, const RaftLog& log, NodeId self,
                                  std::span<const raft::PeerStatus> peers, Index snapshot, Index wanted);

}  // namespace cairn::member
