// net/http2/framing.h: gRPC's message prefix, and messages put together again from pieces. Pure.
//
//     +----------+-------------+---------+
//     | flag: u8 | length: u32 | message |   length is big-endian; flag 1: compressed, 0: not
//     +----------+-------------+---------+
//
// Source: grpc/doc/PROTOCOL-HTTP2.md, "Length-Prefixed-Message".
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace cairn::net {

inline constexpr size_t kPrefixBytes = 5;

void write_prefix(char* out, uint32_t length, bool compressed = false);

// Takes a stream of bytes apart into messages. What lies whole in one chunk is not copied.
class Deframer {
 public:
  enum class Outcome : uint8_t {
    kNeedMore,  // the chunk is used up
    kMessage,   // `message` and `flag` are set; ask again
    kTooLarge,  // `length` exceeds the maximum; nothing more comes of this stream
  };
  struct Frame {
    Outcome outcome = Outcome::kNeedMore;
    uint8_t flag = 0;
    uint32_t length = 0;
    std::string_view message;  // valid until the next call, and while the chunk is
  };

  explicit Deframer(uint32_t message_bytes_max) : message_bytes_max_(message_bytes_max) {}

  // Takes from the front of `chunk`, which the caller passes again until kNeedMore.
  Frame next(std::string_view& chunk);

  // Bytes of a message not yet whole; not 0 at the end of a stream: it was cut off.
  [[nodiscard]] size_t pending_bytes() const { return partial_.size() - delivered_bytes_; }

  // As new, keeping a small buffer for the next stream.
  void reset(uint32_t message_bytes_max);

 private:
  uint32_t message_bytes_max_;
  bool failed_ = false;
  std::string partial_;         // prefix and message so far
  size_t delivered_bytes_ = 0;  // partial_ was handed out and is to be cleared
};

}  // namespace cairn::net
