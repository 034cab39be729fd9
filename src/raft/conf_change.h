// raft/conf_change.h: configurations and what changes them, as pure functions.
//
// One voter may come or go at a time ("simple"); more than one goes through a joint configuration, in which both
// majorities decide, until it is left again. Source: Raft dissertation, 4.3; the rules in detail are etcd's.
#pragma once

#include <string>
#include <string_view>

#include "base/error.h"
#include "raft/types.h"

namespace cairn::raft {

[[nodiscard]] inline bool is_joint(const ConfState& conf) { return !conf.voters_outgoing.empty(); }
// Asks to leave the joint configuration.
[[nodiscard]] bool leaves_joint(const ConfChange& change);
// Names node 0 only: without effect. How a refused change is applied.
[[nodiscard]] bool is_noop(const ConfChange& change);

// The configuration after `change`.
//   errors: kFailedPrecondition: joint already, or not joint when leaving; more than one voter in a simple change;
//           no voter would be left
[[nodiscard]] Result<ConfState> changed(const ConfState& conf, const ConfChange& change);

// Protobuf, as etcd writes them: raftpb.ConfChange and raftpb.ConfChangeV2.
[[nodiscard]] std::string encode(const ConfChangeV1& change);
[[nodiscard]] std::string encode(const ConfChange& change);
//   errors: kDataLoss
[[nodiscard]] Result<ConfChangeV1> decode_conf_change_v1(std::string_view bytes);
[[nodiscard]] Result<ConfChange> decode_conf_change_v2(std::string_view bytes);
// raftpb.ConfState, as etcd 3.4 to 3.6 write it: auto_leave also when it is false. All versions read that.
[[nodiscard]] std::string encode(const ConfState& conf);
// Packed numbers and unknown fields are read as well.
//   errors: kDataLoss
[[nodiscard]] Result<ConfState> decode_conf_state(std::string_view bytes);
// By the type of the entry that carries it. needs: type is one of the two conf change types
[[nodiscard]] Result<ConfChange> decode_conf_change(EntryType type, std::string_view bytes);

}  // namespace cairn::raft
