#include "sim/cluster/byte_frames.h"

#include <algorithm>

namespace cairn::sim {

void ByteFrames::expect() {
  const bool is_body = at_ == At::kEntry || at_ == At::kMessage;
  wanted_ = at_ == At::kKind ? 1 : is_body ? body_bytes_ : sizeof(uint64_t);
  got_ = 0;
  number_ = 0;
}

void ByteFrames::next() {
  const auto end = [this] {
    ++frames_;
    at_ = first();
  };
  switch (at_) {
    case At::kKind:
      if (number_ == 0) {
        ++frames_;  // a heartbeat
      } else {
        at_ = number_ == 1 ? At::kCount : At::kMessageLength;
      }
      break;
    case At::kCount:
      entries_left_ = number_;
      at_ = entries_left_ == 0 ? At::kCommit : At::kEntryLength;
      break;
    case At::kEntryLength:
    case At::kMessageLength:
      body_bytes_ = number_;
      at_ = at_ == At::kEntryLength ? At::kEntry : At::kMessage;
      break;
    case At::kEntry: at_ = --entries_left_ == 0 ? At::kCommit : At::kEntryLength; break;
    case At::kCommit:
    case At::kMessage: end(); break;
  }
  expect();
}

void ByteFrames::feed(std::string_view bytes) {
  while (!bytes.empty() || wanted_ == 0) {
    const size_t taken = std::min<uint64_t>(bytes.size(), wanted_ - got_);
    if (at_ != At::kEntry && at_ != At::kMessage) {
      for (const char byte : bytes.substr(0, taken)) number_ = number_ << 8 | static_cast<uint8_t>(byte);
    }
    got_ += taken;
    bytes.remove_prefix(taken);
    if (got_ == wanted_) next();
  }
}

}  // namespace cairn::sim
