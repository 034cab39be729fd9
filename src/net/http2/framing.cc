#include "net/http2/framing.h"

#include <algorithm>

#include "base/bytes.h"
#include "base/check.h"
#include "base/release.h"

namespace cairn::net {
namespace {

constexpr size_t kKeptBytesMax = 4096;

}  // namespace

void write_prefix(char* out, uint32_t length, bool compressed) {
  out[0] = compressed ? 1 : 0;
  store_be32(out + 1, length);
}

Deframer::Frame Deframer::next(std::string_view& chunk) {
  if (failed_) {
    chunk = {};
    return {};
  }
  if (delivered_bytes_ != 0) {
    if (partial_.capacity() > kKeptBytesMax) {
      release(partial_);
    } else {
      partial_.clear();
    }
    delivered_bytes_ = 0;
  }
  if (partial_.empty() && chunk.size() >= kPrefixBytes) {
    const uint32_t length = load_be32(chunk.data() + 1);
    const auto flag = static_cast<uint8_t>(chunk[0]);
    if (length > message_bytes_max_) {
      failed_ = true;
      return {.outcome = Outcome::kTooLarge, .flag = flag, .length = length, .message = {}};
    }
    if (chunk.size() - kPrefixBytes >= length) {
      const std::string_view message = chunk.substr(kPrefixBytes, length);
      chunk.remove_prefix(kPrefixBytes + length);
      return {.outcome = Outcome::kMessage, .flag = flag, .length = length, .message = message};
    }
  }

  if (partial_.size() < kPrefixBytes) {
    const size_t taken = std::min(kPrefixBytes - partial_.size(), chunk.size());
    partial_.append(chunk.substr(0, taken));
    chunk.remove_prefix(taken);
    if (partial_.size() < kPrefixBytes) return {};
  }
  const auto flag = static_cast<uint8_t>(partial_[0]);
  const uint32_t length = load_be32(partial_.data() + 1);
  if (length > message_bytes_max_) {
    failed_ = true;
    return {.outcome = Outcome::kTooLarge, .flag = flag, .length = length, .message = {}};
  }
  // Grows as bytes arrive rather than at once: a length costs the sender nothing.
  const size_t whole = kPrefixBytes + length;
  const size_t taken = std::min(whole - partial_.size(), chunk.size());
  partial_.append(chunk.substr(0, taken));
  chunk.remove_prefix(taken);
  if (partial_.size() < whole) return {};
  delivered_bytes_ = whole;
  return {.outcome = Outcome::kMessage,
          .flag = flag,
          .length = length,
          .message = std::string_view(partial_).substr(kPrefixBytes)};
}

void Deframer::reset(uint32_t message_bytes_max) {
  message_bytes_max_ = message_bytes_max;
  failed_ = false;
  delivered_bytes_ = 0;
  if (partial_.capacity() > kKeptBytesMax) {
    release(partial_);
  } else {
    partial_.clear();
  }
}

}  // namespace cairn::net
