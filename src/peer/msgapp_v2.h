// peer/msgapp_v2.h: messages on streams: the stream `msgapp` (etcd's msgappv2) and the plain stream `message`.
//
//     message      length: u64 | raftpb.Message                                    integers are big-endian
//     msgappv2     0                                                               link heartbeat
//                  1 | n: u64 | n x (length: u64 | raftpb.Entry) | commit: u64     a MsgApp that goes on from the last
//                  2 | length: u64 | raftpb.Message                                any MsgApp
//
// A MsgApp of form 1 begins behind the last entry of the one before it on this stream, and has its term. So both ends
// keep (term, index), which begins at (0, 0) with each connection. An encoder or decoder lives as long as its
// connection and never longer.
//
// Decoders take bytes cut anywhere, keep at most about twice what has arrived of a message, and trust no length.
// Source: etcd's package rafthttp.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "peer/pieces.h"
#include "raft/types.h"

namespace cairn::peer {

// The stream `message`, and what stands before a snapshot's image.
void append_framed_message(Pieces& out, const raft::Message& message);
void append_message_heartbeat(Pieces& out);

class MsgAppV2Encoder {
 public:
  //   needs: message.type == kApp
  void append(Pieces& out, const raft::Message& message);
  static void append_heartbeat(Pieces& out);

 private:
  Term term_;
  Index index_;
};

// Gathers a unit of known length from bytes that come in parts.
class UnitBuffer {
 public:
  // Moves `in` past the next `bytes` bytes; they are `unit`, until the next call. False: not all are there; `in` is
  // used up.
  [[nodiscard]] bool take(std::string_view& in, uint64_t bytes, std::string_view& unit);
  [[nodiscard]] bool empty() const { return gathered_.empty() || given_; }

 private:
  std::string gathered_;
  bool given_ = false;  // what is gathered was handed out and goes with the next call
};

class MessageDecoder {
 public:
  // Appends the messages that are whole now. Heartbeats and messages of unknown kinds are left out.
  //   errors: kDataLoss. What came before the bad message has been appended; nothing may be fed any more
  Status feed(std::string_view bytes, std::vector<raft::Message>& out);
  // Between two messages: what a connection that ends in order has sent.
  [[nodiscard]] bool at_boundary() const { return !in_body_ && unit_.empty(); }

 private:
  UnitBuffer unit_;
  uint64_t body_bytes_ = 0;
  bool in_body_ = false;
};

class MsgAppV2Decoder {
 public:
  MsgAppV2Decoder(NodeId self, NodeId peer) : self_(self), peer_(peer) {}

  // As above.
  Status feed(std::string_view bytes, std::vector<raft::Message>& out);
  [[nodiscard]] bool at_boundary() const { return at_ == At::kKind; }

 private:
  enum class At : uint8_t { kKind, kCount, kEntryLength, kEntry, kCommit, kMessageLength, kMessage };

  Status step(std::string_view unit, std::vector<raft::Message>& out);
  [[nodiscard]] uint64_t unit_bytes() const;
  void begin_append();
  Status add_entry(std::string_view bytes);
  Status finish(std::string_view bytes, std::vector<raft::Message>& out);

  NodeId self_;
  NodeId peer_;
  Term term_;
  Index index_;
  UnitBuffer unit_;
  At at_ = At::kKind;
  uint64_t body_bytes_ = 0;    // of the entry or message that comes
  uint64_t entries_left_ = 0;  // of `append_`
  uint64_t append_bytes_ = 0;
  raft::Message append_;  // a short form that is not whole
};

}  // namespace cairn::peer
