// net/http2/send_queue.h: what one call has to send: framed messages, and messages that are made while they are sent.
//
// Threads: one loop. Memory: the bytes given to push() without an owner, and at most kPieceBytes of a producer's
// message.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "net/http2/grpc.h"

namespace cairn::net {

class SendQueue {
 public:
  static constexpr size_t kPieceBytes = 16 * 1024;  // what a producer is given at least

  void push(std::string_view message) { push(message, {}, nullptr); }
  // One message of two parts. With an `owner` the tail is not copied, and not counted as held here.
  void push(std::string_view head, std::string_view tail, std::shared_ptr<const void> owner);
  void push(uint64_t length, std::unique_ptr<MessageProducer> producer);

  struct Taken {
    size_t bytes = 0;
    bool waits = false;  // the producer has nothing now
  };
  // Moves bytes to `out`. Fewer than fit, even with more to come: ask again.
  //   errors: the producer's, or kInternal when it gave another length than announced; then it is used no more
  Result<Taken> take(std::span<char> out);

  [[nodiscard]] bool empty() const { return queued_bytes_ == 0; }
  [[nodiscard]] uint64_t queued_bytes() const { return queued_bytes_; }
  // The part of it that is in memory.
  [[nodiscard]] uint64_t held_bytes() const { return held_bytes_; }
  [[nodiscard]] bool has_producer() const { return producers_ != 0; }
  // As new, keeping a small buffer.
  void reset();

 private:
  struct Segment {
    std::string bytes;        // framed messages; or what the producer gave and the transport did not take
    std::string_view shared;  // instead of bytes, when there is an owner
    std::shared_ptr<const void> owner;
    size_t offset = 0;  // taken from bytes or shared
    std::unique_ptr<MessageProducer> producer;
    uint64_t left = 0;  // what the producer still owes

    [[nodiscard]] std::string_view held() const { return owner != nullptr ? shared : std::string_view(bytes); }
  };

  Segment& byte_segment();
  bool take_bytes(Segment& segment, std::span<char>& out, size_t& taken);
  Status produce(Segment& segment, std::span<char>& out, Taken& taken);
  void drop_front();

  std::vector<Segment> segments_;
  size_t front_ = 0;
  uint64_t queued_bytes_ = 0;
  uint64_t held_bytes_ = 0;
  unsigned producers_ = 0;
};

}  // namespace cairn::net
