// peer/codec.h: raft messages as bytes: raftpb.Message, as members of etcd exchange it.
//
// Writing follows etcd 3.6: every scalar is written, also 0, a snapshot and a context only if there is one, and the
// fields stand in order. All versions read that. Reading takes missing scalars as 0 (3.7 leaves them out) and skips the
// empty snapshot that every message of members up to 3.5 carries.
//
// Fields from 1000 on are Cairn's; etcd skips them. They are written only when set:
//     1000  forward: message of 1 origin, 2 epoch, 3 term, 4 sequence, 5 is_conf_change, 6 is_refused (varints)
//
// The payload of an entry is never encoded: an entry on the wire is a head of at most 40 bytes and the payload as it
// is. So for each further follower only the head is written, and Pieces names the same payload.
//
// Reading is total: any bytes give a message that the core can be given, or an error. What would be misread is refused:
// entries of a MsgApp that do not follow each other, a MsgSnap without a snapshot, a ReadIndex without its one context,
// contexts longer than any member writes, a configuration that names a member twice.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "base/error.h"
#include "peer/pieces.h"
#include "raft/types.h"

namespace cairn::peer {

// No member writes more: etcd's messages are cut at 512 KiB of entries; its contexts have 8 or 16 bytes, ours 24.
inline constexpr size_t kEntriesMax = 1 << 20;
inline constexpr size_t kContextBytesMax = 64;
inline constexpr size_t kConfMembersMax = 4096;  // of each list

[[nodiscard]] size_t entry_size(const raft::Entry& entry);
void append_entry(Pieces& out, const raft::Entry& entry);
//   errors: kDataLoss
[[nodiscard]] Result<raft::Entry> decode_entry(std::string_view bytes);

[[nodiscard]] size_t message_size(const raft::Message& message);
void append_message(Pieces& out, const raft::Message& message);
//   errors: kDataLoss
//           kUnimplemented: no message between members (raft::is_peer_message), but well-formed. To be dropped; what
//           follows on the stream is sound. Link heartbeats are not among them: they are of type MsgHeartbeat
[[nodiscard]] Result<raft::Message> decode_message(std::string_view bytes);

// A message of the transport itself, which keeps a stream alive.
[[nodiscard]] inline bool is_link_heartbeat(const raft::Message& message) {
  return message.type == raft::MessageType::kHeartbeat && message.from == raft::kNoNode && message.to == raft::kNoNode;
}

}  // namespace cairn::peer
