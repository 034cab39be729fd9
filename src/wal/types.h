// wal/types.h: what the write-ahead log stores, as small structs of its own.
//
// They carry the fields of etcd's raftpb and walpb messages; `member` converts from and to raft's types.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/strong.h"

namespace cairn::wal {

// raftpb.Entry. `type` is 0 normal, 1 conf change, 2 conf change v2.
struct Entry {
  uint8_t type = 0;
  Term term;
  Index index;
  std::string_view data;

  friend bool operator==(const Entry&, const Entry&) = default;
};

// raftpb.HardState. All zero means "none": it is never written.
struct HardState {
  Term term;
  NodeId vote;
  Index commit;

  [[nodiscard]] bool empty() const { return *this == HardState{}; }
  friend bool operator==(const HardState&, const HardState&) = default;
};

// walpb.Snapshot: names the .snap file (term, index). Versions before 3.5 write no conf_state, which is an encoded
// raftpb.ConfState (raft/conf_change.h); what is in it does not matter here.
struct SnapshotRecord {
  Index index;
  Term term;
  std::optional<std::string> conf_state;

  friend bool operator==(const SnapshotRecord&, const SnapshotRecord&) = default;
};

// etcdserverpb.Metadata: whose log this is.
struct Metadata {
  NodeId node_id;
  uint64_t cluster_id = 0;

  friend bool operator==(const Metadata&, const Metadata&) = default;
};

}  // namespace cairn::wal
