#include "raft/types.h"

namespace cairn::raft {

std::string_view name_of(MessageType type) {
  switch (type) {
    case MessageType::kProp: return "Prop";
    case MessageType::kApp: return "App";
    case MessageType::kAppResp: return "AppResp";
    case MessageType::kVote: return "Vote";
    case MessageType::kVoteResp: return "VoteResp";
    case MessageType::kSnap: return "Snap";
    case MessageType::kHeartbeat: return "Heartbeat";
    case MessageType::kHeartbeatResp: return "HeartbeatResp";
    case MessageType::kTransferLeader: return "TransferLeader";
    case MessageType::kTimeoutNow: return "TimeoutNow";
    case MessageType::kReadIndex: return "ReadIndex";
    case MessageType::kReadIndexResp: return "ReadIndexResp";
    case MessageType::kPreVote: return "PreVote";
    case MessageType::kPreVoteResp: return "PreVoteResp";
  }
  return "unknown";
}

std::string_view name_of(Role role) {
  switch (role) {
    case Role::kFollower: return "follower";
    case Role::kCandidate: return "candidate";
    case Role::kLeader: return "leader";
    case Role::kPreCandidate: return "pre-candidate";
  }
  return "unknown";
}

std::string_view name_of(EntryType type) {
  switch (type) {
    case EntryType::kNormal: return "normal";
    case EntryType::kConfChange: return "conf";
    case EntryType::kConfChangeV2: return "conf2";
  }
  return "unknown";
}

}  // namespace cairn::raft
