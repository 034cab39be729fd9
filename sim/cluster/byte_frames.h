// sim/cluster/byte_frames.h: where the frames of a stream between members end (peer/msgapp_v2.h), whatever they hold.
//
// Threads: one.
#pragma once

#include <cstdint>
#include <string_view>

#include "peer/protocol.h"

namespace cairn::sim {

// Walks over the bytes of one stream, cut anywhere.
class ByteFrames {
 public:
  explicit ByteFrames(peer::StreamKind kind) : kind_(kind), at_(first()) { expect(); }

  void feed(std::string_view bytes);
  [[nodiscard]] bool at_boundary() const { return at_ == first() && got_ == 0; }
  [[nodiscard]] uint64_t frames() const { return frames_; }  // that are whole

 private:
  enum class At : uint8_t { kKind, kCount, kEntryLength, kEntry, kCommit, kMessageLength, kMessage };

  [[nodiscard]] At first() const { return kind_ == peer::StreamKind::kMsgApp ? At::kKind : At::kMessageLength; }
  void expect();
  void next();

  peer::StreamKind kind_;
  At at_;
  uint64_t wanted_ = 0;  // bytes of this part
  uint64_t got_ = 0;
  uint64_t number_ = 0;  // its value, of a length or a count
  uint64_t body_bytes_ = 0;
  uint64_t entries_left_ = 0;
  uint64_t frames_ = 0;
};

}  // namespace cairn::sim
