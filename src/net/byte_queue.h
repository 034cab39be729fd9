// net/byte_queue.h: bytes that wait to be sent, first in, first out. A drained queue holds no memory.
//
// Threads: one.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>

#include "base/release.h"

namespace cairn::net {

class ByteQueue {
 public:
  void push(std::string_view bytes) { bytes_.append(bytes); }
  [[nodiscard]] size_t size() const { return bytes_.size() - offset_; }
  [[nodiscard]] bool empty() const { return size() == 0; }
  // The first bytes, at most `bytes_max`; valid until the next call of anything.
  [[nodiscard]] std::string_view front(size_t bytes_max) const {
    return std::string_view(bytes_).substr(offset_, bytes_max);
  }
  // needs: bytes <= size()
  void pop(size_t bytes) {
    offset_ += bytes;
    if (offset_ == bytes_.size()) return clear();
    if (offset_ < kCompactBytes || offset_ < bytes_.size() / 2) return;
    bytes_.erase(0, offset_);
    offset_ = 0;
  }
  void clear() {
    release(bytes_);
    offset_ = 0;
  }

 private:
  static constexpr size_t kCompactBytes = 64 * 1024;
  std::string bytes_;
  size_t offset_ = 0;
};

}  // namespace cairn::net
