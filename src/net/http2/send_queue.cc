#include "net/http2/send_queue.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "base/release.h"
#include "net/http2/framing.h"

namespace cairn::net {
namespace {

constexpr size_t kKeptBytesMax = 4096;       // a buffer kept for the next message, or for the pool's next call
constexpr size_t kCompactBytes = 64 * 1024;  // taken bytes that are worth moving the rest for
constexpr size_t kDroppedMax = 16;           // used segments before the others move up

}  // namespace

SendQueue::Segment& SendQueue::byte_segment() {
  const auto is_other = [](const Segment& last) { return last.producer != nullptr || last.owner != nullptr; };
  if (front_ == segments_.size() || is_other(segments_.back())) segments_.emplace_back();
  Segment& segment = segments_.back();
  if (segment.offset >= kCompactBytes && segment.offset >= segment.bytes.size() / 2) {
    segment.bytes.erase(0, segment.offset);
    segment.offset = 0;
  }
  return segment;
}

void SendQueue::push(std::string_view head, std::string_view tail, std::shared_ptr<const void> owner) {
  const size_t size = head.size() + tail.size();
  CAIRN_ASSERT(size <= UINT32_MAX);
  Segment& segment = byte_segment();
  char prefix[kPrefixBytes];
  write_prefix(prefix, static_cast<uint32_t>(size));
  segment.bytes.append(prefix, kPrefixBytes);
  segment.bytes.append(head);
  if (owner == nullptr) segment.bytes.append(tail);
  queued_bytes_ += kPrefixBytes + size;
  held_bytes_ += kPrefixBytes + (owner == nullptr ? size : head.size());
  if (owner != nullptr) segments_.push_back(Segment{.bytes = {}, .shared = tail, .owner = std::move(owner)});
}

void SendQueue::push(uint64_t length, std::unique_ptr<MessageProducer> producer) {
  CAIRN_ASSERT(length <= UINT32_MAX);
  Segment& segment = byte_segment();
  char prefix[kPrefixBytes];
  write_prefix(prefix, static_cast<uint32_t>(length));
  segment.bytes.append(prefix, kPrefixBytes);
  queued_bytes_ += kPrefixBytes + length;
  held_bytes_ += kPrefixBytes;
  if (length == 0) return;
  segments_.push_back(Segment{.bytes = {}, .producer = std::move(producer), .left = length});
  ++producers_;
}

bool SendQueue::take_bytes(Segment& segment, std::span<char>& out, size_t& taken) {
  const std::string_view held = segment.held();
  const size_t bytes = std::min(held.size() - segment.offset, out.size());
  std::memcpy(out.data(), held.data() + segment.offset, bytes);
  segment.offset += bytes;
  taken += bytes;
  queued_bytes_ -= bytes;
  if (segment.owner == nullptr) held_bytes_ -= bytes;
  out = out.subspan(bytes);
  return segment.offset == held.size();
}

Status SendQueue::produce(Segment& segment, std::span<char>& out, Taken& taken) {
  // Straight into the frame when it is large enough; else aside, and the frame gets what fits.
  const bool aside = out.size() < kPieceBytes;
  if (aside) {
    segment.bytes.resize(kPieceBytes);
    segment.offset = 0;
  }
  const std::span<char> target = aside ? std::span<char>(segment.bytes) : out;
  auto piece = segment.producer->produce(target);
  if (!piece) return std::unexpected(std::move(piece).error());
  const bool done = piece->outcome == MessageProducer::Outcome::kDone;
  const bool too_many = piece->bytes > segment.left || piece->bytes > target.size();
  const bool too_few = done && piece->bytes < segment.left;
  const bool nothing = piece->bytes == 0 && piece->outcome == MessageProducer::Outcome::kMore;
  if (too_many || too_few || nothing) {
    return fail(Code::kInternal, "net: producer gave {} bytes with {} left, done {}", piece->bytes, segment.left, done);
  }
  segment.left -= piece->bytes;
  taken.waits = piece->outcome == MessageProducer::Outcome::kWait && segment.left != 0;
  if (aside) {
    segment.bytes.resize(piece->bytes);
    held_bytes_ += piece->bytes;
    take_bytes(segment, out, taken.bytes);
  } else {
    taken.bytes += piece->bytes;
    queued_bytes_ -= piece->bytes;
    out = out.subspan(piece->bytes);
  }
  return {};
}

Result<SendQueue::Taken> SendQueue::take(std::span<char> out) {
  Taken taken;
  while (queued_bytes_ != 0 && !out.empty()) {
    Segment& segment = segments_[front_];
    if (segment.offset < segment.held().size()) {
      if (!take_bytes(segment, out, taken.bytes)) break;
      if (segment.producer == nullptr || segment.left == 0) drop_front();
      continue;
    }
    if (segment.producer == nullptr || segment.left == 0) {
      drop_front();
      continue;
    }
    // A short frame first, so that the next has room for a whole piece.
    if (taken.bytes > 0 && out.size() < kPieceBytes) break;
    CAIRN_CHECK(produce(segment, out, taken));
    if (segment.left == 0 && segment.offset == segment.bytes.size()) drop_front();
    if (taken.waits) break;
  }
  return taken;
}

void SendQueue::drop_front() {
  Segment& segment = segments_[front_];
  if (segment.producer != nullptr) {
    segment.producer.reset();
    --producers_;
  }
  segment.offset = 0;
  segment.owner.reset();
  if (front_ + 1 < segments_.size()) {
    release(segment.bytes);
    ++front_;
    if (front_ >= kDroppedMax && front_ >= segments_.size() / 2) {
      segments_.erase(segments_.begin(), segments_.begin() + static_cast<std::ptrdiff_t>(front_));
      front_ = 0;
    }
    return;
  }
  // The last one: start again at the first, with its buffer.
  segment.bytes.clear();
  if (segment.bytes.capacity() > kKeptBytesMax) release(segment.bytes);
  if (front_ != 0) segments_.front() = std::move(segment);
  segments_.resize(1);
  front_ = 0;
  segments_.front().left = 0;  // an empty byte segment stays, for the next message
}

void SendQueue::reset() {
  if (!segments_.empty()) {
    segments_.resize(1);
    Segment& segment = segments_.front();
    segment.producer.reset();
    segment.owner.reset();
    segment.left = 0;
    segment.offset = 0;
    segment.bytes.clear();
    if (segment.bytes.capacity() > kKeptBytesMax) release(segment.bytes);
  }
  front_ = 0;
  queued_bytes_ = 0;
  held_bytes_ = 0;
  producers_ = 0;
}

}  // namespace cairn::net
