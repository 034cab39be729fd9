// peer/protocol.h: names and limits of the protocol between members: etcd's rafthttp, over HTTP/1.1.
//
// A member dials both streams of each other member and reads messages from the bodies of the answers. So what A sends
// to B travels on B's connections to A. What has no stream goes as a POST.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace cairn::peer {

enum class StreamKind : uint8_t { kMsgApp = 0, kMessage = 1 };
inline constexpr size_t kStreamKinds = 2;

inline constexpr std::string_view kPostPath = "/raft";
// The same, of proposals that are counted (raft::ForwardTag). An etcd, which would append them in any term, answers
// 404: it may have come to the address of a member to which one was on its way.
inline constexpr std::string_view kForwardPath = "/raft/forward";
inline constexpr std::string_view kSnapshotPath = "/raft/snapshot";
inline constexpr std::string_view kProbingPath = "/raft/probing";
inline constexpr std::string_view kMsgAppStreamPath = "/raft/stream/msgapp";    // then "/" and the reader's id
inline constexpr std::string_view kMessageStreamPath = "/raft/stream/message";  // then "/" and the reader's id

inline constexpr std::string_view kServerFromHeader = "X-Server-From";
inline constexpr std::string_view kServerVersionHeader = "X-Server-Version";
inline constexpr std::string_view kMinClusterVersionHeader = "X-Min-Cluster-Version";
inline constexpr std::string_view kClusterIdHeader = "X-Etcd-Cluster-Id";
inline constexpr std::string_view kRaftToHeader = "X-Raft-To";
inline constexpr std::string_view kPeerUrlsHeader = "X-PeerURLs";
// Of requests and of streams, from a member that is Cairn's: its version. etcd skips it.
inline constexpr std::string_view kCairnVersionHeader = "X-Cairn-Version";

// The oldest cluster that a member of this version can be part of.
inline constexpr std::string_view kMinClusterVersion = "3.0.0";

// Bodies of 412 and 410, without the newline that follows.
inline constexpr std::string_view kIncompatibleVersionText = "incompatible version";
inline constexpr std::string_view kClusterIdMismatchText = "cluster ID mismatch";

// A message on a stream; an entry on one.
inline constexpr uint64_t kMessageBytesMax = 512ull * 1024 * 1024;
// The message in front of a snapshot's image.
inline constexpr uint64_t kSnapshotMessageBytesMax = 64ull * 1024 * 1024;

// Ids in paths and headers are written by base/bytes.h: hex_id.
[[nodiscard]] inline std::string_view stream_path(StreamKind kind) {
  return kind == StreamKind::kMsgApp ? kMsgAppStreamPath : kMessageStreamPath;
}

}  // namespace cairn::peer
